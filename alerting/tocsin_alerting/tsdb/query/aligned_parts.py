"""The series that a selector chose in one source, over what was sealed and what is in memory.

Parts of columns follow each other on one time axis. Only what an evaluation asks for is read
from disk.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

import numpy as np

from tocsin_alerting.tsdb import window_ends
from tocsin_alerting.tsdb.block.format import AlignedSection
from tocsin_alerting.tsdb.head.columns import AlignedPart
from tocsin_alerting.tsdb.query.pages import PageReader, RowPositions
from tocsin_alerting.tsdb.values import ABSENT, Floats, Ints, Mask


class PartSource(Protocol):
    """Some columns of a source, for `count` series of which it may lack some."""

    @property
    def times(self) -> Ints: ...

    def cells_in(self, start: int, stop: int, alone: bool) -> Floats:
        """The cells (stop - start, count); `alone`: do not read more than that."""
        ...

    def has_samples(self, t0_ms: int, t1_ms: int) -> Mask:
        """Which series (count,) have a sample in the closed interval."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class HeadPart:
    """The columns in memory; of `count` series the first ones are those of `part`."""

    part: AlignedPart
    count: int

    @property
    def times(self) -> Ints:
        return self.part.times

    def cells_in(self, start: int, stop: int, alone: bool) -> Floats:
        if self.part.count == self.count:
            return self.part.cells_in(start, stop)
        cells = np.full((stop - start, self.count), ABSENT)
        cells[:, : self.part.count] = self.part.cells_in(start, stop)
        return cells

    def has_samples(self, t0_ms: int, t1_ms: int) -> Mask:
        mask = np.zeros(self.count, np.bool_)
        mask[: self.part.count] = self.part.has_samples(t0_ms, t1_ms)
        return mask


class BlockPart:
    """The columns of a section before `before_ms`. What cannot be read is absent.

    `axis` gives the section's times, None if these cannot be read.
    """

    __slots__ = ("_axis", "_before_ms", "_pages", "_positions", "_section", "_times")

    def __init__(
        self,
        section: AlignedSection,
        before_ms: int,
        places: RowPositions,
        pages: PageReader,
        axis: Callable[[AlignedSection], Ints | None],
    ) -> None:
        self._section, self._before_ms = section, before_ms
        self._positions, self._pages, self._axis = places, pages, axis
        self._times: Ints | None = None

    @property
    def times(self) -> Ints:
        if self._times is None:
            axis = self._axis(self._section)
            times = np.empty(0, np.int64) if axis is None else axis
            if self._section.last_ms >= self._before_ms:
                times = times[: int(np.searchsorted(times, self._before_ms))]
            self._times = times
        return self._times

    def cells_in(self, start: int, stop: int, alone: bool) -> Floats:
        return self._pages.cells_in(start, stop, alone)

    def has_samples(self, t0_ms: int, t1_ms: int) -> Mask:
        section = self._section
        if t0_ms <= section.first_ms and section.last_ms <= min(t1_ms, self._before_ms - 1):
            at = self._positions.positions  # a series without a cell is not in a section
            present: Mask = (at >= 0) & ~np.isin(at, section.stale_only)
            return present
        start = int(np.searchsorted(self.times, t0_ms, side="left"))
        stop = int(np.searchsorted(self.times, t1_ms, side="right"))
        if start >= stop:
            return np.zeros(len(self._positions.positions), np.bool_)
        return self._pages.has_samples(start, stop)


class MergedPart:
    """Parts as one frame: `times` (columns,) ascending in Unix ms, `count` series."""

    __slots__ = ("_axis", "_dense", "_last", "_parts", "_starts", "count")

    def __init__(self, parts: Sequence[PartSource], count: int) -> None:
        self._parts = parts
        self._starts: list[int] = []
        self._axis: Ints | None = None
        self._last, self._dense = -1, False
        self.count = count

    @property
    def times(self) -> Ints:
        if self._axis is None:
            axes = [part.times for part in self._parts]
            self._starts = [0, *accumulate(len(axis) for axis in axes)]
            self._axis = np.concatenate([np.empty(0, np.int64), *axes])
        return self._axis

    def column(self, index: int) -> Floats:
        """The cells (count,) of one column."""
        cells: Floats = self.cells_in(index, index + 1)[0]
        return cells

    def cells_in(self, start: int, stop: int) -> Floats:
        """The cells (stop - start, count); do not write into it."""
        cells = [
            self._read(number, first, last)
            for number, first, last in self._parts_within(start, stop)
        ]
        if len(cells) == 1:
            return cells[0]
        return np.concatenate(cells) if cells else np.empty((0, self.count))

    def _read(self, number: int, first: int, last: int) -> Floats:
        """A column alone, as long as no part was asked for a second one: long steps read few."""
        self._dense = self._dense or number == self._last or last - first > 1
        self._last = number
        return self._parts[number].cells_in(first, last, not self._dense)

    def ends(self, starts: Ints, stops: Ints, rising: bool) -> window_ends.WindowEnds:
        """Of these windows; neighbours are read in one go."""
        read = []
        for begin, end in window_ends.read_groups(starts, stops, self.count):
            first, group = int(starts[begin]), slice(begin, end)
            cells = self.cells_in(first, int(stops[end - 1]))
            read.append(
                window_ends.window_ends(cells, starts[group] - first, stops[group] - first, rising)
            )
        if len(read) == 1:
            return read[0]
        firsts, lasts, whole = zip(*read, strict=True)
        return np.concatenate(firsts), np.concatenate(lasts), np.concatenate(whole)

    def gapless(self, start: int, stop: int) -> Mask:
        """Series (count,) that hold numbers in all these columns."""
        gaps: Mask = np.any(np.isnan(self.cells_in(start, stop)), axis=0)
        return ~gaps

    def has_samples(self, t0_ms: int, t1_ms: int) -> Mask:
        """Which series (count,) have a sample in the closed interval."""
        mask = np.zeros(self.count, np.bool_)
        for part in reversed(self._parts):
            if mask.all():
                break
            mask |= part.has_samples(t0_ms, t1_ms)
        return mask

    def _parts_within(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """The parts that these columns lie in, with the first and last of each."""
        begins = self._begins
        number = bisect_right(begins, start) - 1
        while start < stop:
            first, end = begins[number], begins[number + 1]
            if start < end:
                yield number, start - first, min(stop, end) - first
            start, number = max(start, end), number + 1

    @property
    def _begins(self) -> list[int]:
        """The first column of each part, and one more than the last of all."""
        if self._axis is None:
            _ = self.times
        return self._starts
