"""Who may run now: some queries at once, some waiting in their order, the rest sent away.

A query whose client does not read has no place any more, but its numbers are still in memory: of
those there are a few, and one more ends the oldest.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from tocsin_alerting.api.answers import ApiError


class Place:
    """That of one query; `cut` ends the query."""

    def __init__(self, gate: "QueryGate", cut: Callable[[], None]) -> None:
        self.cut = cut
        self._gate = gate
        self._held = True

    def leave(self) -> None:
        """The query is computed: another may run."""
        if self._held:
            self._held = False
            self._gate.left()

    def wait_outside(self) -> None:
        """The client is slow to read what is still to be sent."""
        if self._held:
            self.leave()
            self._gate.outside(self)


class QueryGate:
    """At most `at_once` queries have a place, `waiting` wait for one, `reading` wait outside."""

    def __init__(self, at_once: int, waiting: int, reading: int = 2) -> None:
        self._at_once, self._most, self._reading = at_once, waiting, reading
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

    def outside(self, place: Place) -> None:
        self._outside.append(place)
        if len(self._outside) > self._reading:
            self._outside.pop(0).cut()
