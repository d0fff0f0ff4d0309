"""Subqueries: an expression evaluated on a grid of its own, seen through windows."""

from collections.abc import Callable

from tocsin_alerting.promql.eval.context import Context
from tocsin_alerting.promql.eval.frame import grid
from tocsin_alerting.promql.eval.ranges import RangeVector
from tocsin_alerting.promql.eval.selectors import moments, span_ms, spans_of
from tocsin_alerting.promql.eval.steps import Steps
from tocsin_alerting.promql.eval.vector import Value, Vector
from tocsin_alerting.promql.parser.ast import Expr, SubqueryExpr

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
