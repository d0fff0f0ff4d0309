"""Runs the incident timers when they are due, and sends messages when they may go."""

import asyncio

from tocsin_alerting.incidents.dispatcher import Dispatcher
from tocsin_alerting.notify.delivery import DeliveryLoop
from tocsin_exporter.clock import Clock

PAUSED_SECONDS = 20.0  # so late, it was stopped, and heard no heartbeat
MAX_SLEEP_MS = 10_000  # without a due time the dispatcher is looked at all the same


class IncidentLoop:
    """Wakes at the next due time, and whenever the dispatcher says that it may have moved."""

    def __init__(self, dispatcher: Dispatcher, delivery_loop: DeliveryLoop, clock: Clock) -> None:
        self._dispatcher = dispatcher
        self._delivery_loop = delivery_loop
        self._clock = clock
        self.turns_by_s: float | None = None

    async def run(self) -> None:
        while True:
            if self._was_stopped():
                self._dispatcher.working.heartbeats.begin(self._clock.now_ms())
            self.turns_by_s = self._clock.monotonic() + MAX_SLEEP_MS / 1000
            self._dispatcher.changed.clear()
            due_ms = await self._dispatcher.due(self._clock.now_ms())
            await self._delivery_loop.collect()
            now_ms = self._clock.now_ms()
            times = (now_ms + MAX_SLEEP_MS, due_ms, self._dispatcher.next_claim_ms(now_ms))
            await self._sleep(min(at for at in times if at is not None))

    def _was_stopped(self) -> bool:
        if self.turns_by_s is None:
            return False
        return self._clock.monotonic() - self.turns_by_s > PAUSED_SECONDS

    async def _sleep(self, until_ms: int) -> None:
        sleeper = asyncio.ensure_future(self._clock.sleep_until(until_ms))
        waker = asyncio.ensure_future(self._dispatcher.changed.wait())
        try:
            await asyncio.wait({sleeper, waker}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sleeper, waker):
                task.cancel()
            await asyncio.wait({sleeper, waker})  # theirs ends here, our own cancellation does not
