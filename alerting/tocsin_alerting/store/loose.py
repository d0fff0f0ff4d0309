"""Series off the time axis of their source: each sample keeps its own time.

They are of any source, all in one place: thousands of sources may have one such series each.
"""

from collections.abc import Collection
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from tocsin_alerting.store.cell import END_OF_TIME, NEVER_MS, Floats, Ints, Mask, is_sample
from tocsin_alerting.store.held import HeldPairs
from tocsin_alerting.store.rows import Rows
from tocsin_alerting.store.runs import (
    BYTES,
    LENGTH,
    LONGEST,
    Run,
    Runs,
    SmallInts,
    State,
    joined,
    moved,
    ordered,
)


class Told(NamedTuple):
    """Masks (n,) of what happened to samples: `fresh` were not there before, `same` were; `late`
    are older than the newest of their series, and the rest has its time and another value."""

    fresh: Mask
    same: Mask
    late: Mask


class Loose:
    """The writer of the loose series. `runs` is what readers may look at, at any moment.

    `begins_ms`: whatever was sealed and is not older is still here. `floor_ms`: a series that is
    new here may have samples from then on; those before may be of a time when it was here already.
    """

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.begins_ms = self.floor_ms = NEVER_MS
        self._last_ms = np.empty(0, np.int64)
        self._last_bits = np.empty(0, np.int64)
        self._ordered: list[Run] = []
        self._rows: SmallInts = np.empty(0, np.int32)  # of the run that is being written
        self._times = np.empty(0, np.int64)
        self._values = np.empty(0)
        self._count = 0
        self.runs = self._published()

    @property
    def samples(self) -> int:
        newest = int(np.count_nonzero(is_sample(self._values[: self._count])))
        return sum(one.samples for one in self._ordered) + newest

    @property
    def bytes(self) -> int:
        kept = sum(map(len, self._ordered)) + len(self._rows)
        return kept * BYTES + self._last_ms.nbytes + self._last_bits.nbytes

    def take(self, rows: Ints, last_ms: Ints, last_bits: Ints) -> None:
        """These rows are new; the newest sample that their series have elsewhere is this."""
        self._fit()
        self._last_ms[rows] = last_ms
        self._last_bits[rows] = last_bits

    def last_ms(self, row: int) -> int:
        """The time of its newest sample, here or elsewhere."""
        return int(self._last_ms[row])

    def last_bits(self, row: int) -> int:
        return int(self._last_bits[row])

    def newest(self) -> tuple[Ints, Floats]:
        """The time and value (rows.width,) of each row's newest sample; NEVER_MS: it has none."""
        self._fit()
        values = np.zeros(self.rows.width)
        for one in self._ordered:
            values[one.rows] = one.values
        values[self._rows[: self._count]] = self._values[: self._count]
        return self._last_ms[: self.rows.width], values

    def write(self, rows: Ints, times: Ints, values: Floats) -> Told:
        """Samples as they came: those of one row ascend in time."""
        last_ms = self._last_ms[rows]
        fresh: Mask = times > last_ms
        if fresh.all():
            self.put(rows, times, values)
            return Told(fresh, ~fresh, ~fresh)
        bits = np.ascontiguousarray(values).view(np.int64)
        same = (times == last_ms) & (self._last_bits[rows] == bits)
        self.put(rows[fresh], times[fresh], values[fresh])
        return Told(fresh, same, times < last_ms)

    def put(self, rows: Ints, times: Ints, values: Floats) -> None:
        """Samples that are newer than all of their rows."""
        self._remember(rows, times, values)
        start = 0
        while start < len(rows):
            if self._count == len(self._rows):
                self._begin_run()
            stop = min(len(rows), start + len(self._rows) - self._count)
            here = slice(self._count, self._count + stop - start)
            self._rows[here] = rows[start:stop]
            self._times[here] = times[start:stop]
            self._values[here] = values[start:stop]
            self._count += stop - start
            start = stop
        self.runs = self._published()

    def close(self, before_ms: int) -> None:
        """What is older than that is about to be sealed; what comes later for it, next time."""
        self._settle()
        pieces = []
        for one in self._ordered:
            pieces += one.divided(before_ms, State.CLOSED) if one.state is State.OPEN else [one]
        self._ordered = pieces
        self.runs = self._published()

    def held(self) -> HeldPairs:
        """All there is, the run that was being written too."""
        self._settle()
        self.runs = self._published()
        rows, labels = self.rows.owned()
        return HeldPairs(rows, labels, self.runs.ordered, self.begins_ms, self.floor_ms)

    def sealed(self, runs: Collection[Run]) -> None:
        """Those of them that were closed are in the archive, and may be dropped."""
        there = {id(one) for one in runs if one.state is State.CLOSED}
        self._ordered = [
            replace(one, state=State.SEALED) if id(one) in there else one for one in self._ordered
        ]
        self.runs = self._published()

    def expire(self, before_ms: int, unsealed_before_ms: int) -> bool:
        """Drops what is sealed and older than `before_ms`, and what is older than
        `unsealed_before_ms`; False when there was nothing to drop."""
        if self._times[: self._count].min(initial=END_OF_TIME) < unsealed_before_ms:
            self._settle()
        # All sealed runs or none: queries take what is older than a series's first sample here
        # from the archive, and nothing after it.
        cut = any(_old(one, before_ms) for one in self._ordered if one.state is State.SEALED)
        kept: list[Run] = []
        for one in self._ordered:
            sealed = one.state is State.SEALED
            limit_ms = before_ms if sealed else unsealed_before_ms
            due = cut if sealed else _old(one, limit_ms)
            kept += self._kept(one, limit_ms) if due else [one]
        if sum(map(len, kept)) == sum(map(len, self._ordered)):
            return False
        self._ordered = kept
        self._release()
        return True

    def shift(self, delta_ms: int, until_ms: int) -> None:
        """Moves what is not sealed and not later than `until_ms`; what is sealed goes."""
        self._settle()
        kept: list[Run] = []
        for one in self._ordered:
            kept += self._kept(one, END_OF_TIME if one.state is State.SEALED else NEVER_MS)
        self.floor_ms = max(self.floor_ms + min(delta_ms, 0), NEVER_MS)
        self._ordered = [moved(kept, delta_ms, until_ms)] if kept else []
        for one in self._ordered:
            self._remember(one.rows.astype(np.int64), one.times, one.values)
        self._release()

    def restore(self, rows: Ints, times: Ints, values: Floats, state: State) -> None:
        """Samples that a log gave back, newer than all of their rows."""
        if state is State.OPEN or not len(rows):
            self.put(rows, times, values)
            return
        self._remember(rows, times, values)
        self._settle()
        self._add(ordered(rows.astype(np.int32), times, values, state))
        self.runs = self._published()

    def _kept(self, one: Run, before_ms: int) -> list[Run]:
        """What stays of a run."""
        if one.first_ms >= before_ms:
            return [one]
        old = one.times < before_ms
        newest_ms = int(one.times[old].max()) + 1
        self.begins_ms = max(self.begins_ms, newest_ms)
        self.floor_ms = max(self.floor_ms, newest_ms)
        return [] if old.all() else [one.only(~old, one.state)]

    def _release(self) -> None:
        """Gives up the rows of which nothing is left."""
        present = np.zeros(self.rows.width, np.bool_)
        present[self._rows[: self._count]] = True
        for one in self._ordered:
            present[one.rows] = True
        self.runs = self._published()
        self.rows.release(np.flatnonzero(~present).tolist())

    def _begin_run(self) -> None:
        self._settle()
        self._rows = np.empty(LENGTH, np.int32)
        self._times, self._values = np.empty(LENGTH, np.int64), np.empty(LENGTH)

    def _settle(self) -> None:
        """Puts the run that is being written in order."""
        if self._count:
            kept = slice(0, self._count)
            self._add(ordered(self._rows[kept], self._times[kept], self._values[kept]))
        self._count = 0
        self._rows = np.empty(0, np.int32)
        self._times, self._values = np.empty(0, np.int64), np.empty(0)

    def _add(self, one: Run) -> None:
        """Joins a run with those before it, as long as they are not much longer."""
        runs = self._ordered
        while runs and runs[-1].state is one.state and _alike(runs[-1], one):
            one = joined(runs.pop(), one)
        runs.append(one)

    def _remember(self, rows: Ints, times: Ints, values: Floats) -> None:
        self._fit()
        self._last_ms[rows] = times
        self._last_bits[rows] = np.ascontiguousarray(values).view(np.int64)

    def _fit(self) -> None:
        width = self.rows.width
        if width > len(self._last_ms):
            more = width + width // 8 - len(self._last_ms)
            self._last_ms = np.concatenate([self._last_ms, np.full(more, NEVER_MS)])
            self._last_bits = np.concatenate([self._last_bits, np.zeros(more, np.int64)])

    def _published(self) -> Runs:
        kept = slice(0, self._count)
        rows, times, values = self._rows[kept], self._times[kept], self._values[kept]
        return Runs(tuple(self._ordered), rows, times, values)


def _old(one: Run, before_ms: int) -> bool:
    """Whether so much of a run is older that it is worth a new one."""
    return 2 * int(np.count_nonzero(one.times < before_ms)) >= len(one)


def _alike(older: Run, newer: Run) -> bool:
    return len(older) < 2 * len(newer) and len(older) + len(newer) <= LONGEST
