"""Selectors: what stands in braces, and the modifiers behind it.

In braces: `{job="a", code=~"5.."}`, quoted names, and sets joined by `or`. Modifiers: `[5m]`,
`[1h:1m]`, `offset 5m`, `@ 1700000000`, `smoothed`; some of them may follow any expression.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

from tocsin_alerting.promql.parser.ast import (
    Duration,
    Edge,
    Expr,
    MatrixSelector,
    PositionRange,
    SubqueryExpr,
    VectorSelector,
)
from tocsin_alerting.promql.parser.cursor import Cursor
from tocsin_alerting.promql.parser.durations import (
    number_literal,
    offset_interval,
    positive_interval,
)
from tocsin_alerting.promql.parser.printer import matcher_text
from tocsin_alerting.promql.parser.tokens import Token, TokenKind
from tocsin_alerting.strconv import unquote
from tocsin_alerting.tsdb.matchers import InvalidRegex, Matcher, MatchOp
from tocsin_alerting.tsdb.target_labels import METRIC_NAME

_CONTEXT = "label matching"
_OPS = {op.value: op for op in MatchOp}
_PRECEDED = "must be preceded by an instant vector selector or range vector selector or a subquery"

Movable: TypeAlias = VectorSelector | MatrixSelector | SubqueryExpr


def vector_selector(cursor: Cursor, name: Token | None) -> VectorSelector:
    """`<name>`, `<name>{...}` or `{...}`; the cursor stands behind the name.

    Matchers are sorted by their text, as Prometheus prints them; their order means nothing.
    """
    outside = (Matcher(METRIC_NAME, MatchOp.EQUAL, name.text),) if name else ()
    start, end = (name.start, name.end) if name else (cursor.peek().start, 0)
    sets: list[list[Matcher]] = [[]]
    if cursor.peek().name == "{":
        sets, end = _braces(cursor)
    return VectorSelector(
        name=name.text if name else "",
        matcher_sets=tuple((*sorted(matchers, key=matcher_text), *outside) for matchers in sets),
        span=PositionRange(start, end),
    )


def _braces(cursor: Cursor) -> tuple[list[list[Matcher]], int]:
    cursor.take()
    sets: list[list[Matcher]] = [[]]
    if closing := cursor.accept("}"):
        return sets, closing.end
    while True:
        sets[-1].append(_matcher(cursor))
        if _joined(cursor):
            sets.append([])
        elif closing := cursor.accept("}"):
            return sets, closing.end


def _old(cursor: Cursor, op: MatchOp) -> bool:
    return cursor.semantics == 2 and op in (MatchOp.REGEX, MatchOp.NOT_REGEX)


def _joined(cursor: Cursor) -> bool:
    """Pass what stands between two matchers; whether it was `or`, which begins a new set."""
    token = cursor.peek()
    if token.text == "or" and token.kind is TokenKind.IDENTIFIER and cursor.semantics == 3:
        cursor.take()
        return True
    if token.name == ",":
        cursor.take()
    elif token.name != "}":
        cursor.unexpected(_CONTEXT, '"," or "}"')
    return False


def _matcher(cursor: Cursor) -> Matcher:
    label = cursor.peek()
    if label.kind is TokenKind.STRING and cursor.semantics == 3:
        cursor.take()
        if cursor.peek().name not in _OPS:
            return Matcher(METRIC_NAME, MatchOp.EQUAL, unquote(label.text))
    elif label.kind is TokenKind.IDENTIFIER:
        cursor.take()
        if cursor.peek().name not in _OPS:
            cursor.unexpected(_CONTEXT, "label matching operator")
    else:
        cursor.unexpected(_CONTEXT, 'identifier or "}"')
    return _compared(cursor, label)


def _compared(cursor: Cursor, label: Token) -> Matcher:
    op = _OPS[cursor.take().name]
    value = cursor.peek()
    if value.kind is not TokenKind.STRING:
        cursor.unexpected(_CONTEXT, "string")
    cursor.take()
    name = unquote(label.text) if label.kind is TokenKind.STRING else label.text
    try:
        return Matcher(name, op, unquote(value.text), _old(cursor, op))
    except InvalidRegex as error:
        cursor.fail(str(error), PositionRange(label.start, value.end))


def with_modifiers(cursor: Cursor, expr: Expr) -> Expr:
    """`expr` with all modifiers that follow it; they bind closer than any operator."""
    while modifier := MODIFIERS.get(cursor.peek().name):
        changed = modifier(cursor, expr)
        cursor.grown(changed, expr)
        expr = changed
    return expr


def _window(cursor: Cursor, expr: Expr) -> Expr:
    opening = cursor.take()
    range_ = positive_interval(cursor, _AFTER_BRACKET[cursor.semantics])
    if closing := cursor.accept("]"):
        return _matrix(cursor, expr, range_, PositionRange(opening.start, closing.end))
    cursor.expect(":", "subquery or range", '":" or "]"')
    step: Duration | None = None
    if cursor.peek().name != "]":
        step = positive_interval(cursor, _AFTER_COLON[cursor.semantics])
    closing = cursor.expect("]", "subquery selector", '"]"')
    return SubqueryExpr(expr, range_, step, span=PositionRange(expr.span.start, closing.end))


_AFTER_BRACKET = {
    2: ("subquery selector", "duration"),
    3: ("subquery or range selector", "number, duration, step(), or range()"),
}
_AFTER_COLON = {
    2: ("subquery selector", 'duration or "]"'),
    3: ("subquery selector", 'number, duration, step(), range(), or "]"'),
}
_AFTER_OFFSET = {
    2: ("offset", "duration"),
    3: ("offset", "number, duration, step(), or range()"),
}


def _matrix(
    cursor: Cursor, expr: Expr, range_: Duration, brackets: PositionRange
) -> MatrixSelector:
    if not isinstance(expr, VectorSelector):
        cursor.fail("ranges only allowed for vector selectors", brackets)
    if expr.offset != 0:
        cursor.fail("no offset modifiers allowed before range", brackets)
    # 2.42 lets `@ start()` and `@ end()` stand before the range.
    if expr.at is not None and (cursor.semantics == 3 or not isinstance(expr.at, Edge)):
        cursor.fail("no @ modifiers allowed before range", brackets)
    return MatrixSelector(expr, range_, PositionRange(expr.span.start, brackets.end))


def _offset(cursor: Cursor, expr: Expr) -> Expr:
    cursor.take()
    offset, end = offset_interval(cursor, _AFTER_OFFSET[cursor.semantics])
    if not isinstance(expr, Movable):
        cursor.fail(f"offset modifier {_PRECEDED}", expr.span)
    if _selection(expr).offset != 0:
        cursor.fail("offset may not be set multiple times", expr.span)
    return _moved(expr, end, lambda selection: replace(selection, offset=offset))


def _at(cursor: Cursor, expr: Expr) -> Expr:
    cursor.take()
    token = cursor.peek()
    if token.name in (Edge.START, Edge.END):
        at, end = _edge(cursor, token)
    else:
        at, end = _timestamp(cursor, expr)
    if not isinstance(expr, Movable):
        cursor.fail(f"@ modifier {_PRECEDED}", expr.span)
    if _selection(expr).at is not None:
        cursor.fail("@ <timestamp> may not be set multiple times", expr.span)
    return _moved(expr, end, lambda selection: replace(selection, at=at))


def _edge(cursor: Cursor, token: Token) -> tuple[int | Edge, int]:
    cursor.take()
    cursor.expect("(", "@", "timestamp")
    return Edge(token.name), cursor.expect(")", "@", "timestamp").end


def _timestamp(cursor: Cursor, expr: Expr) -> tuple[int | Edge, int]:
    sign = cursor.accept("-") or cursor.accept("+")
    token = cursor.peek()
    if token.kind is not TokenKind.NUMBER and (
        token.kind is not TokenKind.DURATION or cursor.semantics == 2
    ):
        cursor.unexpected("@", "timestamp")
    literal = number_literal(cursor)
    seconds = -literal.value if sign and sign.name == "-" else literal.value
    if not abs(seconds) < 2**63:
        cursor.fail(f"timestamp out of bounds for @ modifier: {_fixed(seconds)}", expr.span)
    return math.floor(abs(seconds) * 1000 + 0.5) * (1 if seconds >= 0 else -1), literal.span.end


def _fixed(value: float) -> str:
    if math.isfinite(value):
        return f"{value:f}"
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"


def _anchored(cursor: Cursor, expr: Expr) -> Expr:
    token = cursor.take()
    if isinstance(expr, SubqueryExpr):
        cursor.fail(f"{token.name} modifier is not supported for subqueries", expr.span)
    if not isinstance(expr, Movable):
        cursor.fail(f"{token.name} modifier must be preceded by a vector selector", expr.span)
    selector = expr.vector if isinstance(expr, MatrixSelector) else expr
    anchored = selector.anchored or token.name == "anchored"
    smoothed = selector.smoothed or token.name == "smoothed"
    if anchored and smoothed:
        cursor.fail("anchored and smoothed modifiers cannot be used together", expr.span)
    chosen = replace(selector, anchored=anchored, smoothed=smoothed)
    return _placed(expr, chosen, token.end)


def _selection(expr: Movable) -> VectorSelector | SubqueryExpr:
    return expr.vector if isinstance(expr, MatrixSelector) else expr


def _moved(
    expr: Movable,
    end: int,
    change: Callable[[VectorSelector | SubqueryExpr], VectorSelector | SubqueryExpr],
) -> Movable:
    return _placed(expr, change(_selection(expr)), end)


def _placed(expr: Movable, changed: VectorSelector | SubqueryExpr, end: int) -> Movable:
    span = PositionRange(expr.span.start, end)
    if isinstance(expr, MatrixSelector) and isinstance(changed, VectorSelector):
        return replace(expr, vector=changed, span=span)
    return replace(changed, span=span)


MODIFIERS: dict[str, Callable[[Cursor, Expr], Expr]] = {
    "@": _at,
    "[": _window,
    "anchored": _anchored,
    "offset": _offset,
    "smoothed": _anchored,
}
