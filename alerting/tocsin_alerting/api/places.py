"""Who may run now: some queries at once, some waiting in their order, the rest sent away.

A query whose client reads slowly has no place any more, but its numbers are still in memory: those
that wait outside are bounded by what they hold together. Where there is no room, the slowest ends.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from tocsin_alerting.api.answers import ApiError

READING = 64  # each also has a piece on its way
READING_SAMPLES = 20_000_000  # of 16 bytes: 320 MB
SLOW_SECONDS = 0.25  # for a piece; who takes longer may have to make room


class Place:
    """That of one query; `cut` ends the query.

    `samples` are what it read and may hold; `sent` is since when a piece waits to be
    taken, in seconds; none does where it is infinite."""

    def __init__(self, gate: "QueryGate", cut: Callable[[], None]) -> None:
        self.cut = cut
        self.samples = 0
        self.sent = math.inf
        self._gate = gate
        self._held = True

    def leave(self) -> None:
        """The query is computed: another may run."""
        if self._held:
            self._held = False
            self._gate.left()

    def wait_outside(self, now: float) -> None:
        """Its client has yet to read the rest. Where there is no room and nobody is slow, it stays:
        who reads steadily is not ended."""
        if self._held and self._gate.outside(self, now):
            self.leave()


class QueryGate:
    """At most `at_once` queries have a place, `waiting` wait for one, `reading` wait outside, with
    `samples` in all."""

    def __init__(
        self, at_once: int, waiting: int, reading: int = READING, samples: int = READING_SAMPLES
    ) -> None:
        self._at_once, self._most = at_once, waiting
        self._reading, self._samples = reading, samples
        self._free = asyncio.Semaphore(at_once)
        self._waiting = 0
        self._outside: list[Place] = []

    @property
    def taken(self) -> bool:
        """Whether the next one would have to wait."""
        return self._free.locked()

    @asynccontextmanager
    async def place(self, cut: Callable[[], None]) -> AsyncIterator[Place]:
        """Raises ApiError when there is no room to wait."""
        if self.taken and self._waiting >= self._most:
            full = f"too many queries: {self._at_once} run and {self._waiting} wait"
            raise ApiError("unavailable", f"{full}; ask again in a moment, and for fewer at once")
        self._waiting += 1
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1
        place = Place(self, cut)
        try:
            yield place
        finally:
            place.leave()
            if place in self._outside:
                self._outside.remove(place)

    def left(self) -> None:
        self._free.release()

    def outside(self, place: Place, now: float) -> bool:
        """Whether there is room; it is made by those that have taken longest for their piece."""
        self._outside.append(place)
        while not self._room:
            slowest = min(self._outside, key=lambda one: one.sent)
            if now - slowest.sent < SLOW_SECONDS:
                self._outside.remove(place)
                return False
            self._outside.remove(slowest)
            slowest.cut()
            if slowest is place:
                break
        return True

    @property
    def _room(self) -> bool:
        held = sum(place.samples for place in self._outside)
        return len(self._outside) <= self._reading and held <= self._samples
