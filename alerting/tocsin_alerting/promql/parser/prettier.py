"""Long expressions on several lines, broken and indented where Prometheus does it."""

from tocsin_alerting.promql.parser.ast import (
    AggregateExpr,
    BinaryExpr,
    Call,
    Expr,
    ParenExpr,
    SubqueryExpr,
    UnaryExpr,
    children,
)
from tocsin_alerting.promql.parser.printer import (
    aggregate_head,
    operator,
    print_expr,
    subquery_window,
)

LONGEST = 100
"""Bytes of an expression that still go on one line, wherever the line begins."""


def pretty(expr: Expr, level: int = 0) -> str:
    """`expr` as `/api/v1/format_query` of Prometheus answers, `level` steps indented."""
    indent = "  " * level
    line = print_expr(expr)
    if isinstance(expr, UnaryExpr):
        return f"{indent}{expr.op.value}{pretty(expr.expr, level).strip()}"
    if len(line.encode()) <= LONGEST:
        # Prometheus forgets to indent a short subquery.
        return line if isinstance(expr, SubqueryExpr) else indent + line
    match expr:
        case SubqueryExpr(expr=inner):
            return pretty(inner, level) + subquery_window(expr)
        case BinaryExpr(lhs=lhs, rhs=rhs):
            return f"{pretty(lhs, level + 1)}\n{indent}{operator(expr)}\n{pretty(rhs, level + 1)}"
        case AggregateExpr():
            return _broken(aggregate_head(expr), expr, level)
        case Call(function=name):
            return _broken(name, expr, level)
        case ParenExpr():
            return _broken("", expr, level)
        case _:
            return indent + line


def _broken(head: str, expr: Expr, level: int) -> str:
    indent = "  " * level
    inside = ",\n".join(pretty(child, level + 1) for child in children(expr))
    return f"{indent}{head}(\n{inside}\n{indent})"
