"""Lints of expressions: what cannot be true, and functions on metrics that they are not for.

When in doubt, nothing is said: what is not known of a metric may be anything.
"""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeAlias

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
    UnaryExpr,
    VectorSelector,
    children,
    walk,
)
from tocsin_alerting.promql.parser.printer import matcher_text
from tocsin_alerting.tsdb.matchers import MatchOp

MetricTypes: TypeAlias = Mapping[str, str]
"""Of families by name: counter, gauge, histogram, summary."""
Finding: TypeAlias = tuple[int, str, str]
"""A character of the expression, the name of the lint, and what to say."""

_OF_COUNTERS = frozenset(("rate", "irate", "increase", "resets"))
_ABSENT = frozenset(("absent", "absent_over_time"))
_ABOVE = frozenset((BinaryOp.GREATER, BinaryOp.GREATER_EQUAL))
_COMPARED = frozenset(
    (*_ABOVE, BinaryOp.LESS, BinaryOp.LESS_EQUAL, BinaryOp.EQUAL, BinaryOp.NOT_EQUAL)
)
_MIRRORED = {
    BinaryOp.GREATER: BinaryOp.LESS,
    BinaryOp.LESS: BinaryOp.GREATER,
    BinaryOp.GREATER_EQUAL: BinaryOp.LESS_EQUAL,
    BinaryOp.LESS_EQUAL: BinaryOp.GREATER_EQUAL,
}
_KEEP_COUNTING = frozenset(
    (AggregateOp.SUM, AggregateOp.AVG, AggregateOp.MIN, AggregateOp.MAX, AggregateOp.TOPK)
)
_AMOUNTS = frozenset(
    "pending current active running waiting queued open idle free available capacity inflight"
    " hours days".split()
)
_ADDED_UP = frozenset((BinaryOp.ADD, BinaryOp.MUL, BinaryOp.DIV))


class Bounds(NamedTuple):
    """What the values of an expression cannot be below and above; `low > high`: there are none."""

    low: float = -math.inf
    high: float = math.inf

    @property
    def empty(self) -> bool:
        return self.low > self.high


_ANYTHING = Bounds()
_NOTHING = Bounds(math.inf, -math.inf)
_ONE = Bounds(1, 1)
_FROM_0 = Bounds(0)
_FROM_1 = Bounds(1)
_SHARE = Bounds(0, 1)
_OF_METRICS = {"up": _SHARE, "probe_success": _SHARE}
_OF_CALLS = {
    **dict.fromkeys(("absent", "absent_over_time", "present_over_time"), _ONE),
    **dict.fromkeys(("rate", "irate", "increase", "changes", "resets", "abs", "sqrt"), _FROM_0),
    **dict.fromkeys(("stddev_over_time", "stdvar_over_time", "exp"), _FROM_0),
    "count_over_time": _FROM_1,
    "sgn": Bounds(-1, 1),
    "hour": Bounds(0, 23),
    "minute": Bounds(0, 59),
    "day_of_week": Bounds(0, 6),
    "day_of_month": Bounds(1, 31),
    "month": Bounds(1, 12),
}
_SAME_BOUNDS = frozenset(  # of one argument, of which they choose or which they average
    "avg_over_time min_over_time max_over_time last_over_time first_over_time"
    " vector scalar sort sort_desc label_replace label_join".split()
)
_CHOOSING = frozenset(
    (AggregateOp.AVG, AggregateOp.MIN, AggregateOp.MAX, AggregateOp.TOPK, AggregateOp.BOTTOMK)
)


def expr_findings(query: Expr, types: MetricTypes, alerting: bool) -> Iterator[Finding]:
    """The lints of one expression; of an alerting rule more is said."""
    for node in walk(query):
        match node:
            case Call():
                yield from _rate_of_gauge(node, types)
                yield from _absent_regex(node)
                yield from _bare_buckets(node)
            case VectorSelector():
                yield from _contradiction(node)
    if alerting:
        for compared in _thresholds(query):
            yield from _counter_compared(compared, types)
        yield from _never(query)


def _bare(expr: Expr) -> Expr:
    while isinstance(expr, ParenExpr):
        expr = expr.expr
    return expr


def _rate_of_gauge(call: Call, types: MetricTypes) -> Iterator[Finding]:
    if call.function in _OF_COUNTERS and isinstance(arg := _bare(call.args[0]), MatrixSelector):
        name = arg.vector.name
        if types.get(name) == "gauge":
            instead = "changes" if call.function == "resets" else "deriv() or delta"
            message = (
                f"{call.function}() of the gauge `{name}`: each fall is taken for a restart of a"
                f" counter; use {instead}()"
            )
            yield call.span.start, "rate-of-gauge", message


def _absent_regex(call: Call) -> Iterator[Finding]:
    if call.function not in _ABSENT:
        return
    inner = _bare(call.args[0])
    selector = inner.vector if isinstance(inner, MatrixSelector) else inner
    if not isinstance(selector, VectorSelector):
        return
    for matcher in (one for matchers in selector.matcher_sets for one in matchers):
        if matcher.op is MatchOp.REGEX and "|" in matcher.value.replace("\\|", ""):
            message = (
                f"{call.function}() says only that all of `{matcher_text(matcher)}` are gone, and"
                " not which: while one is there, the others are not missed; write one"
                f" {call.function}() for each, joined by `or`"
            )
            yield selector.span.start, "absent-regex", message


def _bare_buckets(call: Call) -> Iterator[Finding]:
    if call.function != "histogram_quantile":
        return
    for name, selector in _raw(call.args[-1]):
        if name.endswith("_bucket") and ":" not in name and not selector.offset:
            message = (
                f"`{name}` counts since the start of its process, and so does the quantile; use"
                f" rate({name}[5m])"
            )
            yield selector.span.start, "counter-without-rate", message


def _thresholds(expr: Expr) -> Iterator[BinaryExpr]:
    """The comparisons that decide whether it fires; on the right of `and` stand conditions, for
    which it may do that something ever happened."""
    match expr:
        case ParenExpr(expr=inner):
            yield from _thresholds(inner)
        case BinaryExpr(op=BinaryOp.AND | BinaryOp.UNLESS, lhs=left):
            yield from _thresholds(left)
        case BinaryExpr(op=BinaryOp.OR, lhs=left, rhs=right):
            yield from _thresholds(left)
            yield from _thresholds(right)
        case BinaryExpr(op=op) if op in _COMPARED:
            yield expr


def _counter_compared(node: BinaryExpr, types: MetricTypes) -> Iterator[Finding]:
    """Only what must be too high, and not above 0: that a counter moved, ever or never, is asked
    without a rate."""
    op, measured, limit = _sides(node)
    if op not in _ABOVE or not limit or node.return_bool:
        return
    raw = _raw(measured)
    if raw and all(_is_counter(name, types) for name, _ in raw):
        name, selector = raw[0]
        if len(raw) > 1 and _divides(measured):
            message = (
                f"this divides counters as they are, so it is their ratio since their processes"
                f" started, and the last minutes hardly move it; use rate({name}[5m]) and so on"
            )
        else:
            message = (
                f"the counter `{name}` is compared with {limit:g} as it is: it only grows, so this"
                f" fires once and until a restart; use rate({name}[5m]) or increase()"
            )
        yield selector.span.start, "counter-without-rate", message


def _divides(measured: Expr) -> bool:
    return any(isinstance(node, BinaryExpr) and node.op is BinaryOp.DIV for node in walk(measured))


def _is_counter(name: str, types: MetricTypes) -> bool:
    """Of one that is not known, its end decides, unless it says that it is an amount of now or of
    what has a life to spend: `..._pending_requests_total`, `nvme_power_on_hours_total`."""
    if name in types:
        return types[name] == "counter"
    stem = name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum")
    if types.get(stem) in ("histogram", "summary"):
        return True
    return name.endswith("_total") and ":" not in name and not _AMOUNTS & set(name.split("_"))


def _raw(expr: Expr) -> list[tuple[str, VectorSelector]]:
    """The metrics that `expr` is made from by nothing but adding up and dividing, none where there
    is anything else in it."""
    match expr:
        case ParenExpr(expr=inner):
            return _raw(inner)
        case AggregateExpr(op=op, expr=inner) if op in _KEEP_COUNTING:
            return _raw(inner)
        case VectorSelector(name=name) if name and not expr.offset and expr.at is None:
            return [(name, expr)]
        case BinaryExpr(op=op, lhs=left, rhs=right) if op in _ADDED_UP:
            sides = [_raw(side) for side in (left, right) if _number(side) is None]
            return [one for side in sides for one in side] if all(sides) else []
        case _:
            return []


def _number(expr: Expr) -> float | None:
    inner = _bare(expr)
    return inner.value if isinstance(inner, NumberLiteral) else None


def _sides(node: BinaryExpr) -> tuple[BinaryOp, Expr, float | None]:
    """The comparison with the number on the right; none where neither side is one."""
    left, right = _number(node.lhs), _number(node.rhs)
    if left is not None and right is None:
        return _MIRRORED.get(node.op, node.op), node.rhs, left
    return node.op, node.lhs, right


def _contradiction(selector: VectorSelector) -> Iterator[Finding]:
    for matchers in selector.matcher_sets:
        for exact in (one for one in matchers if one.op is MatchOp.EQUAL):
            for other in matchers:
                if other.name == exact.name and not other.matches(exact.value):
                    message = (
                        f"no series is both `{matcher_text(exact)}` and `{matcher_text(other)}`;"
                        " remove one"
                    )
                    yield selector.span.start, "never-fires", message
                    return


def _never(query: Expr) -> Iterator[Finding]:
    """The innermost part that gives nothing, where that leaves nothing of the whole."""
    if not bounds(query).empty:
        return
    node = query
    while inner := next((one for one in _deciding(node) if bounds(one).empty), None):
        node = inner
    start = node.op_span.start if isinstance(node, BinaryExpr) else node.span.start
    yield start, "never-fires", f"this is never true{_why(node)}"


def _deciding(node: Expr) -> tuple[Expr, ...]:
    if isinstance(node, BinaryExpr) and node.op is BinaryOp.UNLESS:
        return (node.lhs,)
    return children(node)


def _why(node: Expr) -> str:
    if not isinstance(node, BinaryExpr):
        return ""
    if node.op is BinaryOp.AND:
        return ": its two sides exclude each other; correct one"
    if _same(node):
        return ": both sides are the same; correct one"
    _, measured, limit = _sides(node)
    low, high = bounds(measured)
    if limit is None:
        return ""
    if isinstance(inner := _bare(measured), AggregateExpr) and low == 1 and limit <= 1:
        nothing = f": {inner.op.value}() of nothing is nothing, not 0"
        return f"{nothing}; add `or vector(0)`, or use absent()"
    side = "left" if node.lhs is measured else "right"
    return f": the {side} side is {_range(low, high)}; correct the comparison"


def _range(low: float, high: float) -> str:
    if low == high:
        return f"always {low:g}"
    if math.isinf(high):
        return f"never below {low:g}"
    return f"never above {high:g}" if math.isinf(low) else f"{low:g} to {high:g}"


def bounds(expr: Expr) -> Bounds:
    """Between which values the results of `expr` are, as far as its text says."""
    match expr:
        case NumberLiteral(value=value):
            return Bounds(value, value) if not math.isnan(value) else _ANYTHING
        case ParenExpr(expr=inner):
            return bounds(inner)
        case UnaryExpr(op=BinaryOp.SUB, expr=inner):
            low, high = bounds(inner)
            return Bounds(-high, -low) if low <= high else _NOTHING
        case VectorSelector(name=name):
            return _OF_METRICS.get(name, _ANYTHING)
        case MatrixSelector(vector=vector):
            return bounds(vector)
        case AggregateExpr():
            return _of_aggregation(expr)
        case Call(function=function, args=args):
            return _of_call(function, args)
        case BinaryExpr():
            return _of_binary(expr)
        case _:
            return _ANYTHING


def _of_aggregation(expr: AggregateExpr) -> Bounds:
    inner = bounds(expr.expr)
    if inner.empty:
        return _NOTHING
    match expr.op:
        case AggregateOp.COUNT | AggregateOp.COUNT_VALUES:
            return _FROM_1
        case AggregateOp.GROUP:
            return _ONE
        case AggregateOp.STDDEV | AggregateOp.STDVAR:
            return _FROM_0
        case AggregateOp.SUM:
            return Bounds(inner.low if inner.low >= 0 else -math.inf)
        case op if op in _CHOOSING:
            return inner
        case _:
            return _ANYTHING


def _of_call(function: str, args: tuple[Expr, ...]) -> Bounds:
    if function in _SAME_BOUNDS and args:
        return bounds(args[0])
    return _OF_CALLS.get(function, _ANYTHING)


def _of_binary(expr: BinaryExpr) -> Bounds:
    left, right = bounds(expr.lhs), bounds(expr.rhs)
    match expr.op:
        case BinaryOp.OR:
            return Bounds(min(left.low, right.low), max(left.high, right.high))
        case BinaryOp.UNLESS:
            return left
        case BinaryOp.AND:
            return _NOTHING if right.empty or _exclude(expr) else left
        case op if op in _COMPARED:
            return _SHARE if expr.return_bool else _of_comparison(expr)
        case _:
            return _NOTHING if left.empty or right.empty else _arithmetic(expr)


def _of_comparison(node: BinaryExpr) -> Bounds:
    op, measured, limit = _sides(node)
    if _same(node):
        return _NOTHING
    within = bounds(measured)
    if limit is None or within.empty or math.isnan(limit):
        return bounds(node.lhs)
    kept = _kept(op, within, limit)
    return Bounds(limit, limit) if node.rhs is measured and not kept.empty else kept


def _kept(op: BinaryOp, within: Bounds, limit: float) -> Bounds:
    """What is left of `within` by a comparison; what is only above a limit is taken for at it."""
    low, high = within
    match op:
        case BinaryOp.GREATER:
            return _NOTHING if high <= limit else Bounds(max(low, limit), high)
        case BinaryOp.GREATER_EQUAL:
            return Bounds(max(low, limit), high)
        case BinaryOp.LESS:
            return _NOTHING if low >= limit else Bounds(low, min(high, limit))
        case BinaryOp.LESS_EQUAL:
            return Bounds(low, min(high, limit))
        case BinaryOp.EQUAL:
            return Bounds(limit, limit) if low <= limit <= high else _NOTHING
        case _:
            return _NOTHING if low == high == limit else within


def _same(node: BinaryExpr) -> bool:
    differs = (BinaryOp.GREATER, BinaryOp.LESS, BinaryOp.NOT_EQUAL)
    return (
        node.op in differs and not node.return_bool and _bare(node.lhs) == _bare(node.rhs)
        and not isinstance(_bare(node.lhs), NumberLiteral)
    )  # fmt: skip


def _exclude(node: BinaryExpr) -> bool:
    """`m > 5 and m < 3`: both sides ask the same of one expression, and nothing is both."""
    left, right = _bare(node.lhs), _bare(node.rhs)
    if not (isinstance(left, BinaryExpr) and isinstance(right, BinaryExpr)):
        return False
    if not {left.op, right.op} <= _COMPARED or left.return_bool or right.return_bool:
        return False
    (op, measured, limit), (other_op, other, other_limit) = _sides(left), _sides(right)
    if limit is None or other_limit is None or _bare(measured) != _bare(other):
        return False
    if node.matching is not None and (node.matching.on or node.matching.labels):
        return False  # other series than its own may be on the other side
    return _kept(other_op, _kept(op, bounds(measured), limit), other_limit).empty


def _arithmetic(node: BinaryExpr) -> Bounds:
    """With a number on one side; of anything else nothing is known."""
    _, measured, number = _sides(node)
    if number is None or math.isnan(number):
        return _ANYTHING
    low, high = bounds(measured)
    match node.op:
        case BinaryOp.ADD:
            return Bounds(low + number, high + number)
        case BinaryOp.SUB if measured is node.lhs:
            return Bounds(low - number, high - number)
        case BinaryOp.MUL if number > 0:
            return Bounds(low * number, high * number)
        case BinaryOp.DIV if number > 0 and measured is node.lhs:
            return Bounds(low / number, high / number)
        case _:
            return _ANYTHING
