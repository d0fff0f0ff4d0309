"""Stored due times: each timer, and the schedule of all incidents.

When one is due the state machine is asked; a stale generation does nothing.
"""

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum


class TimerKind(StrEnum):
    GROUP_WAIT = "group_wait"
    STEP = "step"
    FINAL = "final"
    ACK_REMIND = "ack_remind"
    ACK_TIMEOUT = "ack_timeout"
    SNOOZE_END = "snooze_end"
    REOPEN_END = "reopen_end"
    RE_RAISE = "re_raise"
    SLO_WARN = "slo_warn"
    SLO_BREACH = "slo_breach"
    SOURCE_UNKNOWN = "source_unknown"
    UNKNOWN_MAX = "unknown_max"


OUTLIVES_GENERATION = frozenset(
    {TimerKind.SLO_WARN, TimerKind.SLO_BREACH, TimerKind.SOURCE_UNKNOWN, TimerKind.UNKNOWN_MAX}
)


@dataclass(frozen=True, slots=True)
class Timer:
    """One timer of an incident; of each kind there is at most one. Times are Unix milliseconds."""

    kind: TimerKind
    due_at_ms: int
    generation: int

    def is_live(self, generation: int) -> bool:
        """Whether it still means something: an answer or a new start raises the generation."""
        return self.kind in OUTLIVES_GENERATION or self.generation == generation

    def shifted(self, delta_ms: int) -> "Timer":
        return replace(self, due_at_ms=self.due_at_ms + delta_ms)


TimersByKind = dict[TimerKind, Timer]


class TimerSchedule:
    """A timer that was replaced stays in the heap until its time, and is passed over then.

    Timers of incidents that are held are not due before they are released.
    """

    def __init__(self) -> None:
        self._by_incident: dict[int, TimersByKind] = {}
        self._held: set[int] = set()
        self._heap: list[tuple[int, int, TimerKind]] = []

    def of_incident(self, number: int) -> Mapping[TimerKind, Timer]:
        return self._by_incident.get(number, {})

    def replace(self, number: int, timers: TimersByKind) -> None:
        before = self._by_incident.get(number, {})
        self._by_incident[number] = timers
        if number not in self._held:
            self._push(
                number, (timer for kind, timer in timers.items() if timer != before.get(kind))
            )

    def forget(self, number: int) -> None:
        self._by_incident.pop(number, None)
        self._held.discard(number)

    @property
    def held(self) -> frozenset[int]:
        return frozenset(self._held)

    def is_held(self, number: int) -> bool:
        return number in self._held

    def hold(self, numbers: Iterable[int]) -> None:
        self._held.update(numbers)

    def release(self, numbers: Iterable[int]) -> bool:
        """Whether any of them was held."""
        released = self._held & set(numbers)
        self._held -= released
        for number in released:
            self._push(number, self._by_incident.get(number, {}).values())
        return bool(released)

    def due(self, now_ms: int) -> list[tuple[int, Timer]]:
        """The timers due by `now_ms`, the oldest first. They stay until they are replaced."""
        due_timers: dict[tuple[int, TimerKind], Timer] = {}
        while self._heap and self._heap[0][0] <= now_ms:
            entry = heapq.heappop(self._heap)
            if (timer := self._live_timer(entry)) is not None:
                due_timers[entry[1], timer.kind] = timer
        for (number, _), timer in due_timers.items():
            self._push(number, [timer])
        pairs = [(number, timer) for (number, _), timer in due_timers.items()]
        return sorted(pairs, key=lambda pair: (pair[1].due_at_ms, pair[0], self._rank(*pair)))

    def next_due_ms(self) -> int | None:
        while self._heap and self._live_timer(self._heap[0]) is None:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def _push(self, number: int, timers: Iterable[Timer]) -> None:
        for timer in timers:
            heapq.heappush(self._heap, (timer.due_at_ms, number, timer.kind))

    def _live_timer(self, entry: tuple[int, int, TimerKind]) -> Timer | None:
        due_at_ms, number, kind = entry
        timer = self._by_incident.get(number, {}).get(kind)
        held = number in self._held
        return timer if timer is not None and timer.due_at_ms == due_at_ms and not held else None

    def _rank(self, number: int, timer: Timer) -> int:
        """Of timers due at once, those of one incident run in the order in which they were set."""
        return list(self._by_incident[number]).index(timer.kind)
