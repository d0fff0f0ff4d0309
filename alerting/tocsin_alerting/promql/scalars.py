"""Numbers and durations where they stand in a query."""

from tocsin_alerting.promql.ast import NumberLiteral
from tocsin_alerting.promql.cursor import Cursor
from tocsin_alerting.promql.durations import parse_duration
from tocsin_alerting.promql.numbers import parse_number
from tocsin_alerting.promql.token import Kind


def number_literal(cursor: Cursor) -> NumberLiteral:
    """A number, or a duration in seconds (2.42 knows no durations outside brackets)."""
    token = cursor.peek()
    if token.kind is Kind.DURATION and cursor.semantics == 3:
        return NumberLiteral(duration_ms(cursor) / 1000, duration=True, span=token.span)
    if token.kind is not Kind.NUMBER:
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
