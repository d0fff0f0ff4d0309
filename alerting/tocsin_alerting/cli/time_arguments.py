"""Times as an operator types them: RFC 3339, Unix seconds, or how long ago."""

import re
from dataclasses import dataclass
from datetime import datetime

_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,3})?")
_FIRST, _LAST = -62_000_000_000, 253_402_000_000  # what a calendar of four-digit years holds
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200)
_DAY = 86_400
FORMS = (
    "RFC 3339 (2026-01-31T03:00:00Z; without a zone it is local), Unix seconds,"
    " now, or how long ago (90m)"
)


@dataclass(frozen=True, slots=True)
class TimeRange:
    """From `start` to `end`, in Unix seconds."""

    start: float
    end: float

    def parameters(self) -> dict[str, str]:
        """As the API takes it."""
        return {"start": parameter(self.start), "end": parameter(self.end)}


def parameter(seconds: float) -> str:
    """Unix seconds as the API takes them, to the millisecond."""
    return f"{seconds:.3f}"


def moment(text: str, now: float) -> float:
    """Unix seconds of `text`, which has one of FORMS. Raises ValueError for anything else."""
    if text == "now":
        return now
    try:
        seconds = float(text) if _NUMBER.fullmatch(text) else _ago_or_date(text, now)
    except (ValueError, OverflowError):
        raise ValueError(f'"{text}" is no time; it is {FORMS}') from None
    if not _FIRST <= seconds <= _LAST:
        raise ValueError(f'"{text}" is in no year from 5 to 9999; Unix times are in seconds')
    return seconds


def _ago_or_date(text: str, now: float) -> float:
    return now - duration(text) if text[-1:].isalpha() and text[-1] not in "zZ" else _date(text)


def _date(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def duration(text: str) -> float:
    """Seconds of `90`, `0.5` or `1h30m`. Raises ValueError for anything else."""
    from tocsin_alerting.promql.parser.durations import parse_duration

    return float(text) if _NUMBER.fullmatch(text) else parse_duration(text) / 1000


def time_range(start: str | None, end: str | None, since: str | None, now: float) -> TimeRange:
    """What `--start`, `--end` and `--since` say together; the last of them is an hour by default.

    Raises ValueError where they contradict each other or one is no time.
    """
    if start and since:
        raise ValueError("--start and --since both say where it begins; give one of them")
    last = moment(end, now) if end else now
    first = moment(start, now) if start else last - duration(since or "1h")
    if not _FIRST <= first <= last:
        raise ValueError("it ends before it begins")
    return TimeRange(round(first, 3), round(last, 3))


def step(text: str, window: TimeRange, points: int) -> float:
    """Seconds between two points. `auto` is the shortest usual step, of a second at least, that
    gives at most `points` of them. Raises ValueError for what is no duration above 0."""
    if text == "auto":
        return float(_usual((window.end - window.start) / max(1, points - 1)))
    seconds = duration(text)
    if not seconds > 0:
        raise ValueError("it must be longer than 0s")
    return seconds


def _usual(least: float) -> int:
    """The shortest usual step that is no shorter than `least` seconds; then whole days."""
    fits = (step for step in _STEPS if step >= least)
    return next(fits, -int(-least // _DAY) * _DAY)


def ticks(window: TimeRange, most: int, zone_offset: float) -> tuple[int, list[float]]:
    """The step of a time axis and the moments to write on it, at most `most`.

    They are round in a zone that is `zone_offset` seconds ahead of UTC.
    """
    if most < 1:
        return _DAY, []
    widest = _usual((window.end - window.start) / most)
    sizes = [widest, *(one for one in reversed(_STEPS) if one < widest)]
    candidates = ((size, _multiples(size, window, zone_offset)) for size in sizes)
    size, moments = next((candidate for candidate in candidates if candidate[1]), (widest, []))
    return size, moments[:most]


def _multiples(size: int, window: TimeRange, zone_offset: float) -> list[float]:
    first = -int(-(window.start + zone_offset) // size) * size - zone_offset
    return [first + size * number for number in range(int((window.end - first) // size) + 1)]
