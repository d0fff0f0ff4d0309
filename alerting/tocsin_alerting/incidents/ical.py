"""Shifts from an iCalendar file (RFC 5545), and shifts as one.

Importing this module costs nothing: the library is loaded when a calendar is read or written.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from itertools import islice
from typing import Any

from tocsin_alerting.incidents.oncall import Schedule, Shift, wall_clock_ms

MOST_SHIFTS = 20_000  # of one calendar
_MOST_RECURRENCES = 300_000  # hourly for 34 years
_TIMES = ("DTSTART", "DTEND", "DURATION", "RRULE", "RDATE", "EXDATE", "RECURRENCE-ID")
_TOO_OFTEN = frozenset({"SECONDLY", "MINUTELY"})


class InvalidCalendar(Exception):
    """It is no calendar, or recurs beyond all bounds; the text says what and where."""


@dataclass(frozen=True, slots=True)
class ImportedCalendar:
    """`unknown` are summaries of events that name no contact, each once."""

    shifts: tuple[Shift, ...]
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Occurrence:
    start: datetime
    end: datetime
    zone: tzinfo

    def shift(self, contact: str) -> Shift:
        return Shift(
            wall_clock_ms(self.start, self.zone), wall_clock_ms(self.end, self.zone), contact
        )


def read_calendar(
    text: str, zone: tzinfo, emails: Mapping[str, str], start_ms: int, end_ms: int
) -> ImportedCalendar:
    """The shifts between two times; a time without a zone, and a whole day, is one of `zone`.

    `emails` has every contact by its name, "" without an address. An event is the shift of the
    contact whose address an attendee has, or whose address or name its summary holds. Raises
    InvalidCalendar.
    """
    events = _events(text)
    changed = {
        (str(event.get("UID")), _instant(event["RECURRENCE-ID"].dt, zone))
        for event in events
        if "RECURRENCE-ID" in event
    }
    shifts: list[Shift] = []
    unknown: dict[str, None] = {}
    for event in events:
        if str(event.get("STATUS", "")).upper() == "CANCELLED":
            continue
        contact = _contact(event, emails)
        for occurrence in _occurrences(event, zone, changed, end_ms):
            shift = occurrence.shift(contact)
            if shift.end_ms > start_ms and shift.start_ms < end_ms:
                if contact:
                    shifts.append(shift)
                else:
                    unknown[str(event.get("SUMMARY", ""))] = None
            if len(shifts) > MOST_SHIFTS:
                raise InvalidCalendar(f"more than {MOST_SHIFTS} shifts within a year")
    return ImportedCalendar(tuple(sorted(shifts, key=lambda shift: shift.start_ms)), tuple(unknown))


def _events(text: str) -> list[Any]:
    from icalendar import Calendar

    try:
        calendars = Calendar.from_ical(text, multiple=True)
        events = [event for calendar in calendars for event in calendar.walk("VEVENT")]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise InvalidCalendar(f"not an iCalendar: {' '.join(str(error).split())[:200]}") from None
    if not calendars:
        raise InvalidCalendar("not an iCalendar: it holds no VCALENDAR")
    for event in events:
        errors = [error for error in event.errors if error[0] in _TIMES]
        if errors or "DTSTART" not in event:
            name, why = errors[0] if errors else ("DTSTART", "is missing")
            what = f"event {event.get('SUMMARY', event.get('UID', ''))!s:.80}"
            raise InvalidCalendar(f"{what}: {name}: {why}")
    return events


def _occurrences(
    event: Any, zone: tzinfo, changed: set[tuple[str, datetime]], end_ms: int
) -> Iterator[_Occurrence]:
    """One of a recurrence that was changed is an event of its own; the rule leaves it out."""
    own_zone = _own_zone(event["DTSTART"].dt, zone)
    start = _wall(event["DTSTART"].dt, own_zone)
    length = _length(event, start, own_zone)
    if length <= timedelta():
        return
    left_out = {_wall(each.dt, own_zone) for each in _dates(event, "EXDATE")}
    starts = _starts(event, start, own_zone, end_ms)
    more = [_wall(each.dt, own_zone) for each in _dates(event, "RDATE") if _is_time(each.dt)]
    for begin in dict.fromkeys((*starts, *more)):
        instant = begin.replace(tzinfo=own_zone).astimezone(UTC)
        is_changed = "RECURRENCE-ID" not in event and (str(event.get("UID")), instant) in changed
        if begin not in left_out and not is_changed:
            yield _Occurrence(begin, begin + length, own_zone)


def _starts(event: Any, start: datetime, zone: tzinfo, end_ms: int) -> Iterator[datetime]:
    rule = event.get("RRULE")
    if rule is None:
        yield start
        return
    from dateutil.rrule import rrulestr

    frequency = str(next(iter(rule.get("FREQ", [""])), "")).upper()
    if isinstance(rule, list) or frequency in _TOO_OFTEN:
        raise InvalidCalendar(f"event {event.get('SUMMARY', '')!s:.80}: recurs too often")
    until = [_until(each, zone) for each in rule.get("UNTIL", [])]
    local = {name: values for name, values in rule.items() if name != "UNTIL"}
    text = ";".join(f"{name}={','.join(map(str, values))}" for name, values in local.items())
    if until:
        text += f";UNTIL={until[0]:%Y%m%dT%H%M%S}"
    try:
        recurrences = rrulestr(text, dtstart=start)
    except (ValueError, TypeError) as error:
        raise InvalidCalendar(f"event {event.get('SUMMARY', '')!s:.80}: RRULE: {error}") from None
    last = datetime.fromtimestamp(end_ms // 1000, zone).replace(tzinfo=None)
    for begin in islice(recurrences, _MOST_RECURRENCES):
        if begin > last:
            return
        yield begin


def _dates(event: Any, name: str) -> Iterator[Any]:
    value = event.get(name)
    for each in value if isinstance(value, list) else [value] if value is not None else []:
        yield from each.dts


def _is_time(value: object) -> bool:
    return isinstance(value, date)  # and no period


def _length(event: Any, start: datetime, zone: tzinfo) -> timedelta:
    """By the wall clock: a week from Monday 10:00 ends on Monday 10:00, whatever clocks do."""
    if "DTEND" in event:
        return _wall(event["DTEND"].dt, zone) - start
    if "DURATION" in event and isinstance(event["DURATION"].dt, timedelta):
        duration: timedelta = event["DURATION"].dt
        return duration
    return timedelta() if isinstance(event["DTSTART"].dt, datetime) else timedelta(days=1)


def _own_zone(value: date, zone: tzinfo) -> tzinfo:
    """The time zone of a time; `zone` where it has none."""
    own = value.tzinfo if isinstance(value, datetime) else None
    return own or zone


def _wall(value: date, zone: tzinfo) -> datetime:
    """What the clock in `zone` shows then; a time without a zone is one of `zone`."""
    if not isinstance(value, datetime):
        return datetime.combine(value, time())
    return value if value.tzinfo is None else value.astimezone(zone).replace(tzinfo=None)


def _until(value: date, zone: tzinfo) -> datetime:
    """A day counts to its end."""
    wall = _wall(value, zone)
    return wall if isinstance(value, datetime) else wall + timedelta(days=1, seconds=-1)


def _instant(value: date, zone: tzinfo) -> datetime:
    return _wall(value, zone).replace(tzinfo=zone).astimezone(UTC)


def _contact(event: Any, emails: Mapping[str, str]) -> str:
    """By an attendee's address, or by the summary: its address, its name, or a word of it; "" when
    it names nobody, or several."""
    by_email = {email.lower(): name for name, email in emails.items() if email}
    attendees = event.get("ATTENDEE", [])
    for each in attendees if isinstance(attendees, list) else [attendees]:
        address = str(each).lower().removeprefix("mailto:")
        if address in by_email:
            return by_email[address]
    summary = str(event.get("SUMMARY", "")).strip()
    named = [name for name in emails if name.lower() == summary.lower()]
    named = named or [name for email, name in by_email.items() if email in summary.lower()]
    words = "".join(char if char.isalnum() or char in "-_." else " " for char in summary.lower())
    named = named or [name for name in emails if name.lower() in words.split()]
    return named[0] if len(named) == 1 else ""


def write_calendar(
    schedule: Schedule, emails: Mapping[str, str], start_ms: int, end_ms: int
) -> str:
    """The shifts from one time to another, as a calendar; where nobody is on call is no event."""
    from icalendar import Calendar, Event, vCalAddress

    calendar = Calendar()
    calendar.add("PRODID", "-//Tocsin//on-call//EN")
    calendar.add("VERSION", "2.0")
    calendar.add("X-WR-CALNAME", f"On call: {schedule.name}")
    for shift in schedule.shifts(start_ms, end_ms):
        if not shift.contact:
            continue
        event = Event()
        event.add("UID", f"{schedule.name}-{shift.start_ms}@tocsin")
        event.add("SUMMARY", shift.contact)
        event.add("DTSTAMP", _moment(start_ms))
        event.add("DTSTART", _moment(shift.start_ms))
        event.add("DTEND", _moment(shift.end_ms))
        if email := emails.get(shift.contact):
            event.add("ATTENDEE", vCalAddress(f"mailto:{email}"))
        calendar.add_component(event)
    text: str = calendar.to_ical().decode()
    return text


def _moment(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms // 1000, UTC)
