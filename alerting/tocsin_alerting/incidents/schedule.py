"""The timers of all incidents, by incident and by due time."""

import heapq
from collections.abc import Iterable, Mapping

from tocsin_alerting.incidents.timer import Timer, TimerKind

Timers = dict[TimerKind, Timer]


class Schedule:
    """A timer that was replaced stays in the heap until its time, and is passed over then.

    Timers of incidents that are held are not due before they are released.
    """

    def __init__(self) -> None:
        self._of: dict[int, Timers] = {}
        self._held: set[int] = set()
        self._heap: list[tuple[int, int, TimerKind]] = []

    def of(self, number: int) -> Mapping[TimerKind, Timer]:
        return self._of.get(number, {})

    def replace(self, number: int, timers: Timers) -> None:
        before = self._of.get(number, {})
        self._of[number] = timers
        if number not in self._held:
            self._push(number, (one for kind, one in timers.items() if one != before.get(kind)))

    def forget(self, number: int) -> None:
        self._of.pop(number, None)
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
            self._push(number, self._of.get(number, {}).values())
        return bool(released)

    def due(self, now_ms: int) -> list[tuple[int, Timer]]:
        """The timers due by `now_ms`, the oldest first. They stay until they are replaced."""
        found: dict[tuple[int, TimerKind], Timer] = {}
        while self._heap and self._heap[0][0] <= now_ms:
            entry = heapq.heappop(self._heap)
            if (timer := self._live(entry)) is not None:
                found[entry[1], timer.kind] = timer
        for (number, _), timer in found.items():
            self._push(number, [timer])
        pairs = [(number, timer) for (number, _), timer in found.items()]
        return sorted(pairs, key=lambda pair: (pair[1].due_at_ms, pair[0], self._rank(*pair)))

    def next_due_ms(self) -> int | None:
        while self._heap and self._live(self._heap[0]) is None:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def _push(self, number: int, timers: Iterable[Timer]) -> None:
        for timer in timers:
            heapq.heappush(self._heap, (timer.due_at_ms, number, timer.kind))

    def _live(self, entry: tuple[int, int, TimerKind]) -> Timer | None:
        due_at_ms, number, kind = entry
        timer = self._of.get(number, {}).get(kind)
        held = number in self._held
        return timer if timer is not None and timer.due_at_ms == due_at_ms and not held else None

    def _rank(self, number: int, timer: Timer) -> int:
        """Of timers due at once, those of one incident run in the order in which they were set."""
        return list(self._of[number]).index(timer.kind)
