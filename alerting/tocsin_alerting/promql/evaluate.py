"""The value of an expression: one case a node, numbers for all steps at once."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import cast

import numpy as np

from tocsin_alerting.promql.eval import aggregations, arithmetic, ranking, vector_matching
from tocsin_alerting.promql.eval.context import Context, Steps, in_order
from tocsin_alerting.promql.eval.extended import interpolated
from tocsin_alerting.promql.eval.frame import grid
from tocsin_alerting.promql.eval.limits import QueryError
from tocsin_alerting.promql.eval.quantiles import no_quantile, out_of_range
from tocsin_alerting.promql.eval.ranges import RangeFunction, RangeVector, over_windows
from tocsin_alerting.promql.eval.selectors import (
    moments,
    select_instant,
    select_range,
    select_smoothed,
    span_ms,
    spans_of,
)
from tocsin_alerting.promql.eval.vector import Scalar, Value, Vector, size_of
from tocsin_alerting.promql.functions.table import FUNCTIONS
from tocsin_alerting.promql.parser.ast import (
    SET_OPS,
    AggregateExpr,
    AggregateOp,
    BinaryExpr,
    BinaryOp,
    Call,
    Expr,
    MatrixSelector,
    NumberLiteral,
    ParenExpr,
    StringLiteral,
    SubqueryExpr,
    UnaryExpr,
    VectorSelector,
)
from tocsin_alerting.tsdb.target_labels import METRIC_NAME
from tocsin_alerting.tsdb.values import Ints

_INTERPOLATED = RangeFunction(interpolated)
_COUNTERS = ("_total", "_sum", "_count", "_bucket")
_NO_COUNTER = "metric might not be a counter, name does not end in _total/_sum/_count/_bucket"


def evaluate(node: Expr, context: Context) -> Value:
    """Raises QueryError; `node` is not of type range vector (see `range_vector`).

    The operands have been dropped when it returns, and only its value counts against the budget.
    """
    held_before = context.budget.held_bytes
    value = _evaluated(node, context)
    context.budget.held_bytes = held_before
    context.budget.keep(size_of(value))
    return value


def _evaluated(node: Expr, context: Context) -> Value:
    match node:
        case NumberLiteral(value=value):
            return np.full(context.steps.count, value)
        case StringLiteral(value=text):
            return text
        case ParenExpr(expr=inner):
            return evaluate(inner, context)
        case VectorSelector(smoothed=True) if context.steps.count:
            return over_windows(_INTERPOLATED, select_smoothed(node, context), [], context)
        case VectorSelector():
            return in_order(select_instant(node, context))
        case UnaryExpr():
            return _unary(node, context)
        case BinaryExpr():
            return _binary(node, context)
        case AggregateExpr():
            return _aggregate(node, context)
        case Call():
            return _call(node, context)
        case MatrixSelector() | SubqueryExpr():
            raise QueryError("a range vector has no value at a step")


def range_vector(node: Expr, context: Context, slides: bool = False) -> RangeVector | None:
    """The windows of a range selector or subquery, None if `node` is neither."""
    match node:
        case ParenExpr(expr=inner):
            return range_vector(inner, context, slides)
        case MatrixSelector():
            return select_range(node, context, slides)
        case SubqueryExpr():
            return _subquery(node, context, slides)
    return None


def _subquery(node: SubqueryExpr, context: Context, slides: bool) -> RangeVector:
    """The inner expression, evaluated on a grid of its own and seen through windows."""
    range_ms = span_ms(node.range, context)
    looks = moments(node.at, node.offset, context, slides)
    step_ms = context.subquery_step_ms if node.step is None else span_ms(node.step, context)
    steps = Steps(0, step_ms, -1)  # none: this subquery stands in one that has no step
    if len(looks):
        steps = _subquery_steps(int(looks.min()) - range_ms, int(looks.max()), step_ms, context)
    context.budget.spend(steps.count)
    inner = evaluate(node.expr, context.at(steps))
    assert isinstance(inner, Vector)  # the parser lets nothing else into a subquery
    spans = spans_of(looks, range_ms, context)
    return RangeVector(inner.series, [grid(steps.times, inner)], spans, inner.unnamed)


def _subquery_steps(earliest: int, latest: int, step_ms: int, context: Context) -> Steps:
    """Multiples of the step from the first that lies in the first window."""
    start = -(-earliest // step_ms) * step_ms
    if start == earliest and context.semantics == 3:
        start += step_ms
    return Steps(start, step_ms, latest)


def _unary(node: UnaryExpr, context: Context) -> Value:
    value = evaluate(node.expr, context)
    if node.op is not BinaryOp.SUB or isinstance(value, str):
        return value
    if isinstance(value, Vector):
        return context.unnamed(value.with_values(-value.values))
    return -value


def _binary(node: BinaryExpr, context: Context) -> Value:
    lhs, rhs = evaluate(node.lhs, context), evaluate(node.rhs, context)
    if isinstance(lhs, Vector) and isinstance(rhs, Vector):
        if node.op in SET_OPS:
            return vector_matching.set_operation(node, lhs, rhs, context.budget)
        return vector_matching.matched(node, lhs, rhs, context)
    if isinstance(lhs, Vector):
        return arithmetic.with_scalar(node, lhs, cast(Scalar, rhs), False, context)
    if isinstance(rhs, Vector):
        return arithmetic.with_scalar(node, rhs, cast(Scalar, lhs), True, context)
    return arithmetic.scalars(node.op, cast(Scalar, lhs), cast(Scalar, rhs))


def _aggregate(node: AggregateExpr, context: Context) -> Vector:
    vector = cast(Vector, evaluate(node.expr, context))
    if node.param is None:
        return aggregations.aggregated(node, vector, context)
    parameter = evaluate(node.param, context)
    if node.op is AggregateOp.COUNT_VALUES:
        return ranking.counted_values(node, cast(str, parameter), vector, context)
    if node.op is AggregateOp.QUANTILE:
        return aggregations.quantile(node, cast(Scalar, parameter), vector, context)
    if node.op is AggregateOp.LIMIT_RATIO:
        return ranking.ratio(node, cast(Scalar, parameter), vector, context)
    return ranking.ranked(node, cast(Scalar, parameter), vector, context)


def _call(node: Call, context: Context) -> Value:
    implementation = FUNCTIONS[node.function]
    if isinstance(implementation, RangeFunction):
        return _over_range(node, implementation, context)
    # The second argument of info() says which labels; it has no value.
    args = node.args[:1] if node.function == "info" else node.args
    return implementation(node, [evaluate(arg, context) for arg in args], context)


def _over_range(node: Call, function: RangeFunction, context: Context) -> Value:
    slides = function.slides and context.semantics == 2
    ranges = [range_vector(arg, context, slides) for arg in node.args]
    given = next(given_range for given_range in ranges if given_range is not None)
    parameters = [
        cast(Scalar, evaluate(arg, context))
        for arg, windows in zip(node.args, ranges, strict=True)
        if windows is None
    ]
    vector = in_order(over_windows(_modified(node, function), given, parameters, context))
    if function.counter:
        _note_gauges(node, vector, context)
    if function.quantile and vector.present_mask.any():
        for q in out_of_range(parameters[0]):
            context.notes.warn(no_quantile(q), node.args[0].span)
    if function.after is not None:
        return function.after(node, [vector], context)
    named = Vector(vector.series, vector.values, vector.present)
    return vector if function.keeps_name else context.unnamed(named)


def _modified(node: Call, function: RangeFunction) -> RangeFunction:
    """The function as the selector's `anchored` or `smoothed` changes it; raises QueryError."""
    selector = next((inner for arg in node.args for inner in _window_selectors(arg)), None)
    if selector is None or not (selector.anchored or selector.smoothed):
        return function
    word = "anchored" if selector.anchored else "smoothed"
    answer = getattr(function, word)
    if answer is None:
        known = [
            name for name, other in FUNCTIONS.items() if getattr(other, word, None) is not None
        ]
        which = ", ".join(sorted(known))
        message = f"{word} modifier can only be used with: {which} - not with {node.function}"
        raise QueryError(message)
    return replace(function, answer=answer, ends=None, anywhere=False)


def _window_selectors(node: Expr) -> Iterator[VectorSelector]:
    """The selector of a range, in parentheses or not."""
    while isinstance(node, ParenExpr):
        node = node.expr
    if isinstance(node, MatrixSelector):
        yield node.vector


def _note_gauges(node: Call, vector: Vector, context: Context) -> None:
    """Prometheus guesses by the name alone; a series without a name is not guessed about."""
    if context.semantics == 2:
        return
    for name, rows in vector.series.memo("gauges", lambda: _gauges(vector)):
        if vector.present is None or vector.present[:, rows].any():
            context.notes.inform(f'{_NO_COUNTER}: "{name}"', node.args[0].span)


def _gauges(vector: Vector) -> tuple[tuple[str, Ints], ...]:
    """The names that do not say that they are counters', with their rows."""
    rows_by_name: dict[str, list[int]] = defaultdict(list)
    for row, labels in enumerate(vector.series.labels):
        name = dict(labels).get(METRIC_NAME, "")
        if name and not name.endswith(_COUNTERS):
            rows_by_name[name].append(row)
    return tuple((name, np.array(rows, np.int64)) for name, rows in rows_by_name.items())
