"""All samples of some series between two times, read from wherever the store has them."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import accumulate

import numpy as np

from tocsin_alerting.promql.eval.limits import Budget
from tocsin_alerting.tsdb.query.selection import Selection
from tocsin_alerting.tsdb.query.unaligned_parts import SeriesSamples
from tocsin_alerting.tsdb.values import Floats, Ints, is_absent
from tocsin_exporter.snapshot import Labels

_SORTED_AT_ONCE = 2_000  # series; sorting lets nobody else work, so it is done in short runs
_READ_AT_ONCE = 1 << 20  # cells


@dataclass(frozen=True, slots=True, eq=False)
class _AlignedSamples:
    """Cells (columns, series) that have one time axis."""

    times: Ints
    cells: Floats

    def of(self, series: int) -> tuple[Ints, Floats]:
        cells = np.ascontiguousarray(self.cells[:, series])
        there = ~is_absent(cells)
        return self.times[there], cells[there]

    @property
    def nbytes(self) -> int:
        return self.cells.nbytes + self.times.nbytes


@dataclass(frozen=True, slots=True, eq=False)
class _UnalignedSeries:
    samples: SeriesSamples

    def of(self, series: int) -> tuple[Ints, Floats]:
        begin, end = self.samples.offsets[series : series + 2].tolist()
        return self.samples.times[begin:end], self.samples.values[begin:end]

    @property
    def nbytes(self) -> int:
        return self.samples.times.nbytes + self.samples.values.nbytes


@dataclass(frozen=True, slots=True, eq=False)
class ReadSamples:
    """`labels` of the series as they are told; `parts` have their samples, one part's series after
    the other's."""

    labels: Sequence[Labels]
    parts: Sequence[tuple[int, _AlignedSamples | _UnalignedSeries]]

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for _, part in self.parts)

    def series(self) -> Iterator[tuple[Labels, Ints, Floats]]:
        """Labels, Unix ms and values of each that has any sample, by its labels, as a Prometheus
        merges them. Stale markers are among them."""
        begins = list(accumulate((count for count, _ in self.parts), initial=0))
        for position in _by_labels(self.labels):
            number = bisect_right(begins, position) - 1
            part, series = self.parts[number][1], position - begins[number]
            times, values = part.of(series)
            if len(times):
                yield self.labels[position], times, values


def read_samples(
    chosen: Selection, t0_ms: int, t1_ms: int, external: Mapping[str, str], budget: Budget
) -> ReadSamples:
    """Raises QueryLimitExceeded or QueryTimeout."""
    parts: list[tuple[int, _AlignedSamples | _UnalignedSeries]] = []
    for part in chosen.parts:
        start = int(np.searchsorted(part.times, t0_ms, side="left"))
        stop = int(np.searchsorted(part.times, t1_ms, side="right"))
        budget.spend((stop - start) * part.count)
        budget.keep(8 * (stop - start) * part.count)
        at_once = max(1, _READ_AT_ONCE // max(1, part.count))
        cells = np.empty((stop - start, part.count))
        for first in range(start, stop, at_once):
            end = min(first + at_once, stop)
            cells[first - start : end - start] = part.cells_in(first, end)
            budget.check_time()
        parts.append((part.count, _AlignedSamples(part.times[start:stop].copy(), cells)))
    for unaligned in chosen.unaligned:
        samples = unaligned.between(t0_ms, t1_ms)
        budget.spend(len(samples.times))
        budget.keep(16 * len(samples.times))
        parts.append((unaligned.count, _UnalignedSeries(samples)))
    return ReadSamples([_told(labels, external) for labels in chosen.series.labels], parts)


def _told(labels: Labels, external: Mapping[str, str]) -> Labels:
    """With the external labels that it does not have."""
    if not external:
        return labels
    return tuple(sorted((dict(external) | dict(labels)).items()))


def _by_labels(labels: Sequence[Labels]) -> Iterator[int]:
    """The positions of the labels in the order of these."""
    starts = range(0, len(labels), _SORTED_AT_ONCE)
    runs = [
        sorted(range(at, min(at + _SORTED_AT_ONCE, len(labels))), key=labels.__getitem__)
        for at in starts
    ]
    return merge(*runs, key=labels.__getitem__)
