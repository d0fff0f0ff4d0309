"""Who is on call, held against a person who looks at the wall clock every minute."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.examples import examples
from tocsin_alerting.incidents.calendar_times import TimeInterval, time_span, weekdays
from tocsin_alerting.incidents.oncall import (
    CalendarShifts,
    Layer,
    Override,
    Rotation,
    Schedule,
    Shift,
    wall_clock_ms,
)

MINUTE_MS, DAY_MS = 60_000, 86_400_000
BERLIN = ZoneInfo("Europe/Berlin")
ZONES = ("Europe/Berlin", "America/New_York", "Africa/Cairo", "Australia/Lord_Howe", "UTC")


def wall(text: str) -> datetime:
    return datetime.fromisoformat(text)


FALL = wall("2026-10-24T00:00")  # Berlin's clocks go back on the 25th, at 3:00
SPRING = wall("2026-03-28T00:00")


def ms(text: str, zone: str = "Europe/Berlin") -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()) * 1000


def looked_up(rotation: Rotation, begin_ms: int, end_ms: int) -> Iterator[tuple[int, str]]:
    """Somebody stands before the clock: when it shows the time on the note, or has skipped it, the
    next one takes over, and the note is written anew."""
    note, turn = rotation.start, -1
    for at_ms in range(begin_ms, end_ms, MINUTE_MS):
        instant = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)
        shown = instant.astimezone(rotation.zone).replace(tzinfo=None)
        while shown >= note:
            turn, note = turn + 1, note + rotation.period
        resting = rotation.hours is not None and not rotation.hours.contains(at_ms)
        people = rotation.people
        yield at_ms, "" if turn < 0 or resting else people[turn % len(people)]


periods = st.sampled_from([timedelta(hours=h) for h in (1, 7, 12, 24, 36, 72)])
hours = st.sampled_from(
    [None, (time_span("09:00", "17:30"), "Mon-Fri"), (time_span("22:00", "02:30"), "Sat")]
)


@settings(max_examples=examples(100))
@given(
    st.sampled_from(ZONES),
    st.sampled_from([SPRING, FALL, wall("2026-04-03T00:00"), wall("2026-10-30T00:00")]),
    st.integers(0, 2 * 1440),
    periods,
    st.integers(1, 4),
    hours,
)
def test_hand_overs_are_by_the_wall_clock(
    zone: str, near: datetime, minutes: int, period: timedelta, people: int, within: object
) -> None:
    interval = None
    if isinstance(within, tuple):
        interval = TimeInterval(ZoneInfo(zone), (within[0],), weekdays([within[1]]))
    start = near + timedelta(minutes=minutes)
    names = tuple(f"c{number}" for number in range(people))
    rotation = Rotation(start, period, names, ZoneInfo(zone), interval)
    begin_ms = ms(near.isoformat(), zone) - DAY_MS // 2
    oracle = dict(looked_up(rotation, begin_ms, begin_ms + 3 * DAY_MS))
    assert {at_ms: rotation.on_call(at_ms) for at_ms in oracle} == oracle
    schedule = Schedule("s", (rotation,), ZoneInfo(zone))
    for shift in schedule.shifts(begin_ms, begin_ms + 3 * DAY_MS):
        assert {oracle[at] for at in range(shift.start_ms, shift.end_ms, MINUTE_MS)} == {
            shift.contact
        }


def test_a_weekly_hand_over_stays_at_its_hour_in_winter() -> None:
    rotation = Rotation(wall("2026-10-19T10:00"), timedelta(weeks=1), ("li", "wang"), BERLIN)
    assert rotation.on_call(ms("2026-10-26T09:59")) == "li"
    assert rotation.on_call(ms("2026-10-26T10:00")) == "wang"
    assert rotation.next_change_ms(ms("2026-10-20T00:00")) == ms("2026-10-26T10:00")
    assert rotation.on_call(ms("2026-10-19T09:59")) == "", "nobody before it begins"


def test_a_time_that_comes_twice_and_one_that_is_skipped() -> None:
    twice = int(datetime(2026, 10, 25, 0, 30, tzinfo=UTC).timestamp()) * 1000
    assert wall_clock_ms(wall("2026-10-25T02:30"), BERLIN) == twice, "in summer time"
    skips = int(datetime(2026, 3, 29, 1, 0, tzinfo=UTC).timestamp()) * 1000
    assert wall_clock_ms(wall("2026-03-29T02:30"), BERLIN) == skips
    rotation = Rotation(wall("2026-10-24T02:30"), timedelta(days=1), ("li", "wang"), BERLIN)
    again = twice + 45 * MINUTE_MS  # the clock shows 2:15 for the second time
    assert rotation.on_call(twice) == rotation.on_call(again) == "wang", "handed over once"


WEEKDAYS = TimeInterval(BERLIN, (time_span("09:00", "18:00"),), weekdays(["Mon-Fri"]))
DAILY = Rotation(wall("2026-01-05T00:00"), timedelta(days=1), ("li", "wang"), BERLIN, WEEKDAYS)
NIGHTS = Rotation(wall("2026-01-05T18:00"), timedelta(weeks=1), ("zhao",), BERLIN)


def test_the_first_layer_that_names_somebody_decides() -> None:
    schedule = Schedule("primary", (DAILY, NIGHTS), BERLIN)
    assert schedule.on_call(ms("2026-01-06T10:00")) == "wang"
    assert schedule.on_call(ms("2026-01-06T20:00")) == "zhao"
    assert schedule.members() == ("li", "wang", "zhao")


def test_gaps_are_where_no_layer_names_anybody() -> None:
    schedule = Schedule("primary", (DAILY,), BERLIN)
    friday, monday = ms("2026-01-09T18:00"), ms("2026-01-12T09:00")
    gaps = schedule.gaps(ms("2026-01-09T12:00"), ms("2026-01-12T12:00"))
    assert gaps == [Shift(friday, monday, "")]
    assert schedule.gaps(friday - DAY_MS // 4, friday) == []


def test_overrides_come_before_every_layer_and_the_last_one_before_others() -> None:
    begin, end = ms("2026-01-06T12:00"), ms("2026-01-06T20:00")
    first = Override("primary", "zhao", begin, end)
    last = Override("primary", "li", begin + 3_600_000, begin + 7_200_000)
    schedule = Schedule("primary", (DAILY,), BERLIN, (first, last))
    shifts = list(schedule.shifts(begin - 3_600_000, end + 3_600_000))
    assert [shift.contact for shift in shifts] == ["wang", "zhao", "li", "zhao", ""]
    assert [shift.start_ms for shift in shifts[1:]] == [
        begin, begin + 3_600_000, begin + 7_200_000, end,
    ]  # fmt: skip
    assert schedule.now_and_next(begin)[1] == shifts[2]


def test_shifts_of_a_calendar() -> None:
    day = ms("2026-01-06T00:00")
    shifts = (Shift(day, day + DAY_MS, "li"), Shift(day + 3_600_000, day + 7_200_000, "wang"))
    layer: Layer = CalendarShifts(shifts[::-1])
    assert [layer.on_call(day + hour * 3_600_000) for hour in (-1, 0, 1, 2, 24)] == [
        "", "li", "wang", "li", "",
    ]  # fmt: skip
    assert layer.next_change_ms(day) == day + 3_600_000
    assert layer.next_change_ms(day + DAY_MS) is None
    assert layer.members() == ("li", "wang")


@pytest.mark.parametrize("turns", [1, 400])
def test_who_is_on_call_next(turns: int) -> None:
    rotation = Rotation(wall("2026-01-05T10:00"), timedelta(weeks=1), ("li", "wang"), BERLIN)
    at_ms = ms(f"{date(2026, 1, 5) + timedelta(weeks=turns)}T12:00")
    now, following = Schedule("s", (rotation,), BERLIN).now_and_next(at_ms)
    expected = ["li", "wang"]
    assert following is not None
    assert [now.contact, following.contact] == [expected[turns % 2], expected[(turns + 1) % 2]]
    assert now.end_ms == ms(f"{date(2026, 1, 12) + timedelta(weeks=turns)}T10:00")
