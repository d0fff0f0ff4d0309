"""Series with a time for each sample, put together from wherever their samples are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tocsin_alerting.store.cell import Ints, Mask, is_absent, is_sample
from tocsin_alerting.store.columns import Part
from tocsin_alerting.store.history import History
from tocsin_alerting.store.pairs import Pairs
from tocsin_alerting.store.runs import Found, Runs, joined_up


class Layer(Protocol):
    """Sealed pairs of some of the series; what a later layer has of a series begins after them."""

    def find(self, t0_ms: int, t1_ms: int) -> Found:
        """The samples in the closed interval, those of a series in ascending time."""

    def firsts(self) -> Ints:
        """The time (count,) of the first sample of each series, END_OF_TIME if it has none."""


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """What some of the series have in columns; `who` (part.count,) are their positions."""

    part: Part | History
    who: Ints

    def find(self, t0_ms: int, t1_ms: int) -> Found:
        times = self.part.times
        start = int(np.searchsorted(times, t0_ms, side="left"))
        stop = int(np.searchsorted(times, t1_ms, side="right"))
        cells = np.ascontiguousarray(self.part.slab(start, stop).T)
        series, columns = np.nonzero(~is_absent(cells))
        return Found(self.who[series], times[start + columns], cells[series, columns])


@dataclass(frozen=True, slots=True, eq=False)
class Mixed:
    """The first ones of `count` series have these `rows` (ascending) in `runs`.

    Where a step of the clock made layers overlap, what was written later counts.
    """

    count: int
    runs: Runs
    rows: Ints
    layers: Sequence[Layer]  # the oldest first
    cells: tuple[Cells, ...]

    def between(self, t0_ms: int, t1_ms: int) -> Pairs:
        newest = self.runs.find(self.rows, t0_ms, t1_ms)
        older = [one.find(t0_ms, t1_ms) for one in self.cells] + self._sealed(t0_ms, t1_ms)
        who, times, values = joined_up([*older, *newest])
        if older:
            order = np.lexsort((times, who))
            who, times, values = who[order], times[order], values[order]
            last = np.ones(len(who), np.bool_)
            last[:-1] = (who[1:] != who[:-1]) | (times[1:] != times[:-1])
            who, times, values = who[last], times[last], values[last]
        elif len(newest) > 1 or len(self.runs.rows):
            order = np.argsort(who, kind="stable")
            who, times, values = who[order], times[order], values[order]
        counts = np.bincount(who, minlength=self.count)
        return Pairs(np.concatenate([[0], np.cumsum(counts)]), times, values)

    def held(self, t0_ms: int, t1_ms: int) -> Mask:
        found = self.between(t0_ms, t1_ms)
        sums = np.concatenate([[0], np.cumsum(is_sample(found.values))])
        held: Mask = sums[found.offsets[1:]] > sums[found.offsets[:-1]]
        return held

    def _sealed(self, t0_ms: int, t1_ms: int) -> list[Found]:
        """Of each layer what is older than anything of the series in those above it."""
        found: list[Found] = []
        if not self.layers:
            return found
        limits = self.runs.firsts(self.rows, self.count)
        for layer in reversed(self.layers):
            here = layer.find(t0_ms, t1_ms)
            kept = here.times < limits[here.who]
            found.append(Found(here.who[kept], here.times[kept], here.values[kept]))
            limits = np.minimum(limits, layer.firsts())
        return found[::-1]
