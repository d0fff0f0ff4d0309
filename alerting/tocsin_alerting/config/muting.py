"""What is muted at planned times, and how the end of a silence is announced."""

from datetime import datetime, tzinfo
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from tocsin_alerting.config.routing import Matchers
from tocsin_alerting.incidents import calendar_times
from tocsin_alerting.incidents.alert_matcher import parse_matcher
from tocsin_alerting.incidents.calendar_times import TimeInterval
from tocsin_alerting.incidents.maintenance import MaintenanceWindow
from tocsin_alerting.incidents.routing import StormLimit
from tocsin_alerting.incidents.silences import matches_everything
from tocsin_alerting.settings import Duration, Interval, Section


def _texts(value: object) -> object:
    """A list, or one item alone; numbers as they stand in the file."""
    items = value if isinstance(value, list) else [value]
    return tuple(str(item) if type(item) is int else item for item in items)


def _read_by(read: Any) -> Any:
    def check(value: Any) -> Any:
        read(value)
        return value

    return AfterValidator(check)


Texts = Annotated[tuple[str, ...], BeforeValidator(_texts)]
TimeOfDay = Annotated[str, _read_by(calendar_times.time_of_day)]
Zone = Annotated[str, _read_by(calendar_times.time_zone)]


def _name(text: str) -> str:
    if not text or not text.isprintable() or len(text) > 100:
        raise ValueError("a name is 1 to 100 printable characters")
    return text


class StormSection(Section):
    """So many incidents that begin to page within the window are told by one summary; 0: each is
    told singly."""

    incidents: Annotated[int, Field(ge=0, le=10_000)] = 20
    window: Interval = 60_000

    def limit(self) -> StormLimit | None:
        return StormLimit(self.incidents, self.window) if self.incidents else None


class EverySection(Section):
    """Times that come again and again, as Alertmanager's time intervals. What is left out does not
    matter; `to` that is not after `from` is of the next day."""

    days: Annotated[Texts, _read_by(calendar_times.weekdays)] = ()
    days_of_month: Annotated[Texts, _read_by(calendar_times.days_of_month)] = ()
    months: Annotated[Texts, _read_by(calendar_times.months)] = ()
    years: Annotated[Texts, _read_by(calendar_times.years)] = ()
    from_: Annotated[TimeOfDay | None, Field(alias="from")] = None
    to: TimeOfDay | None = None
    time_zone: Zone | None = None

    @model_validator(mode="after")
    def _both(self) -> "EverySection":
        if (self.from_ is None) != (self.to is None):
            raise ValueError("from and to go together; add the other one")
        if self.from_ is not None and self.to is not None:
            calendar_times.time_span(self.from_, self.to)
        if not any((self.days, self.days_of_month, self.months, self.years, self.from_)):
            raise ValueError("it would hold always; say when: days, from and to")
        return self

    def interval(self, zone: str) -> TimeInterval:
        """In `zone` where it names none."""
        times = () if self.from_ is None else (calendar_times.time_span(self.from_, self.to or ""),)
        return TimeInterval(
            calendar_times.time_zone(self.time_zone or zone),
            times,
            calendar_times.weekdays(self.days),
            calendar_times.days_of_month(self.days_of_month),
            calendar_times.months(self.months),
            calendar_times.years(self.years),
        )


def _date_time(text: str) -> str:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f'"{text}" is no date and time; write it like "2026-02-16T22:00"'
        ) from None
    return text


def _ms(text: str, zone: tzinfo) -> int:
    at = datetime.fromisoformat(text)
    return round((at if at.tzinfo else at.replace(tzinfo=zone)).timestamp() * 1000)


DateTime = Annotated[str, AfterValidator(_date_time)]


class MaintenanceSection(Section):
    """What matches all of `match`, but what matches all of `except`, pages nobody while `every`
    holds, or once, between `from` and `to`."""

    name: Annotated[str, AfterValidator(_name)]
    match: Annotated[Matchers, Field(min_length=1)]
    except_: Annotated[Matchers, Field(alias="except")] = ()
    every: EverySection | None = None
    from_: Annotated[DateTime | None, Field(alias="from")] = None
    to: DateTime | None = None
    time_zone: Zone | None = None

    @model_validator(mode="after")
    def _when(self) -> "MaintenanceSection":
        once = (self.from_ is not None, self.to is not None)
        if (self.every is None) != all(once) or (self.every is not None and any(once)):
            raise ValueError("say when: every, or from and to for a window that comes once")
        if self.every is not None and self.time_zone is not None:
            raise ValueError("with every, time_zone belongs into it")
        return self

    @model_validator(mode="after")
    def _not_everything(self) -> "MaintenanceSection":
        if matches_everything(tuple(map(parse_matcher, self.match))) and not self.except_:
            raise ValueError(
                "it would mute every alert; match what is maintained, or name in except what"
                " still pages"
            )
        return self

    def window(self, zone: str) -> MaintenanceWindow:
        """Times without a zone are in `zone`, unless it names one."""
        matchers = tuple(map(parse_matcher, self.match))
        exceptions = tuple(map(parse_matcher, self.except_))
        if self.every is not None:
            return MaintenanceWindow(self.name, matchers, exceptions, self.every.interval(zone))
        own = calendar_times.time_zone(self.time_zone or zone)
        ends = (_ms(text, own) for text in (self.from_ or "", self.to or ""))
        return MaintenanceWindow(self.name, matchers, exceptions, None, *ends)


class SilencesSection(Section):
    """`warn_before`: so long before the end of a silence its author is told that something still
    fires under it; 0s: nobody is."""

    warn_before: Duration = 900_000
