"""Series with times of their own, held as plain arrays: what a store gives of unaligned writers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tocsin_alerting.store.cell import Floats, Ints, Mask, is_stale
from tocsin_alerting.store.pairs import Pairs
from tocsin_alerting.store.rows import MatcherSets
from tocsin_alerting.store.selection import Selection
from tocsin_alerting.store.series import SeriesSet
from tocsin_exporter.snapshot import Labels

Samples = Sequence[tuple[int, float]]


@dataclass(frozen=True, eq=False)
class HeldPairs:
    """A `Scattered` over `pairs`; `read` gathers the intervals that were asked for."""

    pairs: Pairs
    read: list[tuple[int, int]]

    @property
    def count(self) -> int:
        return len(self.pairs.offsets) - 1

    def between(self, t0_ms: int, t1_ms: int) -> Pairs:
        self.read.append((t0_ms, t1_ms))
        inside = (self.pairs.times >= t0_ms) & (self.pairs.times <= t1_ms)
        before = np.concatenate([[0], np.cumsum(inside)])
        offsets = before[self.pairs.offsets]
        return Pairs(offsets, self.pairs.times[inside], self.pairs.values[inside])

    def held(self, t0_ms: int, t1_ms: int) -> Mask:
        found = self.between(t0_ms, t1_ms)
        samples = np.concatenate([[0], np.cumsum(~is_stale(found.values))])
        mask: Mask = samples[found.offsets[1:]] > samples[found.offsets[:-1]]
        return mask


def held_pairs(series: Sequence[Samples]) -> HeldPairs:
    times: Ints = np.array([at for one in series for at, _ in one], np.int64)
    values: Floats = np.array([value for one in series for _, value in one], np.float64)
    offsets = np.cumsum([0, *(len(one) for one in series)])
    return HeldPairs(Pairs(offsets, times, values), [])


class ScatteredReader:
    """A reader all of whose series, one to a label set, are scattered."""

    def __init__(self, series: dict[Labels, Samples]) -> None:
        self._labels = tuple(series)
        self._part = held_pairs(list(series.values()))
        self._set = SeriesSet(self._labels)
        self.read = self._part.read

    def select(self, matcher_sets: MatcherSets, t0_ms: int, t1_ms: int) -> Selection:
        """All series, whatever the matchers say."""
        return Selection(self._set, (), (self._part,))
