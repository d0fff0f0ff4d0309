"""The fill modifiers: stand-ins for the partners that series lack at a step."""

import numpy as np

from tocsin_alerting.promql.ast import NumberLiteral, VectorMatching
from tocsin_alerting.promql.evaluation.grouping import Grouping
from tocsin_alerting.promql.evaluation.joins import signatures
from tocsin_alerting.promql.evaluation.vector import Vector
from tocsin_alerting.store.cell import Ints, Mask
from tocsin_alerting.store.series import SeriesSet


def filled(many: Vector, one: Vector, matching: VectorMatching) -> tuple[Vector, Vector]:
    """Both sides with a series more for each signature that the other side has.

    It holds the fill value, and is present at the steps at which the other side has a series of
    that signature and its own side has none.
    """
    groups = signatures(many.series, one.series, matching)
    split = len(many.series)
    theirs = _present(groups, np.concatenate([np.zeros_like(many.here), one.here], axis=1))
    ours = _present(groups, np.concatenate([many.here, np.zeros_like(one.here)], axis=1))
    wide = _with_stand_ins(many, groups.ids[split:], groups, theirs & ~ours, matching.fill_left)
    tall = _with_stand_ins(one, groups.ids[:split], groups, ours & ~theirs, matching.fill_right)
    return wide, tall


def _present(groups: Grouping, mask: Mask) -> Mask:
    """The groups (steps, groups) that have a series in the mask (steps, series)."""
    return groups.count(mask, len(mask)) > 0


def _with_stand_ins(
    vector: Vector, ids: Ints, groups: Grouping, missing: Mask, fill: NumberLiteral | None
) -> Vector:
    if fill is None:
        return vector
    lacked = np.unique(ids)

    def extended() -> SeriesSet:
        return SeriesSet(
            vector.series.labels + tuple(groups.groups.labels[group] for group in lacked.tolist())
        )

    series = vector.series.remember(("stand-ins", groups.groups), extended)
    stand_ins = np.full((len(vector.values), len(lacked)), fill.value)
    values = np.concatenate([vector.values, stand_ins], axis=1)
    present = np.concatenate([vector.here, missing[:, lacked]], axis=1)
    return Vector(series, values, present, False)
