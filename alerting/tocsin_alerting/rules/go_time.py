"""Go's time.Time, time.Duration, Month, Weekday and Location, as the templates of rules see them.

gotime and goduration compute; this file gives their methods Go's names, checks what they are
given as Go does, and wraps what they give back, so that `$t.UTC.Format "15:04"` goes on from there.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from goduration.go import MAX_DURATION, MIN_NANOSECONDS, Duration
from gotime.go import Location, Month, Time, Weekday

from tocsin_alerting.rules.template_data import (
    CURRENT_DATA,
    GoInteger,
    GoNumber,
    GoText,
    Stringer,
    check_length,
    go_number,
    go_type,
    no_field,
)
from tocsin_alerting.strconv import quote

MAX_LAYOUT = 1000  # characters; gotime keeps the last 512 layouts in pieces
_INT64 = range(-(1 << 63), 1 << 63)
_CONSTANTS = (bool, int, float, str)  # the very types of what a template spells out


class _Object(Stringer):
    """A value with methods; `raw` is what gotime or goduration has for it."""

    raw: Any
    methods: ClassVar[Mapping[str, "_Method"]] = {}

    def __gotemplate_lookup__(self, name: str) -> object:
        """What a method without arguments gives: gotpl's `and` and `or` would not call it."""
        method = self.methods.get(name)
        if method is None:
            raise no_field(name, self.go_type)
        bound = _BoundMethod(name, self, method)
        if method.takes:
            return bound
        try:
            return bound()
        except (ValueError, ArithmeticError) as error:
            raise _failed(f"error calling {name}: {error}") from None


class _BoundMethod:
    """What gotpl takes for a method, because it has `__self__`, and calls with what follows it."""

    def __init__(self, name: str, owner: _Object, method: "_Method") -> None:
        self.__name__, self.__self__, self._method = name, owner, method

    def __call__(self, *values: object) -> object:
        CURRENT_DATA.get().spending.check()
        name, takes, results = self.__name__, self._method.takes, self._method.results
        if len(values) != len(takes):
            raise _failed(f"wrong number of args for {name}: want {len(takes)} got {len(values)}")
        if results != 1:
            raise _failed(f'can\'t call method/function "{name}" with {results} results')
        taken = [take(value) for take, value in zip(takes, values, strict=True)]
        return _wrapped(self._method.call(self.__self__.raw, *taken))


@dataclass(frozen=True, slots=True)
class _Method:
    """`takes` has a function for each argument; Go calls nothing with two results or more."""

    call: Callable[..., object]
    takes: tuple[Callable[[object], object], ...] = ()
    results: int = 1


class GoTime(_Object):
    """A time.Time; toTime gives a pointer to one."""

    def __init__(self, value: Time, *, pointer: bool = False) -> None:
        self.raw = value
        self.go_type = "*time.Time" if pointer else "time.Time"

    def __str__(self) -> str:
        return str(self.raw)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GoTime) and bool(self.raw == other.raw)

    def __hash__(self) -> int:
        return hash((self.raw.unix_seconds, self.raw.nanosecond))

    def go_string(self) -> str:
        return str(self.raw.go_string())


class GoDuration(_Object, int):
    """A time.Duration: a number of nanoseconds that is written `1h1m1.5s`."""

    go_type = "time.Duration"

    @property
    def raw(self) -> Duration:
        return Duration(int(self))

    def __str__(self) -> str:
        return str(self.raw)


class _NamedNumber(_Object, int):
    """A month or a day of the week: a number that is written as its name."""

    names: ClassVar[type[Month] | type[Weekday]]

    @property
    def raw(self) -> Month | Weekday:
        return self.names(int(self))

    def __str__(self) -> str:
        return str(self.raw)


class GoMonth(_NamedNumber):
    go_type, names = "time.Month", Month


class GoWeekday(_NamedNumber):
    go_type, names = "time.Weekday", Weekday


class GoLocation(_Object):
    go_type = "*time.Location"

    def __init__(self, value: Location) -> None:
        self.raw = value

    def __str__(self) -> str:
        return str(self.raw)


def _wrapped(value: object) -> object:
    """As the next method, or what prints it, has to see it."""
    if isinstance(value, str | bytes):
        check_length(len(value))
    wrap = _WRAPPERS.get(type(value))
    return value if wrap is None else wrap(value)


_WRAPPERS: Mapping[type, Callable[[Any], object]] = {
    Time: GoTime,
    Duration: lambda value: GoDuration(value.nanoseconds),
    Month: GoMonth,
    Weekday: GoWeekday,
    Location: GoLocation,
    int: GoInteger,
    float: GoNumber,
    str: GoText,
}


def _failed(message: str) -> Exception:
    import gotpl

    return gotpl.TemplateExecutionError(message)


def _refused(value: object, wanted: str, constant: str) -> Exception:
    """Go's error for an argument: `constant` with what the template spells out, or by its type."""
    if type(value) not in _CONSTANTS:
        return _failed(f"wrong type for value; expected {wanted}; got {go_type(value)}")
    return _failed(constant.format(_spelled(value)))


def _spelled(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return quote(value)
    return go_number(value) if isinstance(value, float) else str(value)


def _whole(value: object, wanted: str) -> int:
    """An integer; `1e9` is one where a template spells it out."""
    plain = type(value) is float and value.is_integer()
    if plain or isinstance(value, int) and not isinstance(value, bool | Stringer):
        number = int(value)  # type: ignore[call-overload]
        if number in _INT64:
            return int(number)
    raise _refused(value, wanted, "expected integer; found {}")


def _integer(value: object) -> int:
    return _whole(value, "int")


def _duration(value: object) -> Duration:
    """A duration; a number that a template spells out is nanoseconds."""
    if isinstance(value, GoDuration):
        return value.raw
    if isinstance(value, GoInteger):
        raise _refused(value, "time.Duration", "")
    return Duration(_whole(value, "time.Duration"))


def _layout(value: object) -> str:
    if not isinstance(value, str):
        raise _refused(value, "string", "expected string; found {}")
    if len(value) > MAX_LAYOUT:
        raise ValueError(f"the layout has more than {MAX_LAYOUT:,} characters")
    return value


def _one_of(kind: type[_Object], name: str, shown: str) -> Callable[[object], object]:
    def taken(value: object) -> object:
        if not isinstance(value, kind):
            raise _refused(value, name, "can't handle {} for arg of type " + shown)
        return value.raw

    return taken


def _bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise _refused(value, "[]uint8", "can't handle {} for arg of type []uint8")
    return value


def _absolute(duration: Duration) -> Duration:
    """The least has no opposite in 64 bits."""
    return MAX_DURATION if duration.nanoseconds == MIN_NANOSECONDS else abs(duration)


_time = _one_of(GoTime, "time.Time", "time.Time")
_location = _one_of(GoLocation, "*time.Location", "*time.Location")

# Those that write into their time are left out. Compare is there since Go 1.20.
GoTime.methods = {
    "Add": _Method(Time.add, (_duration,)),
    "AddDate": _Method(Time.add_date, (_integer, _integer, _integer)),
    "After": _Method(Time.after, (_time,)),
    "AppendFormat": _Method(Time.append_format, (_bytes, _layout)),
    "Before": _Method(Time.before, (_time,)),
    "Clock": _Method(Time.clock, results=3),
    "Compare": _Method(Time.compare, (_time,)),
    "Date": _Method(Time.date, results=3),
    "Day": _Method(lambda time: time.day),
    "Equal": _Method(Time.equal, (_time,)),
    "Format": _Method(Time.format, (_layout,)),
    "GoString": _Method(Time.go_string),
    "GobEncode": _Method(Time.gob_encode),
    "Hour": _Method(lambda time: time.hour),
    "ISOWeek": _Method(Time.iso_week, results=2),
    "In": _Method(Time.in_location, (_location,)),
    "IsDST": _Method(Time.is_dst),
    "IsZero": _Method(Time.is_zero),
    "Local": _Method(Time.local),
    "Location": _Method(lambda time: time.location),
    "MarshalBinary": _Method(Time.marshal_binary),
    "MarshalJSON": _Method(Time.marshal_json),
    "MarshalText": _Method(Time.marshal_text),
    "Minute": _Method(lambda time: time.minute),
    "Month": _Method(lambda time: time.month),
    "Nanosecond": _Method(lambda time: time.nanosecond),
    "Round": _Method(Time.round, (_duration,)),
    "Second": _Method(lambda time: time.second),
    "String": _Method(str),
    "Sub": _Method(Time.subtract, (_time,)),
    "Truncate": _Method(Time.truncate, (_duration,)),
    "UTC": _Method(Time.utc),
    "Unix": _Method(Time.unix),
    "UnixMicro": _Method(Time.unix_microseconds),
    "UnixMilli": _Method(Time.unix_milliseconds),
    "UnixNano": _Method(Time.unix_nanoseconds),
    "Weekday": _Method(lambda time: time.weekday),
    "Year": _Method(lambda time: time.year),
    "YearDay": _Method(lambda time: time.year_day),
    "Zone": _Method(Time.zone, results=2),
    "ZoneBounds": _Method(Time.zone_bounds, results=2),
}
GoDuration.methods = {
    "Abs": _Method(_absolute),
    "Hours": _Method(Duration.total_hours),
    "Microseconds": _Method(Duration.total_microseconds),
    "Milliseconds": _Method(Duration.total_milliseconds),
    "Minutes": _Method(Duration.total_minutes),
    "Nanoseconds": _Method(Duration.total_nanoseconds),
    "Round": _Method(Duration.round, (_duration,)),
    "Seconds": _Method(Duration.total_seconds),
    "String": _Method(str),
    "Truncate": _Method(Duration.truncate, (_duration,)),
}
GoMonth.methods = GoWeekday.methods = GoLocation.methods = {"String": _Method(str)}
