"""An expression as JSON: the tree that Prometheus 3 answers `/api/v1/parse_query` with."""

from collections.abc import Iterable
from typing import Any

from tocsin_alerting.promql.parser.ast import (
    AggregateExpr,
    BinaryExpr,
    Call,
    Duration,
    Edge,
    Expr,
    MatrixSelector,
    NumberLiteral,
    ParenExpr,
    StringLiteral,
    SubqueryExpr,
    UnaryExpr,
    VectorMatching,
    VectorSelector,
)
from tocsin_alerting.promql.parser.signatures import FUNCTIONS
from tocsin_alerting.strconv import format_number
from tocsin_alerting.tsdb.matchers import Matcher


def syntax_tree(expr: Expr) -> dict[str, Any]:
    """Nodes and fields are those of Prometheus 3 (web/api/v1/translate_ast.go); durations are
    milliseconds, 0 where only the evaluation decides them."""
    match expr:
        case NumberLiteral(value=value):
            return {"type": "numberLiteral", "val": format_number(value)}
        case StringLiteral(value=text):
            return {"type": "stringLiteral", "val": text}
        case ParenExpr(expr=inner):
            return {"type": "parenExpr", "expr": syntax_tree(inner)}
        case UnaryExpr(op=op, expr=inner):
            return {"type": "unaryExpr", "op": op.value, "expr": syntax_tree(inner)}
        case VectorSelector():
            return {"type": "vectorSelector", **_selector(expr)}
        case MatrixSelector(vector=vector):
            range_ms = _milliseconds(expr.range)
            return {"type": "matrixSelector", **_selector(vector), "range": range_ms}
        case SubqueryExpr():
            return _subquery(expr)
        case Call():
            return _call(expr)
        case AggregateExpr():
            return _aggregation(expr)
        case BinaryExpr():
            return _binary(expr)


def _selector(selector: VectorSelector) -> dict[str, Any]:
    """Prometheus has no `or` between matchers: with one, all sets are in `matcherSets`."""
    sets = [_matchers(matchers) for matchers in selector.matcher_sets]
    return {
        "name": selector.name,
        "matchers": sets[0],
        **({"matcherSets": sets} if len(sets) > 1 else {}),
        "offset": _milliseconds(selector.offset),
        **_moment(selector.at),
        "anchored": selector.anchored,
        "smoothed": selector.smoothed,
    }


def _matchers(matchers: Iterable[Matcher]) -> list[dict[str, str]]:
    return [
        {"name": matcher.name, "value": matcher.value, "type": matcher.op.value}
        for matcher in matchers
    ]


def _subquery(expr: SubqueryExpr) -> dict[str, Any]:
    return {
        "type": "subquery",
        "expr": syntax_tree(expr.expr),
        "range": _milliseconds(expr.range),
        "offset": _milliseconds(expr.offset),
        "step": _milliseconds(expr.step or 0),
        **_moment(expr.at),
    }


def _call(call: Call) -> dict[str, Any]:
    signature = FUNCTIONS[call.function]
    return {
        "type": "call",
        "func": {
            "name": call.function,
            "argTypes": [arg_type.value for arg_type in signature.args],
            "variadic": signature.variadic,
            "returnType": signature.returns.value,
        },
        "args": [syntax_tree(arg) for arg in call.args],
    }


def _aggregation(expr: AggregateExpr) -> dict[str, Any]:
    return {
        "type": "aggregation",
        "op": expr.op.value,
        "expr": syntax_tree(expr.expr),
        "param": None if expr.param is None else syntax_tree(expr.param),
        "grouping": list(expr.grouping),
        "without": expr.without,
    }


def _binary(expr: BinaryExpr) -> dict[str, Any]:
    return {
        "type": "binaryExpr",
        "op": expr.op.value,
        "lhs": syntax_tree(expr.lhs),
        "rhs": syntax_tree(expr.rhs),
        "matching": None if expr.matching is None else _matching(expr.matching),
        "bool": expr.return_bool,
    }


def _matching(matching: VectorMatching) -> dict[str, Any]:
    fills = {"lhs": matching.fill_left, "rhs": matching.fill_right}
    return {
        "card": matching.cardinality.value,
        "labels": list(matching.labels),
        "on": matching.on,
        "include": list(matching.include),
        "fillValues": {side: None if fill is None else fill.value for side, fill in fills.items()},
    }


def _moment(at: int | Edge | None) -> dict[str, Any]:
    if isinstance(at, Edge):
        return {"timestamp": None, "startOrEnd": at.value}
    return {"timestamp": at, "startOrEnd": None}


def _milliseconds(duration: Duration) -> int:
    return duration if isinstance(duration, int) else 0
