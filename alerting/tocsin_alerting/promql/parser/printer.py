"""Expressions back to text, in the form that Prometheus prints."""

import re

from tocsin_alerting.promql.parser.ast import (
    AggregateExpr,
    BinaryExpr,
    Call,
    Cardinality,
    Duration,
    DurationExpr,
    DurationOp,
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
    children,
)
from tocsin_alerting.strconv import format_number, quote
from tocsin_alerting.time_format import format_duration
from tocsin_alerting.tsdb.matchers import Matcher

_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def print_expr(expr: Expr) -> str:
    """Canonical text; `parse(print_expr(e)) == e` for whatever `parse` returned."""
    match expr:
        case VectorSelector():
            return _selection(expr) + _at(expr.at) + _extended(expr) + _offset(expr.offset)
        case MatrixSelector(vector=vector, range=range_):
            window = f"[{_duration(range_)}]{_extended(vector)}"
            return _selection(vector) + window + _at(vector.at) + _offset(vector.offset)
        case SubqueryExpr(expr=inner):
            return print_expr(inner) + subquery_window(expr)
        case BinaryExpr():
            return f"{print_expr(expr.lhs)} {operator(expr)} {print_expr(expr.rhs)}"
        case AggregateExpr():
            return f"{aggregate_head(expr)}({', '.join(map(print_expr, children(expr)))})"
        case Call(function=name, args=args):
            return f"{name}({', '.join(map(print_expr, args))})"
        case ParenExpr(expr=inner):
            return f"({print_expr(inner)})"
        case UnaryExpr(op=op, expr=inner):
            return f"{op.value}{print_expr(inner)}"
        case NumberLiteral():
            return _number(expr)
        case StringLiteral(value=value):
            return quote(value)


def matcher_text(matcher: Matcher) -> str:
    return f"{_label(matcher.name)}{matcher.op.value}{quote(matcher.value)}"


def _selection(selector: VectorSelector) -> str:
    sets = []
    for matchers in selector.matcher_sets:
        inside = matchers[:-1] if selector.name else matchers
        sets.append(",".join(map(matcher_text, inside)))
    braces = " or ".join(sets)
    return f"{selector.name}{{{braces}}}" if braces or not selector.name else selector.name


def _extended(selector: VectorSelector) -> str:
    return " anchored" if selector.anchored else " smoothed" if selector.smoothed else ""


def _at(at: int | Edge | None) -> str:
    if at is None:
        return ""
    return f" @ {at.value}()" if isinstance(at, Edge) else f" @ {at / 1000:.3f}"


def _offset(offset: Duration) -> str:
    return f" offset {_duration(offset)}" if offset != 0 else ""


def _duration(duration: Duration) -> str:
    return format_duration(duration) if isinstance(duration, int) else _arithmetic(duration)


def _arithmetic(node: NumberLiteral | DurationExpr | None) -> str:
    if node is None:
        return ""
    if isinstance(node, NumberLiteral):
        return _number(node)
    lhs, rhs = _arithmetic(node.lhs), _arithmetic(node.rhs)
    match node.op:
        case DurationOp.STEP | DurationOp.RANGE:
            text = f"{node.op.value}()"
        case DurationOp.MIN_OF | DurationOp.MAX_OF:
            text = f"{node.op.value}({lhs}, {rhs})"
        case _ if node.lhs is None:
            text = f"-{rhs}" if node.op is DurationOp.SUB else rhs
        case _:
            text = f"{lhs} {node.op.value} {rhs}"
    return f"({text})" if node.wrapped else text


def _number(literal: NumberLiteral) -> str:
    if literal.duration:
        return format_duration(round(literal.value * 1000))
    return format_number(literal.value)


def operator(expr: BinaryExpr) -> str:
    """What stands between the two sides: `/ on (x) group_left ()`."""
    text = expr.op.value + (" bool" if expr.return_bool else "")
    return text if expr.matching is None else text + _matching(expr.matching)


def _matching(matching: VectorMatching) -> str:
    text = ""
    grouped = _GROUPS.get(matching.cardinality, "")
    if matching.labels or matching.on or grouped:
        text = f" {'on' if matching.on else 'ignoring'} ({_labels(matching.labels)})"
    if grouped:
        text += f" {grouped} ({_labels(matching.include)})"
    return text + _fills(matching)


_GROUPS = {Cardinality.MANY_TO_ONE: "group_left", Cardinality.ONE_TO_MANY: "group_right"}


def _fills(matching: VectorMatching) -> str:
    left, right = matching.fill_left, matching.fill_right
    if left is not None and left == right:
        return f" fill ({format_number(left.value)})"
    text = "" if left is None else f" fill_left ({format_number(left.value)})"
    return text if right is None else f"{text} fill_right ({format_number(right.value)})"


def aggregate_head(expr: AggregateExpr) -> str:
    """What stands before the parenthesis: `sum by (x) `."""
    if expr.without:
        return f"{expr.op.value} without ({_labels(expr.grouping)}) "
    return f"{expr.op.value} by ({_labels(expr.grouping)}) " if expr.grouping else expr.op.value


def subquery_window(expr: SubqueryExpr) -> str:
    """What stands behind the inner expression: `[1h:1m] offset 5m`."""
    step = "" if expr.step is None else _duration(expr.step)
    return f"[{_duration(expr.range)}:{step}]{_at(expr.at)}{_offset(expr.offset)}"


def _labels(labels: tuple[str, ...]) -> str:
    """Of a grouping or a match: there a bare `nan` or `inf` would be a number."""
    return ", ".join(map(_grouping_label, labels))


def _grouping_label(name: str) -> str:
    return quote(name) if name.lower() in ("nan", "inf") else _label(name)


def _label(name: str) -> str:
    return name if _LABEL.fullmatch(name) else quote(name)
