"""The usual kind of expression, parsed a whole operand at a time: a third of the parser's time.

It knows names, matchers, ranges, offsets, calls, aggregations, numbers and operators in their
commonest spelling. What it gives is what the parser would give, to the span; for anything else, and
for all that is wrong, it gives None, and the parser, which knows the rest and the words of every
error, is asked.
"""

import re
from collections.abc import Mapping
from functools import lru_cache

from tocsin_alerting.promql.parser.ast import (
    COMPARISONS,
    SET_OPS,
    AggregateExpr,
    AggregateOp,
    BinaryExpr,
    BinaryOp,
    Call,
    Cardinality,
    Expr,
    MatrixSelector,
    NumberLiteral,
    ParenExpr,
    PositionRange,
    StringLiteral,
    VectorMatching,
    VectorSelector,
)
from tocsin_alerting.promql.parser.operators import PRECEDENCE, RIGHT_TO_LEFT, WITH_PARAM
from tocsin_alerting.promql.parser.printer import matcher_text
from tocsin_alerting.promql.parser.signatures import Semantics, ValueType, signature
from tocsin_alerting.promql.parser.tokens import WORDS, TokenKind
from tocsin_alerting.strconv import parse_number, unquote
from tocsin_alerting.time_format import parse_duration
from tocsin_alerting.tsdb.matchers import InvalidRegex, Matcher, MatchOp
from tocsin_alerting.tsdb.target_labels import METRIC_NAME

_BLANK = r"[ \t\r\n]*+"
_LABEL = r"[A-Za-z_][A-Za-z0-9_]*+"
_LABELS = rf"\({_BLANK}((?:{_LABEL}{_BLANK}(?:,{_BLANK}{_LABEL}{_BLANK})*+)?)\)"
_ENDS = r"(?![0-9A-Za-z_.])"
_DURATION = rf"[0-9]++(?:ms|[smhdwy])(?:[0-9]++(?:ms|[smhdw]))*+{_ENDS}"
_NUMBER = rf"[0-9]++(?:\.[0-9]++)?+(?:[eE][-+]?[0-9]++)?+{_ENDS}"
_NO_TEXT = r"\ufffd\ud800-\udfff"
_TEXT = (
    rf'"[^"\\\n{_NO_TEXT}]*+(?:\\[abfnrtv\\"][^"\\\n{_NO_TEXT}]*+)*+"'
    rf"|'[^'\\\n{_NO_TEXT}]*+(?:\\[abfnrtv\\'][^'\\\n{_NO_TEXT}]*+)*+'"
    rf"|`[^`{_NO_TEXT}]*+`"
)
_OPERAND = re.compile(
    rf"{_BLANK}(?:([A-Za-z_:][A-Za-z0-9_:]*+)"
    rf"(?:{_BLANK}([({{])|{_BLANK}(by|without){_BLANK}{_LABELS}{_BLANK}\()?+"
    rf"|({_NUMBER})|({_TEXT})|([-+(]))"
)
_MARK_AT, _BY_AT, _LABELS_AT, _NUMBER_AT, _STRING_AT, _SIGN_AT = range(2, 8)
_MATCHER = re.compile(
    rf"{_BLANK}(?:({_LABEL}){_BLANK}(=~|!=|!~|=){_BLANK}({_TEXT}){_BLANK}([,}}])|(}}))"
)
_WINDOW = re.compile(
    rf"(?:{_BLANK}\[({_DURATION})\])?+(?:{_BLANK}offset(?![A-Za-z0-9_:]){_BLANK}(-?){_BLANK}({_DURATION}))?+"
)
_GROUPING = re.compile(rf"{_BLANK}(by|without){_BLANK}{_LABELS}")
_INFIX = re.compile(
    rf"{_BLANK}(==|!=|<=|>=|[-+*/%^),]|[<>](?!/)|(?:and|or|unless)(?![A-Za-z0-9_:])|\Z)"
)
_MODIFIERS = re.compile(
    rf"(?:{_BLANK}(bool)(?![A-Za-z0-9_:]))?+"
    rf"(?:{_BLANK}(on|ignoring){_BLANK}{_LABELS}"
    rf"(?:{_BLANK}(group_left|group_right)(?![A-Za-z0-9_:])"
    rf"(?:{_BLANK}{_LABELS}|(?!{_BLANK}\()))?+)?+"
)
_OPS = {op.value: op for op in BinaryOp}
_MATCH_OPS = {op.value: op for op in MatchOp}
_AGGREGATIONS = {op.value: op for op in AggregateOp}
_GROUPS = {
    None: Cardinality.ONE_TO_ONE,
    "group_left": Cardinality.MANY_TO_ONE,
    "group_right": Cardinality.ONE_TO_MANY,
}
_VECTORS, _SETS = VectorMatching(), VectorMatching(cardinality=Cardinality.MANY_TO_MANY)
_SCALAR, _STRING, _VECTOR, _MATRIX = (
    ValueType.SCALAR,
    ValueType.STRING,
    ValueType.VECTOR,
    ValueType.MATRIX,
)
_LONGEST = 10_000  # characters
_LONGEST_LABELS, _LONGEST_NUMBER = 1_000, 30  # characters: they are kept
_DEEPEST = 50  # expressions in one another; half of what the parser takes
_MOST_NODES = 150  # with anything below them; the parser takes 200, one on the other
_LONGEST_MS = 10**12  # of a duration whose seconds are exact

Typed = tuple[Expr, ValueType]


class _Unusual(Exception):
    """Something that the parser is better asked about."""


def plain_expression(query: str, semantics: Semantics) -> Expr | None:
    """The checked expression of a usual query, None for any other and for what is wrong."""
    if len(query) > _LONGEST:
        return None
    reading = _PlainQuery(query, semantics)
    try:
        expr, _ = reading.expression(0)
    except _Unusual:
        return None
    return None if reading.op else expr


@lru_cache(maxsize=1024)
def _labels(text: str) -> tuple[str, ...]:
    if len(text) > _LONGEST_LABELS:
        raise _Unusual
    labels = tuple(label.strip() for label in text.split(",")) if text else ()
    if any(label.lower() in WORDS[3] for label in labels):
        raise _Unusual
    return labels


def _duration_ms(text: str) -> int:
    try:
        duration_ms = parse_duration(text)
    except ValueError:
        raise _Unusual from None
    if not 0 < duration_ms < _LONGEST_MS:
        raise _Unusual
    return duration_ms


@lru_cache(maxsize=1024)
def _number(text: str) -> float:
    if len(text) > _LONGEST_NUMBER:
        raise _Unusual
    try:
        return parse_number(text)
    except ValueError:
        raise _Unusual from None


@lru_cache(maxsize=1024)
def _matching(
    on: bool, labels: str, group: str | None, include: str, of_sets: bool
) -> VectorMatching:
    """Of two vectors; raises for what the check would refuse."""
    match_labels, include_labels = _labels(labels), _labels(include)
    if of_sets and group or on and set(match_labels) & set(include_labels):
        raise _Unusual
    cardinality = Cardinality.MANY_TO_MANY if of_sets else _GROUPS[group]
    return VectorMatching(cardinality, on, match_labels, include_labels)


class _PlainQuery:
    """A place in a query: `at` is behind `op`, the operator, bracket or comma after an operand,
    which is "" at the end."""

    __slots__ = ("_at", "_depth", "_nodes", "_query", "_semantics", "_words", "op")

    def __init__(self, query: str, semantics: Semantics) -> None:
        self._query = query
        self._semantics: Semantics = semantics
        self._words: Mapping[str, TokenKind] = WORDS[semantics]
        self._at = self._depth = self._nodes = 0
        self.op = ""

    def expression(self, least: int) -> Typed:
        """Operands joined by operators that bind at least as close as level `least`."""
        self._depth += 1
        if self._depth > _DEEPEST:
            raise _Unusual
        made = self._operand()
        while (level := PRECEDENCE.get(self.op, -1)) >= least:
            made = self._binary(made, level)
        self._depth -= 1
        return made

    def _look(self) -> None:
        """Pass what follows an operand, which every composed node has one of."""
        match = _INFIX.match(self._query, self._at)
        if match is None or self._nodes > _MOST_NODES:
            raise _Unusual
        self.op, self._at = match[1], match.end()

    def _binary(self, left: Typed, level: int) -> Typed:
        op, end = _OPS[self.op], self._at
        start = end - len(self.op)
        self._nodes += 1
        written = _MODIFIERS.match(self._query, end)
        if written is not None and (written[1] or written[2]):
            end = self._at = written.end()
        lhs, left_type = left
        rhs, right_type = self.expression(level if level == RIGHT_TO_LEFT else level + 1)
        types = left_type, right_type
        return_bool = written is not None and bool(written[1])
        _check_operator(op, types, return_bool)
        matching = _matched(op, types, written) if written else None
        span = PositionRange(lhs.span.start, rhs.span.end)
        made = BinaryExpr(op, lhs, rhs, matching, return_bool, span, PositionRange(start, end))
        return made, _VECTOR if _VECTOR in types else _SCALAR

    def _operand(self) -> Typed:
        """With `op` behind it."""
        match = _OPERAND.match(self._query, self._at)
        if match is None:
            raise _Unusual
        self._at = match.end()
        group = match.lastindex or 0
        if group <= _LABELS_AT:
            return self._named(match, match[1], group)
        if group == _NUMBER_AT:
            return self._literal(_number(match[group]), match.start(group))
        if group == _STRING_AT:
            span = PositionRange(match.start(group), self._at)
            self._look()
            return StringLiteral(unquote(match[group]), span), _STRING
        return self._paren() if match[group] == "(" else self._signed(match[group])

    def _literal(self, value: float, start: int) -> Typed:
        span = PositionRange(start, self._at)
        self._look()
        return NumberLiteral(value, False, span), _SCALAR

    def _signed(self, sign: str) -> Typed:
        """A number, of which the sign is a part."""
        start = self._at - 1
        match = _OPERAND.match(self._query, self._at)
        if match is None or match.lastindex != _NUMBER_AT:
            raise _Unusual
        self._at = match.end()
        number = _number(match[_NUMBER_AT])
        made = self._literal(-number if sign == "-" else number, start)
        if self.op == "^":  # which binds closer than the sign
            raise _Unusual
        return made

    def _paren(self) -> Typed:
        start = self._at - 1
        self._nodes += 1
        inner, type_ = self.expression(0)
        if self.op != ")":
            raise _Unusual
        span = PositionRange(start, self._at)
        self._look()
        return ParenExpr(inner, span), type_

    def _named(self, match: re.Match[str], name: str, group: int) -> Typed:
        """A call, an aggregation, or a metric that is not named like a keyword."""
        kind, start = self._words.get(name.lower()), match.start(1)
        if group == _LABELS_AT or group == _MARK_AT and match[group] == "(":
            if kind is TokenKind.AGGREGATOR:
                return self._aggregate(match, name.lower(), start)
            if kind is None and group == _MARK_AT:
                return self._call(name, start)
        elif kind is None:
            return self._selector(name, start, match)
        raise _Unusual

    def _selector(self, name: str, start: int, match: re.Match[str]) -> Typed:
        named = Matcher(METRIC_NAME, MatchOp.EQUAL, name)
        matchers = (*self._matchers(), named) if match.lastindex == _MARK_AT else (named,)
        end = self._at if match.lastindex == _MARK_AT else match.end(1)
        span = PositionRange(start, end)
        window = _WINDOW.match(self._query, end)
        self._nodes += 1
        if window is None or window.lastindex is None:
            self._look()
            return VectorSelector(name, (matchers,), 0, None, False, False, span), _VECTOR
        range_, sign, offset = window.groups()
        offset_ms = _duration_ms(offset) * (-1 if sign else 1) if offset else 0
        end = self._at = window.end()
        self._look()
        if range_ is None:
            span = PositionRange(start, end)
        vector = VectorSelector(name, (matchers,), offset_ms, None, False, False, span)
        if range_ is None:
            return vector, _VECTOR
        return MatrixSelector(vector, _duration_ms(range_), PositionRange(start, end)), _MATRIX

    def _matchers(self) -> list[Matcher]:
        """What stands in braces, in the order in which Prometheus prints it."""
        matchers: list[Matcher] = []
        closing = ""
        while closing != "}":
            match = _MATCHER.match(self._query, self._at)
            if match is None:
                raise _Unusual
            label, op, text, mark, closing = match.groups(default="")
            self._at = match.end()
            closing = closing or mark
            if label:
                matchers.append(self._matcher(label, _MATCH_OPS[op], unquote(text)))
        if len(matchers) > 1:
            matchers.sort(key=matcher_text)
        return matchers

    def _matcher(self, label: str, op: MatchOp, value: str) -> Matcher:
        if label == METRIC_NAME:  # which is there already
            raise _Unusual
        if op is MatchOp.EQUAL or op is MatchOp.NOT_EQUAL:
            return Matcher(label, op, value)
        try:
            return Matcher(label, op, value, self._semantics == 2)
        except InvalidRegex:
            raise _Unusual from None

    def _arguments(self) -> list[Typed]:
        """Behind the opening parenthesis; `at` is behind the closing one."""
        if self._query.startswith(")", self._at):
            self._at += 1
            return []
        args = [self.expression(0)]
        while self.op == ",":
            args.append(self.expression(0))
        if self.op != ")":
            raise _Unusual
        return args

    def _call(self, name: str, start: int) -> Typed:
        self._nodes += 1
        takes = signature(name, self._semantics)
        if takes is None or name == "info":
            raise _Unusual
        args = self._arguments()
        end = self._at
        count, most = len(args), len(takes.args)
        least = most - 1 if takes.variadic else most
        most = least + takes.variadic if takes.variadic else most
        if count < least or count > most and takes.variadic >= 0:
            raise _Unusual
        for index, (_, type_) in enumerate(args):
            if type_ is not takes.args[min(index, len(takes.args) - 1)]:
                raise _Unusual
        self._look()
        made = Call(name, tuple([arg for arg, _ in args]), PositionRange(start, end))
        return made, takes.returns

    def _aggregate(self, match: re.Match[str], name: str, start: int) -> Typed:
        self._nodes += 1
        op = _AGGREGATIONS[name]
        word, labels = match[_BY_AT], match[_LABELS_AT]
        args = self._arguments()
        if word is None and (grouping := _GROUPING.match(self._query, self._at)):
            self._at = grouping.end()
            word, labels = grouping.groups()
        wanted = [_STRING if op is AggregateOp.COUNT_VALUES else _SCALAR] * (op in WITH_PARAM)
        if [type_ for _, type_ in args] != [*wanted, _VECTOR]:
            raise _Unusual
        span = PositionRange(start, self._at)
        self._look()
        param = args[0][0] if wanted else None
        by = _labels(labels) if labels else ()
        return AggregateExpr(op, args[-1][0], param, by, word == "without", span), _VECTOR


def _check_operator(op: BinaryOp, types: tuple[ValueType, ValueType], return_bool: bool) -> None:
    """Raises for what the check of types would refuse."""
    for type_ in types:
        if type_ is not _VECTOR and type_ is not _SCALAR:
            raise _Unusual
    if op in COMPARISONS:
        if not return_bool and _VECTOR not in types:
            raise _Unusual
    elif return_bool or op in SET_OPS and _SCALAR in types:
        raise _Unusual


def _matched(
    op: BinaryOp, types: tuple[ValueType, ValueType], written: re.Match[str]
) -> VectorMatching | None:
    """How two vectors are matched; there is nothing to match with a scalar."""
    _, on, labels, group, include = written.groups()
    if _SCALAR in types:
        if on:
            raise _Unusual
        return None
    if on is None:
        return _SETS if op in SET_OPS else _VECTORS
    return _matching(on == "on", labels, group, include or "", op in SET_OPS)
