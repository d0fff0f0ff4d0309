"""Runs of samples of loose series: 20 bytes each, in three arrays.

A run in order has its samples by row, those of one row in the order in which they came, which is
that of their times. Whoever wants some rows finds them by bisection, without a loop over series.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tocsin_alerting.store.cell import END_OF_TIME, NEVER_MS, Floats, Ints, Mask, is_sample

LENGTH = 4096  # of the run that is being written; then it is put in order
LONGEST = 65_536  # neighbours are joined up to this
BYTES = 20
SmallInts = NDArray[np.int32]


class State(IntEnum):
    """OPEN, CLOSED: about to be sealed, SEALED: in a segment."""

    OPEN = 0
    CLOSED = 1
    SEALED = 2


class Found(NamedTuple):
    """Samples (n,): of the series at position `who` of those asked for."""

    who: Ints
    times: Ints
    values: Floats


NONE = Found(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """`samples` are those that are no stale markers."""

    rows: SmallInts
    times: Ints
    values: Floats
    first_ms: int
    last_ms: int
    samples: int
    state: State = State.OPEN

    def __len__(self) -> int:
        return len(self.rows)

    def find(self, rows: Ints, t0_ms: int, t1_ms: int) -> Found:
        """The samples of these rows in the closed interval, by row."""
        if self.last_ms < t0_ms or self.first_ms > t1_ms:
            return NONE
        begins = np.searchsorted(self.rows, rows.astype(np.int32), side="left")
        ends = np.searchsorted(self.rows, rows.astype(np.int32), side="right")
        who, at = spread(begins, ends)
        times = self.times[at]
        if self.first_ms >= t0_ms and self.last_ms <= t1_ms:
            return Found(who, times, self.values[at])
        here = (times >= t0_ms) & (times <= t1_ms)
        return Found(who[here], times[here], self.values[at[here]])

    def only(self, chosen: Mask, state: State) -> "Run":
        return run(self.rows[chosen], self.times[chosen], self.values[chosen], state)

    def divided(self, before_ms: int, state: State) -> list["Run"]:
        """What is older than that, with this state, and the rest."""
        if self.first_ms >= before_ms:
            return [self]
        old = self.times < before_ms
        pieces = [self.only(old, state)]
        return pieces if old.all() else [*pieces, self.only(~old, self.state)]


def run(rows: SmallInts, times: Ints, values: Floats, state: State = State.OPEN) -> Run:
    """A run of samples (at least one) that are in order."""
    samples = int(np.count_nonzero(is_sample(values)))
    return Run(rows, times, values, int(times.min()), int(times.max()), samples, state)


def ordered(rows: SmallInts, times: Ints, values: Floats, state: State = State.OPEN) -> Run:
    """A run of samples (at least one) as they came."""
    order = np.argsort(rows, kind="stable")
    return run(rows[order], times[order], values[order], state)


def joined(one: Run, two: Run) -> Run:
    """`two` came after `one`, and they are in the same state."""
    rows = np.concatenate([one.rows, two.rows])
    times = np.concatenate([one.times, two.times])
    return ordered(rows, times, np.concatenate([one.values, two.values]), one.state)


def moved(runs: Sequence[Run], delta_ms: int, until_ms: int) -> Run:
    """All of them as one, what is not later than `until_ms` moved: what did not move may now be
    in the way of what did."""
    rows = np.concatenate([one.rows for one in runs])
    times = np.concatenate([one.times for one in runs])
    values = np.concatenate([one.values for one in runs])
    times = np.where(times <= until_ms, times + delta_ms, times)
    order = np.lexsort((times, rows))
    rows, times, values = rows[order], times[order], values[order]
    first = np.ones(len(rows), np.bool_)
    first[1:] = (np.diff(rows) != 0) | (np.diff(times) != 0)
    return run(rows[first], times[first], values[first])


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """What readers see while the writer goes on: runs in order, and one that is as it came."""

    ordered: tuple[Run, ...]
    rows: SmallInts
    times: Ints
    values: Floats

    def find(self, rows: Ints, t0_ms: int, t1_ms: int) -> list[Found]:
        """The samples of these rows (ascending) in the closed interval, in the order of arrival."""
        found = [one.find(rows, t0_ms, t1_ms) for one in self.ordered]
        return [one for one in [*found, self._newest(rows, t0_ms, t1_ms)] if len(one.who)]

    def firsts(self, rows: Ints, count: int) -> Ints:
        """The time (count,) of the first sample of each of `rows` (ascending, at most `count`),
        END_OF_TIME if it has none here or is not among them."""
        firsts = np.full(count, END_OF_TIME)
        known = firsts[: len(rows)]
        for one in self.ordered:
            at = np.searchsorted(one.rows, rows.astype(np.int32))
            at[at == len(one)] = 0
            np.minimum(known, one.times[at], out=known, where=one.rows[at] == rows)
        newest = self._newest(rows, NEVER_MS, END_OF_TIME)
        np.minimum.at(known, newest.who, newest.times)
        return firsts

    def _newest(self, rows: Ints, t0_ms: int, t1_ms: int) -> Found:
        if not len(self.rows) or not len(rows):
            return NONE
        who = np.searchsorted(rows, self.rows)
        who[who == len(rows)] = 0
        here = (rows[who] == self.rows) & (self.times >= t0_ms) & (self.times <= t1_ms)
        return Found(who[here], self.times[here], self.values[here])


NO_RUNS = Runs((), np.empty(0, np.int32), NONE.times, NONE.values)


def spread(begins: Ints, ends: Ints) -> tuple[Ints, Ints]:
    """(who, at): the positions begins[i]:ends[i] one after the other, and the i of each."""
    counts = ends - begins
    who = np.repeat(np.arange(len(counts)), counts)
    at = np.arange(len(who)) + np.repeat(begins - np.cumsum(counts) + counts, counts)
    return who, at


def joined_up(found: Sequence[Found]) -> Found:
    if len(found) == 1:
        return found[0]
    return (
        Found(*(np.concatenate(column) for column in zip(*found, strict=True))) if found else NONE
    )
