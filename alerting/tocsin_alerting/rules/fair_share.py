"""How long a rule with many alerts computes before others may use the event loop."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from tocsin_exporter.slices import Work

T = TypeVar("T")

MIN_SECONDS = 0.005
MAX_SECONDS = 0.05


class FairShare:
    """As long as the others last took, within bounds: half of the loop is the rule's.

    A rule that lets the others go first after every few alerts stands still while five thousand
    pages go out, and so does the page that it is about to find. `seconds` is a monotonic clock.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._began = seconds()
        self._share = MIN_SECONDS

    async def pause(self) -> None:
        """Let others go first, if it is their turn."""
        ended = self._seconds()
        if ended - self._began < self._share:
            return
        await asyncio.sleep(0)
        self._began = self._seconds()
        self._share = min(max(MIN_SECONDS, self._began - ended), MAX_SECONDS)

    async def of(self, work: Work[T]) -> T:
        """The result of `work`, with a pause where one is due after a slice."""
        while True:
            try:
                next(work)
            except StopIteration as end:
                result: T = end.value
                return result
            await self.pause()
