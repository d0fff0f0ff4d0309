"""Tells the outside that we would page, and keeps silent when we would not."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from tocsin_alerting.loops.self_health import Trouble
from tocsin_alerting.loops.supervise import restart_on_error

log = logging.getLogger(__name__)

CHECK_SECONDS = 5.0  # how soon trouble that has ended, or a ping that failed, is looked at again


class Ping(Protocol):
    """`send` gives "", or why nobody took it; `address` is no secret."""

    every_s: float

    @property
    def address(self) -> str: ...

    async def send(self) -> str: ...

    async def close(self) -> None: ...


@dataclass(slots=True)
class HeartbeatCounts:
    """Of all addresses together; `withheld` counts the times at which one was due and not sent."""

    sent: int = 0
    failed: int = 0
    withheld: int = 0


class HeartbeatLoop:
    """Each address has its own task: one that hangs holds up no other.

    While there is trouble no ping is sent. One that was withheld, or failed, goes out soon after.
    """

    def __init__(self, pings: Sequence[Ping], troubles: Callable[[], Sequence[Trouble]]) -> None:
        self.counts = HeartbeatCounts()
        self.troubles = troubles
        self._pings = pings
        self._changed = asyncio.Event()
        self._parts: frozenset[str] = frozenset()  # of which it was said that they are not well

    def replace_pings(self, pings: Sequence[Ping]) -> None:
        """Ping these from now on, and no others."""
        self._pings = pings
        self._changed.set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(restart_on_error("health", self._watch))
            tasks.create_task(restart_on_error("heartbeats", self._beat_all))

    async def _beat_all(self) -> None:
        """Those that there are; others once they are replaced."""
        while True:
            self._changed.clear()
            pings = self._pings
            beats = [partial(self._beat, ping) for ping in pings]
            tasks = [asyncio.create_task(restart_on_error("heartbeat", beat)) for beat in beats]
            try:
                await self._changed.wait()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                for ping in pings:
                    await ping.close()

    async def _watch(self) -> None:
        """Say in the log when something stops to be well, and when it is again; not at the start,
        when nothing has been read yet."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            self._tell(self.troubles())

    async def _beat(self, ping: Ping) -> None:
        loop = asyncio.get_running_loop()
        failing = withheld = False
        while True:
            due_s = loop.time()
            if self.troubles():
                self.counts.withheld += not withheld
                withheld = True
                await asyncio.sleep(min(ping.every_s, CHECK_SECONDS))
                continue
            withheld = False
            why = await ping.send()
            self.counts.sent += not why
            self.counts.failed += bool(why)
            if why and not failing:
                log.warning("heartbeat failed, retrying: %s", why)
            if failing and not why:
                log.info("heartbeat sent again to %s", ping.address)
            failing = bool(why)
            wait_s = min(ping.every_s, CHECK_SECONDS) if why else ping.every_s
            await asyncio.sleep(max(0.0, due_s + wait_s - loop.time()))

    def _tell(self, troubles: Sequence[Trouble]) -> None:
        parts = frozenset(trouble.part for trouble in troubles)
        for trouble in troubles:
            if trouble.part not in self._parts:
                held = "; heartbeat withheld" if self._pings else ""
                log.error("%s failed: %s%s", trouble.part, trouble.why, held)
        for part in sorted(self._parts - parts):
            log.info("%s recovered", part)
        self._parts = parts
