"""The *_over_time functions, resets and changes: what the samples of a window have in common."""

import numpy as np

from tocsin_alerting.promql.eval.extended import anchored_pairs
from tocsin_alerting.promql.eval.quantiles import quantile_of_columns
from tocsin_alerting.promql.eval.ranges import Answer, Parameters, RangeFunction, WindowEdges
from tocsin_alerting.promql.eval.summing import (
    added,
    column_means,
    column_sums,
    exact_sums,
    running_means,
)
from tocsin_alerting.promql.eval.window import Window, restarts
from tocsin_alerting.tsdb.values import Floats, Mask


def _sum(window: Window, _: Parameters) -> Answer:
    sums = exact_sums if window.span.semantics == 2 else column_sums
    return sums(window.filled(0.0)), None


def _mean(window: Window, _: Parameters) -> Answer:
    if window.span.semantics == 2:
        return running_means(window.values, window.sizes), None
    return column_means(window.filled(0.0), window.sizes), None


def _count(window: Window, _: Parameters) -> Answer:
    return window.sizes, None


def _count_of_ends(ends: WindowEdges) -> Answer:
    return np.broadcast_to(ends.depth.astype(np.float64), ends.first.shape), None


def _max(window: Window, _: Parameters) -> Answer:
    return np.fmax.reduce(window.filled(np.nan), axis=0), None


def _min(window: Window, _: Parameters) -> Answer:
    return np.fmin.reduce(window.filled(np.nan), axis=0), None


def _first(window: Window, _: Parameters) -> Answer:
    return window.first()[0], None


def _last(window: Window, _: Parameters) -> Answer:
    return window.last()[0], None


def _present(window: Window, _: Parameters) -> Answer:
    return np.ones(window.values.shape[1]), None


def _present_of_ends(ends: WindowEdges) -> Answer:
    return np.ones(ends.first.shape), None


def _first_time(window: Window, _: Parameters) -> Answer:
    return window.first()[1] / 1000.0, None


def _last_time(window: Window, _: Parameters) -> Answer:
    return window.last()[1] / 1000.0, None


def _max_time(window: Window, _: Parameters) -> Answer:
    """When the highest value stood, the last time that it did."""
    return _time_of(window, window.filled(np.nan), np.fmax.reduce(window.filled(np.nan), axis=0))


def _min_time(window: Window, _: Parameters) -> Answer:
    return _time_of(window, window.filled(np.nan), np.fmin.reduce(window.filled(np.nan), axis=0))


def _time_of(window: Window, values: Floats, wanted: Floats) -> Answer:
    hit = values == wanted
    valid = window.valid
    hit |= np.isnan(wanted) & (np.True_ if valid is None else valid)
    at = window.depth - 1 - np.argmax(hit[::-1], axis=0)
    times = np.broadcast_to(window.times, values.shape)
    return np.take_along_axis(times, at[None, :], axis=0)[0] / 1000.0, None


def _variance(window: Window, _: Parameters) -> Answer:
    """The population's variance by Welford's recurrence, compensated, step by step as Prometheus.

    Another order of the same sums differs in the last digit, and `irate` or `==` of it visibly.
    The compensation of 2.42 does not survive an overflow.
    """
    zeros = np.zeros(window.values.shape[1])
    mean, mean_lost, squares, squares_lost = zeros, zeros, zeros, zeros
    sizes = window.sizes
    for depth, values in enumerate(window.values):
        delta = values - (mean + mean_lost)
        next_mean = added(delta / (depth + 1), mean, mean_lost)
        next_squares = added(
            delta * (values - (next_mean[0] + next_mean[1])), squares, squares_lost
        )
        present = depth < sizes
        mean, mean_lost = (
            np.where(present, *both) for both in zip(next_mean, (mean, mean_lost), strict=True)
        )
        squares, squares_lost = (
            np.where(present, *both)
            for both in zip(next_squares, (squares, squares_lost), strict=True)
        )
    variance = (squares + squares_lost) / sizes
    if window.span.semantics == 2:
        variance = np.where(np.isinf(variance), np.nan, variance)
    return variance, None


def _deviation(window: Window, parameters: Parameters) -> Answer:
    return np.sqrt(_variance(window, parameters)[0]), None


def _quantile(window: Window, parameters: Parameters) -> Answer:
    return quantile_of_columns(parameters[0], window.values, window.valid), None


def _median_deviation(window: Window, _: Parameters) -> Answer:
    """The median of the distances from the median; NaN as soon as one sample is."""
    valid = window.valid
    median = quantile_of_columns(0.5, window.values, valid)
    answer = quantile_of_columns(0.5, np.abs(window.values - median), valid)
    return np.where(np.isnan(window.filled(0.0)).any(axis=0), np.nan, answer), None


def _pairs_that(differ: Mask, both: Mask | None) -> Answer:
    hits = differ if both is None else differ & both
    return hits.sum(axis=0).astype(np.float64), None


def _anchored_resets(window: Window, _: Parameters) -> Answer:
    earlier, later, both, has = anchored_pairs(window)
    return _pairs_that(later < earlier, both)[0], has


def _anchored_changes(window: Window, _: Parameters) -> Answer:
    earlier, later, both, has = anchored_pairs(window)
    return _pairs_that(_differ(earlier, later), both)[0], has


def _differ(earlier: Floats, later: Floats) -> Mask:
    differ: Mask = (later != earlier) & ~(np.isnan(later) & np.isnan(earlier))
    return differ


def _resets(window: Window, _: Parameters) -> Answer:
    earlier, later, both = window.pairs()
    fell = later < earlier
    if window.starts is not None:
        fell |= restarts(window)
    return _pairs_that(fell, both)


def _changes(window: Window, _: Parameters) -> Answer:
    earlier, later, both = window.pairs()
    return _pairs_that(_differ(earlier, later), both)


SUM = RangeFunction(_sum, anywhere=True)
MEAN = RangeFunction(_mean, anywhere=True)
COUNT = RangeFunction(_count, _count_of_ends)
MAX = RangeFunction(_max, anywhere=True)
MIN = RangeFunction(_min, anywhere=True)
FIRST = RangeFunction(_first, lambda ends: (ends.first, None), keeps_name=True)
LAST = RangeFunction(_last, lambda ends: (ends.last, None), keeps_name=True)
PRESENT = RangeFunction(_present, _present_of_ends)
FIRST_TIME = RangeFunction(_first_time, anywhere=True)
LAST_TIME = RangeFunction(_last_time, anywhere=True)
MAX_TIME = RangeFunction(_max_time, anywhere=True)
MIN_TIME = RangeFunction(_min_time, anywhere=True)
VARIANCE = RangeFunction(_variance, anywhere=True)
DEVIATION = RangeFunction(_deviation, anywhere=True)
QUANTILE = RangeFunction(_quantile, quantile=True, anywhere=True)
MEDIAN_DEVIATION = RangeFunction(_median_deviation, anywhere=True)
RESETS = RangeFunction(_resets, anywhere=True, anchored=_anchored_resets)
CHANGES = RangeFunction(_changes, anywhere=True, anchored=_anchored_changes)
