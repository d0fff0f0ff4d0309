"""Series with a time for each sample, put together from wherever their samples are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tocsin_alerting.tsdb.head.columns import AlignedPart
from tocsin_alerting.tsdb.head.sorted_run import SampleBatch, SortedRuns, concatenated
from tocsin_alerting.tsdb.query.aligned_parts import MergedPart
from tocsin_alerting.tsdb.values import Floats, Ints, Mask, is_absent, is_sample


@dataclass(frozen=True, slots=True, eq=False)
class SeriesSamples:
    """Those of series i stand in offsets[i]:offsets[i + 1] of `times` (Unix ms, ascending within a
    series) and `values`; stale markers are among them, cells without a sample are not.

    `starts` (Unix ms) say when the counters behind them began to count, 0 where that is unknown;
    None where no writer says it.
    """

    offsets: Ints  # (series + 1,)
    times: Ints
    values: Floats
    starts: Ints | None = None


class UnalignedPart(Protocol):
    """A part of a selection whose `count` series have times of their own.

    It is read interval by interval: an evaluation over days never holds them all.
    """

    @property
    def count(self) -> int: ...

    def between(self, t0_ms: int, t1_ms: int) -> SeriesSamples:
        """The samples in the closed interval."""
        ...

    def has_samples(self, t0_ms: int, t1_ms: int) -> Mask:
        """Which series (count,) have a sample in the closed interval, stale markers aside."""
        ...


class SealedLayer(Protocol):
    """Sealed samples of some series; what a later layer has of a series begins after them."""

    def find(self, t0_ms: int, t1_ms: int) -> SampleBatch:
        """The samples in the closed interval, those of a series in ascending time."""
        ...

    def first_times(self) -> Ints:
        """The time (count,) of the first sample of each series, END_OF_TIME if it has none."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class AlignedTail:
    """What some of the series have in columns; `positions` (part.count,) are their positions."""

    part: AlignedPart | MergedPart
    positions: Ints

    def find(self, t0_ms: int, t1_ms: int) -> SampleBatch:
        times = self.part.times
        start = int(np.searchsorted(times, t0_ms, side="left"))
        stop = int(np.searchsorted(times, t1_ms, side="right"))
        cells = np.ascontiguousarray(self.part.cells_in(start, stop).T)
        series, columns = np.nonzero(~is_absent(cells))
        return SampleBatch(self.positions[series], times[start + columns], cells[series, columns])


@dataclass(frozen=True, slots=True, eq=False)
class MergedUnaligned:
    """The first ones of `count` series have these `rows` (ascending) in `runs`.

    Where a step of the clock made layers overlap, what was written later counts.
    """

    count: int
    runs: SortedRuns
    rows: Ints
    layers: Sequence[SealedLayer]  # the oldest first
    tails: tuple[AlignedTail, ...]

    def between(self, t0_ms: int, t1_ms: int) -> SeriesSamples:
        newest = self.runs.find(self.rows, t0_ms, t1_ms)
        older = [tail.find(t0_ms, t1_ms) for tail in self.tails] + self._sealed_samples(
            t0_ms, t1_ms
        )
        series, times, values = concatenated([*older, *newest])
        if older:
            order = np.lexsort((times, series))
            series, times, values = series[order], times[order], values[order]
            last = np.ones(len(series), np.bool_)
            last[:-1] = (series[1:] != series[:-1]) | (times[1:] != times[:-1])
            series, times, values = series[last], times[last], values[last]
        elif len(newest) > 1 or len(self.runs.rows):
            order = np.argsort(series, kind="stable")
            series, times, values = series[order], times[order], values[order]
        counts = np.bincount(series, minlength=self.count)
        return SeriesSamples(np.concatenate([[0], np.cumsum(counts)]), times, values)

    def has_samples(self, t0_ms: int, t1_ms: int) -> Mask:
        samples = self.between(t0_ms, t1_ms)
        sums = np.concatenate([[0], np.cumsum(is_sample(samples.values))])
        mask: Mask = sums[samples.offsets[1:]] > sums[samples.offsets[:-1]]
        return mask

    def _sealed_samples(self, t0_ms: int, t1_ms: int) -> list[SampleBatch]:
        """Of each layer what is older than anything of the series in those above it."""
        samples: list[SampleBatch] = []
        if not self.layers:
            return samples
        limits = self.runs.first_times(self.rows, self.count)
        for layer in reversed(self.layers):
            batch = layer.find(t0_ms, t1_ms)
            older = batch.times < limits[batch.series]
            samples.append(
                SampleBatch(batch.series[older], batch.times[older], batch.values[older])
            )
            limits = np.minimum(limits, layer.first_times())
        return samples[::-1]
