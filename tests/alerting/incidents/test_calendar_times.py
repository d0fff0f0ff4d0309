"""Spans of a calendar, held against a wall clock that is read minute by minute."""

import itertools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tocsin_alerting.incidents import calendar_times
from tocsin_alerting.incidents.calendar_times import TimeInterval, TimeSpan, time_span

MINUTE_MS = 60_000
BERLIN = ZoneInfo("Europe/Berlin")
# Clocks that change at night, at midnight, by half an hour, on another date line, and never.
ZONES = (
    "Europe/Berlin",
    "America/New_York",
    "America/Santiago",
    "Africa/Cairo",
    "America/Havana",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "Asia/Shanghai",
    "Pacific/Apia",
    "UTC",
)


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * 1000


def wall_clock_says(interval: TimeInterval, at_ms: int) -> bool:
    """The definition, written as a person would read it from a clock and a calendar."""
    local = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)).astimezone(
        interval.zone
    )
    shown = local.strftime("%H:%M")
    for span in interval.times or (TimeSpan(0, 1440),):
        start, end = (f"{minute // 60:02}:{minute % 60:02}" for minute in (span.start, span.end))
        if start < end and start <= shown < end and _day_fits(interval, local):
            return True
        if start > end and shown >= start and _day_fits(interval, local):
            return True
        yesterday = local.replace(tzinfo=None) - timedelta(days=1)
        if start > end and shown < end and _day_fits(interval, yesterday):
            return True
    return False


def _day_fits(interval: TimeInterval, day: datetime) -> bool:
    following = (day.replace(tzinfo=None, day=28) + timedelta(days=4)).replace(day=1)
    length = (following - timedelta(days=1)).day
    days = {
        number
        for first, last in interval.days_of_month
        for number in range(1, length + 1)
        if (first if first > 0 else length + first + 1) <= number
        and number <= (last if last > 0 else length + last + 1)
    }
    return (
        (not interval.weekdays or day.isoweekday() - 1 in interval.weekdays)
        and (not interval.months or day.month in interval.months)
        and (not interval.years or any(a <= day.year <= b for a, b in interval.years))
        and (not interval.days_of_month or day.day in days)
    )


def spans() -> st.SearchStrategy[TimeSpan]:
    minute = st.one_of(
        st.sampled_from((0, 60, 90, 120, 150, 180, 1380, 1440)), st.integers(0, 1440)
    )
    return (
        st.tuples(minute, minute)
        .filter(lambda ends: ends[0] != ends[1] and ends[0] != 1440)
        .map(lambda ends: TimeSpan(*ends))
    )


def days() -> st.SearchStrategy[tuple[int, int]]:
    return st.sampled_from(((1, 7), (15, 15), (-1, -1), (-3, -1), (29, -1), (31, 31), (1, 31)))


def intervals() -> st.SearchStrategy[TimeInterval]:
    return st.builds(
        TimeInterval,
        st.sampled_from(ZONES).map(ZoneInfo),
        st.lists(spans(), max_size=3).map(tuple),
        st.frozensets(st.integers(0, 6), max_size=3),
        st.lists(days(), max_size=1).map(tuple),
        st.frozensets(st.integers(1, 12), max_size=8),
        st.sampled_from(((), ((2026, 2026),), ((2025, 2027),))),
    )


# Around every change of those clocks in 2026, and anywhere.
CHANGES = (
    "2026-03-29T01:00Z 2026-10-25T01:00Z 2026-03-08T07:00Z 2026-11-01T06:00Z 2026-04-05T03:00Z"
    " 2026-09-06T04:00Z 2026-04-23T22:00Z 2026-10-29T21:00Z 2026-03-08T05:00Z 2026-11-01T05:00Z"
    " 2026-04-04T15:00Z 2026-10-03T15:30Z 2026-12-31T23:00Z 2026-02-28T12:00Z"
).split()
NEAR_A_CHANGE = st.builds(
    lambda change, minutes: ms(change) + minutes * MINUTE_MS,
    st.sampled_from(CHANGES),
    st.integers(-2000, 600),
)
INSTANTS = st.one_of(NEAR_A_CHANGE, st.integers(ms("2025-06-01"), ms("2027-06-01")))


@given(intervals(), INSTANTS)
def test_it_holds_when_the_clock_on_the_wall_says_so(interval: TimeInterval, at_ms: int) -> None:
    assert interval.contains(at_ms) is wall_clock_says(interval, at_ms)


@given(intervals(), INSTANTS)
@example(TimeInterval(ZoneInfo("America/Santiago"), (TimeSpan(0, 30),)), ms("2026-09-05T12:00Z"))
@example(TimeInterval(BERLIN, (TimeSpan(150, 180),)), ms("2026-03-28T12:00Z"))
@example(TimeInterval(BERLIN, (TimeSpan(150, 180),)), ms("2026-10-25T00:00Z"))
def test_the_next_change_is_the_first_minute_that_differs(
    interval: TimeInterval, at_ms: int
) -> None:
    change_ms, now = interval.next_change_ms(at_ms), interval.contains(at_ms)
    first_ms = at_ms - at_ms % MINUTE_MS + MINUTE_MS
    for minute_ms in range(first_ms, first_ms + 3 * 1440 * MINUTE_MS, MINUTE_MS):
        if wall_clock_says(interval, minute_ms) is not now:
            assert change_ms == minute_ms
            return
    assert change_ms is None or change_ms >= first_ms + 3 * 1440 * MINUTE_MS


@given(intervals(), INSTANTS)
def test_far_changes_are_real(interval: TimeInterval, at_ms: int) -> None:
    now, change_ms = interval.contains(at_ms), interval.next_change_ms(at_ms)
    if change_ms is None:
        hours = range(at_ms, at_ms + 420 * 86_400_000, 3_600_000)
        assert all(wall_clock_says(interval, hour_ms) is now for hour_ms in hours)
    else:
        assert wall_clock_says(interval, change_ms) is not now
        assert wall_clock_says(interval, change_ms - 1) is now
        between = range(at_ms, change_ms, 3_600_000)
        assert all(
            wall_clock_says(interval, hour) is now for hour in itertools.islice(between, 500)
        )


def test_where_the_clock_is_set_forward_the_skipped_span_does_not_come() -> None:
    night = TimeInterval(BERLIN, (time_span("02:00", "03:00"),))
    assert night.next_change_ms(ms("2026-03-28T12:00+01:00")) == ms("2026-03-30T02:00+02:00")


def test_where_the_clock_is_set_back_the_span_comes_twice() -> None:
    night = TimeInterval(BERLIN, (time_span("02:30", "03:00"),))
    instants = [ms("2026-10-25T00:00+02:00")]
    for _ in range(4):
        instants.append(night.next_change_ms(instants[-1]) or 0)
    first, second = ("2026-10-25T02:30", "2026-10-25T03:00")
    expected = [first + "+02:00", "2026-10-25T03:00+02:00", first + "+01:00", second + "+01:00"]
    assert instants[1:] == [ms(text) for text in expected]


def test_an_overnight_span_belongs_to_the_day_on_which_it_starts() -> None:
    friday = TimeInterval(BERLIN, (time_span("22:00", "06:00"),), frozenset({4}))
    assert friday.contains(ms("2026-01-03T05:59+01:00"))  # a Saturday
    assert not friday.contains(ms("2026-01-02T05:59+01:00"))
    assert friday.next_change_ms(ms("2026-01-02T23:00+01:00")) == ms("2026-01-03T06:00+01:00")


def test_a_leap_day_is_found_years_ahead() -> None:
    day = TimeInterval(UTC, days_of_month=((29, 29),), months=frozenset({2}))
    assert day.next_change_ms(ms("2026-01-01T00:00Z")) == ms("2028-02-29T00:00Z")


@pytest.mark.parametrize(
    "never",
    [
        TimeInterval(UTC),
        TimeInterval(UTC, (time_span("00:00", "24:00"),)),
        TimeInterval(BERLIN, (time_span("22:00", "06:00"), time_span("06:00", "22:00"))),
        TimeInterval(UTC, days_of_month=((31, 31),), months=frozenset({2})),
        TimeInterval(UTC, years=((2001, 2002),)),
    ],
)
def test_what_never_changes_says_so(never: TimeInterval) -> None:
    assert never.next_change_ms(ms("2026-01-01T00:00Z")) is None


def test_days_and_months_as_people_write_them() -> None:
    assert calendar_times.weekdays(["Mon-wed", "saturday", "Fri:Fri"]) == {0, 1, 2, 4, 5}
    assert calendar_times.weekdays(["Sat-Mon"]) == {5, 6, 0}
    assert calendar_times.months(["Nov-Feb", "april", "6:7"]) == {11, 12, 1, 2, 4, 6, 7}
    assert calendar_times.days_of_month(["15", "1:7", "-3:-1"]) == ((15, 15), (1, 7), (-3, -1))
    assert calendar_times.years(["2026", "2028:2030"]) == ((2026, 2026), (2028, 2030))


@pytest.mark.parametrize(
    ("read", "text", "words"),
    [
        (calendar_times.time_of_day, "9:30", '"9:30" is no time of day; write it like "09:30"'),
        (calendar_times.time_of_day, "24:01", "24:00"),
        (calendar_times.time_of_day, "٠٩:30", "no time of day"),
        (calendar_times.time_zone, "Mars/Base", 'no time zone is called "Mars/Base"'),
        (calendar_times.time_zone, "../etc/passwd", "no time zone"),
        (calendar_times.time_zone, "", "no time zone"),
        (lambda text: calendar_times.weekdays([text]), "Mi", '"Mi" is no day of the week'),
        (lambda text: calendar_times.weekdays([text]), "", "no day of the week"),
        (lambda text: calendar_times.months([text]), "13", '"13" is no month'),
        (lambda text: calendar_times.days_of_month([text]), "0", "1 to 31"),
        (lambda text: calendar_times.days_of_month([text]), "7:1", "after the last"),
        (lambda text: calendar_times.years([text]), "2027:2026", "not before the first"),
        (lambda text: time_span(text, text), "03:00", "a whole day is 00:00 to 24:00"),
    ],
)
def test_what_is_no_time_says_how_to_write_it(read: object, text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("(", r"\(").replace(".", r"\.")):
        read(text)  # type: ignore[operator]
