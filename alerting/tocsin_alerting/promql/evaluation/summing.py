"""Sums that do not lose small numbers beside great ones that cancel."""

import math

import numpy as np

from tocsin_alerting.promql.evaluation.grouping import Grouping
from tocsin_alerting.store.cell import Floats

# Below this share of the sum of magnitudes, rounding may show in the digits that users see.
_CANCELLED = 1e-4


def column_sums(cells: Floats) -> Floats:
    """(series,) sums over the depth of (depth, series)."""
    total: Floats = cells.sum(axis=0)
    suspects = np.abs(total) < _CANCELLED * np.abs(cells).sum(axis=0)
    for row in np.flatnonzero(suspects).tolist():
        total[row] = math.fsum(cells[:, row].tolist())
    return total


def column_means(cells: Floats, sizes: Floats) -> Floats:
    """Means of (depth, series) that hold 0 where they have no sample, and `sizes` samples."""
    means = column_sums(cells) / sizes
    if not np.isinf(means).any():
        return means
    # The sum left the range of numbers: divide first.
    return np.where(np.isinf(means), column_sums(cells / sizes), means)


def group_sums(groups: Grouping, cells: Floats) -> Floats:
    """(steps, groups) sums of (steps, series)."""
    total = groups.sum(cells)
    suspects = np.abs(total) < _CANCELLED * groups.sum(np.abs(cells))
    if suspects.any():
        members = groups.members()
        for step, group in np.argwhere(suspects).tolist():
            total[step, group] = math.fsum(cells[step, members[group]].tolist())
    return total


def group_means(groups: Grouping, cells: Floats, counts: Floats) -> Floats:
    """Means of cells that hold 0 where there is no sample; `counts` (steps, groups) of samples."""
    means = group_sums(groups, cells) / counts
    if not np.isinf(means).any():
        return means
    shares = cells / counts[:, groups.ids]
    return np.where(np.isinf(means), group_sums(groups, shares), means)
