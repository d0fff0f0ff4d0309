"""On-call schedules: rotations by the wall clock of a time zone, layers of them, and overrides.

Instants are Unix milliseconds; "" is nobody.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Protocol

from tocsin_alerting.incidents.calendar_times import TimeInterval

GAP_HORIZON_MS = 366 * 86_400_000
_MOST_SHIFTS = 20_000  # of one look ahead: hourly hand-overs for two years


@dataclass(frozen=True, slots=True)
class Shift:
    """`contact` is on call from `start_ms` up to `end_ms`; "": nobody is."""

    start_ms: int
    end_ms: int
    contact: str


@dataclass(frozen=True, slots=True)
class Override:
    """`contact` takes over from `start_ms` up to `end_ms`, whoever would be on call. Of several the
    last one holds."""

    schedule: str
    contact: str
    start_ms: int
    end_ms: int
    id: str = ""
    created_ms: int = 0
    created_by: str = ""
    comment: str = ""

    def as_data(self) -> dict[str, str | int]:
        """For a line of the history, which says itself when and by whom."""
        return {
            "id": self.id,
            "schedule": self.schedule,
            "contact": self.contact,
            "from_at_ms": self.start_ms,
            "until_ms": self.end_ms,
            "comment": self.comment,
        }

    def covers(self, at_ms: int) -> bool:
        return self.start_ms <= at_ms < self.end_ms


class Layer(Protocol):
    """A part of a schedule that names at most one contact at a time."""

    def on_call(self, at_ms: int) -> str: ...

    def next_change_ms(self, at_ms: int) -> int | None: ...

    def members(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class Rotation:
    """The members one after the other, `period` each; nobody before `start`, or outside of `hours`.

    `start` and `period` are of the wall clock in `zone`: who hands over at 10:00 does so in summer
    and in winter. A time that comes twice is the first of both, and one that the clock skips is
    when it skips it.
    """

    start: datetime
    period: timedelta
    people: tuple[str, ...]
    zone: tzinfo = UTC
    hours: TimeInterval | None = None

    def on_call(self, at_ms: int) -> str:
        turn = self._turn(at_ms)
        resting = self.hours is not None and not self.hours.contains(at_ms)
        return "" if turn < 0 or resting else self.people[turn % len(self.people)]

    def next_change_ms(self, at_ms: int) -> int | None:
        hand_over_ms = self._hand_over_ms(max(self._turn(at_ms) + 1, 0))
        hours_ms = self.hours.next_change_ms(at_ms) if self.hours else None
        return hand_over_ms if hours_ms is None else min(hand_over_ms, hours_ms)

    def members(self) -> tuple[str, ...]:
        return self.people

    def _turn(self, at_ms: int) -> int:
        """How many hand-overs have passed since the first one; -1 before it."""
        wall = datetime.fromtimestamp(at_ms // 1000, self.zone).replace(tzinfo=None)
        turn = max((wall - self.start) // self.period, -1)
        while self._hand_over_ms(turn + 1) <= at_ms:
            turn += 1
        while turn >= 0 and self._hand_over_ms(turn) > at_ms:  # the clock was set, back or forward
            turn -= 1
        return turn

    def _hand_over_ms(self, turn: int) -> int:
        return wall_clock_ms(self.start + turn * self.period, self.zone)


def wall_clock_ms(wall: datetime, zone: tzinfo) -> int:
    """When the clock in `zone` first shows `wall`, or skips it."""
    late = int(wall.replace(tzinfo=zone).timestamp())
    if _wall(late, zone) == wall:
        return late * 1000
    early = int(wall.replace(tzinfo=zone, fold=1).timestamp())
    while late - early > 1:  # the clock is set forward between the two
        middle = (early + late) // 2
        early, late = (middle, late) if _wall(middle, zone) < wall else (early, middle)
    return late * 1000


def _wall(seconds: int, zone: tzinfo) -> datetime:
    return datetime.fromtimestamp(seconds, zone).replace(tzinfo=None)


@dataclass(frozen=True, slots=True)
class CalendarShifts:
    """Shifts of a calendar that was read. Where two overlap, the one that began last holds."""

    shifts: tuple[Shift, ...]
    _edges: tuple[int, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        edges = {edge for shift in self.shifts for edge in (shift.start_ms, shift.end_ms)}
        object.__setattr__(self, "_edges", tuple(sorted(edges)))
        ordered = sorted(self.shifts, key=lambda shift: shift.start_ms)
        object.__setattr__(self, "shifts", tuple(ordered))

    def on_call(self, at_ms: int) -> str:
        begun = bisect_right(self.shifts, at_ms, key=lambda shift: shift.start_ms)
        running = (shift for shift in reversed(self.shifts[:begun]) if at_ms < shift.end_ms)
        return next((shift.contact for shift in running), "")

    def next_change_ms(self, at_ms: int) -> int | None:
        following = bisect_right(self._edges, at_ms)
        return self._edges[following] if following < len(self._edges) else None

    def members(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(shift.contact for shift in self.shifts))


@dataclass(frozen=True, slots=True)
class Schedule:
    """Who is on call: the last override that covers the moment, else the first layer that names
    somebody. `zone` is the one in which people read its times."""

    name: str
    layers: tuple[Layer, ...]
    zone: tzinfo = UTC
    overrides: tuple[Override, ...] = ()

    def on_call(self, at_ms: int) -> str:
        """The contact, "" when it names nobody."""
        for override in reversed(self.overrides):
            if override.covers(at_ms):
                return override.contact
        return next((who for layer in self.layers if (who := layer.on_call(at_ms))), "")

    def next_change_ms(self, at_ms: int) -> int | None:
        """The first instant after `at_ms` at which somebody else may be on call; None: never."""
        edges = (
            edge
            for override in self.overrides
            for edge in (override.start_ms, override.end_ms)
            if edge > at_ms
        )
        changes = (layer.next_change_ms(at_ms) for layer in self.layers)
        return min((*edges, *(change for change in changes if change is not None)), default=None)

    def members(self) -> tuple[str, ...]:
        """Everybody whom it names at some time."""
        names = [name for layer in self.layers for name in layer.members()]
        names += [override.contact for override in self.overrides]
        return tuple(dict.fromkeys(name for name in names if name))

    def shifts(self, start_ms: int, end_ms: int) -> Iterator[Shift]:
        """From one time to another, without a hole: where nobody is on call a shift says so."""
        begun_ms, who, at_ms = start_ms, self.on_call(start_ms), start_ms
        for _ in range(_MOST_SHIFTS):
            change_ms = self.next_change_ms(at_ms)
            if change_ms is None or change_ms >= end_ms:
                break
            at_ms = change_ms
            if (following := self.on_call(at_ms)) != who:
                yield Shift(begun_ms, at_ms, who)
                begun_ms, who = at_ms, following
        if begun_ms < end_ms:
            yield Shift(begun_ms, end_ms, who)

    def gaps(self, start_ms: int, end_ms: int) -> list[Shift]:
        """When nobody is on call."""
        return [shift for shift in self.shifts(start_ms, end_ms) if not shift.contact]

    def now_and_next(self, at_ms: int) -> tuple[Shift, Shift | None]:
        """The shift that runs, from `at_ms` on, and the one that follows it within a year."""
        shifts = self.shifts(at_ms, at_ms + GAP_HORIZON_MS)
        return next(shifts), next(shifts, None)
