"""sum, avg, count, min, max, group, stddev, stdvar, quantile: many series made one a group."""

from collections.abc import Callable, Mapping

import numpy as np

from tocsin_alerting.promql.eval import aggregations_v2
from tocsin_alerting.promql.eval.context import Context
from tocsin_alerting.promql.eval.grouping import Grouping
from tocsin_alerting.promql.eval.label_ops import by_labels
from tocsin_alerting.promql.eval.quantiles import no_quantile, out_of_range, quantile_of_columns
from tocsin_alerting.promql.eval.summing import group_means, group_sums
from tocsin_alerting.promql.eval.vector import Scalar, Vector
from tocsin_alerting.promql.parser.ast import AggregateExpr, AggregateOp
from tocsin_alerting.tsdb.values import Floats, Mask

Aggregate = Callable[[Grouping, Vector], Floats]
"""(steps, groups) numbers; groups that have no present series may get any."""


def _sum(groups: Grouping, vector: Vector) -> Floats:
    return group_sums(groups, vector.filled(0.0))


def _mean(groups: Grouping, vector: Vector) -> Floats:
    return group_means(groups, vector.filled(0.0), _counts(groups, vector), vector.present_mask)


def _counts(groups: Grouping, vector: Vector) -> Floats:
    return groups.count(vector.present, len(vector.values))


def _max(groups: Grouping, vector: Vector) -> Floats:
    return groups.max(vector.filled(np.nan))


def _min(groups: Grouping, vector: Vector) -> Floats:
    return groups.min(vector.filled(np.nan))


def _one(groups: Grouping, vector: Vector) -> Floats:
    return np.ones((len(vector.values), len(groups.groups)))


def _variance(groups: Grouping, vector: Vector) -> Floats:
    """The population's variance; measured from one of the values, so that equal ones give 0."""
    counts = _counts(groups, vector)
    origins = groups.max(vector.filled(np.nan))[:, groups.ids]
    cells = vector.with_values(vector.values - origins).filled(0.0)
    distances = cells - group_means(groups, cells, counts, vector.present_mask)[:, groups.ids]
    squares = vector.with_values(distances * distances).filled(0.0)
    return groups.sum(squares) / counts


def _deviation(groups: Grouping, vector: Vector) -> Floats:
    return np.sqrt(_variance(groups, vector))


AGGREGATES: Mapping[AggregateOp, Aggregate] = {
    AggregateOp.SUM: _sum,
    AggregateOp.AVG: _mean,
    AggregateOp.COUNT: _counts,
    AggregateOp.MAX: _max,
    AggregateOp.MIN: _min,
    AggregateOp.GROUP: _one,
    AggregateOp.STDVAR: _variance,
    AggregateOp.STDDEV: _deviation,
}


_OLD_AGGREGATES: Mapping[AggregateOp, Aggregate] = {
    **AGGREGATES,
    AggregateOp.SUM: aggregations_v2.sums,
    AggregateOp.AVG: aggregations_v2.means,
    AggregateOp.STDVAR: aggregations_v2.variances,
    AggregateOp.STDDEV: aggregations_v2.deviations,
}


def aggregated(node: AggregateExpr, vector: Vector, context: Context) -> Vector:
    """With one of AGGREGATES."""
    groups = by_labels(vector.series, node.grouping, node.without)
    aggregates = AGGREGATES if context.semantics == 3 else _OLD_AGGREGATES
    values = aggregates[node.op](groups, vector)
    return Vector(groups.groups, values, groups.any(vector.present), unnamed_of(groups, vector))


def quantile(node: AggregateExpr, q: Scalar, vector: Vector, context: Context) -> Vector:
    assert node.param is not None
    for wrong in out_of_range(q):
        context.notes.warn(no_quantile(wrong), node.param.span)
    groups = by_labels(vector.series, node.grouping, node.without)
    values = np.zeros((len(vector.values), len(groups.groups)))
    for step in range(len(values)):
        context.budget.spend(0)
        for which, rows in groups.by_size():
            present = None if vector.present is None else vector.present[step, rows]
            cells = vector.values[step, rows]
            values[step, which] = quantile_of_columns(float(q[step]), cells, present)
    return Vector(groups.groups, values, groups.any(vector.present), unnamed_of(groups, vector))


def unnamed_of(groups: Grouping, vector: Vector) -> bool | Mask:
    """A group loses its name when a series that is in it at any step does."""
    if isinstance(vector.unnamed, bool):
        return vector.unnamed
    flags = vector.unnamed_rows & vector.present_mask.any(axis=0)
    lost: Mask = groups.sum(flags[None, :].astype(np.float64))[0] > 0
    return lost
