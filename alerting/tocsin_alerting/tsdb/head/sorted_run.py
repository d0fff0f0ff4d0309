"""Runs of samples of unaligned series: 20 bytes each, in three arrays.

A run in order has its samples by row, those of one row in the order in which they came, which is
that of their times. Whoever wants some rows finds them by bisection, without a loop over series.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tocsin_alerting.tsdb.values import END_OF_TIME, NEVER_MS, Floats, Ints, Mask, is_sample

OPEN_RUN_SAMPLES = 4096  # of the run that is being written; then it is put in order
MAX_RUN_SAMPLES = 65_536  # neighbours are joined up to this
BYTES_PER_SAMPLE = 20
SmallInts = NDArray[np.int32]


class RunState(IntEnum):
    """OPEN, CLOSED: about to be sealed, SEALED: in a block."""

    OPEN = 0
    CLOSED = 1
    SEALED = 2


class SampleBatch(NamedTuple):
    """Samples (n,): of the series at position `series` of those asked for."""

    series: Ints
    times: Ints
    values: Floats


NO_SAMPLES = SampleBatch(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))


@dataclass(frozen=True, slots=True, eq=False)
class SortedRun:
    """`samples` are those that are no stale markers."""

    rows: SmallInts
    times: Ints
    values: Floats
    first_ms: int
    last_ms: int
    samples: int
    state: RunState = RunState.OPEN

    def __len__(self) -> int:
        return len(self.rows)

    def find(self, rows: Ints, t0_ms: int, t1_ms: int) -> SampleBatch:
        """The samples of these rows in the closed interval, by row."""
        if self.last_ms < t0_ms or self.first_ms > t1_ms:
            return NO_SAMPLES
        begins = np.searchsorted(self.rows, rows.astype(np.int32), side="left")
        ends = np.searchsorted(self.rows, rows.astype(np.int32), side="right")
        series, at = expand_ranges(begins, ends)
        times = self.times[at]
        if self.first_ms >= t0_ms and self.last_ms <= t1_ms:
            return SampleBatch(series, times, self.values[at])
        inside = (times >= t0_ms) & (times <= t1_ms)
        return SampleBatch(series[inside], times[inside], self.values[at[inside]])

    def subset(self, chosen: Mask, state: RunState) -> "SortedRun":
        return new_run(self.rows[chosen], self.times[chosen], self.values[chosen], state)

    def split(self, before_ms: int, state: RunState) -> list["SortedRun"]:
        """What is older than that, with this state, and the rest."""
        if self.first_ms >= before_ms:
            return [self]
        old = self.times < before_ms
        pieces = [self.subset(old, state)]
        return pieces if old.all() else [*pieces, self.subset(~old, self.state)]


def new_run(
    rows: SmallInts, times: Ints, values: Floats, state: RunState = RunState.OPEN
) -> SortedRun:
    """A run of samples (at least one) that are in order."""
    samples = int(np.count_nonzero(is_sample(values)))
    return SortedRun(rows, times, values, int(times.min()), int(times.max()), samples, state)


def sorted_run(
    rows: SmallInts, times: Ints, values: Floats, state: RunState = RunState.OPEN
) -> SortedRun:
    """A run of samples (at least one) as they came."""
    order = np.argsort(rows, kind="stable")
    return new_run(rows[order], times[order], values[order], state)


def merged_run(older: SortedRun, newer: SortedRun) -> SortedRun:
    """`newer` came after `older`, and they are in the same state."""
    rows = np.concatenate([older.rows, newer.rows])
    times = np.concatenate([older.times, newer.times])
    return sorted_run(rows, times, np.concatenate([older.values, newer.values]), older.state)


def shifted_run(runs: Sequence[SortedRun], delta_ms: int, until_ms: int) -> SortedRun:
    """All of them as one, what is not later than `until_ms` moved: what did not move may now be
    in the encoding of what did."""
    rows = np.concatenate([run.rows for run in runs])
    times = np.concatenate([run.times for run in runs])
    values = np.concatenate([run.values for run in runs])
    times = np.where(times <= until_ms, times + delta_ms, times)
    order = np.lexsort((times, rows))
    rows, times, values = rows[order], times[order], values[order]
    first = np.ones(len(rows), np.bool_)
    first[1:] = (np.diff(rows) != 0) | (np.diff(times) != 0)
    return new_run(rows[first], times[first], values[first])


@dataclass(frozen=True, slots=True, eq=False)
class SortedRuns:
    """What readers see while the writer goes on: runs in order, and one that is as it came."""

    sorted: tuple[SortedRun, ...]
    rows: SmallInts
    times: Ints
    values: Floats

    def find(self, rows: Ints, t0_ms: int, t1_ms: int) -> list[SampleBatch]:
        """The samples of these rows (ascending) in the closed interval, in the order of arrival."""
        per_run = [run.find(rows, t0_ms, t1_ms) for run in self.sorted]
        return [
            samples
            for samples in [*per_run, self._open_samples(rows, t0_ms, t1_ms)]
            if len(samples.series)
        ]

    def first_times(self, rows: Ints, count: int) -> Ints:
        """The time (count,) of the first sample of each of `rows` (ascending, at most `count`),
        END_OF_TIME if it has none here or is not among them."""
        firsts = np.full(count, END_OF_TIME)
        known = firsts[: len(rows)]
        for run in self.sorted:
            at = np.searchsorted(run.rows, rows.astype(np.int32))
            at[at == len(run)] = 0
            np.minimum(known, run.times[at], out=known, where=run.rows[at] == rows)
        newest = self._open_samples(rows, NEVER_MS, END_OF_TIME)
        np.minimum.at(known, newest.series, newest.times)
        return firsts

    def _open_samples(self, rows: Ints, t0_ms: int, t1_ms: int) -> SampleBatch:
        if not len(self.rows) or not len(rows):
            return NO_SAMPLES
        series = np.searchsorted(rows, self.rows)
        series[series == len(rows)] = 0
        inside = (rows[series] == self.rows) & (self.times >= t0_ms) & (self.times <= t1_ms)
        return SampleBatch(series[inside], self.times[inside], self.values[inside])


NO_RUNS = SortedRuns((), np.empty(0, np.int32), NO_SAMPLES.times, NO_SAMPLES.values)


def expand_ranges(begins: Ints, ends: Ints) -> tuple[Ints, Ints]:
    """(of, at): the positions begins[i]:ends[i] one after the other, and before them the i of
    each."""
    counts = ends - begins
    of = np.repeat(np.arange(len(counts)), counts)
    at = np.arange(len(of)) + np.repeat(begins - np.cumsum(counts) + counts, counts)
    return of, at


def concatenated(parts: Sequence[SampleBatch]) -> SampleBatch:
    if len(parts) == 1:
        return parts[0]
    return (
        SampleBatch(*(np.concatenate(column) for column in zip(*parts, strict=True)))
        if parts
        else NO_SAMPLES
    )
