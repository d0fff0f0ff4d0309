"""The published columns of one source: what readers see while the writer appends.

A block is a float64 matrix of BLOCK_COLUMNS columns, laid out column after column, so that one
scrape is one run of memory and an evaluation walks over the rows of a column:

    block[column % BLOCK_COLUMNS, row]        times[column - first]

A writer only ever writes cells behind the published length, except that a sample which comes late
may fill a cell that held none. A block that grew wider is a new array; readers keep the old one.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from tocsin_alerting.tsdb.values import Floats, Ints, Mask, absent_cells, is_sample
from tocsin_alerting.tsdb.window_ends import WindowEnds

BLOCK_COLUMNS = 128
_CELLS = 2**17  # looked at in one go
RowIndex: TypeAlias = slice | Ints


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """`times` (n,) in Unix ms, ascending; column c of it is number `first + c`.

    `last_gap` and `last_fall` hold for each row the number of the last column, the newest one
    excepted, that is no number, or that is not at least as high as the column before it. They may
    be later than these columns (the writer goes on), which only makes a reader more careful.
    """

    times: Ints
    first: int
    blocks: tuple[Floats, ...]
    last_gap: Ints
    last_fall: Ints


@dataclass(frozen=True, slots=True, eq=False)
class AlignedPart:
    """The rows of one source that a selector chose, `count` of them, none at or above `top`."""

    columns: Columns
    rows: RowIndex
    count: int
    top: int

    @property
    def times(self) -> Ints:
        return self.columns.times

    def column(self, index: int) -> Floats:
        """The cells (count,) of column `index`, counted from the first of `times`."""
        block = self.columns.blocks[index // BLOCK_COLUMNS]
        cells: Floats = self._selected_rows(
            block[index % BLOCK_COLUMNS : index % BLOCK_COLUMNS + 1]
        )[0]
        return cells

    def cells_in(self, start: int, stop: int) -> Floats:
        """The cells (stop - start, count) of those columns; do not write into it."""
        pieces = []
        while start < stop:
            number, offset = divmod(start, BLOCK_COLUMNS)
            end = min(stop - start + offset, BLOCK_COLUMNS)
            pieces.append(self._selected_rows(self.columns.blocks[number][offset:end]))
            start += end - offset
        if len(pieces) == 1:
            return pieces[0]
        return np.concatenate(pieces) if pieces else np.empty((0, self.count))

    def ends(self, starts: Ints, stops: Ints, rising: bool) -> WindowEnds:
        """Of these windows; what lies between is not read."""
        surely = self.rising if rising else self.gapless
        first = np.empty((len(starts), self.count))
        last, whole = np.empty_like(first), np.empty(first.shape, np.bool_)
        for at, (start, stop) in enumerate(zip(starts.tolist(), stops.tolist(), strict=True)):
            first[at], last[at] = self.column(start), self.column(stop - 1)
            whole[at] = surely(start, stop)
        return first, last, whole

    def gapless(self, start: int, stop: int) -> Mask:
        """Rows (count,) that surely hold numbers in columns start..stop; others may."""
        mask: Mask = self.columns.last_gap[self.rows] < self.columns.first + start
        if stop == len(self.times):
            mask &= ~np.isnan(self.column(stop - 1))
        return mask

    def rising(self, start: int, stop: int) -> Mask:
        """Rows (count,) that surely hold numbers and never fall in columns start..stop."""
        if stop - start == 1:
            return self.gapless(start, stop)
        mask: Mask = self.columns.last_fall[self.rows] <= self.columns.first + start
        if stop == len(self.times):
            mask &= self.column(stop - 1) >= self.column(stop - 2)
        return mask

    def has_samples(self, t0_ms: int, t1_ms: int) -> Mask:
        """Which rows (count,) have a sample in the closed interval."""
        start = int(np.searchsorted(self.times, t0_ms, side="left"))
        stop = int(np.searchsorted(self.times, t1_ms, side="right"))
        if start == stop:
            return np.zeros(self.count, np.bool_)
        mask = is_sample(self.column(stop - 1))  # where most of them have one
        while start < (stop := stop - 1) and not mask.all():
            rest = np.flatnonzero(~mask)
            first = max(start, stop - max(_CELLS // len(rest), 1))
            mask[rest] = is_sample(self.subset(rest).cells_in(first, stop)).any(axis=0)
            stop = first + 1
        return mask

    def subset(self, chosen: Ints) -> "AlignedPart":
        """The part with only the rows at these positions (ascending)."""
        rows = self.rows
        if isinstance(rows, slice):
            return aligned_part(self.columns, chosen + rows.start)
        return aligned_part(self.columns, rows[chosen])

    def _selected_rows(self, cells: Floats) -> Floats:
        width = cells.shape[1]
        if self.top > width:  # a block from before the newest rows
            cells = np.hstack([cells, np.tile(absent_cells(self.top - width), (len(cells), 1))])
        rows = self.rows
        return cells[:, rows] if isinstance(rows, slice) else cells.take(rows, axis=1)


def aligned_part(columns: Columns, rows: Ints) -> AlignedPart:
    """The part of `columns` with these rows (ascending); a run of rows is read without a copy."""
    if len(rows) == 0:
        return AlignedPart(columns, slice(0, 0), 0, 0)
    top = int(rows[-1]) + 1
    if top - int(rows[0]) == len(rows):
        return AlignedPart(columns, slice(int(rows[0]), top), len(rows), top)
    return AlignedPart(columns, rows, len(rows), top)
