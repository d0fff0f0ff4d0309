"""Parameters by which people choose incidents: `severity`, `rule`, `match[]`, `since`, ..."""

import re

from starlette.datastructures import QueryParams

from tocsin_alerting.api.http.envelope import ApiError
from tocsin_alerting.api.http.times import time_ms
from tocsin_alerting.incidents.alert_matcher import AlertMatcher, InvalidMatcher, parse_matcher
from tocsin_alerting.incidents.journal.questions import IncidentFilter
from tocsin_alerting.rules.severity import Severity

_WHOLE = re.compile(r"[0-9]{1,18}")
_BETWEEN = re.compile(r',(?=(?:[^"]*"[^"]*")*[^"]*$)')  # a comma outside of quotes


def incident_filter(params: QueryParams) -> IncidentFilter:
    """Raises ApiError for what cannot be read."""
    return IncidentFilter(
        severities=_severities(params.getlist("severity")),
        rule=params.get("rule", ""),
        matchers=tuple(
            matcher for text in params.getlist("match[]") for matcher in _matchers(text)
        ),
        since_ms=optional_time(params, "since"),
        until_ms=optional_time(params, "until"),
        person=params.get("person", ""),
        text=params.get("q", ""),
        storm=_number(params, "storm"),
    )


def optional_time(params: QueryParams, name: str) -> int | None:
    text = params.get(name, "")
    return time_ms(text, name) if text else None


def _number(params: QueryParams, name: str) -> int | None:
    text = params.get(name, "")
    if text and not _WHOLE.fullmatch(text):
        raise ApiError("bad_data", f'invalid {name} "{text[:40]}"; use the number of an incident')
    return int(text) if text else None


def count(params: QueryParams, name: str, most: int, otherwise: int) -> int:
    """A number from 1 to `most`."""
    text = params.get(name, str(otherwise))
    if not _WHOLE.fullmatch(text) or not 1 <= int(text) <= most:
        raise ApiError("bad_data", f'invalid {name} "{text[:40]}"; use 1 to {most}')
    return int(text)


def _severities(texts: list[str]) -> tuple[Severity, ...]:
    names = [name.strip().upper() for text in texts for name in text.split(",") if name.strip()]
    wrong = [name for name in names if name not in list(Severity)]
    if wrong:
        known = ", ".join(Severity)
        raise ApiError("bad_data", f'invalid severity "{wrong[0][:40]}"; there are {known}')
    return tuple(Severity(name) for name in names)


def _matchers(text: str) -> list[AlertMatcher]:
    """`{target="a", gpu=~"0|1"}`, with or without the braces."""
    inner = text.strip().removeprefix("{").removesuffix("}").strip()
    try:
        return [parse_matcher(part) for part in _BETWEEN.split(inner) if part.strip()]
    except InvalidMatcher as error:
        raise ApiError("bad_data", f'invalid parameter "match[]": {error}') from None
