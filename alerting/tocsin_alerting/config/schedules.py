"""The section `schedules`: who is on call when."""

from datetime import date, datetime, time, timedelta, tzinfo
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from tocsin_alerting.config.hours import HoursSection, ZoneName
from tocsin_alerting.incidents.calendar_times import time_of_day, time_zone, weekdays
from tocsin_alerting.incidents.oncall import (
    CalendarShifts,
    Layer,
    Override,
    Rotation,
    Schedule,
    wall_clock_ms,
)
from tocsin_alerting.settings import (
    SECRET,
    FilePath,
    Interval,
    Section,
    Words,
    http_url,
    several,
)

_SHORTEST_MS = 3_600_000
_DAY, _WEEK = timedelta(days=1), timedelta(weeks=1)


def _date(text: str) -> str:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise ValueError(f'"{text}" is no date; write it like 2026-01-05') from None
    if not 1970 <= day.year <= 2200:
        raise ValueError(f'"{text}": a year is 1970 to 2200')
    return text


def _moment(text: str) -> str:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f'"{text}" is no time; write it like 2026-02-16T09:00, in the time zone of the'
            " schedule, or with an offset"
        ) from None
    return text


def _http_url(text: str) -> str:
    return http_url(text, "https://calendar.example.com/oncall.ics")


DateText = Annotated[str, AfterValidator(_date)]
MomentText = Annotated[str, AfterValidator(_moment)]


class RotationSection(Section):
    """The members in turn: `{type: weekly, at: "Mon 10:00", start: 2026-01-05, members: [...]}`."""

    type: Literal["daily", "weekly", "custom"]
    at: str
    start: DateText
    members: Annotated[Words, Field(min_length=1)]
    every: Interval | None = None
    hours: HoursSection | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "RotationSection":
        day, _ = _hand_over(self.at)
        if self.type == "weekly" and day is None:
            raise ValueError('a weekly rotation hands over on a day; write at like "Mon 10:00"')
        if self.type != "weekly" and day is not None:
            raise ValueError('only a weekly rotation names a day; write at like "10:00"')
        if (self.type == "custom") != (self.every is not None):
            raise ValueError("a custom rotation needs every, as 3d or 12h, and no other has it")
        if self.every is not None and self.every < _SHORTEST_MS:
            raise ValueError("every must be at least 1h")
        return self

    def rotation(self, zone: tzinfo) -> Rotation:
        day, minute = _hand_over(self.at)
        first = date.fromisoformat(self.start)
        if day is not None:
            first += timedelta(days=(day - first.weekday()) % 7)
        return Rotation(
            start=datetime.combine(first, time()) + timedelta(minutes=minute),
            period=self._period(),
            people=self.members,
            zone=zone,
            hours=self.hours.interval(zone) if self.hours else None,
        )

    def _period(self) -> timedelta:
        if self.every is not None:
            return timedelta(milliseconds=self.every)
        return _WEEK if self.type == "weekly" else _DAY


def _hand_over(text: str) -> tuple[int | None, int]:
    """The day (0 is Monday) and the minute of `Mon 10:00` or `10:00`."""
    day, _, clock = text.rpartition(" ")
    if not day:
        return None, time_of_day(clock)
    (number,) = weekdays([day]) if "-" not in day and ":" not in day else (None,)
    if number is None:
        raise ValueError(f'"{day}" is no day; write at like "Mon 10:00"')
    return number, time_of_day(clock)


class OverrideSection(Section):
    """Somebody else takes over: `{from: 2026-02-16T00:00, to: 2026-02-23T00:00, contact: wang}`."""

    from_: MomentText = Field(alias="from")
    to: MomentText
    contact: str

    def override(self, schedule: str, zone: tzinfo) -> Override:
        return Override(
            schedule, self.contact, instant_ms(self.from_, zone), instant_ms(self.to, zone)
        )


def instant_ms(text: str, zone: tzinfo) -> int:
    """Unix milliseconds; a time without an offset is one of `zone`. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        return wall_clock_ms(moment.replace(microsecond=0), zone)
    return int(moment.timestamp() * 1000)


class ScheduleSection(Section):
    """A calendar, a `rotation`, or `layers` of them: the first that names somebody at a time
    decides."""

    time_zone: ZoneName | None = None
    rotation: RotationSection | None = None
    layers: Annotated[tuple[RotationSection, ...], BeforeValidator(several)] = ()
    overrides: Annotated[tuple[OverrideSection, ...], BeforeValidator(several)] = ()
    ical_file: FilePath | None = None
    ical_url: Annotated[Annotated[str, AfterValidator(_http_url)] | None, SECRET] = None
    ical_url_file: FilePath | None = None

    @model_validator(mode="after")
    def _some_layer(self) -> "ScheduleSection":
        named = (self.ical_file, self.ical_url, self.ical_url_file)
        if sum(each is not None for each in named) > 1:
            raise ValueError("give one of ical_file, ical_url and ical_url_file")
        if self.rotation is not None and self.layers:
            raise ValueError("a schedule has either a rotation or layers")
        if self.rotation is None and not self.layers and not self.has_calendar:
            raise ValueError("a schedule needs a rotation, layers or a calendar (ical_file)")
        return self

    @property
    def has_calendar(self) -> bool:
        return any((self.ical_file, self.ical_url, self.ical_url_file))

    @model_validator(mode="after")
    def _overrides_end(self) -> "ScheduleSection":
        zone = time_zone(self.time_zone or "UTC")
        for override in self.overrides:
            if instant_ms(override.from_, zone) >= instant_ms(override.to, zone):
                raise ValueError(f"the override of {override.contact} ends before it begins")
        return self

    def schedule(self, name: str, zone: tzinfo, calendar: CalendarShifts | None) -> Schedule:
        """`zone` holds where the section names none; `calendar` is what was read of its own."""
        zone = time_zone(self.time_zone) if self.time_zone else zone
        sections = (self.rotation,) if self.rotation else self.layers
        layers: list[Layer] = [section.rotation(zone) for section in sections]
        if calendar is not None:
            layers.insert(0, calendar)
        overrides = tuple(override.override(name, zone) for override in self.overrides)
        return Schedule(name, tuple(layers), zone, overrides)
