"""The desk's stored due times, run when they come, and its messages, sent when they may go."""

import asyncio

from tocsin_alerting.incidents.desk import Desk
from tocsin_alerting.notify.delivery import Courier
from tocsin_exporter.clock import Clock

LONGEST_MS = 10_000  # without a due time the desk is looked at all the same


class DeskRounds:
    """Wakes at the next due time, and whenever the desk says that it may have moved."""

    def __init__(self, desk: Desk, courier: Courier, clock: Clock) -> None:
        self._desk = desk
        self._courier = courier
        self._clock = clock

    async def run(self) -> None:
        while True:
            self._desk.changed.clear()
            due_ms = await self._desk.due(self._clock.now_ms())
            await self._courier.collect()
            now_ms = self._clock.now_ms()
            times = (now_ms + LONGEST_MS, due_ms, self._desk.next_claim_ms(now_ms))
            await self._sleep(min(at for at in times if at is not None))

    async def _sleep(self, until_ms: int) -> None:
        sleeper = asyncio.ensure_future(self._clock.sleep_until(until_ms))
        waker = asyncio.ensure_future(self._desk.changed.wait())
        try:
            await asyncio.wait({sleeper, waker}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sleeper, waker):
                task.cancel()
            await asyncio.wait({sleeper, waker})  # theirs ends here, our own cancellation does not
