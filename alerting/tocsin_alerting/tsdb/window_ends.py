"""Many windows over the same cells, looked at together: what lies at their ends, and whether a
series has a gap, or falls, between.

Windows are columns start..stop (not empty); both `starts` and `stops` (windows,) ascend.
"""

from collections.abc import Iterator

import numpy as np

from tocsin_alerting.tsdb.values import Floats, Ints, Mask

WindowEnds = tuple[Floats, Floats, Mask]
"""(windows, series): the first cell, the last, and whether the series holds numbers throughout
and, if that was asked, does not fall."""

_CELLS = 2**17  # read at once: what the processor's cache can hold


def window_ends(cells: Floats, starts: Ints, stops: Ints, rising: bool) -> WindowEnds:
    """Of windows in `cells` (columns, series)."""
    first, last = cells[starts], cells[stops - 1]
    if not rising:
        return first, last, holds_throughout(~np.isnan(cells), starts, stops)
    # What is no number is not as high as another; one that is alone has no other.
    whole = ~np.isnan(first)
    whole &= holds_throughout(cells[1:] >= cells[:-1], starts, stops - 1)
    return first, last, whole


def read_groups(starts: Ints, stops: Ints, count: int) -> Iterator[tuple[int, int]]:
    """First and last + 1 of windows to read together: of `count` series not too many cells, and
    few that lie in no window."""
    most = _CELLS // max(1, count)
    begin, columns = 0, list(zip(starts.tolist(), stops.tolist(), strict=True))
    for at, (start, stop) in enumerate(columns):
        before = columns[at - 1][1] if at else start
        far = start - before > stop - start
        if at > begin and (far or stop - columns[begin][0] > most):
            yield begin, at
            begin = at
    yield begin, len(columns)


def holds_throughout(good: Mask, starts: Ints, stops: Ints) -> Mask:
    """(windows, series): whether rows start..stop of `good` all are."""
    whole = np.ones((len(starts), good.shape[1]), np.bool_)
    if good.all():
        return whole
    partly = np.flatnonzero(~good.all(axis=0))
    bad = np.zeros((len(good) + 1, len(partly)), np.int32)
    np.cumsum(~good[:, partly], axis=0, out=bad[1:])
    whole[:, partly] = bad[starts] == bad[stops]
    return whole
