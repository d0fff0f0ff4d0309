"""Series off the time axis of their source: each sample keeps its own time.

They are of any source, all in one place: thousands of sources may have one such series each.
"""

from collections.abc import Collection
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from tocsin_alerting.tsdb.head.snapshot import UnalignedSnapshot
from tocsin_alerting.tsdb.head.sorted_run import (
    BYTES_PER_SAMPLE,
    MAX_RUN_SAMPLES,
    OPEN_RUN_SAMPLES,
    RunState,
    SmallInts,
    SortedRun,
    SortedRuns,
    merged_run,
    shifted_run,
    sorted_run,
)
from tocsin_alerting.tsdb.series_index import SeriesIndex
from tocsin_alerting.tsdb.values import END_OF_TIME, NEVER_MS, Floats, Ints, Mask, is_sample


class UnalignedOutcome(NamedTuple):
    """Masks (n,) of what happened to samples: `new` were not there before, `repeated` were;
    `out_of_order` are older than the newest of their series, and the rest has its time and another
    value."""

    new: Mask
    repeated: Mask
    out_of_order: Mask


class UnalignedHead:
    """The writer of the unaligned series. `runs` is what readers may look at, at any moment.

    `begins_ms`: whatever was sealed and is not older is still here. `floor_ms`: a series that is
    new here may have samples from then on; those before may be of a time when it was here already.
    """

    def __init__(self, rows: SeriesIndex) -> None:
        self.index = rows
        self.begins_ms = self.floor_ms = NEVER_MS
        self._last_ms = np.empty(0, np.int64)
        self._last_bits = np.empty(0, np.int64)
        self._sorted: list[SortedRun] = []
        self._rows: SmallInts = np.empty(0, np.int32)  # of the run that is being written
        self._times = np.empty(0, np.int64)
        self._values = np.empty(0)
        self._count = 0
        self.runs = self._publish()

    @property
    def samples(self) -> int:
        newest = int(np.count_nonzero(is_sample(self._values[: self._count])))
        return sum(run.samples for run in self._sorted) + newest

    @property
    def bytes(self) -> int:
        samples = sum(map(len, self._sorted)) + len(self._rows)
        return samples * BYTES_PER_SAMPLE + self._last_ms.nbytes + self._last_bits.nbytes

    def add_rows(self, rows: Ints, last_ms: Ints, last_bits: Ints) -> None:
        """These rows are new; the newest sample that their series have elsewhere is this."""
        self._fit_width()
        self._last_ms[rows] = last_ms
        self._last_bits[rows] = last_bits

    def last_ms(self, row: int) -> int:
        """The time of its newest sample, here or elsewhere."""
        return int(self._last_ms[row])

    def last_bits(self, row: int) -> int:
        return int(self._last_bits[row])

    def newest(self) -> tuple[Ints, Floats]:
        """The time and value (rows.width,) of each row's newest sample; NEVER_MS: it has none."""
        self._fit_width()
        values = np.zeros(self.index.width)
        for run in self._sorted:
            values[run.rows] = run.values
        values[self._rows[: self._count]] = self._values[: self._count]
        return self._last_ms[: self.index.width], values

    def write(self, rows: Ints, times: Ints, values: Floats) -> UnalignedOutcome:
        """Samples as they came: those of one row ascend in time."""
        last_ms = self._last_ms[rows]
        fresh: Mask = times > last_ms
        if fresh.all():
            self.append(rows, times, values)
            return UnalignedOutcome(fresh, ~fresh, ~fresh)
        bits = np.ascontiguousarray(values).view(np.int64)
        same = (times == last_ms) & (self._last_bits[rows] == bits)
        self.append(rows[fresh], times[fresh], values[fresh])
        return UnalignedOutcome(fresh, same, times < last_ms)

    def append(self, rows: Ints, times: Ints, values: Floats) -> None:
        """Samples that are newer than all of their rows."""
        self._remember_newest(rows, times, values)
        start = 0
        while start < len(rows):
            if self._count == len(self._rows):
                self._begin_run()
            stop = min(len(rows), start + len(self._rows) - self._count)
            free = slice(self._count, self._count + stop - start)
            self._rows[free] = rows[start:stop]
            self._times[free] = times[start:stop]
            self._values[free] = values[start:stop]
            self._count += stop - start
            start = stop
        self.runs = self._publish()

    def close(self, before_ms: int) -> None:
        """What is older than that is about to be sealed; what comes later for it, next time."""
        self._sort_open_run()
        pieces = []
        for run in self._sorted:
            pieces += run.split(before_ms, RunState.CLOSED) if run.state is RunState.OPEN else [run]
        self._sorted = pieces
        self.runs = self._publish()

    def snapshot(self) -> UnalignedSnapshot:
        """All there is, the run that was being written too."""
        self._sort_open_run()
        self.runs = self._publish()
        rows, labels = self.index.items()
        return UnalignedSnapshot(rows, labels, self.runs.sorted, self.begins_ms, self.floor_ms)

    def mark_sealed(self, runs: Collection[SortedRun]) -> None:
        """Those of them that were closed are in the persistence, and may be dropped."""
        closed = {id(run) for run in runs if run.state is RunState.CLOSED}
        self._sorted = [
            replace(run, state=RunState.SEALED) if id(run) in closed else run
            for run in self._sorted
        ]
        self.runs = self._publish()

    def expire(self, before_ms: int, unsealed_before_ms: int) -> bool:
        """Drops what is sealed and older than `before_ms`, and what is older than
        `unsealed_before_ms`; False when there was nothing to drop."""
        if self._times[: self._count].min(initial=END_OF_TIME) < unsealed_before_ms:
            self._sort_open_run()
        # All sealed runs or none: queries take what is older than a series's first sample here
        # from the persistence, and nothing after it.
        cut = any(
            _is_mostly_older(run, before_ms) for run in self._sorted if run.state is RunState.SEALED
        )
        runs: list[SortedRun] = []
        for run in self._sorted:
            sealed = run.state is RunState.SEALED
            limit_ms = before_ms if sealed else unsealed_before_ms
            due = cut if sealed else _is_mostly_older(run, limit_ms)
            runs += self._newer_part(run, limit_ms) if due else [run]
        if sum(map(len, runs)) == sum(map(len, self._sorted)):
            return False
        self._sorted = runs
        self._release_rows()
        return True

    def shift_clock(self, delta_ms: int, until_ms: int) -> None:
        """Moves what is not sealed and not later than `until_ms`; what is sealed goes."""
        self._sort_open_run()
        runs: list[SortedRun] = []
        for run in self._sorted:
            runs += self._newer_part(run, END_OF_TIME if run.state is RunState.SEALED else NEVER_MS)
        self.floor_ms = max(self.floor_ms + min(delta_ms, 0), NEVER_MS)
        self._sorted = [shifted_run(runs, delta_ms, until_ms)] if runs else []
        for run in self._sorted:
            self._remember_newest(run.rows.astype(np.int64), run.times, run.values)
        self._release_rows()

    def restore(self, rows: Ints, times: Ints, values: Floats, state: RunState) -> None:
        """Samples that a WAL gave back, newer than all of their rows."""
        if state is RunState.OPEN or not len(rows):
            self.append(rows, times, values)
            return
        self._remember_newest(rows, times, values)
        self._sort_open_run()
        self._add_run(sorted_run(rows.astype(np.int32), times, values, state))
        self.runs = self._publish()

    def _newer_part(self, run: SortedRun, before_ms: int) -> list[SortedRun]:
        """What stays of a run."""
        if run.first_ms >= before_ms:
            return [run]
        old = run.times < before_ms
        newest_ms = int(run.times[old].max()) + 1
        self.begins_ms = max(self.begins_ms, newest_ms)
        self.floor_ms = max(self.floor_ms, newest_ms)
        return [] if old.all() else [run.subset(~old, run.state)]

    def _release_rows(self) -> None:
        """Gives up the rows of which nothing is left."""
        present = np.zeros(self.index.width, np.bool_)
        present[self._rows[: self._count]] = True
        for run in self._sorted:
            present[run.rows] = True
        self.runs = self._publish()
        self.index.release(np.flatnonzero(~present).tolist())

    def _begin_run(self) -> None:
        self._sort_open_run()
        self._rows = np.empty(OPEN_RUN_SAMPLES, np.int32)
        self._times, self._values = np.empty(OPEN_RUN_SAMPLES, np.int64), np.empty(OPEN_RUN_SAMPLES)

    def _sort_open_run(self) -> None:
        """Puts the run that is being written in order."""
        if self._count:
            used = slice(0, self._count)
            self._add_run(sorted_run(self._rows[used], self._times[used], self._values[used]))
        self._count = 0
        self._rows = np.empty(0, np.int32)
        self._times, self._values = np.empty(0, np.int64), np.empty(0)

    def _add_run(self, run: SortedRun) -> None:
        """Joins a run with those before it, as long as they are not much longer."""
        runs = self._sorted
        while runs and runs[-1].state is run.state and _worth_merging(runs[-1], run):
            run = merged_run(runs.pop(), run)
        runs.append(run)

    def _remember_newest(self, rows: Ints, times: Ints, values: Floats) -> None:
        self._fit_width()
        self._last_ms[rows] = times
        self._last_bits[rows] = np.ascontiguousarray(values).view(np.int64)

    def _fit_width(self) -> None:
        width = self.index.width
        if width > len(self._last_ms):
            more = width + width // 8 - len(self._last_ms)
            self._last_ms = np.concatenate([self._last_ms, np.full(more, NEVER_MS)])
            self._last_bits = np.concatenate([self._last_bits, np.zeros(more, np.int64)])

    def _publish(self) -> SortedRuns:
        used = slice(0, self._count)
        rows, times, values = self._rows[used], self._times[used], self._values[used]
        return SortedRuns(tuple(self._sorted), rows, times, values)


def _is_mostly_older(run: SortedRun, before_ms: int) -> bool:
    """Whether so much of a run is older that it is worth a new one."""
    return 2 * int(np.count_nonzero(run.times < before_ms)) >= len(run)


def _worth_merging(older: SortedRun, newer: SortedRun) -> bool:
    return len(older) < 2 * len(newer) and len(older) + len(newer) <= MAX_RUN_SAMPLES
