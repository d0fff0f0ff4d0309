"""Who may run now: some queries at once, some waiting in their order, the rest sent away."""

import asyncio

from tocsin_alerting.api.answers import ApiError


class QueryGate:
    """An asynchronous context in which at most `at_once` are inside and `waiting` before it.

    Entering raises ApiError when there is no room to wait.
    """

    def __init__(self, at_once: int, waiting: int) -> None:
        self._at_once, self._most = at_once, waiting
        self._free = asyncio.Semaphore(at_once)
        self._waiting = 0

    @property
    def taken(self) -> bool:
        """Whether the next one would have to wait."""
        return self._free.locked()

    async def __aenter__(self) -> None:
        if self.taken and self._waiting >= self._most:
            full = f"too many queries: {self._at_once} run and {self._waiting} wait"
            raise ApiError("unavailable", f"{full}; ask again in a moment, and for fewer at once")
        self._waiting += 1
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1

    async def __aexit__(self, *_: object) -> None:
        self._free.release()
