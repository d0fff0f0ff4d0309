"""Durations in a query: literals, and in 3.x arithmetic on them with `step()` and `range()`.

First how they are parsed: whatever goes wrong inside is reported in the words of what stands around
it, a pair of context and expectation. Then what they are worth in a query of some step and range.
"""

import math
from dataclasses import replace
from typing import TypeAlias

from tocsin_alerting.promql.parser.ast import (
    Duration,
    DurationExpr,
    DurationOp,
    NumberLiteral,
    PositionRange,
)
from tocsin_alerting.promql.parser.cursor import Cursor
from tocsin_alerting.promql.parser.tokens import Token, TokenKind
from tocsin_alerting.strconv import parse_number
from tocsin_alerting.time_format import LONGEST_S, parse_duration

Around: TypeAlias = tuple[str, str]
Operand: TypeAlias = NumberLiteral | DurationExpr

_PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2, "%": 2, "^": 3}
_POWER = 3
_ZERO = {"/": "division", "%": "modulo"}
_CALLS = ("step", "range", "min_of", "max_of")


class InvalidDuration(ValueError):
    """A duration expression without a usable value; `span` is its place in the query."""

    def __init__(self, message: str, span: PositionRange) -> None:
        self.span = span
        super().__init__(message)


def number_literal(cursor: Cursor) -> NumberLiteral:
    """A number, or a duration in seconds (2.42 knows no durations outside brackets)."""
    token = cursor.peek()
    if token.kind is TokenKind.DURATION and cursor.semantics == 3:
        return NumberLiteral(duration_ms(cursor) / 1000, duration=True, span=token.span)
    if token.kind is not TokenKind.NUMBER:
        cursor.unexpected()
    cursor.take()
    try:
        return NumberLiteral(parse_number(token.text), span=token.span)
    except ValueError as error:
        cursor.fail(str(error), token.span)


def duration_ms(cursor: Cursor) -> int:
    """Milliseconds of the duration token here."""
    token = cursor.take()
    try:
        return parse_duration(token.text)
    except ValueError as error:
        cursor.fail(str(error), token.span)


def positive_interval(cursor: Cursor, around: Around) -> Duration:
    """A range or step; milliseconds unless it needs evaluating."""
    start = cursor.peek()
    if cursor.semantics == 2:
        return _plain(cursor, around)
    duration = _expression(cursor, around, 0)
    if isinstance(duration, DurationExpr):
        return duration
    if milliseconds(duration.value) <= 0:
        cursor.fail(
            "duration must be greater than 0", PositionRange(start.start, duration.span.end)
        )
    return milliseconds(duration.value)


def offset_interval(cursor: Cursor, around: Around) -> tuple[Duration, int]:
    """An offset and its end: one signed operand, unless it begins with a parenthesis.

    So `a offset 5m + 1` adds 1 to what was five minutes ago, as in Prometheus.
    """
    if cursor.semantics == 2:
        sign = cursor.accept("-")
        end = cursor.peek().end
        found_ms = _plain(cursor, around)
        return (-found_ms if sign else found_ms), end
    duration = _offset_operand(cursor, around)
    if isinstance(duration, NumberLiteral):
        return milliseconds(duration.value), duration.span.end
    return duration, duration.span.end


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
    if token.kind is not TokenKind.DURATION:
        cursor.unexpected(*around)
    if milliseconds := duration_ms(cursor):
        return milliseconds
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
    if token.kind in (TokenKind.NUMBER, TokenKind.DURATION):
        return _literal(cursor)
    if token.name in _CALLS:
        return _call(cursor, around)
    if token.name != "(":
        cursor.unexpected(*around)
    cursor.take()
    inner = _expression(cursor, around, 0)
    span = PositionRange(token.start, cursor.expect(")", *around).end)
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
    return DurationExpr(
        DurationOp(name.name), lhs, rhs, span=PositionRange(name.start, closing.end)
    )


def _signed(sign: Token, operand: Operand) -> Operand:
    span = PositionRange(sign.start, operand.span.end)
    negative = sign.name == "-"
    if isinstance(operand, NumberLiteral):
        value = -operand.value if negative else operand.value
        return NumberLiteral(value, operand.duration, span)
    return DurationExpr(DurationOp.SUB, rhs=operand, span=span) if negative else operand


def _combined(cursor: Cursor, op: Token, lhs: Operand, rhs: Operand) -> DurationExpr:
    if op.name in _ZERO and isinstance(rhs, NumberLiteral) and rhs.value == 0:
        cursor.fail(f"{_ZERO[op.name]} by zero", op.span)
    span = PositionRange(lhs.span.start, rhs.span.end)
    combined = DurationExpr(DurationOp(op.name), lhs, rhs, span=span)
    cursor.grown(combined, lhs, rhs)
    return combined


def milliseconds(seconds: float) -> int:
    """Whole milliseconds, cut off like Prometheus's, but not for the error of a float."""
    return math.trunc(round(seconds * 1000, 3))


def resolve(duration: Duration, step_ms: int, range_ms: int, negative: bool = False) -> int:
    """Milliseconds of a duration in a query of this step and range; `negative` ones are offsets.

    Raises InvalidDuration.
    """
    if isinstance(duration, int):
        return duration
    seconds = _seconds(duration, step_ms / 1000, range_ms / 1000)
    if not math.isfinite(seconds):
        raise InvalidDuration("duration is NaN or infinite", duration.span)
    if seconds <= 0 and not negative:
        raise InvalidDuration("duration must be greater than 0", duration.span)
    if abs(seconds) > LONGEST_S:
        raise InvalidDuration("duration is out of range", duration.span)
    return math.trunc(seconds * 1000)


def _seconds(node: NumberLiteral | DurationExpr | None, step: float, range_: float) -> float:
    if node is None:
        return 0.0
    if isinstance(node, NumberLiteral):
        return node.value
    if node.op is DurationOp.STEP:
        return step
    if node.op is DurationOp.RANGE:
        return range_
    return _apply(node, _seconds(node.lhs, step, range_), _seconds(node.rhs, step, range_))


def _apply(node: DurationExpr, lhs: float, rhs: float) -> float:
    match node.op:
        case DurationOp.ADD:
            return lhs + rhs
        case DurationOp.SUB:
            return lhs - rhs
        case DurationOp.MUL:
            return lhs * rhs
        case DurationOp.MIN_OF:
            return min(lhs, rhs)
        case DurationOp.MAX_OF:
            return max(lhs, rhs)
        case DurationOp.POW:
            return _power(lhs, rhs)
        case _:
            return _divide(node, lhs, rhs)


def _divide(node: DurationExpr, lhs: float, rhs: float) -> float:
    if rhs == 0:
        what = "division" if node.op is DurationOp.DIV else "modulo"
        raise InvalidDuration(f"{what} by zero", node.span)
    return lhs / rhs if node.op is DurationOp.DIV else math.fmod(lhs, rhs)


def _power(base: float, exponent: float) -> float:
    """IEEE 754's pow, where Python raises: out of range is infinite, a complex root is NaN."""
    try:
        return math.pow(base, exponent)
    except OverflowError:
        return math.inf
    except ValueError:
        return math.inf if base == 0 else math.nan
