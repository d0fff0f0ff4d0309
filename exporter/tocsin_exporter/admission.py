"""Requests begin a few in each turn of the loop, so that a crowd of clients keeps no turn long.

Whatever else runs on the loop waits a whole turn at each of its awaits: between a fault and its
page there are dozens. Two hundred answers of a few milliseconds in each turn made seconds of it.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from tocsin_exporter.allowed_hosts import HEALTH

MOST_IN_A_TURN = 2
Urgent = Callable[[Scope], bool]


def is_health(scope: Scope) -> bool:
    """Whether a request asks how we are."""
    return scope["path"] in HEALTH


class Admission:
    """An app whose requests begin in their order, at most `most` in a turn of the loop; those that
    are `urgent` have as many places of their own, and wait for no others."""

    def __init__(
        self, app: ASGIApp, urgent: Urgent = is_health, most: int = MOST_IN_A_TURN
    ) -> None:
        self._app, self._urgent = app, urgent
        self._queues = (_RequestQueue(most), _RequestQueue(most))
        self._turning = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            waiting = self._queues[self._urgent(scope)].enter()
            if not self._turning:
                self._turning = True
                asyncio.get_running_loop().call_soon(self._turn)
            if waiting is not None:
                await waiting
        await self._app(scope, receive, send)

    def _turn(self) -> None:
        begun = [queue.turn() for queue in self._queues]
        self._turning = any(begun)
        if self._turning:
            asyncio.get_running_loop().call_soon(self._turn)


class _RequestQueue:
    def __init__(self, most: int) -> None:
        self._most, self._begun = most, 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    def enter(self) -> asyncio.Future[None] | None:
        """What to wait for, if there is no place in this turn."""
        if self._begun < self._most:
            self._begun += 1
            return None
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        return place

    def turn(self) -> int:
        """How many begin in the next turn."""
        self._begun = 0
        while self._waiting and self._begun < self._most:
            place = self._waiting.popleft()
            if not place.done():  # its request was cancelled
                place.set_result(None)
                self._begun += 1
        return self._begun
