"""Lints that need a store: selectors that select nothing, thresholds that were never reached."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from typing import Protocol, TypeAlias

from tocsin_alerting.promql.parser.ast import (
    BinaryExpr,
    BinaryOp,
    Call,
    Expr,
    MatrixSelector,
    SubqueryExpr,
    VectorSelector,
    children,
)
from tocsin_alerting.promql.parser.printer import matcher_text, print_expr
from tocsin_alerting.rules.inputs import reach_ms
from tocsin_alerting.rules.lint import Lint, placed
from tocsin_alerting.rules.rule import AlertingRule, Rule, RuleGroup
from tocsin_alerting.rules.threshold import comparison
from tocsin_alerting.tsdb.matchers import Matcher
from tocsin_alerting.yaml_document import Document, Path, Problem

SeriesLabels: TypeAlias = Mapping[str, str]
FAR = 10
"""A threshold so many times higher than what was ever seen is hardly meant."""
_ALWAYS_THERE = frozenset(("ALERTS", "ALERTS_FOR_STATE"))  # while something fires
_MOST_VALUES = 3  # of a label, in a message


class LiveStore(Protocol):
    """What there is, as a running agent says it."""

    def names(self) -> Collection[str]:
        """Of all metrics that it has."""
        ...

    def series(self, selector: VectorSelector, reach_ms: int) -> Sequence[SeriesLabels]:
        """The series of the selector's metric (some, at least one of those that it selects, where
        it names none) that had samples within this time."""
        ...

    def highest(self, expr: str) -> float | None:
        """The highest value of `expr` that it remembers, None where there is none."""


Touched: TypeAlias = Callable[[VectorSelector, int], bool]


def live_lints(
    document: Document,
    groups: Iterable[RuleGroup],
    store: LiveStore,
    recorded: Collection[str],
    chosen: Collection[str],
    root: Path = (),
) -> Iterator[Lint]:
    """`recorded` are the names that rules give, which may not be there yet."""
    words = _Words(store)

    @cache
    def touched(selector: VectorSelector, reach: int) -> bool:
        if selector.name in _ALWAYS_THERE or selector.name in recorded:
            return True
        return any(selects(selector, labels) for labels in store.series(selector, reach))

    for path, group, rule in placed(document, groups, root):
        where = f'group "{group.name}", rule {int(path[-1]) + 1}, "{rule.name}": '
        missing = list(dict.fromkeys(missing_selectors(rule.query, touched)))
        at = (*path, "expr")
        for selector in missing if "matches-nothing" in chosen else ():
            place = document.text_position(at, selector.span.start)
            problem = Problem(document.file, *place, where + words.missing(selector))
            yield Lint(problem, "matches-nothing")
        if "never-reached" in chosen and not missing and (message := _never_reached(rule, store)):
            yield Lint(document.problem(at, where + message), "never-reached")


def selects(selector: VectorSelector, labels: SeriesLabels) -> bool:
    return any(
        all(matcher.matches(labels.get(matcher.name, "")) for matcher in matchers)
        for matchers in selector.matcher_sets
    )


def missing_selectors(expr: Expr, touched: Touched, reach: int = 0) -> list[VectorSelector]:
    """The selectors without which `expr` has no result: not those whose absence is asked for, nor
    what is only taken away, nor one way of several."""
    match expr:
        case VectorSelector():
            return [] if touched(expr, reach + reach_ms(expr)) else [expr]
        case Call(function="absent" | "absent_over_time"):
            return []
        case BinaryExpr(op=BinaryOp.OR, lhs=left, rhs=right):
            sides = [missing_selectors(side, touched, reach) for side in (left, right)]
            return [*sides[0], *sides[1]] if all(sides) else []
        case BinaryExpr(op=BinaryOp.UNLESS, lhs=left):
            return missing_selectors(left, touched, reach)
        case MatrixSelector(vector=vector):
            return [] if touched(vector, reach + reach_ms(expr)) else [vector]
        case SubqueryExpr(expr=inner):
            return missing_selectors(inner, touched, reach + reach_ms(expr) - reach_ms(inner))
        case _:
            found = (missing_selectors(one, touched, reach) for one in children(expr))
            return [selector for part in found for selector in part]


class _Words:
    """Says what a selector lacks; to look for a near name takes long, and is done once each."""

    def __init__(self, store: LiveStore) -> None:
        self._store = store
        self._near = cache(self._nearest)

    def missing(self, selector: VectorSelector) -> str:
        shown = print_expr(selector)
        if not selector.name:
            return f"`{shown}` selects nothing here; correct its labels"
        series = self._store.series(selector, reach_ms(selector))
        if not series:
            return f"no metric here is called `{selector.name}`{self._near(selector.name)}"
        for matcher in (one for matchers in selector.matcher_sets for one in matchers):
            if not any(matcher.matches(labels.get(matcher.name, "")) for labels in series):
                return f"`{shown}` selects nothing here: {_label_words(matcher, series)}"
        return f"`{shown}` selects nothing here: no series has all these labels together"

    def _nearest(self, name: str) -> str:
        near = get_close_matches(name, self._store.names(), n=1, cutoff=0.75)
        return f"; the nearest is `{near[0]}`" if near else ", nor nearly so"


def _label_words(matcher: Matcher, series: Sequence[SeriesLabels]) -> str:
    values = sorted({labels.get(matcher.name, "") for labels in series} - {""})
    if not values:
        return f"no series has the label `{matcher.name}`"
    listed = ", ".join(f'"{value}"' for value in values[:_MOST_VALUES])
    more = ", ..." if len(values) > _MOST_VALUES else ""
    return f"none has `{matcher_text(matcher)}`; there, `{matcher.name}` is {listed}{more}"


def _never_reached(rule: Rule, store: LiveStore) -> str:
    """A threshold that is far above the highest value; what never moved from 0 says nothing."""
    if not isinstance(rule, AlertingRule):
        return ""
    compared = comparison(rule.query)
    if (
        compared.op not in (">", ">=")
        or not isinstance(compared.limit, float)
        or not compared.limit
    ):
        return ""
    highest = store.highest(print_expr(compared.measured))
    if highest is None or not 0 < highest * FAR < compared.limit:
        return ""
    return (
        f"the threshold {compared.limit:g} was never reached: the highest value here is"
        f" {highest:g}; correct it, or its unit"
    )
