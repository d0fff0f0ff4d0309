"""Series with times of their own, held as plain arrays: what a store gives of unaligned writers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tocsin_alerting.promql.eval.context import Reader
from tocsin_alerting.tsdb.label_sets import LabelSets
from tocsin_alerting.tsdb.matchers import DeadlineCheck, no_deadline
from tocsin_alerting.tsdb.query.selection import Selection
from tocsin_alerting.tsdb.query.unaligned_parts import SeriesSamples
from tocsin_alerting.tsdb.series_index import MatcherSets
from tocsin_alerting.tsdb.store import Store
from tocsin_alerting.tsdb.values import Floats, Ints, Mask, is_stale
from tocsin_exporter.snapshot import Labels

Samples = Sequence[tuple[int, float]]
Starts = Mapping[int, int]
"""When the counter of the sample at a time began, both in Unix ms."""


@dataclass(frozen=True, eq=False)
class HeldPairs:
    """A `Scattered` over `pairs`; `read` gathers the intervals that were asked for."""

    pairs: SeriesSamples
    read: list[tuple[int, int]] = field(default_factory=list)

    @property
    def count(self) -> int:
        return len(self.pairs.offsets) - 1

    def between(self, t0_ms: int, t1_ms: int) -> SeriesSamples:
        self.read.append((t0_ms, t1_ms))
        all_ = self.pairs
        inside = (all_.times >= t0_ms) & (all_.times <= t1_ms)
        offsets = np.concatenate([[0], np.cumsum(inside)])[all_.offsets]
        starts = None if all_.starts is None else all_.starts[inside]
        return SeriesSamples(offsets, all_.times[inside], all_.values[inside], starts)

    def has_samples(self, t0_ms: int, t1_ms: int) -> Mask:
        found = self.between(t0_ms, t1_ms)
        samples = np.concatenate([[0], np.cumsum(~is_stale(found.values))])
        mask: Mask = samples[found.offsets[1:]] > samples[found.offsets[:-1]]
        return mask


def held_pairs(series: Sequence[Samples], starts: Sequence[Starts] | None = None) -> HeldPairs:
    times: Ints = np.array([at for one in series for at, _ in one], np.int64)
    values: Floats = np.array([value for one in series for _, value in one], np.float64)
    offsets = np.cumsum([0, *(len(one) for one in series)])
    if starts is None:
        return HeldPairs(SeriesSamples(offsets, times, values))
    rows = zip(starts, series, strict=True)
    began: Ints = np.array([own.get(at, 0) for own, one in rows for at, _ in one], np.int64)
    return HeldPairs(SeriesSamples(offsets, times, values, began))


class ScatteredReader:
    """A reader whose `series` are scattered, beside those of another one.

    With `starts` it says of each of them when its counters began.
    """

    def __init__(
        self,
        series: Mapping[Labels, Samples],
        starts: Mapping[Labels, Starts] | None = None,
        beside: Reader | None = None,
    ) -> None:
        self._series = series
        self._starts = starts
        self._beside = beside or Store()
        self.read: list[tuple[int, int]] = []

    def select(
        self, matcher_sets: MatcherSets, t0_ms: int, t1_ms: int, check: DeadlineCheck = no_deadline
    ) -> Selection:
        chosen = [labels for labels in self._series if _selected(dict(labels), matcher_sets)]
        starts = None if self._starts is None else [self._starts[labels] for labels in chosen]
        pairs = held_pairs([self._series[labels] for labels in chosen], starts).pairs
        others = self._beside.select(matcher_sets, t0_ms, t1_ms)
        series = LabelSets((*others.series.labels, *chosen))
        return Selection(series, others.parts, (*others.unaligned, HeldPairs(pairs, self.read)))


def _selected(labels: dict[str, str], matcher_sets: MatcherSets) -> bool:
    return any(
        all(one.matches(labels.get(one.name, "")) for one in matchers) for matchers in matcher_sets
    )
