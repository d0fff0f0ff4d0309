"""Durations in a query: literals, and in 3.x arithmetic on them with `step()` and `range()`.

Whatever goes wrong inside is reported in the words of what stands around it, a pair of context
and expectation.
"""

from dataclasses import replace
from typing import TypeAlias

from tocsin_alerting.promql.ast import Duration, DurationExpr, DurationOp, NumberLiteral, Span
from tocsin_alerting.promql.cursor import Cursor
from tocsin_alerting.promql.durations import LONGEST_S, milliseconds
from tocsin_alerting.promql.scalars import duration_ms, number_literal
from tocsin_alerting.promql.token import Kind, Token

Around: TypeAlias = tuple[str, str]
Operand: TypeAlias = NumberLiteral | DurationExpr

_PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2, "%": 2, "^": 3}
_POWER = 3
_ZERO = {"/": "division", "%": "modulo"}
_CALLS = ("step", "range", "min_of", "max_of")


def positive_interval(cursor: Cursor, around: Around) -> Duration:
    """A range or step; milliseconds unless it needs evaluating."""
    start = cursor.peek()
    if cursor.semantics == 2:
        return _plain(cursor, around)
    found = _expression(cursor, around, 0)
    if isinstance(found, DurationExpr):
        return found
    if milliseconds(found.value) <= 0:
        cursor.fail("duration must be greater than 0", Span(start.start, found.span.end))
    return milliseconds(found.value)


def offset_interval(cursor: Cursor, around: Around) -> tuple[Duration, int]:
    """An offset and its end: one signed operand, unless it begins with a parenthesis.

    So `a offset 5m + 1` adds 1 to what was five minutes ago, as in Prometheus.
    """
    if cursor.semantics == 2:
        sign = cursor.accept("-")
        end = cursor.peek().end
        found_ms = _plain(cursor, around)
        return (-found_ms if sign else found_ms), end
    found = _offset_operand(cursor, around)
    if isinstance(found, NumberLiteral):
        return milliseconds(found.value), found.span.end
    return found, found.span.end


def _offset_operand(cursor: Cursor, around: Around) -> Operand:
    sign = cursor.peek().name in ("+", "-")
    inner = cursor.next_name() if sign else cursor.peek().name
    if inner in ("+", "-") or not sign and inner == "(":
        return _expression(cursor, around, 0)
    if not sign:
        return _primary(cursor, around)
    token = cursor.take()
    return _signed(token, _primary(cursor, around))


def _plain(cursor: Cursor, around: Around) -> int:
    token = cursor.peek()
    if token.kind is not Kind.DURATION:
        cursor.unexpected(*around)
    if found := duration_ms(cursor):
        return found
    cursor.fail("duration must be greater than 0", token.span)


def _expression(cursor: Cursor, around: Around, least: int) -> Operand:
    cursor.enter()
    lhs = _operand(cursor, around)
    while (level := _PRECEDENCE.get(cursor.peek().name, -1)) >= least:
        op = cursor.take()
        rhs = _expression(cursor, around, level if op.name == "^" else level + 1)
        lhs = _combined(cursor, op, lhs, rhs)
    cursor.leave()
    return lhs


def _operand(cursor: Cursor, around: Around) -> Operand:
    if sign := cursor.accept("-") or cursor.accept("+"):
        return _signed(sign, _expression(cursor, around, _POWER))
    return _primary(cursor, around)


def _primary(cursor: Cursor, around: Around) -> Operand:
    token = cursor.peek()
    if token.kind in (Kind.NUMBER, Kind.DURATION):
        return _literal(cursor)
    if token.name in _CALLS:
        return _call(cursor, around)
    if token.name != "(":
        cursor.unexpected(*around)
    cursor.take()
    inner = _expression(cursor, around, 0)
    span = Span(token.start, cursor.expect(")", *around).end)
    if isinstance(inner, DurationExpr):
        return replace(inner, wrapped=True, span=span)
    return DurationExpr(DurationOp.ADD, rhs=inner, wrapped=True, span=span)


def _literal(cursor: Cursor) -> NumberLiteral:
    literal = number_literal(cursor)
    if not abs(literal.value) <= LONGEST_S:
        cursor.fail("duration out of range", literal.span)
    return literal


def _call(cursor: Cursor, around: Around) -> DurationExpr:
    name = cursor.take()
    cursor.expect("(", *around)
    lhs = rhs = None
    if name.name in ("min_of", "max_of"):
        lhs = _expression(cursor, around, 0)
        cursor.expect(",", *around)
        rhs = _expression(cursor, around, 0)
    closing = cursor.expect(")", *around)
    return DurationExpr(DurationOp(name.name), lhs, rhs, span=Span(name.start, closing.end))


def _signed(sign: Token, operand: Operand) -> Operand:
    span = Span(sign.start, operand.span.end)
    negative = sign.name == "-"
    if isinstance(operand, NumberLiteral):
        value = -operand.value if negative else operand.value
        return NumberLiteral(value, operand.duration, span)
    return DurationExpr(DurationOp.SUB, rhs=operand, span=span) if negative else operand


def _combined(cursor: Cursor, op: Token, lhs: Operand, rhs: Operand) -> DurationExpr:
    if op.name in _ZERO and isinstance(rhs, NumberLiteral) and rhs.value == 0:
        cursor.fail(f"{_ZERO[op.name]} by zero", op.span)
    span = Span(lhs.span.start, rhs.span.end)
    combined = DurationExpr(DurationOp(op.name), lhs, rhs, span=span)
    cursor.grown(combined, lhs, rhs)
    return combined
