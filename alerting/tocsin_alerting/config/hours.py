"""Hours of the week in the configuration: `{days: Mon-Fri, from: "09:00", to: "19:00"}`."""

from datetime import tzinfo
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from tocsin_alerting.incidents.calendar_times import (
    TimeInterval,
    time_of_day,
    time_span,
    time_zone,
    weekdays,
)
from tocsin_alerting.settings import Section


def _zone_name(name: str) -> str:
    time_zone(name)
    return name


def _time_of_day(text: str) -> str:
    time_of_day(text)
    return text


def _days(value: object) -> object:
    """One range or several, as `Mon-Fri` or `[Mon, Wed]`."""
    items = (value,) if isinstance(value, str) else value
    return tuple(items) if isinstance(items, list) else items


def _known_days(items: tuple[str, ...]) -> tuple[str, ...]:
    weekdays(items)
    return items


ZoneName = Annotated[str, AfterValidator(_zone_name)]
TimeOfDay = Annotated[str, AfterValidator(_time_of_day)]
Weekdays = Annotated[tuple[str, ...], BeforeValidator(_days), AfterValidator(_known_days)]


class HoursSection(Section):
    """From one time of the day to another, overnight if the second is earlier; without `days`
    every day, in the time zone of the configuration unless it names one."""

    from_: TimeOfDay = Field(default="00:00", alias="from")
    to: TimeOfDay = "24:00"
    days: Weekdays = ()
    time_zone: ZoneName | None = None

    @model_validator(mode="after")
    def _some_time(self) -> "HoursSection":
        time_span(self.from_, self.to)
        return self

    def interval(self, zone: tzinfo) -> TimeInterval:
        """`zone` holds where the section names none."""
        zone = time_zone(self.time_zone) if self.time_zone else zone
        return TimeInterval(zone, (time_span(self.from_, self.to),), weekdays(self.days))
