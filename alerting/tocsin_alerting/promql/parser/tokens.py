"""One word of a query, and how an error message names it."""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from tocsin_alerting.promql.parser.ast import AggregateOp, PositionRange
from tocsin_alerting.promql.parser.signatures import Semantics
from tocsin_alerting.strconv import quote


class TokenKind(StrEnum):
    """The values of literal kinds are the words of error messages."""

    IDENTIFIER = "identifier"
    METRIC_IDENTIFIER = "metric identifier"
    NUMBER = "number"
    DURATION = "duration"
    STRING = "string"
    OPERATOR = "operator"
    AGGREGATOR = "aggregator"
    KEYWORD = "keyword"
    CALLABLE = "callable"  # keywords that are called: start, end, step, range, min_of, max_of
    PUNCTUATION = "punctuation"
    END = "end of input"
    ERROR = "error"


class Token(NamedTuple):
    """`name` is the one spelling of a fixed word (`sum` of `SUM`), empty for literals.

    `text` is as written; that of an ERROR is what the lexer has to say.
    """

    kind: TokenKind
    text: str
    start: int
    name: str = ""

    @property
    def end(self) -> int:
        return self.start + len(self.text)

    @property
    def span(self) -> PositionRange:
        return PositionRange(self.start, self.start + len(self.text))

    @property
    def described(self) -> str:
        """What stands here, in Prometheus's notation: `identifier "foo"`, `<op:+>`, `<by>`."""
        match self.kind:
            case TokenKind.END:
                return self.kind.value
            case TokenKind.OPERATOR:
                return f"<op:{self.text}>"
            case TokenKind.AGGREGATOR:
                return f"<aggr:{self.text}>"
            case TokenKind.KEYWORD:
                return f"<{self.text}>"
            case TokenKind.CALLABLE | TokenKind.PUNCTUATION:
                return quote(self.text)
            case TokenKind.IDENTIFIER | TokenKind.METRIC_IDENTIFIER:
                return f"{self.kind.value} {quote(self.text)}"
            case _:
                return f"{self.kind.value} {_shortened(self.text)}"


def _shortened(text: str) -> str:
    return f"{quote(text[:10])}..." if len(text.encode(errors="replace")) > 10 else quote(text)


_WORDS_2: Mapping[str, TokenKind] = {
    **dict.fromkeys(("and", "or", "unless", "atan2"), TokenKind.OPERATOR),
    **{op.value: TokenKind.AGGREGATOR for op in AggregateOp if not op.value.startswith("limit")},
    **dict.fromkeys(("offset", "by", "without", "on", "ignoring"), TokenKind.KEYWORD),
    **dict.fromkeys(("group_left", "group_right", "bool"), TokenKind.KEYWORD),
    **dict.fromkeys(("start", "end"), TokenKind.CALLABLE),
    **dict.fromkeys(("inf", "nan"), TokenKind.NUMBER),
}
_WORDS_3: Mapping[str, TokenKind] = {
    **_WORDS_2,
    **dict.fromkeys(("limitk", "limit_ratio"), TokenKind.AGGREGATOR),
    **dict.fromkeys(("smoothed", "anchored", "fill", "fill_left", "fill_right"), TokenKind.KEYWORD),
    **dict.fromkeys(("step", "range", "min_of", "max_of"), TokenKind.CALLABLE),
}
WORDS: Mapping[Semantics, Mapping[str, TokenKind]] = {2: _WORDS_2, 3: _WORDS_3}

FILLS = frozenset(("fill", "fill_left", "fill_right"))
"""Reserved only before a parenthesis, because metrics had these names before."""

_SET_WORDS = ("and", "or", "unless")
_NAMES = (
    TokenKind.AGGREGATOR,
    TokenKind.CALLABLE,
    TokenKind.IDENTIFIER,
    TokenKind.KEYWORD,
    TokenKind.METRIC_IDENTIFIER,
)
_NOT_A_METRIC = frozenset(("bool", "group_left", "group_right", "ignoring", "on"))
_LITERALS = (TokenKind.NUMBER, TokenKind.DURATION, TokenKind.STRING)


def names_metric(token: Token) -> bool:
    """Whether a metric may be called this; most keywords may be metrics too."""
    return token.kind in _NAMES and token.name not in _NOT_A_METRIC or token.name in _SET_WORDS


def names_label(token: Token) -> bool:
    """Whether a label may be called this in a list like that of `by`."""
    if token.name == "without" or token.kind is TokenKind.METRIC_IDENTIFIER:
        return False
    return token.kind in _NAMES or token.name in (*_SET_WORDS, "atan2")


def begins_expression(token: Token, semantics: Semantics) -> bool:
    if token.kind is TokenKind.DURATION and semantics == 2:  # which knows them in brackets only
        return False
    return token.kind in _LITERALS or token.name in ("(", "{", "+", "-") or names_metric(token)
