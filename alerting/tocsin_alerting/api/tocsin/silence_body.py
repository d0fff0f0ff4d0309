"""What a body about a silence or a maintenance window says, and how one is shown."""

from collections.abc import Mapping
from typing import Any

from tocsin_alerting.api.http.envelope import ApiError
from tocsin_alerting.api.http.times import duration_ms, time_ms
from tocsin_alerting.incidents.alert_matcher import (
    AlertMatcher,
    InvalidMatcher,
    alert_matcher,
    operator_of,
    parse_matcher,
)
from tocsin_alerting.incidents.silences import Silence
from tocsin_alerting.time_format import format_duration, rfc3339

MAX_MATCHERS = 100
UNTIL_RESOLVED_MS = 30 * 86_400_000
"""So long lasts at most what is to last until it is over."""


def matchers_in(sent: Mapping[str, Any], name: str = "matchers") -> tuple[AlertMatcher, ...]:
    """Each as text (`severity=~"P1|P2"`) or as Alertmanager's object."""
    items = sent.get(name, [])
    if not isinstance(items, list) or len(items) > MAX_MATCHERS:
        raise ApiError("bad_data", f'"{name}" is no list of at most {MAX_MATCHERS} matchers')
    return tuple(matcher_in(item) for item in items)


def matcher_in(item: Any) -> AlertMatcher:
    try:
        if isinstance(item, str):
            return parse_matcher(item)
        is_regex, is_equal = item.get("isRegex") is True, item.get("isEqual") is not False
        name, value = item["name"], item["value"]
        if not (isinstance(name, str) and name and isinstance(value, str)):
            raise TypeError
        return alert_matcher(name, operator_of(is_regex, is_equal), value)
    except InvalidMatcher as error:
        raise ApiError("bad_data", str(error)) from None
    except (KeyError, TypeError, AttributeError):
        why = 'a matcher is text, or {"name", "value", "isRegex", "isEqual"}'
        raise ApiError("bad_data", why) from None


def text_in(sent: Mapping[str, Any], name: str) -> str:
    value = sent.get(name, "")
    if not isinstance(value, str):
        raise ApiError("bad_data", f'"{name}" is not text')
    return value[:1000]


def flag_in(sent: Mapping[str, Any], name: str) -> bool:
    value = sent.get(name, False)
    if not isinstance(value, bool):
        raise ApiError("bad_data", f'"{name}" is neither true nor false')
    return value


def duration_in(sent: Mapping[str, Any], name: str) -> int | None:
    value = sent.get(name)
    return None if value is None else duration_ms(str(value), name)


def time_in(sent: Mapping[str, Any], name: str) -> int | None:
    value = sent.get(name)
    return None if value is None else time_ms(str(value), name)


def silence_in(sent: Mapping[str, Any], now_ms: int, warn_ms: int | None) -> Silence:
    """What is wanted: `matchers`, `for` or `ends_at`, and the rest; `warn_ms` is the default."""
    starts_at_ms = time_in(sent, "starts_at")
    begins_ms = now_ms if starts_at_ms is None else starts_at_ms
    until_resolved = flag_in(sent, "until_resolved")
    warn_before_ms = duration_in(sent, "warn_before")
    return Silence(
        id=text_in(sent, "id"),
        matchers=matchers_in(sent),
        starts_at_ms=begins_ms,
        ends_at_ms=_end_in(sent, begins_ms, until_resolved),
        created_by=text_in(sent, "by"),
        comment=text_in(sent, "comment"),
        except_matchers=matchers_in(sent, "except"),
        window=text_in(sent, "name"),
        until_resolved=until_resolved,
        warn_before_ms=warn_ms if warn_before_ms is None else warn_before_ms or None,
    )


def _end_in(sent: Mapping[str, Any], begins_ms: int, until_resolved: bool) -> int:
    lasts_ms, ends_at_ms = duration_in(sent, "for"), time_in(sent, "ends_at")
    if lasts_ms is not None and ends_at_ms is not None:
        raise ApiError("bad_data", '"for" and "ends_at" say the same; send one of them')
    if ends_at_ms is not None:
        return ends_at_ms
    if lasts_ms is None and until_resolved:
        return begins_ms + UNTIL_RESOLVED_MS
    if lasts_ms is None:
        raise ApiError("bad_data", 'it needs an end: "for", "ends_at" or "until_resolved"')
    return begins_ms + lasts_ms


def silence_json(silence: Silence, now_ms: int, mutes: list[int]) -> dict[str, Any]:
    """As every answer shows it; `mutes` are the numbers of the incidents that it mutes now."""
    warn_ms = silence.warn_before_ms
    shown = {
        "id": silence.id,
        "state": silence.state(now_ms),
        "matchers": [str(matcher) for matcher in silence.matchers],
        "starts_at": rfc3339(silence.starts_at_ms),
        "ends_at": rfc3339(silence.ends_at_ms),
        "updated_at": rfc3339(silence.updated_at_ms),
        "created_by": silence.created_by,
        "comment": silence.comment,
        "until_resolved": silence.until_resolved,
        "warn_before": None if warn_ms is None else format_duration(warn_ms),
        "mutes": mutes,
    }
    if silence.window:
        shown["name"] = silence.window
        shown["except"] = [str(matcher) for matcher in silence.except_matchers]
    return shown
