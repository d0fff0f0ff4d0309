"""The reserved words of PromQL, in lower case, and where each may still be a name."""

from collections.abc import Mapping

from tocsin_alerting.promql.ast import AggregateOp
from tocsin_alerting.promql.token import Kind
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

NOT_A_METRIC = frozenset(("atan2", "bool", "group_left", "group_right", "ignoring", "on"))
NOT_A_LABEL = frozenset(("without",))
