"""deriv, predict_linear and double_exponential_smoothing: lines through the samples."""

import numpy as np

from tocsin_alerting.promql.eval.limits import QueryError
from tocsin_alerting.promql.eval.ranges import Answer, Parameters, RangeFunction
from tocsin_alerting.promql.eval.summing import exact_sums
from tocsin_alerting.promql.eval.window import Window
from tocsin_alerting.tsdb.values import Floats, Ints


def _line(window: Window, zero_ms: Ints | int) -> tuple[Floats, Floats]:
    """Slope and value at `zero_ms` of the least-squares line of each series.

    A constant series has exactly slope 0. (promql/functions.go, linearRegression)
    """
    valid, sizes = window.valid, window.sizes
    x = np.broadcast_to((window.times - zero_ms) / 1000.0, window.values.shape)
    y = window.values
    if valid is not None:
        x, y = np.where(valid, x, 0.0), np.where(valid, y, 0.0)
    sum_x, sum_y, sum_xy = exact_sums(x), exact_sums(y), exact_sums(x * y)
    covariance = sum_xy - sum_x * sum_y / sizes
    variance = exact_sums(x * x) - sum_x * sum_x / sizes
    slope = covariance / variance
    intercept = sum_y / sizes - slope * sum_x / sizes
    first = window.values[0]
    if window.span.semantics == 2:  # 2.42's sums cannot carry an infinity
        lost = ~np.isfinite(sum_y) | ~np.isfinite(sum_xy)
        slope, intercept = (
            np.where(lost, np.nan, coefficients) for coefficients in (slope, intercept)
        )
    constant = ((window.values == first) | (np.False_ if valid is None else ~valid)).all(axis=0)
    infinite = np.isinf(first)
    slope = np.where(constant, np.where(infinite, np.nan, 0.0), slope)
    return slope, np.where(constant, np.where(infinite, np.nan, first), intercept)


def _slope(window: Window, _: Parameters) -> Answer:
    return _line(window, window.times[:1])[0], window.sizes >= 2


def _prediction(window: Window, parameters: Parameters) -> Answer:
    slope, intercept = _line(window, window.span.step_ms)
    return slope * parameters[0] + intercept, window.sizes >= 2


def _smoothed(window: Window, parameters: Parameters) -> Answer:
    """https://en.wikipedia.org/wiki/Exponential_smoothing with a smoothing and a trend factor."""
    smoothing, trend = parameters
    _check_factor("smoothing", smoothing)
    _check_factor("trend", trend)
    values, sizes = window.values, window.sizes
    level = values[0]
    if window.depth < 2:
        return level, sizes >= 2
    before, slope = np.zeros_like(level), values[1] - values[0]
    for depth in range(1, window.depth):
        if depth > 1:
            slope = trend * (level - before) + (1 - trend) * slope
        following = smoothing * values[depth] + (1 - smoothing) * (level + slope)
        present = depth < sizes
        before, level = np.where(present, level, before), np.where(present, following, level)
    return level, sizes >= 2


def _check_factor(name: str, factor: float) -> None:
    if factor <= 0 or factor >= 1:  # NaN passes, and makes NaN of everything
        got = f"{factor:+f}".title() if np.isinf(factor) else f"{factor:f}"
        raise QueryError(f"invalid {name} factor. Expected: 0 < {name[0]}f < 1, got: {got}")


SLOPE = RangeFunction(_slope, anywhere=True)
# 2.42 takes no function that depends on the step's time for a constant of the query.
PREDICTION = RangeFunction(_prediction, slides=True)
SMOOTHED = RangeFunction(_smoothed, anywhere=True)
