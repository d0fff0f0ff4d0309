"""Which series belong together, and sums, extremes and counts over those groups."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tocsin_alerting.tsdb.label_sets import LabelSets
from tocsin_alerting.tsdb.values import Floats, Ints, Mask
from tocsin_exporter.snapshot import Labels


@dataclass(frozen=True, slots=True, eq=False)
class Grouping:
    """Groups in the order of their first series.

    `ids` (series,) is the group of each series; `order` are the series sorted by group, None if
    they already are; `starts` (groups,) is where each group begins in that order.
    """

    groups: LabelSets
    ids: Ints
    order: Ints | None
    starts: Ints

    def arranged(self, cells: Floats) -> Floats:
        """The columns of `cells` (steps, series) in the order of the groups."""
        return cells if self.order is None else cells.take(self.order, axis=1)

    def sum(self, cells: Floats) -> Floats:
        """(steps, groups) sums of (steps, series)."""
        return self._reduced(np.add, cells)

    def max(self, cells: Floats) -> Floats:
        """The highest that is not NaN."""
        return self._reduced(np.fmax, cells)

    def min(self, cells: Floats) -> Floats:
        """The lowest that is not NaN."""
        return self._reduced(np.fmin, cells)

    def count(self, mask: Mask | None, steps: int) -> Floats:
        """How many series of each group are in the mask; None: all."""
        if mask is None:
            sizes = np.bincount(self.ids, minlength=len(self.groups)).astype(np.float64)
            return np.broadcast_to(sizes, (steps, len(self.groups)))
        return self.sum(mask.astype(np.float64))

    def any(self, mask: Mask | None) -> Mask | None:
        """Which groups have a series in the mask; None: all have."""
        return None if mask is None else self.count(mask, len(mask)) > 0

    def members(self) -> list[Ints]:
        """The series of each group, ascending."""
        order = np.arange(len(self.ids)) if self.order is None else self.order
        return np.split(order, self.starts[1:]) if len(self.groups) else []

    def by_size(self) -> list[tuple[Ints, Ints]]:
        """For each size of group: which have it, and their series (size, groups), ascending."""
        order = np.arange(len(self.ids)) if self.order is None else self.order
        sizes = np.bincount(self.ids, minlength=len(self.groups))
        sized = []
        for size in np.unique(sizes).tolist():
            which = np.flatnonzero(sizes == size)
            sized.append((which, order[self.starts[which] + np.arange(size)[:, None]]))
        return sized

    def _reduced(self, ufunc: np.ufunc, cells: Floats) -> Floats:
        if not len(self.groups):
            return np.empty((len(cells), 0))
        reduced: Floats = ufunc.reduceat(self.arranged(cells), self.starts, axis=1)
        return reduced


def grouped(keys: Sequence[Labels]) -> Grouping:
    """Series grouped by one label set each, which is also that of the group."""
    number: dict[Labels, int] = {}
    ids = np.array([number.setdefault(key, len(number)) for key in keys], np.int64)
    order = np.argsort(ids, kind="stable")
    in_order = bool((ids[1:] >= ids[:-1]).all())
    starts = np.searchsorted(ids[order], np.arange(len(number)))
    return Grouping(LabelSets(tuple(number)), ids, None if in_order else order, starts)
