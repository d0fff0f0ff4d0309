"""and, or, unless: set operators between two vectors."""

import numpy as np

from tocsin_alerting.promql.eval.context import merged
from tocsin_alerting.promql.eval.grouping import Grouping
from tocsin_alerting.promql.eval.joins import signatures
from tocsin_alerting.promql.eval.limits import Budget
from tocsin_alerting.promql.eval.vector import Vector, size_of
from tocsin_alerting.promql.parser.ast import BinaryExpr, BinaryOp, VectorMatching
from tocsin_alerting.tsdb.label_sets import LabelSets
from tocsin_alerting.tsdb.values import Mask


def combined(node: BinaryExpr, lhs: Vector, rhs: Vector, budget: Budget) -> Vector:
    """Raises QueryLimitExceeded."""
    budget.room(size_of(lhs) + size_of(rhs))
    groups = signatures(lhs.series, rhs.series, node.matching or VectorMatching())
    split = len(lhs.series)
    if node.op is BinaryOp.OR:
        return _union(lhs, rhs, groups)
    theirs = np.concatenate([np.zeros_like(lhs.here), rhs.here], axis=1)
    matched = _groups_with(groups, theirs)[:, groups.ids[:split]]
    return lhs.kept(matched if node.op is BinaryOp.AND else ~matched)


def _union(lhs: Vector, rhs: Vector, groups: Grouping) -> Vector:
    """All of the left side, and of the right side what has no match at that step."""
    ours = np.concatenate([lhs.here, np.zeros_like(rhs.here)], axis=1)
    taken = _groups_with(groups, ours)[:, groups.ids[len(lhs.series) :]]
    series = lhs.series.memo(
        ("or", rhs.series), lambda: LabelSets(lhs.series.labels + rhs.series.labels)
    )
    present = np.concatenate([lhs.here, rhs.here & ~taken], axis=1)
    unnamed = np.concatenate([lhs.unnamed_rows, rhs.unnamed_rows])
    values = np.concatenate([lhs.values, rhs.values], axis=1)
    # A series may come from the left at one step and from the right at another.
    return merged(Vector(series, values, present, unnamed))


def _groups_with(groups: Grouping, mask: Mask) -> Mask:
    """Which groups (steps, groups) have a series in the mask (steps, series)."""
    return groups.count(mask, len(mask)) > 0
