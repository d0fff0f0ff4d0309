"""What may stand between a binary operator and its right side, and lists of labels."""

from dataclasses import dataclass, replace

from tocsin_alerting.promql.parser.ast import (
    SET_OPS,
    BinaryOp,
    Cardinality,
    NumberLiteral,
    VectorMatching,
)
from tocsin_alerting.promql.parser.cursor import Cursor
from tocsin_alerting.promql.parser.durations import number_literal
from tocsin_alerting.promql.parser.tokens import (
    FILLS,
    Token,
    TokenKind,
    begins_expression,
    names_label,
)
from tocsin_alerting.strconv import quote, unquote

_CONTEXT = "grouping opts"
_GROUPS = {"group_left": Cardinality.MANY_TO_ONE, "group_right": Cardinality.ONE_TO_MANY}

_PLAIN = VectorMatching()
_PLAIN_SETS = VectorMatching(cardinality=Cardinality.MANY_TO_MANY)


@dataclass(frozen=True, slots=True)
class Modifiers:
    """`bool` and the vector matching as written; `end` is where they end."""

    return_bool: bool
    matching: VectorMatching
    end: int


def modifiers(cursor: Cursor, op: BinaryOp, end: int) -> Modifiers:
    """`[bool] [on|ignoring (...) [group_left|group_right [(...)]]] [fill...]`"""
    if cursor.peek().kind is not TokenKind.KEYWORD:
        return Modifiers(False, _PLAIN_SETS if op in SET_OPS else _PLAIN, end)
    return_bool = cursor.accept("bool")
    end = return_bool.end if return_bool else end
    matching = _PLAIN_SETS if op in SET_OPS else _PLAIN
    if chosen := cursor.accept("on") or cursor.accept("ignoring"):
        labels, end = grouping_labels(cursor)
        matching = replace(matching, on=chosen.name == "on", labels=labels)
        matching, end = _group(cursor, matching, end)
    matching, end = _fills(cursor, matching, end)
    return Modifiers(return_bool is not None, matching, end)


def grouping_labels(cursor: Cursor) -> tuple[tuple[str, ...], int]:
    """`(<label>, ...)`, a comma may follow the last; the labels and where the list ends."""
    cursor.expect("(", _CONTEXT, '"("')
    labels: list[str] = []
    while not (closing := cursor.accept(")")):
        labels.append(_label(cursor))
        if not cursor.accept(",") and cursor.peek().name != ")":
            cursor.unexpected(_CONTEXT, '"," or ")"')
    return tuple(labels), closing.end


def _label(cursor: Cursor) -> str:
    token = cursor.peek()
    if token.kind is TokenKind.STRING and cursor.semantics == 3:
        cursor.take()
        return _named(cursor, token, unquote(token.text))
    if token.kind is TokenKind.METRIC_IDENTIFIER and cursor.semantics == 3:
        return cursor.take().text
    if not names_label(token):
        cursor.unexpected(_CONTEXT, "label")
    return cursor.take().text


def _named(cursor: Cursor, token: Token, name: str) -> str:
    if not name:
        cursor.fail(f"invalid label name for grouping: {quote(name)}", token.span)
    return name


def _group(cursor: Cursor, matching: VectorMatching, end: int) -> tuple[VectorMatching, int]:
    group = cursor.accept("group_left") or cursor.accept("group_right")
    if not group:
        return matching, end
    include: tuple[str, ...] = ()
    end = group.end
    following = cursor.peek()
    if following.name == "(" or not (
        begins_expression(following, cursor.semantics) or following.name in FILLS
    ):
        include, end = grouping_labels(cursor)
    return replace(matching, cardinality=_GROUPS[group.name], include=include), end


def _fills(cursor: Cursor, matching: VectorMatching, end: int) -> tuple[VectorMatching, int]:
    if cursor.accept("fill"):
        value, end = _fill_value(cursor)
        return replace(matching, fill_left=value, fill_right=value), end
    for _ in range(2):
        if matching.fill_left is None and cursor.accept("fill_left"):
            value, end = _fill_value(cursor)
            matching = replace(matching, fill_left=value)
        elif matching.fill_right is None and cursor.accept("fill_right"):
            value, end = _fill_value(cursor)
            matching = replace(matching, fill_right=value)
    return matching, end


def _fill_value(cursor: Cursor) -> tuple[NumberLiteral, int]:
    """`(<number>)`; a duration counts in seconds."""
    cursor.expect("(")
    sign = cursor.accept("-") or cursor.accept("+")
    literal = number_literal(cursor)
    value = -literal.value if sign and sign.name == "-" else literal.value
    return NumberLiteral(value, span=literal.span), cursor.expect(")").end
