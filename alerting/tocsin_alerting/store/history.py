"""The series that a selector chose in one source, over what was sealed and what is in memory.

Stretches of columns follow each other on one time axis. Only what an evaluation asks for is read
from disk, bundle by bundle, through the shelf's cache.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Protocol

import numpy as np

from tocsin_alerting.store.cell import ABSENT, Floats, Ints, Mask, is_sample
from tocsin_alerting.store.columns import Part
from tocsin_alerting.store.segment import Section

ReadBundle = Callable[[Section, int], Floats | None]


class Stretch(Protocol):
    """Some columns of a source, for `count` series of which it may lack some."""

    @property
    def times(self) -> Ints: ...

    def slab(self, start: int, stop: int) -> Floats:
        """The cells (stop - start, count)."""

    def held(self, start: int, stop: int) -> Mask:
        """Which series (count,) have a sample there."""


@dataclass(frozen=True, slots=True, eq=False)
class Recent:
    """The columns in memory; of `count` series the first ones are those of `part`."""

    part: Part
    count: int

    @property
    def times(self) -> Ints:
        return self.part.times

    def slab(self, start: int, stop: int) -> Floats:
        cells = np.full((stop - start, self.count), ABSENT)
        cells[:, : self.part.count] = self.part.slab(start, stop)
        return cells

    def held(self, start: int, stop: int) -> Mask:
        return _any_sample(self.slab(start, stop))


@dataclass(frozen=True, slots=True, eq=False)
class Sealed:
    """The first columns of a section, at `times`; `places` (count,) are its series there or -1.

    What cannot be read is absent: `read` has said so.
    """

    section: Section
    times: Ints
    places: Ints
    read: ReadBundle
    _bundles: list[tuple[int, Ints, Ints]] = field(default_factory=list)

    def slab(self, start: int, stop: int) -> Floats:
        cells = np.full((stop - start, len(self.places)), ABSENT)
        for number, target, within in self._wanted():
            bundle = self.read(self.section, number)
            if bundle is not None:
                cells[:, target] = bundle[start:stop, within]
        return cells

    def held(self, start: int, stop: int) -> Mask:
        if start == 0 and stop == self.section.columns:
            here: Mask = self.places >= 0  # a series without a cell is not in a section
            return here
        return _any_sample(self.slab(start, stop))

    def _wanted(self) -> list[tuple[int, Ints, Ints]]:
        """Of each bundle that is needed: its number, the series here, and their places in it."""
        if not self._bundles:
            here = np.flatnonzero(self.places >= 0)
            numbers, within = np.divmod(self.places[here], self.section.per_bundle)
            for number in np.unique(numbers).tolist():
                chosen = numbers == number
                self._bundles.append((number, here[chosen], within[chosen]))
        return self._bundles


class History:
    """Stretches as one frame: `times` (columns,) ascending in Unix ms, `count` series."""

    __slots__ = ("_starts", "_stretches", "count", "times")

    def __init__(self, stretches: Sequence[Stretch], count: int) -> None:
        axes = [one.times for one in stretches]
        self._stretches = stretches
        self._starts = [0, *accumulate(len(axis) for axis in axes)]
        self.count = count
        self.times: Ints = np.concatenate([np.empty(0, np.int64), *axes])

    def column(self, index: int) -> Floats:
        """The cells (count,) of one column."""
        cells: Floats = self.slab(index, index + 1)[0]
        return cells

    def slab(self, start: int, stop: int) -> Floats:
        """The cells (stop - start, count); do not write into it."""
        cells = [one.slab(first, last) for one, first, last in self._within(start, stop)]
        if len(cells) == 1:
            return cells[0]
        return np.concatenate(cells) if cells else np.empty((0, self.count))

    def gapless(self, start: int, stop: int) -> Mask:
        """Series (count,) that hold numbers in all these columns."""
        return _whole(self.slab(start, stop))

    def rising(self, start: int, stop: int) -> Mask:
        """Series (count,) that hold numbers and never fall in these columns."""
        cells = self.slab(start, stop)
        if len(cells) == 1:
            return _whole(cells)
        rises: Mask = np.all(cells[1:] >= cells[:-1], axis=0)
        return rises

    def held(self, t0_ms: int, t1_ms: int) -> Mask:
        """Which series (count,) have a sample in the closed interval."""
        start = int(np.searchsorted(self.times, t0_ms, side="left"))
        stop = int(np.searchsorted(self.times, t1_ms, side="right"))
        found = np.zeros(self.count, np.bool_)
        for one, first, last in self._within(start, stop):
            found |= one.held(first, last)
        return found

    def _within(self, start: int, stop: int) -> Iterator[tuple[Stretch, int, int]]:
        """The stretches that these columns lie in, with the first and last of each."""
        number = bisect_right(self._starts, start) - 1
        while start < stop:
            first, end = self._starts[number], self._starts[number + 1]
            if start < end:
                yield self._stretches[number], start - first, min(stop, end) - first
            start, number = max(start, end), number + 1


def _any_sample(cells: Floats) -> Mask:
    held: Mask = np.any(is_sample(cells), axis=0)
    return held


def _whole(cells: Floats) -> Mask:
    gaps: Mask = np.any(np.isnan(cells), axis=0)
    return ~gaps
