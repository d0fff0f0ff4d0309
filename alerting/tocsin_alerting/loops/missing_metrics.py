"""MetricMissing: a rule that reads no series at all can never fire, and says so to nobody.

What its selectors match is looked up in the memory of the store every half minute, each selector
once for all rules that have it, and that of rules that are told at each look: an evaluation costs
nothing more for it.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Protocol

from tocsin_alerting.loops.meta_alerts import NO_RULE, End, Groups, rule_of
from tocsin_alerting.promql.parser.ast import VectorSelector
from tocsin_alerting.promql.parser.printer import print_expr
from tocsin_alerting.rules.alert import Alert, EventKind, plus
from tocsin_alerting.rules.inputs import (
    LOOK_BACK_MS,
    Read,
    names_alerts,
    reads,
    recorded_by,
)
from tocsin_alerting.rules.meta_alerts import (
    MetaAlertName,
    meta_alert,
    meta_origin,
    rule_labels,
)
from tocsin_alerting.rules.rule import AlertingRule, RecordingRule, Rule
from tocsin_alerting.rules.severity import Severity
from tocsin_alerting.rules.state import GroupState, RuleState
from tocsin_alerting.time_format import format_duration
from tocsin_alerting.tsdb.matchers import Matcher, MatchOp
from tocsin_alerting.tsdb.query.selection import Selection, has_samples
from tocsin_alerting.tsdb.series_index import MatcherSets
from tocsin_exporter.snapshot import Source

LOOK_MS = 30_000
_RECENT_MS = 15_000  # most series have a sample in it: the rest of the look-back need not be read
_SLICE_SECONDS = 0.005
_LOOK_SECONDS = (
    0.1  # of every five, at most: ten thousand rules on as many selectors wait their turn
)
_NEAREST = 3
_LEAST_ALIKE = 0.7


class SeriesStore(Protocol):
    """The store, as far as it is asked which series have samples."""

    def select(self, matcher_sets: MatcherSets, t0_ms: int, t1_ms: int) -> Selection: ...

    def reaches_disk(self, at_ms: int) -> bool: ...

    def matching_sources(self, matcher_sets: MatcherSets) -> frozenset[Source]: ...

    def label_values(
        self, name: str, matcher_sets: MatcherSets, t0_ms: int, t1_ms: int
    ) -> Collection[str]: ...


@dataclass(slots=True)
class _Look:
    """What one look at the store has found out."""

    at_ms: int
    recorded: Mapping[str, object]
    touched: dict[MatcherSets, bool] = field(default_factory=dict)
    names: Collection[str] | None = None


class MissingMetrics:
    """`is_ours` says of a file of rules that it is bundled. `family_of` gives the pattern of names
    that are there together with a metric if there is such a hardware or engine at all, "" for a
    metric that could be anybody's. `is_dead` says of a source that it is silent, which is another
    alert. `seconds` is a monotonic clock.
    """

    name = MetaAlertName.METRIC_MISSING

    def __init__(
        self,
        groups: Groups,
        store: SeriesStore,
        is_dead: Callable[[Source], bool],
        is_ours: Callable[[str], bool],
        family_of: Callable[[str], str],
        machine: str,
        seconds: Callable[[], float],
        severity: Severity = Severity.P3,
        after_ms: int = 600_000,
    ) -> None:
        self._groups, self._store, self._is_dead = groups, store, is_dead
        self._is_ours, self._family_of, self._machine = is_ours, family_of, machine
        self._seconds, self.severity, self.after_ms = seconds, severity, after_ms
        self._reads: dict[int, tuple[Rule, tuple[Read, ...]]] = {}
        self._asked_ms: dict[MatcherSets, int] = {}  # for the first time
        self._seen_ms: dict[MatcherSets, int] = {}
        self._words: dict[MatcherSets, str] = {}
        self._began_ms: int | None = None
        self._looked_ms: int | None = None
        self._waiting: deque[RuleState] = deque()
        self._recorded: Mapping[str, object] = {}
        self._firing: dict[str, Alert] = {}

    async def firing(self, now_ms: int, known: Collection[str]) -> Mapping[str, Alert]:
        looked_ms = self._looked_ms
        due = looked_ms is None or not 0 <= now_ms - looked_ms < LOOK_MS
        if due and not self._waiting:
            self._began_ms = now_ms if self._began_ms is None else self._began_ms
            self._looked_ms = now_ms
            self._begin()
        elif not self._waiting:  # whether what was told is over need not wait for the others
            self._waiting.extend(self._told())
        await self._go_on(_Look(now_ms, self._recorded))
        return self._firing

    def end(self, origin: str, now_ms: int) -> End | None:
        rule = rule_of(origin, self.name, self._groups())
        if rule is None:
            return NO_RULE
        # After a restart nothing is known yet: its series have as long as others to come.
        looked_ms = self._looked_ms or 0
        seen = any(
            self._seen_ms.get(selector.matcher_sets, -1) >= looked_ms
            for selector, _ in self._of(rule)
        )
        judged = self._began_ms is not None and now_ms - self._began_ms >= self.after_ms
        why = "its metrics are there, or their source is known to be silent"
        return End(EventKind.CLEAR, why) if seen or judged else None

    def shift(self, delta_ms: int) -> None:
        self._began_ms, self._looked_ms = (
            plus(at_ms, delta_ms) for at_ms in (self._began_ms, self._looked_ms)
        )
        for times in (self._asked_ms, self._seen_ms):
            times.update({key: at_ms + delta_ms for key, at_ms in times.items()})

    def _begin(self) -> None:
        """Every rule is looked at once more."""
        rules = list(_each(self._groups()))
        self._waiting = deque(rules)
        self._recorded = {r.rule.name: None for r in rules if isinstance(r.rule, RecordingRule)}
        if self._firing:
            there = {meta_origin(self.name, rule.origin) for rule in rules}
            self._firing = {key: alert for key, alert in self._firing.items() if key in there}

    def _told(self) -> list[RuleState]:
        if not self._firing:
            return []
        origins = self._firing.keys()
        every = _each(self._groups())
        return [rule for rule in every if meta_origin(self.name, rule.origin) in origins]

    async def _go_on(self, look: _Look) -> None:
        """With those that wait, for as long as a look may take; the others come with the next."""
        spent, waited = 0.0, bool(self._waiting)
        while self._waiting and spent < _LOOK_SECONDS:
            began = self._seconds()
            while self._waiting and self._seconds() - began < _SLICE_SECONDS:
                self._look_at(self._waiting.popleft(), look)
            spent += self._seconds() - began
            await asyncio.sleep(0)
        if waited and not self._waiting:
            self._forget()

    def _look_at(self, rule: RuleState, look: _Look) -> None:
        if self._is_ours(rule.file):
            return
        missing = [read for read in self._of(rule) if self._is_missing(read, look)]
        rule.warnings = tuple(self._words_of(read[0], look) for read in missing)
        origin = meta_origin(self.name, rule.origin)
        self._firing.pop(origin, None)
        if missing and len(missing) == len(self._of(rule)):
            self._firing[origin] = self._alert(rule, missing, look.at_ms)

    def _is_missing(self, read: Read, look: _Look) -> bool:
        selector, window = read
        self._asked_ms.setdefault(selector.matcher_sets, look.at_ms)
        if self._is_touched(selector.matcher_sets, look):
            self._seen_ms[selector.matcher_sets] = look.at_ms
            self._words.pop(selector.matcher_sets, None)
            return False
        young = look.at_ms - self._since_ms(read) < self.after_ms
        if young or self._is_expected(selector, look):
            return False
        sources = self._store.matching_sources(selector.matcher_sets)
        return not any(map(self._is_dead, sources)) and not (window.offset_ms and sources)

    def _since_ms(self, read: Read) -> int:
        """Since when it reads nothing: a range holds its last sample for as long as it is."""
        selector, window = read
        seen_ms = self._seen_ms.get(selector.matcher_sets)
        if seen_ms is None:
            return self._asked_ms[selector.matcher_sets]
        return seen_ms + window.length_ms

    def _is_touched(self, matcher_sets: MatcherSets, look: _Look) -> bool:
        known = look.touched.get(matcher_sets)
        if known is None:
            known = look.touched[matcher_sets] = self._has_samples(matcher_sets, look.at_ms)
        return known

    def _has_samples(self, matcher_sets: MatcherSets, at_ms: int) -> bool:
        """In memory; where that was sealed a moment ago, nobody knows."""
        begins = [at_ms - back_ms for back_ms in (_RECENT_MS, LOOK_BACK_MS)]
        looked = [t0_ms for t0_ms in begins if not self._store.reaches_disk(t0_ms)]
        return not looked or any(
            has_samples(self._store.select(matcher_sets, t0_ms, at_ms), t0_ms, at_ms).any()
            for t0_ms in looked
        )

    def _is_expected(self, selector: VectorSelector, look: _Look) -> bool:
        """What rules write is there when they have something to say; what our collectors read is
        not there where there is nothing to read."""
        if names_alerts(selector) or recorded_by(selector, look.recorded):
            return True
        name = _name(selector)
        family = self._family_of(name)
        return bool(family) and not self._is_touched(_like(family), look)

    def _of(self, rule: RuleState) -> tuple[Read, ...]:
        kept = self._reads.get(id(rule.rule))
        if kept is None:
            kept = self._reads[id(rule.rule)] = rule.rule, reads(rule.rule.query)
        return kept[1]

    def _forget(self) -> None:
        """What no rule reads any more."""
        rules = {id(rule.rule) for rule in _each(self._groups())}
        if self._reads.keys() - rules:
            self._reads = {key: kept for key, kept in self._reads.items() if key in rules}
            used = {read[0].matcher_sets for _, every in self._reads.values() for read in every}
            self._asked_ms = {key: at for key, at in self._asked_ms.items() if key in used}
            self._seen_ms = {key: at for key, at in self._seen_ms.items() if key in used}
            self._words = {key: text for key, text in self._words.items() if key in used}

    def _alert(self, rule: RuleState, missing: Sequence[Read], now_ms: int) -> Alert:
        since_ms = min(self._since_ms(read) for read in missing)
        lasting = format_duration(self.after_ms)
        kind = "alert" if isinstance(rule.rule, AlertingRule) else "recording rule"
        summary = f"The {kind} {rule.rule.name} of {rule.file} reads no series"
        told = "; ".join(dict.fromkeys(rule.warnings))
        words = summary, f"For {lasting} nothing that it selects was there: {told}."
        about = rule_labels(rule, self._machine)
        return meta_alert(self.name, self.severity, about, since_ms, now_ms, words)

    def _words_of(self, selector: VectorSelector, look: _Look) -> str:
        known = self._words.get(selector.matcher_sets)
        if known is None:
            known = self._words[selector.matcher_sets] = self._described(selector, look)
        return known

    def _described(self, selector: VectorSelector, look: _Look) -> str:
        """With what is there and looks like it."""
        name, since_ms = _name(selector), look.at_ms - LOOK_BACK_MS
        said = f"no series matches {print_expr(selector)}"
        if not name:
            return said
        if self._is_touched(_named(name), look):
            return said + "".join(self._near_values(selector, name, look))
        if look.names is None:
            look.names = self._store.label_values("__name__", ((),), since_ms, look.at_ms)
        near = get_close_matches(name, look.names, _NEAREST, _LEAST_ALIKE)
        return f"{said}; did you mean {' or '.join(near)}?" if near else said

    def _near_values(self, selector: VectorSelector, name: str, look: _Look) -> Iterator[str]:
        since_ms = look.at_ms - LOOK_BACK_MS
        for matcher in selector.matcher_sets[0]:
            if matcher.op is not MatchOp.EQUAL or matcher.name == "__name__":
                continue
            values = self._store.label_values(matcher.name, _named(name), since_ms, look.at_ms)
            if matcher.value and matcher.value not in values:
                near = get_close_matches(matcher.value, values, _NEAREST, _LEAST_ALIKE)
                shown = " or ".join(f'"{value}"' for value in near or sorted(values)[:_NEAREST])
                yield f"; {matcher.name} is {shown}" if shown else f"; it has no {matcher.name}"


def _each(groups: Sequence[GroupState]) -> Iterator[RuleState]:
    return (rule for group in groups for rule in group.rules)


def _name(selector: VectorSelector) -> str:
    demanded = (m for m in selector.matcher_sets[0] if m.name == "__name__")
    exact = (m.value for m in demanded if m.op is MatchOp.EQUAL)
    return selector.name or next(exact, "")


def _like(pattern: str) -> MatcherSets:
    return ((Matcher("__name__", MatchOp.REGEX, pattern),),)


def _named(name: str) -> MatcherSets:
    return ((Matcher("__name__", MatchOp.EQUAL, name),),)
