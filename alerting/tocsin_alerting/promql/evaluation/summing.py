"""Sums that do not lose small numbers beside great ones that cancel."""

import math

import numpy as np

from tocsin_alerting.promql.evaluation.grouping import Grouping
from tocsin_alerting.store.cell import Floats

# Below this share of the sum of magnitudes, rounding may show in the digits that users see.
_CANCELLED = 1e-4


def _compensated(cells: Floats) -> float:
    """Kahan's sum as Neumaier improved it, in the order of the cells, as Prometheus adds."""
    total = lost = 0.0
    for cell in cells.tolist():
        both = total + cell
        if math.isinf(both):
            lost = 0.0
        elif abs(total) >= abs(cell):
            lost += (total - both) + cell
        else:
            lost += (cell - both) + total
        total = both
    return total + lost


def added(more: Floats, total: Floats, lost: Floats) -> tuple[Floats, Floats]:
    """One step of the same sum for many series at once: (total, what rounding lost so far)."""
    both = total + more
    larger = np.abs(total) >= np.abs(more)
    error = np.where(larger, (total - both) + more, (more - both) + total)
    return both, np.where(np.isinf(both), 0.0, lost + error)


def column_sums(cells: Floats) -> Floats:
    """(series,) sums over the depth of (depth, series)."""
    total: Floats = cells.sum(axis=0)
    if cells.size and cells.min() >= 0.0:  # nothing cancels, and this is quickly known
        return total
    return _repaired(total, cells)


def _repaired(total: Floats, cells: Floats) -> Floats:
    """The sums, those anew that have cancelled."""
    suspects = np.abs(total) < _CANCELLED * np.abs(cells).sum(axis=0)
    for row in np.flatnonzero(suspects).tolist():
        total[row] = _compensated(cells[:, row])
    return total


def exact_sums(cells: Floats) -> Floats:
    """The same to the last digit, as a compensated sum has it; slower."""
    total = _repaired(cells.astype(np.longdouble).sum(axis=0).astype(np.float64), cells)
    in_turn = np.cumsum(cells, axis=0)[-1]
    # What left the range of numbers on the way does not come back.
    return np.where(np.isfinite(in_turn), total, in_turn)


def column_means(cells: Floats, sizes: Floats) -> Floats:
    """Means of (depth, series) that hold 0 where they have no sample, and `sizes` samples."""
    means = column_sums(cells) / sizes
    if not np.isinf(means).any():
        return means
    # The sum left the range of numbers: divide first.
    return np.where(np.isinf(means), column_sums(cells / sizes), means)


def running_means(cells: Floats, sizes: Floats) -> Floats:
    """Means of the first `sizes` of (depth, series) as 2.42 has them: the mean so far, moved."""
    mean = lost = np.zeros(cells.shape[1])
    for depth, cell in enumerate(cells):
        stays = np.isinf(mean) & ~np.isnan(cell) & (np.isfinite(cell) | (cell == mean))
        counts = depth < sizes
        moved = cell / (depth + 1) - mean / (depth + 1)
        total = mean + moved
        larger = np.abs(mean) >= np.abs(moved)
        error = np.where(larger, (mean - total) + moved, (moved - total) + mean)
        lost = np.where(counts & ~stays, lost + error, lost)
        mean = np.where(counts & ~stays, total, mean)
    return np.where(np.isinf(mean), mean, mean + lost)


def group_sums(groups: Grouping, cells: Floats) -> Floats:
    """(steps, groups) sums of (steps, series)."""
    total = groups.sum(cells)
    suspects = np.abs(total) < _CANCELLED * groups.sum(np.abs(cells))
    if suspects.any():
        members = groups.members()
        for step, group in np.argwhere(suspects).tolist():
            total[step, group] = _compensated(cells[step, members[group]])
    return total


def group_means(groups: Grouping, cells: Floats, counts: Floats) -> Floats:
    """Means of cells that hold 0 where there is no sample; `counts` (steps, groups) of samples."""
    means = group_sums(groups, cells) / counts
    if not np.isinf(means).any():
        return means
    shares = cells / counts[:, groups.ids]
    return np.where(np.isinf(means), group_sums(groups, shares), means)
