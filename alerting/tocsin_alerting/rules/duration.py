"""Durations as rule files write them: `1d2h3m4s5ms`, units in order, no fractions, no sign."""

import re

UNITS_MS = {
    "y": 365 * 86_400_000,
    "w": 7 * 86_400_000,
    "d": 86_400_000,
    "h": 3_600_000,
    "m": 60_000,
    "s": 1_000,
    "ms": 1,
}
_DURATION = re.compile("".join(rf"(?:(?P<{unit}>[0-9]+){unit}(?![a-z]))?" for unit in UNITS_MS))
_LONGEST_MS = (1 << 63) // 1_000_000  # Go holds nanoseconds in an int64
_WHOLE_ONLY = ("y", "w", "d")  # printed only when nothing is left over


def parse_duration(text: str) -> int:
    """Milliseconds. Raises ValueError in Prometheus's words (common/model ParseDuration)."""
    if text == "0":
        return 0
    if not text:
        raise ValueError("empty duration string")
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError(f'not a valid duration string: "{text}"')
    total = sum(int(found[unit] or 0) * size for unit, size in UNITS_MS.items())
    if total >= _LONGEST_MS:
        raise ValueError("duration out of range")
    return total


def format_duration(duration_ms: int) -> str:
    """The shortest text that parses to the same: `1h30m`, `0s` (common/model Duration.String)."""
    if duration_ms == 0:
        return "0s"
    parts, rest = [], duration_ms
    for unit, size in UNITS_MS.items():
        if unit in _WHOLE_ONLY and rest % size:
            continue
        count, rest = divmod(rest, size)
        parts.append(f"{count}{unit}" if count else "")
    return "".join(parts)
