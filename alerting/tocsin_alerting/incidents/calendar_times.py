"""Times of day and calendar rules in a time zone, as Alertmanager's time intervals.

A wall clock in the zone decides: where the clock is set back an hour of a span comes twice, and
where it is set forward what is skipped does not come. Instants are Unix milliseconds.
"""

import re
from calendar import monthrange
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
MONTHS = (
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
)
DAY_MINUTES = 24 * 60
_TIME_OF_DAY = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])|24:00", re.ASCII)
_RANGE = re.compile(r"(-?[0-9]{1,4})(?::(-?[0-9]{1,4}))?", re.ASCII)
_HORIZON = timedelta(days=40 * 366)  # 29 February is a Monday every 28 years, or after 40
_ONE_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class TimeSpan:
    """Minutes of the day, from `start` up to but not at `end`. One whose `end` is not later lasts
    until that time of the next day: 22:00 to 06:00."""

    start: int
    end: int

    def __post_init__(self) -> None:
        if self.start == self.end or (self.start, self.end) == (DAY_MINUTES, 0):
            raise ValueError("it starts when it ends; a whole day is 00:00 to 24:00")

    @property
    def overnight(self) -> bool:
        return self.end < self.start

    def minutes(self) -> set[int]:
        """Those of the day that it covers when it holds on every day."""
        end = self.end + (DAY_MINUTES if self.overnight else 0)
        return {minute % DAY_MINUTES for minute in range(self.start, end)}


@dataclass(frozen=True, slots=True)
class TimeInterval:
    """When all that is set holds; what is empty always does. The day is the one on which a span
    starts. A day of the month below 0 counts from its end: -1 is the last."""

    zone: tzinfo = UTC
    times: tuple[TimeSpan, ...] = ()
    weekdays: frozenset[int] = frozenset()  # 0 is Monday
    days_of_month: tuple[tuple[int, int], ...] = ()
    months: frozenset[int] = frozenset()  # 1 to 12
    years: tuple[tuple[int, int], ...] = ()

    def contains(self, at_ms: int) -> bool:
        """Whether it holds at that instant."""
        local = datetime.fromtimestamp(at_ms // 1000, self.zone)
        return self._contains(local.date(), local.hour * 60 + local.minute)

    def next_change_ms(self, now_ms: int) -> int | None:
        """The first instant after `now_ms` at which it begins or ends to hold; None for never."""
        now = self.contains(now_ms)
        for day in self._days(datetime.fromtimestamp(now_ms // 1000, self.zone).date()):
            for instant_ms in self._edges(day):
                if instant_ms > now_ms and self.contains(instant_ms) is not now:
                    return instant_ms
        return None

    def _contains(self, day: date, minute: int) -> bool:
        today, yesterday = self._is_day(day), self._is_day(day - _ONE_DAY)
        if not self.times:
            return today
        return any(
            (today and minute >= span.start) or (yesterday and minute < span.end)
            if span.overnight
            else today and span.start <= minute < span.end
            for span in self.times
        )

    def _is_day(self, day: date) -> bool:
        return (
            (not self.weekdays or day.weekday() in self.weekdays)
            and self._is_month(day)
            and (not self.days_of_month or self._is_day_of_month(day))
        )

    def _is_month(self, day: date) -> bool:
        return (not self.months or day.month in self.months) and (
            not self.years or any(first <= day.year <= last for first, last in self.years)
        )

    def _is_day_of_month(self, day: date) -> bool:
        length = monthrange(day.year, day.month)[1]
        return any(
            _from_start(first, length) <= day.day <= _from_start(last, length)
            for first, last in self.days_of_month
        )

    def _days(self, today: date) -> Iterator[date]:
        """The days that may have edges, from the one before `today`; whole months without any are
        skipped."""
        whole_days = self._covers_day()
        day, last = today - _ONE_DAY, min(today + _HORIZON, date.max - 40 * _ONE_DAY)
        while day <= last:
            today_counts, yesterday_counts = self._is_day(day), self._is_day(day - _ONE_DAY)
            if today_counts is not yesterday_counts or (today_counts and not whole_days):
                yield day
            elif not self._is_month(day):
                day = (day.replace(day=1) + 32 * _ONE_DAY).replace(day=1) - _ONE_DAY
            day += _ONE_DAY

    def _covers_day(self) -> bool:
        """Whether nothing is left between the spans of days that follow each other."""
        covered: set[int] = set()
        return not self.times or (
            len(covered.union(*(span.minutes() for span in self.times))) == DAY_MINUTES
        )

    def _edges(self, day: date) -> list[int]:
        """The instants of a day at which it may begin or end to hold, in order."""
        minutes = {0}.union(*((span.start, span.end) for span in self.times))
        walls = {instant for minute in minutes for instant in self._instants(day, minute)}
        return sorted(walls | self._clock_changes(day))

    def _instants(self, day: date, minute: int) -> set[int]:
        """When the wall clock shows that time: twice when it was set back."""
        day, minute = (day + _ONE_DAY, 0) if minute == DAY_MINUTES else (day, minute)
        wall = datetime.combine(day, time(minute // 60, minute % 60), self.zone)
        return {_ms(wall), _ms(wall.replace(fold=1))}

    def _clock_changes(self, day: date) -> set[int]:
        """When the clock is set forward or back on that day."""
        low, high = (min(self._instants(day, minute)) // 1000 for minute in (0, DAY_MINUTES))
        low -= 1  # the first second of the day may be the change
        offset = self._offset(low)
        if self._offset(high) == offset:
            return set()
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._offset(middle) == offset else (low, middle)
        return {high * 1000}

    def _offset(self, seconds: int) -> timedelta | None:
        return datetime.fromtimestamp(seconds, self.zone).utcoffset()


def _from_start(day: int, length: int) -> int:
    """-1 is the last day of a month of `length` days."""
    return day if day > 0 else length + 1 + day


def _ms(wall: datetime) -> int:
    return int(wall.timestamp()) * 1000


def time_zone(name: str) -> tzinfo:
    """`Europe/Berlin`, `UTC`. Raises ValueError for a name that this machine does not know."""
    try:
        return UTC if name == "UTC" else ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        raise ValueError(
            f'no time zone is called "{name}"; write it like Europe/Berlin or UTC'
        ) from None


def time_of_day(text: str) -> int:
    """Minutes since midnight of `09:30`, up to `24:00`. Raises ValueError for anything else."""
    if _TIME_OF_DAY.fullmatch(text) is None:
        raise ValueError(f'"{text}" is no time of day; write it like "09:30", "24:00" at most')
    return int(text[:2]) * 60 + int(text[3:])


def time_span(start: str, end: str) -> TimeSpan:
    """`22:00` to `06:00`. Raises ValueError for what are no times, or one and the same."""
    return TimeSpan(time_of_day(start), time_of_day(end))


def weekdays(items: Sequence[str]) -> frozenset[int]:
    """The days of `Mon`, `friday`, `Mon-Fri`, `Sat:Sun` or `Fri-Mon`; 0 is Monday. Raises
    ValueError for what is no day."""
    return _names(items, WEEKDAYS, "day of the week", "Mon or Mon-Fri")


def months(items: Sequence[str]) -> frozenset[int]:
    """The months of `Jan`, `december`, `3`, `Nov-Feb` or `1:3`. Raises ValueError for others."""
    spelled = [re.sub("[0-9]+", _month_name, item) for item in items]
    return frozenset(month + 1 for month in _names(spelled, MONTHS, "month", "Jan, Nov-Feb or 1:3"))


def _month_name(match: re.Match[str]) -> str:
    number = int(match[0])
    return MONTHS[number - 1] if 1 <= number <= 12 else match[0]


def _names(items: Sequence[str], names: Sequence[str], what: str, example: str) -> frozenset[int]:
    chosen: set[int] = set()
    for item in items:
        ends = [_index(part, names) for part in re.split("[-:]", item.strip().lower())]
        if len(ends) > 2 or None in ends:
            raise ValueError(f'"{item}" is no {what}; write it like {example}')
        first, last = ends[0] or 0, ends[-1] or 0
        chosen.update((first + i) % len(names) for i in range((last - first) % len(names) + 1))
    return frozenset(chosen)


def _index(text: str, names: Sequence[str]) -> int | None:
    matching = [i for i, name in enumerate(names) if text in (name, name[:3])]
    return matching[0] if matching else None


def days_of_month(items: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """First and last of `15`, `1:7` or `-3:-1`; below 0 counts from the end of the month. Raises
    ValueError for anything else."""
    ranges = [_range(item, "day of the month", "15, 1:7 or -1") for item in items]
    for item, (first, last) in zip(items, ranges, strict=True):
        if not (1 <= abs(first) <= 31 and 1 <= abs(last) <= 31):
            raise ValueError(f'"{item}": a day of the month is 1 to 31, or -31 to -1 from its end')
        if (first > 0) == (last > 0) and first > last:
            raise ValueError(f'"{item}": the first day is after the last')
    return tuple(ranges)


def years(items: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """First and last of `2026` or `2026:2028`. Raises ValueError for anything else."""
    ranges = [_range(item, "year", "2026 or 2026:2028") for item in items]
    for item, (first, last) in zip(items, ranges, strict=True):
        if not 1970 <= first <= last:
            raise ValueError(
                f'"{item}": a year is 1970 or later, and the last not before the first'
            )
    return tuple(ranges)


def _range(item: str, what: str, example: str) -> tuple[int, int]:
    match = _RANGE.fullmatch(item.strip())
    if match is None:
        raise ValueError(f'"{item}" is no {what}; write it like {example}')
    return int(match[1]), int(match[2] or match[1])
