"""Which rules read what others give, and in which order they can be evaluated one by one."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from tocsin_alerting.promql.parser.ast import (
    Edge,
    Expr,
    MatrixSelector,
    SubqueryExpr,
    VectorSelector,
    selectors,
    walk,
)
from tocsin_alerting.rules.rule import RecordingRule, Rule, RuleGroup
from tocsin_alerting.tsdb.matchers import Matcher
from tocsin_alerting.tsdb.target_labels import METRIC_NAME
from tocsin_exporter.snapshot import Labels

T = TypeVar("T")
_OF_ALERTS = ("ALERTS", "ALERTS_FOR_STATE")


class RuleKey(NamedTuple):
    """The number of the group, and that of the rule in it."""

    group: int
    rule: int


@dataclass(frozen=True, slots=True)
class RuleSet:
    """Rules that read each other, or one alone; `reads_itself`: they have to be evaluated step by
    step, together."""

    rules: tuple[RuleKey, ...]
    reads_itself: bool


def in_order_of_reading(groups: Sequence[RuleGroup]) -> list[RuleSet]:
    """All rules, those first that others read; else as they stand in the files."""
    rules = {
        RuleKey(of, number): rule
        for of, group in enumerate(groups)
        for number, rule in enumerate(group.rules)
    }
    reads = {key: tuple(_read_by(rule, rules)) for key, rule in rules.items()}
    return [
        RuleSet(tuple(sorted(found)), len(found) > 1 or found[0] in reads[found[0]])
        for found in _components(reads)
    ]


def is_read(rule: Rule, groups: Sequence[RuleGroup]) -> bool:
    """Whether any rule reads what this one gives."""
    return any(
        gives(rule, selector)
        for group in groups
        for reader in group.rules
        for selector in selectors(reader.query)
    )


def gives(rule: Rule, selector: VectorSelector) -> bool:
    """Whether what the rule gives may be selected."""
    if isinstance(rule, RecordingRule):
        known = [{**dict(rule.labels), METRIC_NAME: rule.name}]
    else:
        plain = {name: text for name, text in rule.labels if "{{" not in text}
        known = [{**plain, "alertname": rule.name, METRIC_NAME: name} for name in _OF_ALERTS]
    return any(
        _may_match(labels, matchers) for labels in known for matchers in selector.matcher_sets
    )


def reach_ms(expr: Expr, lookback_ms: int = 300_000) -> int:
    """How far back it may read, at most."""
    return lookback_ms + sum(span for node in walk(expr) for span in _spans(node))


def warm_up_ms(groups: Sequence[RuleGroup]) -> int:
    """How long before a time rules have to be evaluated so that all is there: what is recorded,
    and alerts that waited."""
    rules = [rule for group in groups for rule in group.rules]
    waits = [r.for_ms + r.keep_firing_for_ms for r in rules if not isinstance(r, RecordingRule)]
    recorded = [
        reach_ms(rule.query)
        for rule in rules
        if any(gives(other, chosen) for other in rules for chosen in selectors(rule.query))
    ]
    return max(waits, default=0) + sum(sorted(recorded)[-2:])


def without_recorded(series: Mapping[Labels, T], groups: Sequence[RuleGroup]) -> Mapping[Labels, T]:
    """Without what the rules give: a backtest records that itself."""
    recorded = {rule.name for group in groups for rule in group.rules}

    def is_given(labels: Labels) -> bool:
        named = dict(labels)
        name = named.get("__name__", "")
        return name in recorded or (name in _OF_ALERTS and named.get("alertname") in recorded)

    return {labels: samples for labels, samples in series.items() if not is_given(labels)}


def reads_its_own_time(expr: Expr) -> bool:
    """Whether it says something else as part of a range query: by `@ start()`, `@ end()`, or a
    duration that is computed from the query."""
    return any(
        isinstance(getattr(node, "at", None), Edge)
        or any(
            not isinstance(getattr(node, name, 0) or 0, int) for name in ("range", "offset", "step")
        )
        for node in walk(expr)
        if isinstance(node, VectorSelector | MatrixSelector | SubqueryExpr)
    )


def _spans(node: Expr) -> Iterator[int]:
    for name in ("range", "offset"):
        span = getattr(node, name, 0)
        if isinstance(span, int) and span > 0:
            yield span


def _may_match(known: Mapping[str, str], matchers: Sequence[Matcher]) -> bool:
    return all(m.name not in known or m.matches(known[m.name]) for m in matchers)


def _read_by(rule: Rule, rules: Mapping[RuleKey, Rule]) -> Iterator[RuleKey]:
    chosen = selectors(rule.query)
    for key, other in rules.items():
        if any(gives(other, selector) for selector in chosen):
            yield key


def _components(reads: Mapping[RuleKey, Sequence[RuleKey]]) -> list[list[RuleKey]]:
    """The strongly connected components, those first that others read (Tarjan 1972)."""
    number: dict[RuleKey, int] = {}
    low: dict[RuleKey, int] = {}
    open_keys: list[RuleKey] = []
    components: list[list[RuleKey]] = []
    for first in sorted(reads):
        if first in number:
            continue
        number[first] = low[first] = len(number)
        open_keys.append(first)
        path = [(first, iter(reads[first]))]
        while path:
            key, following = path[-1]
            nearest = next(following, None)
            if nearest is None:
                path.pop()
                if path:
                    low[path[-1][0]] = min(low[path[-1][0]], low[key])
                if low[key] == number[key]:
                    at = open_keys.index(key)
                    components.append(open_keys[at:])
                    del open_keys[at:]
            elif nearest not in number:
                number[nearest] = low[nearest] = len(number)
                open_keys.append(nearest)
                path.append((nearest, iter(reads[nearest])))
            elif nearest in open_keys:
                low[key] = min(low[key], number[nearest])
    return components
