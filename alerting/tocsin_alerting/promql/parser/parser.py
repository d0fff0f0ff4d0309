"""Text to expressions: precedence climbing over the tokens, then the types."""

from tocsin_alerting.promql.parser.ast import (
    AggregateExpr,
    AggregateOp,
    BinaryExpr,
    BinaryOp,
    Call,
    Expr,
    NumberLiteral,
    ParenExpr,
    PositionRange,
    StringLiteral,
    UnaryExpr,
    VectorMatching,
    VectorSelector,
)
from tocsin_alerting.promql.parser.cursor import Cursor
from tocsin_alerting.promql.parser.durations import number_literal
from tocsin_alerting.promql.parser.operators import PRECEDENCE, RIGHT_TO_LEFT, WITH_PARAM
from tocsin_alerting.promql.parser.plain import plain_expression
from tocsin_alerting.promql.parser.selector import vector_selector, with_modifiers
from tocsin_alerting.promql.parser.signatures import Semantics, ValueType, signature
from tocsin_alerting.promql.parser.tokens import Token, TokenKind, begins_expression, names_metric
from tocsin_alerting.promql.parser.types import check, type_of
from tocsin_alerting.promql.parser.vector_matching_syntax import (
    Modifiers,
    grouping_labels,
    modifiers,
)
from tocsin_alerting.strconv import quote, unquote

_POWER = RIGHT_TO_LEFT


def parse(query: str, semantics: Semantics = 3) -> Expr:
    """The checked expression of `query`, a value that may be kept and shared.

    Raises ParseError for the first thing wrong with it.
    """
    if (plain := plain_expression(query, semantics)) is not None:
        return plain
    return parse_any(query, semantics)


def parse_any(query: str, semantics: Semantics = 3) -> Expr:
    """The same, token by token."""
    cursor = Cursor(query, semantics)
    if cursor.peek().kind is TokenKind.END:
        cursor.fail("no expression found in input", PositionRange(0, 0))
    expr = _expression(cursor)
    if cursor.peek().kind is not TokenKind.END:
        cursor.unexpected()
    check(expr, query)
    return expr


def parse_selector(query: str, semantics: Semantics = 3) -> VectorSelector:
    """A vector selector and nothing else, as in `match[]`; one that selects all is allowed.

    Raises ParseError.
    """
    cursor = Cursor(query, semantics)
    token = cursor.peek()
    name = cursor.take() if names_metric(token) else None
    if name is None and token.name != "{":
        cursor.unexpected()
    selector = vector_selector(cursor, name)
    if cursor.peek().kind is not TokenKind.END:
        cursor.unexpected()
    return selector


def _expression(cursor: Cursor, least: int = 0) -> Expr:
    """Operands joined by operators that bind at least as close as level `least`."""
    cursor.enter()
    lhs = _operand(cursor)
    while (level := PRECEDENCE.get(cursor.peek().name, -1)) >= least:
        op = cursor.take()
        changes = modifiers(cursor, BinaryOp(op.name), op.end)
        rhs = _expression(cursor, level if level == _POWER else level + 1)
        lhs = _binary(cursor, op, changes, lhs, rhs)
    cursor.leave()
    return lhs


def _binary(cursor: Cursor, op: Token, changes: Modifiers, lhs: Expr, rhs: Expr) -> BinaryExpr:
    vectors = type_of(lhs) is type_of(rhs) is ValueType.VECTOR
    written = changes.matching
    has_matching = vectors or _is_selective(written)
    binary = BinaryExpr(
        op=BinaryOp(op.name),
        lhs=lhs,
        rhs=rhs,
        matching=written if has_matching else None,
        return_bool=changes.return_bool,
        span=PositionRange(lhs.span.start, rhs.span.end),
        op_span=PositionRange(op.start, changes.end),
    )
    cursor.grown(binary, lhs, rhs)
    return binary


def _is_selective(matching: VectorMatching) -> bool:
    """Whether it asks for what only vectors can give; the type check refuses it for scalars."""
    return bool(matching.labels or matching.fill_left or matching.fill_right)


def _operand(cursor: Cursor) -> Expr:
    token = cursor.peek()
    if token.name in ("+", "-"):
        return _unary(cursor)
    return with_modifiers(cursor, _primary(cursor, token))


def _unary(cursor: Cursor) -> Expr:
    """A sign binds as close as `*`, so `-2^2` is -4; before a literal it is part of the number."""
    sign = cursor.take()
    inner = _expression(cursor, _POWER)
    span = PositionRange(sign.start, inner.span.end)
    if isinstance(inner, NumberLiteral):
        value = -inner.value if sign.name == "-" else inner.value
        return NumberLiteral(value, inner.duration, span)
    unary = UnaryExpr(BinaryOp(sign.name), inner, span)
    cursor.grown(unary, inner)
    return unary


def _primary(cursor: Cursor, token: Token) -> Expr:
    if token.kind in (TokenKind.NUMBER, TokenKind.DURATION):
        return number_literal(cursor)
    if token.kind is TokenKind.STRING:
        cursor.take()
        return StringLiteral(unquote(token.text), token.span)
    if token.name == "(":
        return _paren(cursor)
    if token.name == "{":
        return vector_selector(cursor, None)
    return _named(cursor, token)


def _named(cursor: Cursor, token: Token) -> Expr:
    """A call, an aggregation, or a metric, which may be named like a keyword."""
    following = cursor.next_name()
    if token.kind is TokenKind.AGGREGATOR and following in ("(", "by", "without"):
        return _aggregate(cursor)
    callable_ = token.kind is TokenKind.CALLABLE and cursor.semantics == 3
    if following == "(" and (token.kind is TokenKind.IDENTIFIER or callable_):
        return _call(cursor)
    if names_metric(token):
        return vector_selector(cursor, cursor.take())
    return cursor.unexpected()


def _paren(cursor: Cursor) -> ParenExpr:
    opening = cursor.take()
    inner = _expression(cursor)
    paren = ParenExpr(inner, PositionRange(opening.start, cursor.expect(")").end))
    cursor.grown(paren, inner)
    return paren


def _call(cursor: Cursor) -> Call:
    name = cursor.take()
    args, end = _arguments(cursor)
    if signature(name.text, cursor.semantics) is None:
        cursor.fail(f"unknown function with name {quote(name.text)}", name.span)
    call = Call(name.text, args, PositionRange(name.start, end))
    cursor.grown(call, *args)
    return call


def _arguments(cursor: Cursor) -> tuple[tuple[Expr, ...], int]:
    """`(<expr>, ...)` and where it ends."""
    cursor.expect("(")
    if closing := cursor.accept(")"):
        return (), closing.end
    args = [_expression(cursor)]
    while comma := cursor.accept(","):
        if not begins_expression(cursor.peek(), cursor.semantics):
            cursor.fail("trailing commas not allowed in function call args", comma.span)
        args.append(_expression(cursor))
    return tuple(args), cursor.expect(")").end


def _aggregate(cursor: Cursor) -> AggregateExpr:
    op = cursor.take()
    cursor.enter_aggregation()
    without, grouping, end = _grouping(cursor)
    args, args_end = _arguments(cursor)
    cursor.leave_aggregation()
    if end is None:
        without, grouping, end = _grouping(cursor)
    span = PositionRange(op.start, max(args_end, end or 0))
    kind = AggregateOp(op.name)
    expected = 2 if kind in WITH_PARAM else 1
    _check_count(cursor, args, expected, span)
    param = args[0] if expected == 2 else None
    aggregate = AggregateExpr(kind, args[-1], param, grouping, without, span)
    cursor.grown(aggregate, *args)
    return aggregate


def _grouping(cursor: Cursor) -> tuple[bool, tuple[str, ...], int | None]:
    """`by (...)` or `without (...)` and its end, None where there is neither."""
    word = cursor.peek()
    if word.name not in ("by", "without"):
        return False, (), None
    cursor.take()
    labels, end = grouping_labels(cursor)
    return word.name == "without", labels, end


def _check_count(
    cursor: Cursor, args: tuple[Expr, ...], expected: int, span: PositionRange
) -> None:
    if not args:
        cursor.fail("no arguments for aggregate expression provided", span)
    if len(args) != expected:
        what = "wrong number of arguments for aggregate expression provided"
        cursor.fail(f"{what}, expected {expected}, got {len(args)}", span)
