"""Numbers of some series over one time axis: columns of the store, or what a subquery gave."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tocsin_alerting.promql.eval.vector import Vector
from tocsin_alerting.tsdb import window_ends
from tocsin_alerting.tsdb.values import ABSENT, Floats, Ints, Mask, normalised


class Frame(Protocol):
    """`times` (columns,) ascending in Unix ms; `count` series; the store's `AlignedPart` is one."""

    @property
    def times(self) -> Ints: ...

    @property
    def count(self) -> int: ...

    def column(self, index: int) -> Floats:
        """The cells (count,) of one column."""
        ...

    def cells_in(self, start: int, stop: int) -> Floats:
        """The cells (stop - start, count); read only."""
        ...

    def ends(self, starts: Ints, stops: Ints, rising: bool) -> window_ends.WindowEnds:
        """Of the windows start..stop, whose starts and stops ascend, (windows, series) each: the
        first and the last cell, and where the series surely has no gap and, with `rising`, does
        not fall."""
        ...

    def gapless(self, start: int, stop: int) -> Mask:
        """Series (count,) that surely hold numbers in these columns."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """What a subquery gave, one column a step."""

    times: Ints
    cells: Floats  # (columns, count), with "no sample" where there was none

    @property
    def count(self) -> int:
        return int(self.cells.shape[1])

    def column(self, index: int) -> Floats:
        column: Floats = self.cells[index]
        return column

    def cells_in(self, start: int, stop: int) -> Floats:
        return self.cells[start:stop]

    def ends(self, starts: Ints, stops: Ints, rising: bool) -> window_ends.WindowEnds:
        return window_ends.window_ends(self.cells, starts, stops, rising)

    def gapless(self, start: int, stop: int) -> Mask:
        gaps: Mask = np.any(np.isnan(self.cells[start:stop]), axis=0)
        return ~gaps


def grid(times: Ints, vector: Vector) -> Grid:
    """The vector's cells as samples at `times`, its steps."""
    cells = normalised(np.ascontiguousarray(vector.values))
    if vector.present is not None:
        cells = np.where(vector.present, cells, ABSENT)
    return Grid(times, cells)
