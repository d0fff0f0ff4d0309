"""The values of an expression at all steps: rows of numbers beside a set of series."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from tocsin_alerting.tsdb.label_sets import LabelSets
from tocsin_alerting.tsdb.values import Floats, Ints, Mask


@dataclass(frozen=True, slots=True, eq=False)
class Vector:
    """An instant vector at each step.

    `values` and `present` have the shape (steps, series); a cell that is not present has any
    value, and `present` is None where every cell is. A filter changes `present` and nothing else.
    `unnamed` says whose `__name__` is dropped at the end (of all, or a mask over the series).
    `order` is the order in which an instant query shows the series, None for theirs.
    """

    series: LabelSets
    values: Floats
    present: Mask | None = None
    unnamed: bool | Mask = False
    order: Ints | None = None

    @property
    def present_mask(self) -> Mask:
        return np.ones(self.values.shape, np.bool_) if self.present is None else self.present

    def with_values(self, values: Floats) -> "Vector":
        return Vector(self.series, values, self.present, self.unnamed)

    def kept(self, keep: Mask) -> "Vector":
        """Only the cells that are present and where `keep` (steps, series) holds."""
        present = keep if self.present is None else self.present & keep
        return Vector(self.series, self.values, present, self.unnamed)

    def filled(self, value: float) -> Floats:
        """The values with `value` in every cell that is not present."""
        return self.values if self.present is None else np.where(self.present, self.values, value)

    @property
    def unnamed_rows(self) -> Mask:
        """`unnamed` as a mask (series,)."""
        return np.broadcast_to(np.asarray(self.unnamed, np.bool_), (len(self.series),))


Scalar: TypeAlias = Floats
"""One number a step, (steps,)."""

Value: TypeAlias = Vector | Scalar | str
"""What an expression evaluates to; range vectors exist as frames, inside the functions only."""

NOTHING = LabelSets(())


CELL_BYTES = 9
"""A number, and whether it is present."""


def size_of(value: Value) -> int:
    """Bytes of its arrays."""
    if isinstance(value, str):
        return 0
    if isinstance(value, Vector):
        return value.values.nbytes + (0 if value.present is None else value.present.nbytes)
    return value.nbytes


def empty(steps: int) -> Vector:
    return Vector(NOTHING, np.empty((steps, 0)))


def unlabelled(values: Scalar) -> Vector:
    """A vector of one series without labels."""
    return Vector(ONE, values.reshape(-1, 1))


ONE = LabelSets(((),))
