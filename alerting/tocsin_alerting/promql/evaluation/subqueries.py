"""Subqueries: an expression evaluated on a grid of its own, seen through windows."""

from collections.abc import Callable

from tocsin_alerting.promql.ast import Expr, SubqueryExpr
from tocsin_alerting.promql.evaluation.context import Context
from tocsin_alerting.promql.evaluation.frame import grid
from tocsin_alerting.promql.evaluation.ranges import RangeVector
from tocsin_alerting.promql.evaluation.selectors import moments, span_ms, spans_of
from tocsin_alerting.promql.evaluation.steps import Steps
from tocsin_alerting.promql.evaluation.vector import Value, Vector

Evaluate = Callable[[Expr, Context], Value]


def subquery(
    node: SubqueryExpr, context: Context, evaluate: Evaluate, slides: bool = False
) -> RangeVector:
    range_ms = span_ms(node.range, context)
    looks = moments(node.at, node.offset, context, slides)
    step_ms = context.subquery_step_ms if node.step is None else span_ms(node.step, context)
    steps = Steps(0, step_ms, -1)  # none: this subquery stands in one that has no step
    if len(looks):
        steps = _grid(int(looks.min()) - range_ms, int(looks.max()), step_ms, context)
    context.budget.spend(steps.count)
    inner = evaluate(node.expr, context.at(steps))
    assert isinstance(inner, Vector)  # the parser lets nothing else into a subquery
    spans = spans_of(looks, range_ms, context)
    return RangeVector(inner.series, [grid(steps.times, inner)], spans, inner.unnamed)


def _grid(earliest: int, latest: int, step_ms: int, context: Context) -> Steps:
    """Multiples of the step from the first that lies in the first window."""
    start = -(-earliest // step_ms) * step_ms
    if start == earliest and context.semantics == 3:
        start += step_ms
    return Steps(start, step_ms, latest)
