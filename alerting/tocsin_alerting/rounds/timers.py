"""The desk's stored due times, run when they come."""

import asyncio
import contextlib

from tocsin_alerting.incidents.desk import Desk
from tocsin_exporter.clock import Clock

LONGEST_MS = 10_000  # without a due time the desk is looked at all the same


class TimerRounds:
    """Wakes at the next due time, and whenever the desk says that it may have moved."""

    def __init__(self, desk: Desk, clock: Clock) -> None:
        self._desk = desk
        self._clock = clock

    async def run(self) -> None:
        while True:
            self._desk.changed.clear()
            now_ms = self._clock.now_ms()
            due_ms = await self._desk.due(now_ms)
            latest = now_ms + LONGEST_MS
            await self._sleep(min(latest, due_ms if due_ms is not None else latest))

    async def _sleep(self, until_ms: int) -> None:
        sleeper = asyncio.ensure_future(self._clock.sleep_until(until_ms))
        waker = asyncio.ensure_future(self._desk.changed.wait())
        try:
            await asyncio.wait({sleeper, waker}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sleeper, waker):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
