"""Classic histograms: quantiles and fractions from cumulative buckets with an `le` label."""

import math
import re
from dataclasses import dataclass
from typing import Self

import numpy as np

from tocsin_alerting.promql.eval.grouping import grouped
from tocsin_alerting.promql.eval.label_ops import without
from tocsin_alerting.strconv import shortest
from tocsin_alerting.tsdb.label_sets import LabelSets
from tocsin_alerting.tsdb.values import Floats, Ints, Mask

_TOLERANCE = 1e-12


@dataclass(frozen=True, slots=True)
class BucketFall:
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
class BucketFalls:
    """Which histograms (histograms,) fell, the bounds of the first and last bucket that lies
    too low, and the greatest fall."""

    mask: Mask
    lowest: Floats
    highest: Floats
    greatest: Floats

    def told(self, histogram: int, at_ms: int) -> BucketFall:
        bounds = float(self.lowest[histogram]), float(self.highest[histogram])
        return BucketFall(*bounds, float(self.greatest[histogram]), at_ms, at_ms)


def _time(at_ms: int) -> str:
    return f"{np.datetime64(at_ms // 1000, 's')}Z"


def ensure_monotonic(bounds: Floats, counts: Floats) -> tuple[Floats, BucketFalls]:
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


def no_falls(count: int) -> BucketFalls:
    infinities = np.full(count, np.inf)
    return BucketFalls(np.zeros(count, np.bool_), infinities, -infinities, np.zeros(count))


LE = "le"
_BUCKET = frozenset((LE,))
_DECIMAL = r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_HEXADECIMAL = r"0[xX](?:[0-9a-fA-F]+\.?[0-9a-fA-F]*|\.[0-9a-fA-F]+)[pP][+-]?[0-9]+"
_WORD = r"(?i:inf|infinity|nan)"
_NUMBER = re.compile(rf"[+-]?(?:{_DECIMAL}|{_HEXADECIMAL}|{_WORD})")


@dataclass(frozen=True, slots=True, eq=False)
class BucketLayout:
    """Histograms with the same number of buckets: `rows` (histograms, buckets) by rising bound.

    `bounds` has that shape too; `numbers` (histograms,) are their places among all histograms.
    """

    rows: Ints
    bounds: Floats
    numbers: Ints


@dataclass(frozen=True, slots=True, eq=False)
class Histograms:
    """The histograms in a set of series. `bad` are the series whose `le` is no number."""

    series: LabelSets
    layouts: tuple[BucketLayout, ...]
    bad: tuple[int, ...]


def histograms(series: LabelSets) -> Histograms:
    """The series arranged as histograms: grouped by all labels but `le`."""
    return series.memo("histograms", lambda: _arranged(series))


def _arranged(series: LabelSets) -> Histograms:
    bounds = [_bound(dict(labels).get(LE, "")) for labels in series.labels]
    good = [row for row, bound in enumerate(bounds) if bound is not None]
    groups = grouped([without(series.labels[row], _BUCKET) for row in good])
    by_size: dict[int, list[tuple[int, list[int]]]] = {}
    for number, members in enumerate(groups.members()):
        rows = sorted((good[at] for at in members.tolist()), key=lambda row: bounds[row] or 0.0)
        by_size.setdefault(len(rows), []).append((number, rows))
    layouts = tuple(_layout(of_size, bounds) for of_size in by_size.values())
    bad = tuple(row for row, bound in enumerate(bounds) if bound is None)
    return Histograms(groups.groups, layouts, bad)


def _layout(of_size: list[tuple[int, list[int]]], bounds: list[float | None]) -> BucketLayout:
    rows = np.array([rows for _, rows in of_size], np.int64)
    edges = np.array([[bounds[row] for row in rows] for _, rows in of_size], np.float64)
    return BucketLayout(rows, edges, np.array([number for number, _ in of_size], np.int64))


def _bound(text: str) -> float | None:
    """The number that Go's ParseFloat reads; None where it reads none."""
    if _NUMBER.fullmatch(text) is None:
        return None
    return float.fromhex(text) if "x" in text.lower() else float(text)


def bucket_quantiles(q: Floats, bounds: Floats, counts: Floats) -> tuple[Floats, BucketFalls]:
    """(histograms,) quantiles of cumulative `counts`, and which of these had to be made to rise.

    `q` (histograms,) says which quantile of each; the others have the shape (histograms, buckets),
    and bounds rise strictly. In the bucket that holds the rank, observations are taken to lie
    evenly. (promql/quantile.go, BucketQuantile)
    """
    asked = (q >= 0) & (q <= 1)
    counts, falls = ensure_monotonic(bounds, counts)
    falls.mask[~(asked & np.isposinf(bounds[:, -1]))] = False  # no quantile, or no histogram at all
    beyond = np.where(np.isnan(q), np.nan, np.where(q < 0, -np.inf, np.inf))
    if bounds.shape[1] < 2:
        return np.where(asked, np.nan, beyond), falls
    return np.where(asked, _within_buckets(q, bounds, counts), beyond), falls


def _within_buckets(q: Floats, bounds: Floats, counts: Floats) -> Floats:
    """The quantiles of `counts` that do not fall; what they are worth where `q` is none is open."""
    buckets = bounds.shape[1]
    total = counts[:, -1]
    rank = q * total
    bucket = (counts[:, :-1] < rank[:, None]).sum(axis=1)
    at = np.arange(len(bounds))
    before = np.maximum(bucket - 1, 0)
    start = np.where(bucket > 0, bounds[at, before], 0.0)
    below = np.where(bucket > 0, counts[at, before], 0.0)
    end = bounds[at, bucket]
    value: Floats = start + (end - start) * ((rank - below) / (counts[at, bucket] - below))
    value = np.where(bucket == buckets - 1, bounds[:, -2], value)
    value = np.where((bucket == 0) & (bounds[:, 0] <= 0), bounds[:, 0], value)
    unknown = (total == 0) | ~np.isposinf(bounds[:, -1]) | np.isnan(bounds).any(axis=1)
    return np.where(unknown, np.nan, value)


def bucket_fraction(low: float, high: float, bounds: list[float], counts: list[float]) -> float:
    """The share of observations in (low, high], by the same interpolation."""
    total = counts[-1]
    if not math.isinf(bounds[-1]) or total == 0 or math.isnan(low) or math.isnan(high):
        return math.nan
    if low >= high:
        return 0.0
    return (_rank(high, bounds, counts) - _rank(low, bounds, counts)) / total


def _rank(value: float, bounds: list[float], counts: list[float]) -> float:
    """How many observations are at or below `value`."""
    below = 0.0
    start = 0.0 if bounds[0] > 0 else -math.inf
    for end, count in zip(bounds, counts, strict=True):
        if value <= start:
            return below
        if value < end:
            # A bucket without a finite width has no inside to interpolate in.
            inside = 0.0 if math.isinf(end) else (value - start) / (end - start)
            return count if math.isinf(start) else below + (count - below) * inside
        below, start = count, end
    return counts[-1]


def coalesced(bounds: list[float], counts: list[float]) -> tuple[list[float], list[float]]:
    """Buckets of equal bounds (`le="1"` beside `le="1.0"`) made one."""
    sums: dict[float, float] = {}
    for bound, count in zip(bounds, counts, strict=True):
        sums[bound] = sums.get(bound, 0.0) + count
    return list(sums), list(sums.values())
