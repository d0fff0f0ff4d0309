"""Times as an operator types them (RFC 3339, Unix seconds, or how long ago), and as a person at
this terminal reads them: by the clock on the wall, with the name of the zone."""

import re
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, tzinfo

from tocsin_alerting.time_format import parse_duration, read_seconds

_FIRST, _LAST = -62_000_000_000, 253_402_000_000  # what a calendar of four-digit years holds
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200)
_DAY = 86_400
FORMS = (
    "RFC 3339 (2026-01-31T03:00:00Z; local time without a zone), Unix seconds,"
    " now, a clock time (22:00, yesterday 22:00), or how long ago (90m)"
)
END_FORMS = "a duration (2h), or a time: 07:00, tomorrow 07:00, 2026-01-31 07:00"
_CLOCK_TIME = re.compile(r"(?:(yesterday|today|tomorrow) +)?(\d{1,2}):(\d\d)(?::(\d\d))?")
_DAYS = {"yesterday": -1, "today": 0, "tomorrow": 1}


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
        seconds = _clock_time(text, now, later=False)
        seconds = read_seconds(text) if seconds is None else seconds
        seconds = _ago_or_date(text, now) if seconds is None else seconds
    except (ValueError, OverflowError):
        raise ValueError(f'"{text}" is not a time; write {FORMS}') from None
    if not _FIRST <= seconds <= _LAST:
        raise ValueError(f'"{text}" is outside the years 5 to 9999; Unix times are in seconds')
    return seconds


def end(text: str, now: float) -> float:
    """Unix seconds at which `text` ends, which has one of END_FORMS. Raises ValueError for anything
    else, and for what is over."""
    words = text.removeprefix("until ").strip()
    try:
        seconds = _clock_time(words, now, later=True)
        if seconds is None:
            seconds = _date(words) if re.match(r"\d{4}-", words) else now + duration(words)
    except (ValueError, OverflowError):
        raise ValueError(f'"{text}" is not an end; write {END_FORMS}') from None
    if not now < seconds <= _LAST:
        raise ValueError(f'"{text}" is over; write {END_FORMS}')
    return seconds


def _clock_time(text: str, now: float, later: bool) -> float | None:
    """`22:00` is the last one that was, or the next one if `later`; None for what is no such time.
    By this machine's clock, also over a change of it."""
    match = _CLOCK_TIME.fullmatch(text)
    if match is None:
        return None
    day, hour, minute, second = match.groups()
    at = time(int(hour), int(minute), int(second or 0))
    today = _local(int(now * 1000), None).date()
    if day is not None:
        return _at(today + timedelta(days=_DAYS[day]), at)
    seconds = _at(today, at)
    if later and seconds <= now:
        return _at(today + timedelta(days=1), at)
    return _at(today - timedelta(days=1), at) if not later and seconds > now else seconds


def _at(day: date, at: time) -> float:
    return datetime.combine(day, at).timestamp()


def _ago_or_date(text: str, now: float) -> float:
    return now - duration(text) if text[-1:].isalpha() and text[-1] not in "zZ" else _date(text)


def _date(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def duration(text: str) -> float:
    """Seconds of `90`, `0.5` or `1h30m`. Raises ValueError for anything else."""
    seconds = read_seconds(text)
    return parse_duration(text) / 1000 if seconds is None else seconds


def time_range(start: str | None, end: str | None, since: str | None, now: float) -> TimeRange:
    """What `--start`, `--end` and `--since` say together; the last of them is an hour by default.

    Raises ValueError where they contradict each other or one is no time.
    """
    if start and since:
        raise ValueError("--start and --since both set the start; give one of them")
    last = moment(end, now) if end else now
    first = moment(start, now) if start else last - duration(since or "1h")
    if not _FIRST <= first <= last:
        raise ValueError("the end is before the start")
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
    sizes = [widest, *(size for size in reversed(_STEPS) if size < widest)]
    candidates = ((size, _multiples(size, window, zone_offset)) for size in sizes)
    size, moments = next((candidate for candidate in candidates if candidate[1]), (widest, []))
    return size, moments[:most]


def _multiples(size: int, window: TimeRange, zone_offset: float) -> list[float]:
    first = -int(-(window.start + zone_offset) // size) * size - zone_offset
    return [first + size * number for number in range(int((window.end - first) // size) + 1)]


def zone_name(at_ms: int, zone: tzinfo | None = None) -> str:
    """`CET`, or `+08` where the zone has no name of its own; `zone` None is this machine's."""
    return _local(at_ms, zone).tzname() or "local"


def clock(at_ms: int | None, now_ms: int, zone: tzinfo | None = None) -> str:
    """`03:12:05`, with the day before it when that is not today's; `-` for None."""
    if at_ms is None:
        return "-"
    at, now = _local(at_ms, zone), _local(now_ms, zone)
    if at.date() == now.date():
        return f"{at:%H:%M:%S}"
    return f"{at:%d %b %H:%M}" if at.year == now.year else f"{at:%Y-%m-%d %H:%M}"


def date_and_clock(at_ms: int, zone: tzinfo | None = None) -> str:
    """`2026-11-28 03:12:05 CET`."""
    return f"{_local(at_ms, zone):%Y-%m-%d %H:%M:%S} {zone_name(at_ms, zone)}"


def span(ms: int) -> str:
    """The two largest units: `45s`, `4m10s`, `3h5m`, `2d3h`."""
    seconds = max(0, ms // 1000)
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    parts = ((days, "d"), (hours % 24, "h"), (minutes % 60, "m"), (seconds % 60, "s"))
    first = next((at for at, (number, _) in enumerate(parts) if number), len(parts) - 1)
    text = "".join(f"{number}{unit}" for number, unit in parts[first : first + 2] if number)
    return text or "0s"


def _local(at_ms: int, zone: tzinfo | None) -> datetime:
    return datetime.fromtimestamp(at_ms // 1000, zone).astimezone(zone)


def ordinal(number: int) -> str:
    """`1st`, `2nd`, `11th`."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10)
    return f"{number}{ending or 'th'}"
