"""What stands in braces: `{job="a", code=~"5.."}`, quoted names, and sets joined by `or`."""

from tocsin_alerting.promql.parser.ast import PositionRange, VectorSelector
from tocsin_alerting.promql.parser.cursor import Cursor
from tocsin_alerting.promql.parser.printer import matcher_text
from tocsin_alerting.promql.parser.quoting import unquote
from tocsin_alerting.promql.parser.tokens import Token, TokenKind
from tocsin_alerting.tsdb.matchers import InvalidRegex, Matcher, MatchOp

NAME = "__name__"
_CONTEXT = "label matching"
_OPS = {op.value: op for op in MatchOp}


def vector_selector(cursor: Cursor, name: Token | None) -> VectorSelector:
    """`<name>`, `<name>{...}` or `{...}`; the cursor stands behind the name.

    Matchers are sorted by their text, as Prometheus prints them; their order means nothing.
    """
    outside = (Matcher(NAME, MatchOp.EQUAL, name.text),) if name else ()
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
            return Matcher(NAME, MatchOp.EQUAL, unquote(label.text))
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
