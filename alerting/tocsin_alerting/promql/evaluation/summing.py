"""Sums that do not lose small numbers beside great ones that cancel."""

import math

import numpy as np

from tocsin_alerting.promql.evaluation.grouping import Grouping
from tocsin_alerting.store.cell import Floats, Mask

# Below this share of the sum of magnitudes, rounding may show in the digits that users see.
_CANCELLED = 1e-4
_IN_CACHE = 8192  # cells
_WIDE = 256  # from so many sums at once on, a step of all of them is worth its call


def _in_turn(cells: Floats) -> tuple[Floats, Floats]:
    """Sums over the first axis, and what rounding lost of each: Kahan's sum as Neumaier improved
    it, one after the other, as Prometheus 3 adds. What is lost of an infinite sum is 0."""
    if not len(cells):
        return np.zeros(cells.shape[1:]), np.zeros(cells.shape[1:])
    wide = cells.size > _IN_CACHE and cells.size > _WIDE * len(cells)
    total, lost = _row_by_row(cells) if wide else _at_once(cells)
    return total, np.where(np.isfinite(lost), lost, 0.0)


def _at_once(cells: Floats) -> tuple[Floats, Floats]:
    """Quick while all of it is in the processor's cache, or the rows are short."""
    sums = np.cumsum(cells, axis=0)
    before, after, more = sums[:-1], sums[1:], cells[1:]
    moved = after - before
    errors = after - moved
    np.subtract(before, errors, out=errors)
    errors += np.subtract(more, moved, out=moved)
    return sums[-1], np.cumsum(errors, axis=0)[-1] if len(errors) else np.zeros(sums[-1].shape)


def _row_by_row(cells: Floats) -> tuple[Floats, Floats]:
    total, lost = cells[0].copy(), np.zeros(cells.shape[1:])
    both, moved, error = np.empty_like(lost), np.empty_like(lost), np.empty_like(lost)
    for more in cells[1:]:
        np.add(total, more, out=both)
        np.subtract(both, total, out=moved)
        np.subtract(both, moved, out=error)
        np.subtract(total, error, out=error)
        error += np.subtract(more, moved, out=moved)
        lost += error
        total, both = both, total
    return total, lost


def _mean_in_turn(cells: Floats) -> float:
    """Of one series or group: while its sum is a number the sum's part, then the mean so far."""
    mean, lost = float(cells[0]), 0.0
    incremental = False
    for number, cell in enumerate(cells[1:].tolist(), start=2):
        if not incremental:
            both, error = _step(cell, mean, lost)
            if not math.isinf(both):
                mean, lost = both, error
                continue
            incremental = True
            mean, lost = mean / (number - 1), lost / (number - 1)
        mean, lost = _step(
            cell / number, (number - 1) / number * mean, (number - 1) / number * lost
        )
    return mean + lost if incremental else mean / len(cells) + lost / len(cells)


def _step(more: float, total: float, lost: float) -> tuple[float, float]:
    both = total + more
    if math.isinf(both):
        return both, 0.0
    larger, smaller = (total, more) if abs(total) >= abs(more) else (more, total)
    return both, lost + ((larger - both) + smaller)


def _compensated(cells: Floats) -> float:
    """The sum of one series or group."""
    total, lost = _in_turn(cells)
    return float(total + lost)


def added(more: Floats, total: Floats, lost: Floats) -> tuple[Floats, Floats]:
    """One step of the same sum for many series at once: (total, what rounding lost so far)."""
    both = total + more
    larger = np.abs(total) >= np.abs(more)
    error = np.where(larger, (total - both) + more, (more - both) + total)
    return both, np.where(np.isinf(both), 0.0, lost + error)


def column_sums(cells: Floats) -> Floats:
    """(series,) sums over the depth of (depth, series)."""
    total, lost = _in_turn(cells)
    return total + lost


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
    total, lost = _in_turn(cells)
    means = total / sizes + lost / sizes
    for row in np.flatnonzero(np.isinf(total)).tolist():  # it left the range of numbers
        means[row] = _mean_in_turn(cells[: int(sizes[row]), row])
    return means


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
    total, lost = _group_sums(groups, cells)
    return total + lost


def _group_sums(groups: Grouping, cells: Floats) -> tuple[Floats, Floats]:
    """The sums and what rounding lost of them."""
    total = np.empty((len(cells), len(groups.groups)))
    lost = np.empty_like(total)
    for which, rows in groups.by_size():
        total[:, which], lost[:, which] = _in_turn(np.moveaxis(cells[:, rows], 1, 0))
    return total, lost


def group_means(groups: Grouping, cells: Floats, counts: Floats, here: Mask) -> Floats:
    """Means of cells that hold 0 where there is no sample (`here`, (steps, series)); `counts`
    (steps, groups) of samples."""
    total, lost = _group_sums(groups, cells)
    means = total / counts + lost / counts
    infinite = np.argwhere(np.isinf(total) & (counts > 0))
    members = groups.members() if len(infinite) else []
    for step, group in infinite.tolist():
        rows = members[group]
        means[step, group] = _mean_in_turn(cells[step, rows[here[step, rows]]])
    return means
