"""Points and spans of time as text: Unix seconds, RFC 3339, and Prometheus's durations.

All numbers are Unix milliseconds or milliseconds, unless a name says seconds.
"""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from tocsin_alerting.strconv import quote

UNITS_MS = {
    "y": 365 * 86_400_000,
    "w": 7 * 86_400_000,
    "d": 86_400_000,
    "h": 3_600_000,
    "m": 60_000,
    "s": 1_000,
    "ms": 1,
}
LONGEST_S = 2**63 / 1e9
"""A duration counts at most as many nanoseconds as 64 bits hold, as in Prometheus."""

LAST_S = 253_402_300_799
"""The end of the year 9999, in Unix seconds."""

ZERO_TIME = "0001-01-01T00:00:00Z"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DURATION = re.compile("".join(f"(?:([0-9]+){unit})?" for unit in UNITS_MS))
_SECONDS = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[-+]\d\d:\d\d)", re.ASCII)


def read_duration(text: str) -> int | None:
    """Milliseconds of `1d2h`, however long: each unit at most once, the largest first, no sign and
    no fractions. None for anything else."""
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        return None
    amounts = zip(match.groups(default="0"), UNITS_MS.values(), strict=True)
    # Python refuses to read integers of thousands of digits; 21 are too long for any limit.
    return sum(int(amount.lstrip("0")[:21] or 0) * unit for amount, unit in amounts)


def parse_duration(text: str) -> int:
    """Milliseconds of `1d2h`. Raises ValueError in Prometheus's words for what is no duration, and
    for one that is too long."""
    return _kept_duration(text) if len(text) <= _SHORT else _duration(text)


def _duration(text: str) -> int:
    ms = read_duration(text)
    if ms is None:
        raise ValueError(f"not a valid duration string: {quote(text)}")
    if ms / 1000 > LONGEST_S:
        raise ValueError("duration out of range")
    return ms


_SHORT = 16  # characters: thousands of rules have a few of them between them
_kept_duration = lru_cache(maxsize=256)(_duration)


def format_duration(ms: int) -> str:
    """The canonical text; years and weeks only where they leave nothing over: 90000 is `1m30s`."""
    if ms == 0:
        return "0s"
    text, rest = "-" if ms < 0 else "", abs(ms)
    for unit, size in UNITS_MS.items():
        if unit in ("y", "w") and rest % size:
            continue
        amount, rest = divmod(rest, size)
        text += f"{amount}{unit}" if amount else ""
    return text


def elapsed_text(ms: int) -> str:
    """What has passed, in whole seconds: `2m1s`."""
    return format_duration(max(ms, 0) // 1000 * 1000)


def read_seconds(text: str) -> float | None:
    """`15`, `-0.5` or `1e3`; None for anything else. What is too large is infinite."""
    return float(text) if _SECONDS.fullmatch(text) else None


def read_timestamp(text: str) -> float | None:
    """Unix seconds of `1700000000.5`, or of RFC 3339 with its zone; None for anything else."""
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        return datetime.fromisoformat(text).timestamp() if _RFC3339.fullmatch(text) else None
    except ValueError:
        return None


def rfc3339(at_ms: int | None) -> str:
    """`2026-01-01T00:00:00.000Z`: UTC, to the millisecond; Go's zero time for None."""
    if at_ms is None:
        return ZERO_TIME
    moment = _EPOCH + timedelta(milliseconds=at_ms)  # exact, where seconds as a float are not
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def rfc3339_nano(at_ns: int) -> str:
    """`2026-01-01T00:00:00.5Z` of Unix nanoseconds, as Go's RFC3339Nano: no zeros at the end."""
    seconds, rest = divmod(at_ns, 1_000_000_000)
    fraction = f".{rest:09}".rstrip("0").rstrip(".")
    return f"{rfc3339(1000 * seconds)[:19]}{fraction}Z"
