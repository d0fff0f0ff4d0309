"""Wall time that never steps by itself.

Everything that is measured, judged or due carries Unix milliseconds, and a machine's wall clock
may jump: a virtual machine resumes, an operator sets the date. `Clock` counts on the monotonic
clock from the wall time of its start and follows small drifts slowly. A jump is noticed by
`follow`, which tells the owners of times (the store, the alerts, the timers) by how much to move
them, all in one turn of the loop, so that nobody sees an hour without samples or an hour twice.
"""

import asyncio
import time
from collections.abc import Callable, Iterable

STEP_MS = 2_000  # a difference from here on is a jump, below it is drift
_SLEW_MS = 50  # drift is followed by at most this much a check
CHECK_SECONDS = 0.5
SAME_END_MS = 60_000  # what one run wrote last, here and there, is no further apart

Moved = Callable[[int], None]


def set_back_ms(now_ms: int, newest_ms: int | None, other_ms: int | None = None) -> int:
    """By how much, 0 or less, the times of an earlier run move to lie before `now_ms`.

    `newest_ms` is the newest of them, None for none. They lie ahead when the clock was set back
    while nothing ran, or was ahead then. `other_ms` is the newest of what that run left elsewhere:
    if both are of its end, they move alike. All in Unix milliseconds.
    """
    if newest_ms is None:
        return 0
    if other_ms is not None and abs(other_ms - newest_ms) <= SAME_END_MS:
        newest_ms = max(newest_ms, other_ms)
    return now_ms - 1 - newest_ms if newest_ms > now_ms else 0


class Stamps:
    """When something happened, in this run and before it, in Unix seconds of `wall` as it is."""

    def __init__(self, wall: Callable[[], float] = lambda: 0.0) -> None:
        self.wall = wall
        self._own: list[float] = []
        self._earlier: list[float] | None = None
        self._earlier_moved_s = 0.0

    def add(self) -> None:
        """It happens now."""
        self._own.append(self.wall())

    def remember(self, earlier: Iterable[float]) -> None:
        """When it did in earlier runs, by their clocks; only the first call counts."""
        if self._earlier is None:
            self._earlier = list(earlier)

    def newest(self) -> float | None:
        """Of a time to come nothing is known but that a clock was wrong."""
        before = (at_s + self._earlier_moved_s for at_s in self._earlier or ())
        now_s = self.wall()
        return max((at_s for at_s in (*self._own, *before) if at_s <= now_s), default=None)

    def move(self, delta_ms: int) -> None:
        """The clock was set."""
        self._own = [at_s + delta_ms / 1000 for at_s in self._own]
        self.move_earlier(delta_ms)

    def move_earlier(self, delta_ms: int) -> None:
        """The clock was set since the last run."""
        self._earlier_moved_s += delta_ms / 1000


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

    def on_move(self, *moved: Moved) -> None:
        """Have `moved(delta_ms)` called, in order of registration, when the wall clock jumped."""
        self._moved += moved

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
        """Sleep to `at_ms`, however the clock drifts meanwhile; False when it jumped: the sleeper
        then plans anew."""
        while True:
            try:
                async with asyncio.timeout(max(0.0, (at_ms - self.now_ms()) / 1000)):
                    await self._jumped.wait()
            except TimeoutError:
                if self.now_ms() >= at_ms:
                    return True
            else:
                return False
