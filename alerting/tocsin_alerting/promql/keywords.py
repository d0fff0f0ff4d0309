"""The reserved words of PromQL, in lower case, and where each may still be a name."""

from collections.abc import Mapping

from tocsin_alerting.promql.ast import AggregateOp
from tocsin_alerting.promql.token import Kind, Token
from tocsin_alerting.promql.values import Semantics

_WORDS_2: Mapping[str, Kind] = {
    **dict.fromkeys(("and", "or", "unless", "atan2"), Kind.OPERATOR),
    **{op.value: Kind.AGGREGATOR for op in AggregateOp if not op.value.startswith("limit")},
    **dict.fromkeys(("offset", "by", "without", "on", "ignoring"), Kind.KEYWORD),
    **dict.fromkeys(("group_left", "group_right", "bool"), Kind.KEYWORD),
    **dict.fromkeys(("start", "end"), Kind.CALLABLE),
    **dict.fromkeys(("inf", "nan"), Kind.NUMBER),
}
_WORDS_3: Mapping[str, Kind] = {
    **_WORDS_2,
    **dict.fromkeys(("limitk", "limit_ratio"), Kind.AGGREGATOR),
    **dict.fromkeys(("smoothed", "anchored", "fill", "fill_left", "fill_right"), Kind.KEYWORD),
    **dict.fromkeys(("step", "range", "min_of", "max_of"), Kind.CALLABLE),
}
WORDS: Mapping[Semantics, Mapping[str, Kind]] = {2: _WORDS_2, 3: _WORDS_3}

FILLS = frozenset(("fill", "fill_left", "fill_right"))
"""Reserved only before a parenthesis, because metrics had these names before."""

_SET_WORDS = ("and", "or", "unless")
_NAMES = (
    Kind.AGGREGATOR,
    Kind.CALLABLE,
    Kind.IDENTIFIER,
    Kind.KEYWORD,
    Kind.METRIC_IDENTIFIER,
)
_NOT_A_METRIC = frozenset(("bool", "group_left", "group_right", "ignoring", "on"))
_LITERALS = (Kind.NUMBER, Kind.DURATION, Kind.STRING)


def names_metric(token: Token) -> bool:
    """Whether a metric may be called this; most keywords may be metrics too."""
    return token.kind in _NAMES and token.name not in _NOT_A_METRIC or token.name in _SET_WORDS


def names_label(token: Token) -> bool:
    """Whether a label may be called this in a list like that of `by`."""
    if token.name == "without" or token.kind is Kind.METRIC_IDENTIFIER:
        return False
    return token.kind in _NAMES or token.name in (*_SET_WORDS, "atan2")


def begins_expression(token: Token, semantics: Semantics) -> bool:
    if token.kind is Kind.DURATION and semantics == 2:  # which knows them in brackets only
        return False
    return token.kind in _LITERALS or token.name in ("(", "{", "+", "-") or names_metric(token)
