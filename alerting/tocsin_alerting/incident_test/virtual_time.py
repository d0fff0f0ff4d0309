"""The time of a test: it stands until it is moved, and those who sleep are woken by it."""

import asyncio

from tocsin_exporter.clock import Clock

_NEVER_MS = 1 << 62


class ExactClock(Clock):
    """To the millisecond, where seconds as a float would fall short of it."""

    def now_ms(self) -> int:
        return round(self.monotonic() * 1000 + self._offset_ms)


class VirtualTime:
    """`elapsed_ms` is since the start of the test, which is at `start_ms` of the wall clock."""

    def __init__(self, start_ms: int) -> None:
        self.elapsed_ms = 0
        self._offsets = [(0, start_ms)]  # from when on the wall clock is so far ahead of the test
        self._sleepers: list[tuple[int, asyncio.Future[None]]] = []

    def clock(self) -> Clock:
        """The clock of an agent that starts now."""
        return ExactClock(
            lambda: self.wall_ms(self.elapsed_ms) / 1000, lambda: self.elapsed_ms / 1000
        )

    def wall_ms(self, elapsed_ms: int) -> int:
        """What the wall clock shows at a time of the test, as far as it was set until now."""
        before = (offset for since_ms, offset in reversed(self._offsets) if since_ms <= elapsed_ms)
        return next(before) + elapsed_ms

    def move_to(self, elapsed_ms: int) -> None:
        self.elapsed_ms = max(elapsed_ms, self.elapsed_ms)

    def step(self, delta_ms: int) -> None:
        """Somebody sets the wall clock."""
        self._offsets.append((self.elapsed_ms, self._offsets[-1][1] + delta_ms))

    def sleep(self, ms: int) -> "asyncio.Future[None]":
        """A future that is done when so much has passed, and `wake` is called."""
        sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.elapsed_ms + ms, sleeper))
        return sleeper

    def next_wake_ms(self) -> int:
        return min((at_ms for at_ms, _ in self._sleepers), default=_NEVER_MS)

    def wake(self) -> None:
        due = [sleeper for at_ms, sleeper in self._sleepers if at_ms <= self.elapsed_ms]
        self._sleepers = [one for one in self._sleepers if one[0] > self.elapsed_ms]
        for sleeper in due:
            if not sleeper.done():
                sleeper.set_result(None)
