"""Cumulative buckets that fall from one to the next, though they can only rise: mended and told of.

Scrapes of several targets at different times, or a lost sample, make such histograms.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from tocsin_alerting.promql.numbers import shortest
from tocsin_alerting.store.cell import Floats, Mask

_TOLERANCE = 1e-12


@dataclass(frozen=True, slots=True)
class Fall:
    """What a note says of them: `count` histograms between two moments."""

    lowest: float
    highest: float
    greatest: float
    first_ms: int
    last_ms: int
    count: int = 1

    def with_earlier(self, earlier: Self) -> Self:
        return type(self)(
            min(self.lowest, earlier.lowest),
            max(self.highest, earlier.highest),
            max(self.greatest, earlier.greatest),
            min(self.first_ms, earlier.first_ms),
            max(self.last_ms, earlier.last_ms),
            self.count + earlier.count,
        )

    def __str__(self) -> str:
        return (
            f", from buckets {shortest(self.lowest)} to {shortest(self.highest)}, with a max diff "
            f"of {self.greatest:.2g}, over {self.count} samples "
            f"from {_time(self.first_ms)} to {_time(self.last_ms)}"
        )


@dataclass(frozen=True, slots=True, eq=False)
class Falls:
    """Which histograms (histograms,) fell, the bounds of the first and last bucket that lies
    too low, and the greatest fall."""

    mask: Mask
    lowest: Floats
    highest: Floats
    greatest: Floats

    def told(self, histogram: int, at_ms: int) -> Fall:
        bounds = float(self.lowest[histogram]), float(self.highest[histogram])
        return Fall(*bounds, float(self.greatest[histogram]), at_ms, at_ms)


def _time(at_ms: int) -> str:
    return f"{np.datetime64(at_ms // 1000, 's')}Z"


def risen(bounds: Floats, counts: Floats) -> tuple[Floats, Falls]:
    """`counts` (histograms, buckets) without falls; what rounding alone made is levelled silently.

    (promql/quantile.go, ensureMonotonicAndIgnoreSmallDeltas)
    """
    falls = no_falls(len(counts))
    before, after = counts[:, :-1], counts[:, 1:]
    steps = after - before
    level = np.abs(steps) < _TOLERANCE * (np.abs(after) + np.abs(before))
    if not (((steps < 0) | level) & (steps != 0)).any():
        return counts, falls
    counts = counts.copy()
    highest = counts[:, 0].copy()
    for bucket in range(1, counts.shape[1]):
        current, bound = counts[:, bucket], bounds[:, bucket]
        near = np.abs(current - highest) < _TOLERANCE * (np.abs(current) + np.abs(highest))
        fell = ~near & (current < highest)
        falls.mask[fell] = True
        np.fmin(falls.lowest, bound, out=falls.lowest, where=fell)
        np.fmax(falls.highest, bound, out=falls.highest, where=fell)
        np.fmax(falls.greatest, highest - current, out=falls.greatest, where=fell)
        counts[:, bucket] = np.where(near | fell, highest, current)
        highest = np.where(near | fell, highest, current)
    return counts, falls


def no_falls(count: int) -> Falls:
    infinities = np.full(count, np.inf)
    return Falls(np.zeros(count, np.bool_), infinities, -infinities, np.zeros(count))
