"""Shifts from calendars as Google, PagerDuty and people write them, and back."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.examples import examples
from tocsin_alerting.incidents.oncall import CalendarShifts, Rotation, Schedule, Shift

pytest.importorskip("icalendar")
from tocsin_alerting.incidents.ical import (
    InvalidCalendar,
    read_calendar,
    write_calendar,
)

BERLIN = ZoneInfo("Europe/Berlin")
EMAILS = {"li": "li@example.com", "wang": "Wang@example.com", "zhao": ""}
DAY_MS = 86_400_000


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * 1000


START, END = ms("2026-01-01T00:00:00Z"), ms("2026-12-31T00:00:00Z")


def event(*lines: str) -> str:
    return "\r\n".join(("BEGIN:VEVENT", "UID:1@example.com", *lines, "END:VEVENT"))


def calendar(*events: str) -> str:
    body = ("BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//x//EN", *events, "END:VCALENDAR", "")
    return "\r\n".join(body)


def shifts(*events: str) -> list[tuple[str, str, str]]:
    """(contact, from, until) in UTC, to the minute."""
    read = read_calendar(calendar(*events), BERLIN, EMAILS, START, END).shifts
    return [(one.contact, clock(one.start_ms), clock(one.end_ms)) for one in read]


def clock(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms // 1000, UTC):%m-%dT%H:%M}"


def test_a_single_shift_in_utc_in_a_zone_and_without_one() -> None:
    utc = event("SUMMARY:li", "DTSTART:20260105T090000Z", "DTEND:20260105T170000Z")
    zone = event(
        "SUMMARY:li",
        "DTSTART;TZID=Asia/Shanghai:20260105T090000",
        "DTEND;TZID=Asia/Shanghai:20260105T170000",
    )
    floating = event("SUMMARY:li", "DTSTART:20260105T090000", "DURATION:PT8H")
    assert shifts(utc) == [("li", "01-05T09:00", "01-05T17:00")]
    assert shifts(zone) == [("li", "01-05T01:00", "01-05T09:00")]
    assert shifts(floating) == [("li", "01-05T08:00", "01-05T16:00")]


def test_a_whole_day_is_one_of_the_schedule_s_zone() -> None:
    one = event("SUMMARY:li", "DTSTART;VALUE=DATE:20260105")
    several = event("SUMMARY:li", "DTSTART;VALUE=DATE:20260105", "DTEND;VALUE=DATE:20260112")
    assert shifts(one) == [("li", "01-04T23:00", "01-05T23:00")]
    assert shifts(several) == [("li", "01-04T23:00", "01-11T23:00")]


WEEKLY = (
    "SUMMARY:li",
    "DTSTART;TZID=Europe/Berlin:20261005T100000",
    "DTEND;TZID=Europe/Berlin:20261012T100000",
)


def test_a_recurring_shift_keeps_its_hour_when_clocks_change() -> None:
    found = shifts(event(*WEEKLY, "RRULE:FREQ=WEEKLY;INTERVAL=2;UNTIL=20261116T090000Z"))
    assert found == [
        ("li", "10-05T08:00", "10-12T08:00"),
        ("li", "10-19T08:00", "10-26T09:00"),
        ("li", "11-02T09:00", "11-09T09:00"),
        ("li", "11-16T09:00", "11-23T09:00"),
    ]


def test_one_in_utc_keeps_its_hour_of_utc_and_its_exceptions_may_be_in_any_zone() -> None:
    utc = event(
        "SUMMARY:li",
        "DTSTART:20261019T080000Z",
        "DTEND:20261019T180000Z",
        "RRULE:FREQ=WEEKLY;UNTIL=20261109",
        "EXDATE;TZID=Asia/Shanghai:20261026T160000",
    )
    assert [start for _, start, _ in shifts(utc)] == ["10-19T08:00", "11-02T08:00", "11-09T08:00"]


def test_what_is_left_out_added_and_changed() -> None:
    rule = event(
        *WEEKLY,
        "RRULE:FREQ=WEEKLY;COUNT=4",
        "EXDATE;TZID=Europe/Berlin:20261012T100000",
        "RDATE;TZID=Europe/Berlin:20261207T100000",
    )
    changed = event(
        "SUMMARY:wang",
        "RECURRENCE-ID;TZID=Europe/Berlin:20261019T100000",
        "DTSTART;TZID=Europe/Berlin:20261019T120000",
        "DTEND;TZID=Europe/Berlin:20261020T120000",
    )
    assert [(who, start) for who, start, _ in shifts(rule, changed)] == [
        ("li", "10-05T08:00"),
        ("wang", "10-19T10:00"),
        ("li", "10-26T09:00"),
        ("li", "12-07T09:00"),
    ]


def test_a_cancelled_one_is_none_and_one_without_an_end_neither() -> None:
    cancelled = event(*WEEKLY, "STATUS:CANCELLED")
    no_end = event("SUMMARY:li", "DTSTART:20260105T090000Z")
    assert shifts(cancelled, no_end) == []


@pytest.mark.parametrize(
    ("lines", "contact"),
    [
        (("SUMMARY:LI",), "li"),
        (("SUMMARY:On call: zhao (primary)",), "zhao"),
        (("SUMMARY:wang@example.com / Schedule",), "wang"),
        (("SUMMARY:On Call", "ATTENDEE;CN=W:mailto:WANG@example.com"), "wang"),
        (("SUMMARY:x", "ATTENDEE:mailto:boss@x.y", "ATTENDEE:mailto:li@example.com"), "li"),
        (("SUMMARY:li and zhao",), ""),
        (("SUMMARY:lila",), ""),
        (("SUMMARY:",), ""),
    ],
)
def test_whose_shift_it_is(lines: tuple[str, ...], contact: str) -> None:
    text = calendar(event(*lines, "DTSTART:20260105T090000Z", "DURATION:PT8H"))
    read = read_calendar(text, BERLIN, EMAILS, START, END)
    assert [shift.contact for shift in read.shifts] == ([contact] if contact else [])
    assert len(read.unknown) == (not contact)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no iCalendar"),
        ("<html>Sign in</html>", "not an iCalendar"),
        (calendar(event("SUMMARY:li", "DTSTART:tomorrow")), "event li: DTSTART"),
        (calendar(event("SUMMARY:li")), "event li: DTSTART: is missing"),
        (calendar(event(*WEEKLY, "RRULE:FREQ=SECONDLY")), "recurs too often"),
        (calendar(event(*WEEKLY, "RRULE:FREQ=DAILY;BYHOUR=99")), "RRULE"),
        (calendar(event("SUMMARY:li", "DTSTART:20260105T000000Z", "DURATION:PT1M",
                        "RRULE:FREQ=HOURLY;BYMINUTE=" + ",".join(map(str, range(60))))),
         "more than 20000 shifts"),
    ],
)  # fmt: skip
def test_what_is_no_calendar_is_said(text: str, said: str) -> None:
    with pytest.raises(InvalidCalendar) as caught:
        read_calendar(text, BERLIN, EMAILS, START, END)
    assert said.removeprefix("no ") in str(caught.value)


def test_old_recurrences_are_passed_over_and_far_ones_are_not_made() -> None:
    old = event("SUMMARY:li", "DTSTART:20060102T000000Z", "DURATION:PT24H", "RRULE:FREQ=DAILY")
    assert len(shifts(old)) == 364


@settings(max_examples=examples(100))
@given(
    st.sampled_from(["Europe/Berlin", "America/New_York", "UTC"]),
    st.integers(1, 200),
    st.lists(st.sampled_from(["li", "wang", "zhao"]), min_size=1, max_size=3),
)
def test_what_is_exported_comes_back(zone: str, hours: int, people: list[str]) -> None:
    start = datetime.fromisoformat("2026-10-20T09:00")
    rotation = Rotation(start, timedelta(hours=hours), tuple(people), ZoneInfo(zone))
    schedule = Schedule("primary", (rotation,), ZoneInfo(zone))
    begin, end = ms("2026-10-18T00:00:00Z"), ms("2026-11-08T00:00:00Z")
    text = write_calendar(schedule, EMAILS, begin, end)
    read = read_calendar(text, BERLIN, EMAILS, begin, end)
    again = Schedule("again", (CalendarShifts(read.shifts),))
    assert list(again.shifts(begin, end)) == list(schedule.shifts(begin, end))
    assert not read.unknown


def test_an_export_is_what_other_programs_read() -> None:
    """By the letter of RFC 5545: lines of 75 octets that end in CRLF, times in UTC."""
    layer = CalendarShifts((Shift(START, START + DAY_MS, "li"),))
    text = write_calendar(Schedule("primary", (layer,)), EMAILS, START, START + 2 * DAY_MS)
    assert text.endswith("\r\n") and all(len(line) <= 75 for line in text.split("\r\n"))
    lines = text.split("\r\n")
    assert lines.count("BEGIN:VEVENT") == 1
    assert "DTSTART:20260101T000000Z" in lines and "DTEND:20260102T000000Z" in lines
    assert "SUMMARY:li" in lines and "ATTENDEE:mailto:li@example.com" in lines
    assert f"UID:primary-{START}@tocsin" in lines and "X-WR-CALNAME:On call: primary" in lines
