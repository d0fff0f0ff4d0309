"""Sums that do not lose small numbers beside great ones that cancel."""

import math

import numpy as np

from tocsin_alerting.promql.eval.grouping import Grouping
from tocsin_alerting.tsdb.values import Floats, Mask

# Below this share of the sum of magnitudes, rounding may show in the digits that users see.
_CANCELLED = 1e-4
_SHIFT = 1.5 * 2.0**52  # of units: a sum with it has no digit below the unit
_HUGE = 1e300  # what is as high may leave the range of numbers when a shift is added
_IN_CACHE = 16_000  # cells: an array of so many is in the processor's cache, and malloc keeps it
_WIDE = 128  # from so many sums at once on, a step of all of them is worth its call
_WORTH = 1_000  # cells, from which on it pays to ask whether they can be added exactly


def _in_turn(cells: Floats) -> tuple[Floats, Floats]:
    """(sums,) over the first axis of (depth, sums), and what rounding lost of each: Kahan's sum as
    Neumaier improved it, one after the other, as Prometheus 3 adds. What is lost of an infinite
    sum is 0."""
    depth, width = cells.shape
    if not cells.size:
        return np.zeros(width), np.zeros(width)
    if not cells.strides[0] > cells.strides[1] == cells.itemsize:
        cells = np.ascontiguousarray(cells)  # add.reduce adds rows one after the other, then
    if cells.size > _WORTH and width > 1 and (exact := _halved(cells)):
        return exact
    total, lost = _row_by_row(cells) if width >= _WIDE else _at_once(cells)
    return total, np.where(np.isfinite(lost), lost, 0.0)


def _at_once(cells: Floats) -> tuple[Floats, Floats]:
    """Quick while the rows are short."""
    sums = np.cumsum(cells, axis=0)
    before, after, more = sums[:-1], sums[1:], cells[1:]
    moved = after - before
    errors = after - moved
    np.subtract(before, errors, out=errors)
    errors += np.subtract(more, moved, out=moved)
    return sums[-1], np.cumsum(errors, axis=0)[-1] if len(errors) else np.zeros(sums[-1].shape)


def _row_by_row(cells: Floats) -> tuple[Floats, Floats]:
    """Quick where rows are wide: the sums row by row, their errors in blocks that stay in cache."""
    width = cells.shape[1]
    most = min(len(cells), _rows_in_cache(width))
    sums, errors = np.empty((most + 1, width)), np.zeros((most + 1, width))
    moved = np.empty((most, width))
    sums[0] = cells[0]
    for start in range(1, len(cells), most):
        more = cells[start : start + most]
        count = len(more)
        for row in range(count):
            np.add(sums[row], more[row], out=sums[row + 1])
        before, after = sums[:count], sums[1 : count + 1]
        steps, lost = moved[:count], errors[1 : count + 1]
        np.subtract(after, before, out=steps)
        np.subtract(after, steps, out=lost)
        np.subtract(before, lost, out=lost)
        lost += np.subtract(more, steps, out=steps)
        errors[0] = np.add.reduce(errors[: count + 1], axis=0)
        sums[0] = sums[count]
    return sums[0].copy(), errors[0].copy()


def _rows_in_cache(width: int) -> int:
    return max(1, _IN_CACHE // max(1, width))


def _halved(cells: Floats) -> tuple[Floats, Floats] | None:
    """The same as `_in_turn`, if a coarse and a fine half of each cell can be added without any
    rounding. What Kahan's sum has lost is then exact too, so it is the exact sum less the plain."""
    grids = _grids(cells, len(cells))
    if grids is None:
        return None
    most, width = _rows_in_cache(cells.shape[1]), cells.shape[1]
    buffer = np.empty((min(most, len(cells)), width))
    coarse, fine = np.zeros(width), np.zeros(width)
    for start in range(0, len(cells), most):
        block = cells[start : start + most]
        half = _rounded(block, grids[0], buffer[: len(block)])
        coarse += np.add.reduce(half, axis=0)
        np.subtract(block, half, out=half)
        if grids[1] and not np.array_equal(half, _rounded(half, grids[1])):
            return None
        fine += np.add.reduce(half, axis=0)
    total = np.add.reduce(cells, axis=0)
    return total, (coarse - total) + fine


def _grids(cells: Floats, depth: int) -> tuple[float, float] | None:
    """What `_rounded` needs to halve cells of which `depth` are added, None if they have not the
    range for it; for the fine half 0 if every cell surely lies on that grid.

    The coarse sums are below 2**53 of their unit. The fine halves are at most half of it, and so
    are the errors of the steps of a plain sum; of the fine unit, their sums are below 2**53 too.
    """
    lowest, highest = float(cells.min()), float(cells.max())
    bound = max(highest, -lowest) * max(depth, 2)
    if not bound < _HUGE:  # or it is NaN
        return None
    unit = math.ldexp(1.0, math.frexp(bound)[1] - 51)
    finer = math.ldexp(unit, math.frexp(depth)[1] - 53)
    smallest = max(lowest, -highest, 0.0)
    return _SHIFT * unit, 0.0 if math.ulp(smallest) >= finer else _SHIFT * finer


def _rounded(cells: Floats, shift: float, out: Floats | None = None) -> Floats:
    """To the grid whose unit is the last digit of `shift`."""
    out = np.add(cells, shift, out=out)
    out -= shift
    return out


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
    total, lost = _in_turn(cells[:, None])
    return float((total + lost)[0])


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
    if not len(groups.groups) or not len(cells):
        return np.zeros((len(cells), len(groups.groups)))
    most = _rows_in_cache(cells.shape[1])
    parts = [cells[start : start + most] for start in range(0, len(cells), most)]
    return np.concatenate([_sums_of_steps(groups, part) for part in parts])


def _sums_of_steps(groups: Grouping, cells: Floats) -> Floats:
    grids = _grids(cells, int(np.diff(groups.starts, append=len(groups.ids)).max()))
    if grids is not None:
        coarse = _rounded(cells, grids[0])
        fine = cells - coarse
        if not grids[1] or np.array_equal(fine, _rounded(fine, grids[1])):
            return groups.sum(coarse) + groups.sum(fine)  # rounded here for the first time
    total, lost = _group_sums(groups, cells)
    return total + lost


def _group_sums(groups: Grouping, cells: Floats) -> tuple[Floats, Floats]:
    """The sums and what rounding lost of them."""
    total = np.empty((len(cells), len(groups.groups)))
    lost = np.empty_like(total)
    by_series = np.ascontiguousarray(cells.T)
    for which, rows in groups.by_size():
        sums = _in_turn(by_series[rows].reshape(len(rows), -1))
        total[:, which], lost[:, which] = (half.reshape(len(which), -1).T for half in sums)
    return total, lost


def group_means(groups: Grouping, cells: Floats, counts: Floats, present: Mask) -> Floats:
    """Means of cells that hold 0 where there is no sample (`present`, (steps, series)); `counts`
    (steps, groups) of samples."""
    total, lost = _group_sums(groups, cells)
    means = total / counts + lost / counts
    infinite = np.argwhere(np.isinf(total) & (counts > 0))
    members = groups.members() if len(infinite) else []
    for step, group in infinite.tolist():
        rows = members[group]
        means[step, group] = _mean_in_turn(cells[step, rows[present[step, rows]]])
    return means
