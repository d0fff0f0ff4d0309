"""Lets groups of rules share the event loop: in slices, the most urgent group first, and some for
who has waited longest: where the urgent ones alone are too much, the others are late, not silent.

Between two slices the loop serves everything else, so that ten thousand rules hold up neither a
page nor a request; and a group that becomes due meanwhile goes before those that can wait longer.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable
from itertools import count

SLICE_SECONDS = 0.005
BY_AGE = 10  # every such slice is for who has waited longest

Urgency = tuple[int, int]
"""Smaller goes first: the worst severity's rank, then the interval."""


class RuleScheduler:
    """`seconds` is a monotonic clock."""

    def __init__(self, seconds: Callable[[], float], slice_seconds: float = SLICE_SECONDS) -> None:
        self._seconds = seconds
        self._slice_seconds = slice_seconds
        self._waiting: list[tuple[Urgency, int, asyncio.Future[None]]] = []
        self._oldest: deque[asyncio.Future[None]] = deque()  # the same; who had a turn is in both
        self._numbers = count()
        self._slices, self._is_by_age = 0, False
        self._slice_began = seconds()
        self._planned = False

    async def turn(self, urgency: Urgency) -> None:
        """Go on at once while the slice lasts and nobody more urgent waits; else wait in line."""
        in_slice = self._seconds() - self._slice_began < self._slice_seconds
        if in_slice and (self._is_by_age or not self._waits_before(urgency)):
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (urgency, next(self._numbers), turn))
        self._oldest.append(turn)
        self._schedule_grant()
        await turn

    def _waits_before(self, urgency: Urgency) -> bool:
        while self._waiting and self._waiting[0][2].done():
            heapq.heappop(self._waiting)
        return bool(self._waiting) and self._waiting[0][0] < urgency

    def _schedule_grant(self) -> None:
        """The next turn begins when what is ready now has run, input and output among it."""
        if self._waiting and not self._planned:
            self._planned = True
            asyncio.get_running_loop().call_soon(self._grant_next)

    def _grant_next(self) -> None:
        self._planned = False
        while self._oldest and self._oldest[0].done():
            self._oldest.popleft()
        if not self._oldest:
            self._waiting.clear()
            return
        self._slices += 1
        self._is_by_age = not self._slices % BY_AGE
        turn = self._oldest[0]
        while not self._is_by_age and (turn := heapq.heappop(self._waiting)[2]).done():
            pass
        self._slice_began = self._seconds()
        turn.set_result(None)
        self._schedule_grant()
