"""What an alerting expression compares with what: the value to look at, and its threshold."""

from dataclasses import dataclass

from tocsin_alerting.promql.parser.ast import (
    AggregateExpr,
    AggregateOp,
    BinaryExpr,
    BinaryOp,
    Call,
    Expr,
    MatrixSelector,
    NumberLiteral,
    ParenExpr,
    SubqueryExpr,
    UnaryExpr,
    VectorSelector,
    selectors,
)
from tocsin_alerting.units import unit_of

_MIRRORED = {
    BinaryOp.GREATER: BinaryOp.LESS,
    BinaryOp.LESS: BinaryOp.GREATER,
    BinaryOp.GREATER_EQUAL: BinaryOp.LESS_EQUAL,
    BinaryOp.LESS_EQUAL: BinaryOp.GREATER_EQUAL,
    BinaryOp.EQUAL: BinaryOp.EQUAL,
    BinaryOp.NOT_EQUAL: BinaryOp.NOT_EQUAL,
}


COMPARISONS = frozenset(_MIRRORED)


@dataclass(frozen=True, slots=True)
class Comparison:
    """`measured op limit`; `limit` is a number, another expression, or None: nothing is compared,
    and `measured` is the whole expression."""

    measured: Expr
    op: str = ""
    limit: float | Expr | None = None


def comparison(expr: Expr) -> Comparison:
    """The first comparison on the way down its left side: `a > 1 and b` is about `a`."""
    inner = _bare(expr)
    if isinstance(inner, BinaryExpr) and inner.op in _MIRRORED:
        left, right = _number(inner.lhs), _number(inner.rhs)
        if left is not None and right is None:
            return Comparison(_bare(inner.rhs), _MIRRORED[inner.op].value, left)
        limit = _bare(inner.rhs) if right is None else right
        return Comparison(_bare(inner.lhs), inner.op.value, limit)
    if isinstance(inner, BinaryExpr) and inner.op in (BinaryOp.AND, BinaryOp.UNLESS):
        found = comparison(inner.lhs)
        return found if found.op else Comparison(expr)
    return Comparison(expr)


def _bare(expr: Expr) -> Expr:
    while isinstance(expr, ParenExpr):
        expr = expr.expr
    return expr


def _number(expr: Expr) -> float | None:
    inner = _bare(expr)
    if isinstance(inner, UnaryExpr):
        value = _number(inner.expr)
        return value if value is None or inner.op is BinaryOp.ADD else -value
    return inner.value if isinstance(inner, NumberLiteral) else None


_COUNTS = frozenset((AggregateOp.COUNT, AggregateOp.GROUP, AggregateOp.COUNT_VALUES))
_RATES = frozenset(("rate", "irate", "deriv"))
_COUNTED = frozenset(
    "count_over_time absent absent_over_time changes resets present_over_time".split()
)
_NAMED = {  # names that follow other conventions than Prometheus's
    "DCGM_FI_DEV_GPU_TEMP": "celsius",
    "DCGM_FI_DEV_MEMORY_TEMP": "celsius",
    "DCGM_FI_DEV_POWER_USAGE": "watts",
    "DCGM_FI_DEV_GPU_UTIL": "percent",
    "DCGM_FI_DEV_FB_USED_PERCENT": "ratio",
    "DCGM_FI_DEV_FB_USED": "mebibytes",
    "DCGM_FI_DEV_FB_FREE": "mebibytes",
    "DCGM_FI_DEV_FB_TOTAL": "mebibytes",
}
_ENDS = {"_celsius": "celsius", "_watts": "watts", "_percent": "percent"}


def unit(expr: Expr) -> str:
    """What the values of `expr` are in, as far as names of metrics and what is done with them say:
    one of `tocsin_alerting.units.SUFFIXES`, "number" where they say nothing."""
    match _bare(expr):
        case VectorSelector(name=name):
            return _unit_of_name(name)
        case MatrixSelector(vector=vector):
            return unit(vector)
        case AggregateExpr(op=op) if op in _COUNTS:
            return "number"
        case SubqueryExpr(expr=inner) | UnaryExpr(expr=inner) | AggregateExpr(expr=inner):
            return unit(inner)
        case Call(function="time"):
            return "moment"
        case Call(function=function) if function in _COUNTED:
            return "number"
        case Call(function=function, args=args) if args:
            return _unit_of_call(function, args)
        case BinaryExpr(op=BinaryOp.DIV, lhs=left, rhs=right):
            return _unit_of_quotient(left, right)
        case BinaryExpr(op=op, lhs=left, rhs=right):
            return _unit_of_both(op, unit(left), unit(right))
        case _:
            return "number"


def _unit_of_name(name: str) -> str:
    if name in _NAMED:
        return _NAMED[name]
    name = name.removesuffix("_bucket").removesuffix("_sum")
    if name.endswith("timestamp_seconds"):
        return "moment"
    ends = (found for end, found in _ENDS.items() if name.endswith(end))
    return next(ends, unit_of({name}))


def _unit_of_call(function: str, args: tuple[Expr, ...]) -> str:
    if function == "histogram_quantile":  # of what the buckets count
        names = {_unit_of_name(selector.name) for selector in selectors(args[-1])}
        return names.pop() if len(names) == 1 else "number"
    inner = unit(args[-1] if "quantile" in function else args[0])
    return f"{inner}/s" if function in _RATES else inner


def _unit_of_quotient(left: Expr, right: Expr) -> str:
    """Seconds of seconds are a share, and so are requests of requests, but not tokens of them."""
    if _number(right) is not None:
        return "number"
    over, under = unit(left), unit(right)
    if under == "number/s" != over and over.endswith("/s"):
        return over.removesuffix("/s")
    if over != under or over == "moment":
        return "number"
    names = ({selector.name for selector in selectors(side)} for side in (left, right))
    return "ratio" if not over.startswith("number") or next(names) == next(names) else "number"


def _unit_of_both(op: BinaryOp, left: str, right: str) -> str:
    match op:
        case BinaryOp.SUB if left == right == "moment":
            return "seconds"
        case BinaryOp.ADD | BinaryOp.SUB:
            return right if left == "number" else left
        case BinaryOp.OR:
            return left if left == right else "number"
        case BinaryOp.AND | BinaryOp.UNLESS:
            return left
        case _ if op in _MIRRORED:
            return left
        case _:
            return "number"
