"""All samples of one source: rows are series, columns are scrapes, one time axis for all."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tocsin_alerting.tsdb.head.columns import BLOCK_COLUMNS, Columns
from tocsin_alerting.tsdb.head.snapshot import AlignedSnapshot
from tocsin_alerting.tsdb.series_index import MatcherSets, SeriesIndex
from tocsin_alerting.tsdb.values import (
    ABSENT,
    END_OF_TIME,
    NEVER_MS,
    STALE_BITS,
    Floats,
    Ints,
    Mask,
    absent_cells,
    is_sample,
    is_stale,
)
from tocsin_exporter.snapshot import Source

_NEVER = -1
_FEW = 8  # columns that a narrow head begins with: thousands of sources may have one series
_SPARE_CELLS = 512


class FillOutcome(NamedTuple):
    """Masks (n,) of what happened to samples for a column that was there before: `accepted` stand
    in it now, or did already; `conflicting`: another value stands there; `out_of_order`: a column
    after it has a sample of the series. The rest cannot be written into this column any more."""

    accepted: Mask
    conflicting: Mask
    out_of_order: Mask


class AlignedHead:
    """The writer of one source's columns. `columns` is what readers may look at, at any moment.

    A row whose series vanished holds stale markers until it is given to another series: to a
    reader this is the same as one marker, and the newest column alone tells what there is.

    Columns numbered below `sealed` are in the persistence; those below `closed` are on their way to
    it, and nothing late may be written into them any more.
    """

    def __init__(self, rows: SeriesIndex) -> None:
        self.index = rows
        self.sealed = self.closed = 0
        self._moves: list[tuple[int, int]] = []
        self.samples = 0
        self._template = absent_cells(0)  # what a column holds where nobody writes
        self._last_seen = np.empty(0, np.int64)
        self._last_gap = np.empty(0, np.int64)
        self._last_fall = np.empty(0, np.int64)
        self._times = np.empty(_FEW, np.int64)
        self._begin = self._end = 0  # of the retained columns in _times
        self._first = 0
        self._blocks: list[Floats] = []
        self._block_samples: list[int] = []
        self.columns = self._publish()

    @property
    def last_ms(self) -> int | None:
        return int(self._times[self._end - 1]) if self._end > self._begin else None

    @property
    def bytes(self) -> int:
        return sum(block.nbytes for block in self._blocks) + self._times.nbytes

    def append(self, at_ms: int, rows: Ints, values: Floats) -> None:
        """One new column at `at_ms`, which must be later than all others; publishes it."""
        column = self._new_column(at_ms)
        column[rows] = values
        self._last_seen[rows] = self._number - 1
        self._count(len(rows) - int(np.count_nonzero(is_stale(values))))
        self.columns = self._publish()

    def mark_stale(self, rows: Ints) -> None:
        """From the next column on these series are stale, unless they are written again."""
        self._fit_width()
        self._template.view(np.int64)[rows] = STALE_BITS
        self._last_seen[rows] = self._number  # the marker is as much to keep as a sample

    def column_at(self, at_ms: int) -> int:
        """Which of the columns is at that time; -1 if none is."""
        times = self.columns.times
        if len(times) and times[-1] == at_ms:  # as mostly
            return len(times) - 1
        index = int(times.searchsorted(at_ms))
        return index if index < len(times) and times[index] == at_ms else -1

    def newest_ms(self, rows: Ints) -> Ints:
        """The time of the newest sample of each row, as far as it is retained."""
        self._fit_width()
        index = self._last_seen[rows] - self._first
        times = self.columns.times
        newest: Ints = np.where(index >= 0, times[np.maximum(index, 0)], NEVER_MS)
        return newest

    def newest_bits(self, rows: Ints) -> Ints:
        """The bits of the newest cell of each row; 0 where none is retained."""
        places = zip(rows.tolist(), (self._last_seen[rows] - self._first).tolist(), strict=True)
        cells = (self._bits(index, row) if index >= 0 else 0 for row, index in places)
        return np.fromiter(cells, np.int64, len(rows))

    def bits(self, at_ms: int, row: int) -> int:
        """The bits of the cell of a row in the column at that time, which there is."""
        return self._bits(self.column_at(at_ms), row)

    def last_sample_ms(self) -> int | None:
        """The time of the newest column with a sample in it that is no stale marker."""
        for index in range(len(self.columns.times) - 1, -1, -1):
            if is_sample(self._cells(index)).any():
                return int(self.columns.times[index])
        return None

    def newest_samples(self, matcher_sets: MatcherSets) -> Iterator[tuple[int, float]]:
        """The time and value of the newest sample of each series like this."""
        rows = self.index.select_rows(matcher_sets)
        for row, at_ms in zip(rows.tolist(), self.newest_ms(rows).tolist(), strict=True):
            if at_ms > NEVER_MS:
                yield at_ms, self._cells(int(self._last_seen[row]) - self._first)[row].item()

    def has_room(self, columns: int, rows: int, samples: int) -> bool:
        """Whether at least half of the cells, but for one column, would hold samples, with so many
        more of each: of a scrape that comes over several connections one is ahead.

        A source that does not keep to that costs more in columns than unaligned.
        """
        width = max(len(self._template), self.index.width_with(rows))
        used = self._end - self._begin
        last = (used - 1) % BLOCK_COLUMNS + 1 if used else 0
        older = BLOCK_COLUMNS * sum(block.shape[1] for block in self._blocks[:-1])
        if columns and last == BLOCK_COLUMNS:
            older, last = older + BLOCK_COLUMNS * self._blocks[-1].shape[1], 0
        cells = older + (last + columns) * width
        return bool(cells <= 2 * (self.samples + samples) + width + _SPARE_CELLS)

    def open_to_new(self, index: int) -> bool:
        """Whether series without a row may be written into this column."""
        return (
            index // BLOCK_COLUMNS == len(self._blocks) - 1 and self._first + index >= self.closed
        )

    @property
    def open_ms(self) -> int:
        """The first time whose column series without a row may be written into."""
        times = self.columns.times
        first = max((len(self._blocks) - 1) * BLOCK_COLUMNS, self.closed - self._first, 0)
        return int(times[first]) if first < len(times) else END_OF_TIME

    def fill(self, index: int, rows: Ints, values: Floats) -> FillOutcome:
        """Samples into a column that is there already, no row twice."""
        self._fit_width()
        cells, number = self._cells(index), self._first + index
        seen = self._last_seen[rows]
        fresh: Mask = seen < number
        if number < self.closed:
            fresh = np.zeros(len(rows), np.bool_)
        elif len(cells) < len(self._template):  # some rows are younger than this block
            fresh &= rows < len(cells)
        if fresh.all():
            taken, differs, late = fresh, ~fresh, ~fresh
        else:
            filled = seen == number
            stored = cells[np.where(filled, rows, 0)].view(np.int64)
            same = filled & (stored == values.view(np.int64))
            taken, differs, late = fresh | same, filled & ~same, seen > number
            rows, values = rows[fresh], values[fresh]
        cells[rows] = values
        self._last_seen[rows] = number
        self._count(int(np.count_nonzero(is_sample(values))), index // BLOCK_COLUMNS)
        self.columns = self._publish()
        return FillOutcome(taken, differs, late)

    def widen(self, index: int, rows: Ints) -> None:
        """Room for `index` in a column that a WAL gives back samples for: it may hold columns that
        were let go by then, so that blocks begin elsewhere and a series is younger than its own."""
        self._fit_width()
        block = self._blocks[index // BLOCK_COLUMNS]
        more = len(self._template) - block.shape[1]
        if more and int(rows.max(initial=-1)) >= block.shape[1]:
            absent = np.tile(absent_cells(more), (len(block), 1))
            self._blocks[index // BLOCK_COLUMNS] = np.concatenate([block, absent], axis=1)

    def close(self, before_ms: int) -> None:
        """The columns before that time are about to be sealed."""
        index = int(np.searchsorted(self.columns.times, before_ms))
        self.closed = max(self.closed, self._first + index)

    def expire(self, before_ms: int, unsealed_before_ms: int | None = None) -> bool:
        """Drops the blocks all of whose columns are older, and the rows that are then empty.

        With `unsealed_before_ms` columns that are not sealed stay until they are older than that.
        False when there was nothing to drop.
        """
        limit_ms = before_ms if unsealed_before_ms is None else unsealed_before_ms
        if not self._blocks or not self._may_expire(before_ms, limit_ms):
            return False
        while self._blocks and self._may_expire(before_ms, limit_ms):
            self._begin += min(BLOCK_COLUMNS, self._end - self._begin)
            self._first += BLOCK_COLUMNS
            del self._blocks[0]
            self.samples -= self._block_samples.pop(0)
        gone = np.flatnonzero(self._last_seen[: self.index.width] < self._first)
        self._template[gone] = ABSENT
        self.index.release(gone.tolist())
        self.columns = self._publish()
        return True

    @property
    def begins_ms(self) -> int | None:
        """The time before which only blocks have columns: in their times, which do not move."""
        if self.last_ms is None:
            return None
        return int(self._times[self._begin]) - max(self.moved_ms, 0)

    @property
    def moved_ms(self) -> int:
        """How far the first column, if it is sealed, lies from its time in a block."""
        return sum(delta_ms for below, delta_ms in self._moves if self._first < below)

    def snapshot(self, source: Source, present_rows: Ints) -> AlignedSnapshot:
        """What it holds of `source`, which has the rows `present_rows` at present."""
        rows, labels = self.index.items()
        moved_ms = self.moved_ms
        return AlignedSnapshot(
            source, self.columns, rows, labels, present_rows, self.sealed, self.closed, moved_ms
        )

    def move_sealed(self, delta_ms: int) -> None:
        """The sealed columns lie so far from their times in blocks, besides what moved them."""
        self._moves = [move for move in self._moves if self._first < move[0]]
        if delta_ms and self._first < self.sealed:
            self._moves.append((self.sealed, delta_ms))

    def shift_clock(self, delta_ms: int, until_ms: int) -> None:
        """Moves the columns up to `until_ms` in time, because the wall clock was set."""
        self.move_sealed(delta_ms)
        times = self.columns.times
        moved = np.where(times <= until_ms, times + delta_ms, times)
        if (np.diff(moved) <= 0).any():  # a remote clock was a little ahead of the one that was set
            moved = times + delta_ms
        self._times = np.concatenate([moved, np.empty(BLOCK_COLUMNS, np.int64)])
        self._begin, self._end = 0, len(moved)
        self.columns = self._publish()

    @property
    def _number(self) -> int:
        """The number that the next column gets."""
        return self._first + self._end - self._begin

    def _publish(self) -> Columns:
        times = self._times[self._begin : self._end]
        blocks = tuple(self._blocks)
        return Columns(times, self._first, blocks, self._last_gap, self._last_fall)

    def _new_column(self, at_ms: int) -> Floats:
        """The cells (width,) of a new column, holding what stands where nobody writes."""
        self._update_gap_marks()
        self._fit_width()
        offset = (self._end - self._begin) % BLOCK_COLUMNS
        if offset == 0:
            height = (
                BLOCK_COLUMNS
                if self._blocks
                else max(2, min(_FEW, 512 // (len(self._template) + 1)))
            )
            self._blocks.append(np.empty((height, len(self._template))))
            self._block_samples.append(0)
        elif offset == len(self._blocks[-1]):
            self._blocks[-1] = _taller(self._blocks[-1], min(BLOCK_COLUMNS, offset + offset // 2))
        if self._end == len(self._times):
            columns = self._end - self._begin
            more = np.empty(max(_FEW, columns // 2), np.int64)
            self._times = np.concatenate([self.columns.times, more])
            self._begin, self._end = 0, columns
        column: Floats = self._blocks[-1][offset]
        column[:] = self._template
        self._times[self._end] = at_ms
        self._end += 1
        return column

    def _update_gap_marks(self) -> None:
        """Marks the rows that have a gap or fall in the newest column, before it is the second."""
        index = self._end - self._begin - 1
        if index < 0:
            return
        newest = self._cells(index)
        width = len(newest)
        np.copyto(self._last_gap[:width], self._first + index, where=np.isnan(newest))
        if index:
            before = self._cells(index - 1)
            fell = np.ones(width, np.bool_)
            np.greater_equal(newest[: len(before)], before, out=fell[: len(before)])
            np.logical_not(fell[: len(before)], out=fell[: len(before)])
            np.copyto(self._last_fall[:width], self._first + index, where=fell)

    def _cells(self, index: int) -> Floats:
        cells: Floats = self._blocks[index // BLOCK_COLUMNS][index % BLOCK_COLUMNS]
        return cells

    def _bits(self, index: int, row: int) -> int:
        return int(self._cells(index).view(np.int64)[row])

    def _fit_width(self) -> None:
        """Room for every row: an eighth more than needed, since rows come one by one."""
        width = self.index.width
        if width <= len(self._template):
            return
        more = width + width // 8 - len(self._template)
        self._template = np.concatenate([self._template, absent_cells(more)])
        never = np.full(more, _NEVER, np.int64)
        self._last_seen = np.concatenate([self._last_seen, never])
        # The columns so far have no cell in these rows: a gap up to the newest.
        gap = np.full(more, self._number - 1, np.int64)
        self._last_gap = np.concatenate([self._last_gap, gap])
        self._last_fall = np.concatenate([self._last_fall, gap])
        used = (self._end - self._begin) % BLOCK_COLUMNS
        if self._blocks:
            self._widen(used or BLOCK_COLUMNS, more)

    def _widen(self, used: int, more: int) -> None:
        old = self._blocks[-1]
        wide = np.empty((len(old), old.shape[1] + more))
        wide[:used, : old.shape[1]] = old[:used]
        wide[:used, old.shape[1] :] = ABSENT
        self._blocks[-1] = wide

    def _count(self, samples: int, block: int = -1) -> None:
        self.samples += samples
        self._block_samples[block] += samples

    def _may_expire(self, before_ms: int, unsealed_before_ms: int) -> bool:
        """Whether the first block may go."""
        count = min(BLOCK_COLUMNS, self._end - self._begin)
        last_ms = int(self._times[self._begin + count - 1])
        sealed = self._first + count <= self.sealed
        return last_ms < (before_ms if sealed else unsealed_before_ms)


def _taller(block: Floats, height: int) -> Floats:
    taller = np.empty((height, block.shape[1]))
    taller[: len(block)] = block
    return taller
