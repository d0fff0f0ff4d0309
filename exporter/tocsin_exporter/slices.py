"""Long work in slices: whatever strangers make us read, the loop has a turn every few milliseconds.

Such work is a generator that yields after each slice. Its slices are measured in characters and
series, not in time, so that they are the same on each run.
"""

import asyncio
from collections.abc import Generator, Iterator, Sequence
from typing import TypeAlias, TypeVar

T = TypeVar("T")
Work: TypeAlias = Generator[None, None, T]
SLICE = 16_000  # what a slice may cost, in units of some 0.2 µs
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
