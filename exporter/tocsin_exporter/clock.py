"""Wall time that never steps by itself.

Everything that is measured, judged or due carries Unix milliseconds, and a machine's wall clock
may jump: a virtual machine resumes, an operator sets the date. `Clock` counts on the monotonic
clock from the wall time of its start and follows small drifts slowly. A jump is noticed by
`follow`, which tells the owners of times (the store, the alerts, the timers) by how much to move
them, all in one turn of the loop, so that nobody sees an hour without samples or an hour twice.
"""

import asyncio
import time
from collections.abc import Callable

STEP_MS = 2_000  # a difference from here on is a jump, below it is drift
_SLEW_MS = 50  # drift is followed by at most this much a check
CHECK_SECONDS = 0.5

Moved = Callable[[int], None]


class Clock:
    """`wall` gives Unix seconds, `monotonic` seconds that only ever grow."""

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.wall = wall
        self.monotonic = monotonic
        self._offset_ms = (wall() - monotonic()) * 1000
        self._moved: list[Moved] = []
        self._jumped = asyncio.Event()

    def now_ms(self) -> int:
        return int(self.monotonic() * 1000 + self._offset_ms)

    def on_move(self, moved: Moved) -> None:
        """Have `moved(delta_ms)` called, in order of registration, when the wall clock jumped."""
        self._moved.append(moved)

    def check(self) -> int:
        """Compare with the wall clock; the milliseconds that it has jumped by, 0 for none."""
        drift = self.wall() * 1000 - (self.monotonic() * 1000 + self._offset_ms)
        if abs(drift) < STEP_MS:
            self._offset_ms += max(-_SLEW_MS, min(_SLEW_MS, drift))
            return 0
        self._offset_ms += drift
        for moved in self._moved:
            moved(round(drift))
        self._jumped.set()
        self._jumped = asyncio.Event()
        return round(drift)

    async def follow(self) -> None:
        """Check for ever."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            self.check()

    async def sleep_until(self, at_ms: int) -> bool:
        """Sleep to `at_ms`; False when the clock jumped meanwhile: the sleeper then plans anew."""
        try:
            async with asyncio.timeout(max(0.0, (at_ms - self.now_ms()) / 1000)):
                await self._jumped.wait()
        except TimeoutError:
            return True
        return False
