"""Silences in as few words as a test needs."""

from typing import Any

from support.policies import HOUR
from tocsin_alerting.incidents.alert_matcher import parse_matcher
from tocsin_alerting.incidents.silences import Silence


def silence(start_ms: int, *matchers: str, for_ms: int = HOUR, **changes: Any) -> Silence:
    """By li, for an hour, without an id: it is new."""
    values: dict[str, Any] = {
        "id": "",
        "starts_at_ms": start_ms,
        "ends_at_ms": start_ms + for_ms,
        "created_by": "li",
        "comment": "planned",
        **changes,
    }
    return Silence(matchers=tuple(map(parse_matcher, matchers)), **values)
