"""Quantiles of plain samples, interpolated between the two nearest ranks."""

import math

import numpy as np

from tocsin_alerting.strconv import shortest
from tocsin_alerting.tsdb.values import Floats, Mask


def out_of_range(quantiles: Floats) -> list[float]:
    """The arguments, each once, that are no quantiles."""
    wrong = {repr(quantile): quantile for quantile in quantiles.tolist() if not 0 <= quantile <= 1}
    return [wrong[text] for text in sorted(wrong)]


def no_quantile(q: float) -> str:
    """What a query's author is told about such an argument."""
    return f"quantile value should be between 0 and 1, got {shortest(q)}"


def quantile_of_columns(q: float, cells: Floats, valid: Mask | None) -> Floats:
    """(series,) quantiles of (depth, series); NaN counts as the lowest, as in Prometheus.

    A `q` below 0 gives -Inf, above 1 +Inf, NaN gives NaN.
    """
    count = cells.shape[1]
    if math.isnan(q):
        return np.full(count, np.nan)
    if q < 0 or q > 1:
        return np.full(count, -np.inf if q < 0 else np.inf)
    depth = np.full(count, len(cells)) if valid is None else valid.sum(axis=0)
    ranked = _ranked(cells, valid)
    rank = q * (depth - 1)
    lower = np.maximum(np.floor(rank), 0).astype(np.int64)
    upper = np.maximum(np.minimum(lower + 1, depth - 1), 0)
    weight = rank - np.floor(rank)
    low = np.take_along_axis(ranked, lower[None, :], axis=0)[0]
    high = np.take_along_axis(ranked, upper[None, :], axis=0)[0]
    result: Floats = low * (1 - weight) + high * weight
    return result


def _ranked(cells: Floats, valid: Mask | None) -> Floats:
    """Each column ascending: NaN first, what is no sample last."""
    order = np.where(np.isnan(cells), -np.inf, cells)
    nan = np.isnan(cells)
    rank = np.where(nan, 0, 1) if valid is None else np.where(valid, np.where(nan, 0, 1), 2)
    positions = np.lexsort((order, rank), axis=0)
    return np.take_along_axis(cells, positions, axis=0)
