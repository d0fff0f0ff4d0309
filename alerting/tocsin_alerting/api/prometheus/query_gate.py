"""Who may run now: some queries at once, some waiting in their order, the rest sent away.

A query that is evaluated needs no place any more, but its answer is in memory until its client has
read it: answers that are being sent are bounded by their bytes together. A query whose answer finds
no room keeps its place, and others wait, while everybody reads; for who reads slowly nobody waits.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from tocsin_alerting.api.http.envelope import ApiError

SENDING_BYTES = 320 << 20
SLOW_SECONDS = 0.25  # for a piece; who takes longer may have to make room
PATIENCE_SECONDS = 5.0  # that a client may take while its query keeps a place


class QuerySlot:
    """That of one query; `cut` ends the query. `size` are the bytes that its answer holds."""

    def __init__(self, gate: "QueryGate", cut: Callable[[], None]) -> None:
        self.cut = cut
        self.size = 0
        self._gate = gate
        self._is_taken = True
        self._sent, self._pieces, self._taken = math.inf, 0, 0.0

    def sends(self, now: float) -> None:
        """A piece waits for the client."""
        self._sent = now

    def taken(self, now: float) -> float:
        """Gives the seconds that the client took for the piece."""
        seconds, self._sent = now - self._sent, math.inf
        self._pieces += 1
        self._taken += seconds
        return seconds

    def slowness(self, now: float) -> float:
        """The seconds that the client takes for a piece: this one, or those before it. The time in
        which we make one is not its own."""
        return max(now - self._sent, self._taken / max(1, self._pieces))

    def patient(self, now: float) -> bool:
        """Whether others may still wait for this client."""
        return self._taken + max(0.0, now - self._sent) < PATIENCE_SECONDS

    def release(self) -> None:
        """The query is computed: another may run."""
        if self._is_taken:
            self._is_taken = False
            self._gate.release()

    def leave_to_send(self, now: float) -> bool:
        """The same if there is room for its answer among those that are being sent."""
        if self._is_taken and self._gate.room(self, now):
            self.release()
        return not self._is_taken


class QueryGate:
    """At most `at_once` queries have a place and `waiting` wait for one; the answers of those that
    have left theirs hold `sending` bytes in all, or there is only one."""

    def __init__(self, at_once: int, waiting: int, sending: int = SENDING_BYTES) -> None:
        self._at_once, self._most, self._bytes = at_once, waiting, sending
        self._free = asyncio.Semaphore(at_once)
        self._waiting = 0
        self._sending: list[QuerySlot] = []

    @property
    def is_full(self) -> bool:
        """Whether the next one would have to wait."""
        return self._free.locked()

    @asynccontextmanager
    async def slot(self, cut: Callable[[], None]) -> AsyncIterator[QuerySlot]:
        """Raises ApiError when there is no room to wait."""
        if self.is_full and self._waiting >= self._most:
            full = f"too many queries: {self._at_once} run and {self._waiting} wait"
            raise ApiError("unavailable", f"{full}; ask again in a moment, and for fewer at once")
        self._waiting += 1
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1
        slot = QuerySlot(self, cut)
        try:
            yield slot
        finally:
            slot.release()
            if slot in self._sending:
                self._sending.remove(slot)

    def release(self) -> None:
        self._free.release()

    def room(self, candidate: QuerySlot, now: float) -> bool:
        """Whether `candidate` is now among those that send; the slowest are cut to make room."""
        self._sending.append(candidate)
        while len(self._sending) > 1 and sum(slot.size for slot in self._sending) > self._bytes:
            slowest = max(self._sending, key=lambda slot: slot.slowness(now))
            if candidate.patient(now) and slowest.slowness(now) < SLOW_SECONDS:
                self._sending.remove(candidate)
                return False
            self._sending.remove(slowest)
            slowest.cut()
            if slowest is candidate:
                break
        return True
