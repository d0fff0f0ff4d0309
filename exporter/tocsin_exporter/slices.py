"""Long work in slices: whatever strangers make us read, the loop has a turn every few milliseconds.

Such work is a generator that yields after each slice. Its slices are measured in characters and
series, not in time, so that they are the same on each run.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")
Work: TypeAlias = Generator[None, None, T]
SLICE = 16_000  # what a slice may cost, in units of some 0.2 µs
IN_A_ROW = 50  # slices of one work, before another has its turn
TURN_SECONDS = 0.005
NEW = 100  # what a series costs that was not there before, besides its characters


async def in_slices(work: Work[T]) -> T:
    """The result of `work`, with a turn of the loop after each slice."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: T = end.value
            return result
        await asyncio.sleep(0)


class Turns:
    """Work of many, some milliseconds of it in each turn of the loop: five hundred pages that
    arrive together would have a slice each in the same turn. Whoever comes first is first done,
    but for long work, which goes to the end of the line now and then. `seconds` is a monotonic
    clock; `waiting` are those that are not done, `busy_seconds` is what all took."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self.busy_seconds = 0.0
        self._seconds, self._queue = seconds, deque[_Queued]()
        self._worker: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        return len(self._queue)

    async def run(self, work: Work[T]) -> T:
        """As `in_slices`."""
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queue.append((work, done))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._serve())
        return await done

    async def _serve(self) -> None:
        """Until nobody waits."""
        while self._queue:
            began, until = self._seconds(), self._seconds() + TURN_SECONDS
            while self._queue and self._seconds() < until:
                self._go_on(until)
            self.busy_seconds += self._seconds() - began
            await asyncio.sleep(0)

    def _go_on(self, until: float) -> None:
        """With the first of them. Who waits no longer is let go."""
        work, done = self._queue[0]
        for _ in range(IN_A_ROW):
            ended = done.done() or _has_ended(work, done)
            if ended:
                self._queue.popleft()
                return
            if self._seconds() >= until:
                return
        self._queue.rotate(-1)


_Queued: TypeAlias = tuple[Work[Any], asyncio.Future[Any]]


def _has_ended(work: Work[T], done: asyncio.Future[T]) -> bool:
    """One slice of it."""
    try:
        next(work)
    except StopIteration as end:
        done.set_result(end.value)
    except Exception as error:  # why: it belongs to whoever asked, whatever it is
        done.set_exception(error)
    else:
        return False
    return True


def at_once(work: Work[T]) -> T:
    """The result of `work` without a pause, for whoever holds up nobody."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: T = end.value
            return result


def parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """`items` in pieces of `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
