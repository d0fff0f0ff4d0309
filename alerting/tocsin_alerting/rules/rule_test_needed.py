"""Which rules can give anything in a test: of a file of hundreds, most tests feed a few.

A rule that selects nothing of what is put in, and nothing that such a rule records, has no result
at any evaluation. It is left out, unless it may fail all the same, as it does in promtool.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from tocsin_alerting.promql.parser.ast import (
    SET_OPS,
    AggregateExpr,
    AggregateOp,
    BinaryExpr,
    BinaryOp,
    Call,
    Expr,
    MatrixSelector,
    ParenExpr,
    SubqueryExpr,
    UnaryExpr,
    VectorSelector,
    selectors,
    walk,
)
from tocsin_alerting.promql.parser.signatures import ValueType
from tocsin_alerting.promql.parser.types import type_of
from tocsin_alerting.rules.inputs import names
from tocsin_alerting.rules.instant_query import InstantQuerier
from tocsin_alerting.rules.rule import AlertingRule, Rule, RuleFile
from tocsin_alerting.tsdb.matchers import Matcher
from tocsin_exporter.snapshot import Labels

_OF_NOTHING = frozenset(("absent", "absent_over_time", "scalar"))  # they give something of it
_CANNOT_FAIL = frozenset(
    "absent absent_over_time scalar vector time timestamp histogram_quantile sort sort_desc"
    " rate irate increase delta idelta deriv changes resets abs ceil floor round exp ln log2 log10"
    " sqrt sgn clamp_min clamp_max avg_over_time min_over_time max_over_time sum_over_time"
    " count_over_time last_over_time present_over_time stddev_over_time".split()
)
_PLAIN_AGGREGATIONS = frozenset(
    (AggregateOp.SUM, AggregateOp.AVG, AggregateOp.COUNT, AggregateOp.MIN, AggregateOp.MAX)
)


async def needed_rules(
    files: Iterable[RuleFile], series: Iterable[Labels], empty: InstantQuerier, at_ms: int
) -> list[RuleFile]:
    """The files without the rules that give nothing in a test whose input are these series.

    `empty` is an engine on a store that has nothing yet: what fails there fails in the test.
    """
    files = list(files)
    known = _KnownSeries.of(series)
    rules = [rule for file in files for group in file.groups for rule in group.rules]
    kept = _giving(rules, known)
    for rule in rules:
        if id(rule) not in kept and await _may_fail(rule.query, known, empty, at_ms):
            kept.add(id(rule))
    return [_only(file, kept) for file in files]


def _only(file: RuleFile, kept: set[int]) -> RuleFile:
    groups = (
        replace(group, rules=tuple(rule for rule in group.rules if id(rule) in kept))
        for group in file.groups
    )
    return replace(file, groups=tuple(groups))


@dataclass(slots=True)
class _KnownSeries:
    """The input by the names of its metrics, and the names that rules may add."""

    input: dict[str, list[dict[str, str]]]
    added: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, series: Iterable[Labels]) -> "_KnownSeries":
        by_name: dict[str, list[dict[str, str]]] = defaultdict(list)
        for labels in map(dict, series):
            by_name[labels.get("__name__", "")].append(labels)
        return cls(dict(by_name))

    def has(self, selector: VectorSelector) -> bool:
        """Whether there may be a series of it at some time."""
        if selector.name in self.added or names(selector, self.added):
            return True
        named = self.input.get(selector.name, ()) if selector.name else None
        several = self.input.values() if named is None else (named,)
        return any(
            _matches(matchers, labels)
            for some in several
            for labels in some
            for matchers in selector.matcher_sets
        )


def _matches(matchers: tuple[Matcher, ...], labels: dict[str, str]) -> bool:
    return all(matcher.matches(labels.get(matcher.name, "")) for matcher in matchers)


def _giving(rules: Iterable[Rule], known: _KnownSeries) -> set[int]:
    """The rules that may have a result, by identity; what they record is known then."""
    giving: set[int] = set()
    waiting = list(rules)
    while found := [rule for rule in waiting if _gives(rule.query, known)]:
        giving.update(map(id, found))
        for rule in found:
            recorded = (rule.name,)
            alerts = ("ALERTS", "ALERTS_FOR_STATE")
            known.added.update(alerts if isinstance(rule, AlertingRule) else recorded)
        waiting = [rule for rule in waiting if id(rule) not in giving]
    return giving


def _gives(node: Expr, known: _KnownSeries) -> bool:
    """Whether it may have a result at some time; a number always has."""
    match node:
        case VectorSelector():
            return known.has(node)
        case MatrixSelector(vector=inner):
            return known.has(inner)
        case ParenExpr(expr=inner) | UnaryExpr(expr=inner) | SubqueryExpr(expr=inner):
            return _gives(inner, known)
        case AggregateExpr(expr=inner):
            return _gives(inner, known)
        case Call(function=function, args=args):
            read = [arg for arg in args if type_of(arg) in (ValueType.VECTOR, ValueType.MATRIX)]
            return not read or function in _OF_NOTHING or any(_gives(arg, known) for arg in read)
        case BinaryExpr():
            return _pair_gives(node, known)
        case _:
            return True


def _pair_gives(node: BinaryExpr, known: _KnownSeries) -> bool:
    if node.op is BinaryOp.UNLESS:
        return _gives(node.lhs, known)
    sides = (_gives(side, known) for side in (node.lhs, node.rhs))
    return any(sides) if node.op is BinaryOp.OR or _fills(node) else all(sides)


def _fills(node: BinaryExpr) -> bool:
    matching = node.matching
    return matching is not None and bool(matching.fill_left or matching.fill_right)


async def _may_fail(query: Expr, known: _KnownSeries, empty: InstantQuerier, at_ms: int) -> bool:
    """Of a query that gives nothing: a part of it may, and that one fail; and some functions refuse
    their arguments whatever they are given."""
    nodes = tuple(walk(query))
    if any(_fails_of_some(node) and _gives(node, known) for node in nodes):
        return True
    if any(map(_reads_its_number, nodes)):
        return True
    if any(map(_fails_of_none, nodes)):
        try:
            await empty.instant(query, at_ms)
        except Exception:  # why: whatever breaks a query, the test says of its rule
            return True
    return False


def _fails_of_some(node: Expr) -> bool:
    """Whether it may fail by what its parts give: two results of the same labels, above all."""
    match node:
        case Call(args=args):
            return _fails_of_none(node) or not all(map(_is_one_metric, args))
        case BinaryExpr(op=op, matching=matching):
            return matching is not None and op not in SET_OPS
        case _:
            return _fails_of_none(node)


def _fails_of_none(node: Expr) -> bool:
    match node:
        case Call(function=function):
            return function not in _CANNOT_FAIL
        case AggregateExpr(op=op):
            return op not in _PLAIN_AGGREGATIONS
        case _:
            return False


def _reads_its_number(node: Expr) -> bool:
    """Whether it may fail by a number that is read from series, such as the k of topk: of nothing
    that is NaN, and promtool looks at it where there is nothing to rank."""
    match node:
        case AggregateExpr(param=param):
            return param is not None and any(selectors(param))
        case Call(args=args) if _fails_of_none(node):
            return any(type_of(arg) is ValueType.SCALAR and any(selectors(arg)) for arg in args)
        case _:
            return False


def _is_one_metric(arg: Expr) -> bool:
    """Whether its results differ when they have lost their names."""
    match arg:
        case VectorSelector(name=name) | MatrixSelector(vector=VectorSelector(name=name)):
            return bool(name)
        case ParenExpr(expr=inner) | UnaryExpr(expr=inner) | SubqueryExpr(expr=inner):
            return _is_one_metric(inner)
        case BinaryExpr(op=op, lhs=lhs):
            return op is not BinaryOp.OR and (op not in SET_OPS or _is_one_metric(lhs))
        case _:
            return True
