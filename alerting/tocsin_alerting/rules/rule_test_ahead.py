"""What the rules of a test give at all its evaluations, asked at once where that says the same.

A rule whose query reads input alone, or what earlier rules record of it, needs no step by step: one
range query has its results for a thousand evaluations, and what it records is written in one piece.
So it is only while no query reads what lies ahead (`@`, a negative offset, a template's own query):
then the input is loaded as the time comes, and every rule is evaluated at every step.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tocsin_alerting.promql.errors import ParseError
from tocsin_alerting.promql.parser.ast import (
    Expr,
    MatrixSelector,
    SubqueryExpr,
    VectorSelector,
    selectors,
    walk,
)
from tocsin_alerting.promql.parser.parser import parse
from tocsin_alerting.promql.parser.signatures import Semantics
from tocsin_alerting.promql.result import InstantVector, Matrix, Result
from tocsin_alerting.rules.inputs import names, names_alerts
from tocsin_alerting.rules.instant_query import InstantQuerier
from tocsin_alerting.rules.recording import DuplicateRecordedSeries, record
from tocsin_alerting.rules.rule import AlertingRule, RecordingRule, Rule, RuleGroup
from tocsin_alerting.tsdb.values import STALE, Floats, Ints, Mask
from tocsin_exporter.snapshot import Labels

STEPS_AT_ONCE = 1000
_ASKS_ITSELF = re.compile(r"\{\{[^}]*\bquery\b")
WriteSeries = Callable[[Sequence[Labels], Ints, Ints, Floats], object]
"""Stores samples (n,) in the order of their times: of which of the series, when, and what."""
_ELSEWHERE = re.compile(r"@|\boffset\b|__name__")  # or any metric at all
AskRange = Callable[[Expr, int, int, int], Matrix]
"""An expression, the first and the last moment and the time between two, in milliseconds."""


@dataclass(frozen=True, slots=True)
class Evaluations:
    """When the rules of a test are evaluated, in Unix milliseconds; `end_ms` is in it or not."""

    start_ms: int
    end_ms: int
    step_ms: int

    @property
    def count(self) -> int:
        return max(0, (self.end_ms - self.start_ms) // self.step_ms + 1)

    def number(self, at_ms: int) -> int:
        """The evaluation at a time; -1 where none is."""
        number, rest = divmod(at_ms - self.start_ms, self.step_ms)
        return number if not rest and 0 <= number < self.count else -1


@dataclass(frozen=True, slots=True)
class AheadResults:
    """The results of one rule: `values` and `present` are (evaluations, series)."""

    labels: tuple[Labels, ...]
    values: Floats
    present: Mask

    def at(self, number: int, at_ms: int) -> InstantVector:
        rows = self.present[number].nonzero()[0]
        labels = tuple([self.labels[row] for row in rows.tolist()])
        return InstantVector(at_ms, labels, self.values[number, rows])


def reads_ahead(rules: Iterable[Rule]) -> bool:
    """Whether one of them may look at what comes after its evaluation."""
    return any(map(_looks_ahead, rules))


def _looks_ahead(rule: Rule) -> bool:
    asked = any(_ELSEWHERE.search(text) for text in _own_queries(rule))
    return asked or any(map(_is_elsewhere, walk(rule.query)))


def _own_queries(rule: Rule) -> list[str]:
    """The templates that ask the engine: what they ask is known when they are expanded."""
    texts = (*rule.labels, *rule.annotations) if isinstance(rule, AlertingRule) else ()
    return [text for _, text in texts if _ASKS_ITSELF.search(text)]


def _is_elsewhere(node: Expr) -> bool:
    """A duration that is an expression may be anything."""
    match node:
        case VectorSelector(offset=offset, at=at):
            return at is not None or not isinstance(offset, int) or offset < 0
        case MatrixSelector(range=length):
            return not isinstance(length, int)
        case SubqueryExpr(range=length, step=step, offset=offset, at=at):
            known = isinstance(length, int) and isinstance(step, int | None)
            return at is not None or not known or not isinstance(offset, int) or offset < 0
        case _:
            return False


def asks_for_alerts(queries: Iterable[Expr], rules: Iterable[Rule] = ()) -> bool:
    """Whether one of them may select ALERTS or ALERTS_FOR_STATE."""
    if any("ALERTS" in text for rule in rules for text in _own_queries(rule)):
        return True
    return any(names_alerts(selector) for query in queries for selector in selectors(query))


def parsed(texts: Iterable[str], semantics: Semantics) -> Iterator[Expr]:
    """Those that parse."""
    for text in texts:
        try:
            yield parse(text, semantics)
        except ParseError:
            continue


class RulesAhead:
    """The rules of a test that were asked at once; the others are evaluated step by step.

    `rules` are all in the order of their evaluation. It is an engine, too: what it does not know it
    asks the one that it was given.
    """

    def __init__(
        self,
        engine: InstantQuerier,
        ask: AskRange,
        moments: Evaluations,
        rules: Sequence[tuple[RuleGroup, Rule]],
        input_names: frozenset[str],
    ) -> None:
        self._engine, self._ask, self._moments = engine, ask, moments
        self._results: dict[int, AheadResults] = {}
        self._quiet: dict[int, Mask] = {}
        self._settled = _settled_names(rules)
        self._input_names = input_names
        self._written: set[str] = set()
        self._series: set[Labels] = set()
        self._rules = rules

    def work(self, write: WriteSeries) -> None:
        """Ask for the rules in their order; `write` stores what one records, and that it ended."""
        recorded = {rule.name for _, rule in self._rules if isinstance(rule, RecordingRule)}
        pending = defaultdict[str, int](int)
        for _, rule in self._rules:
            pending[rule.name] += isinstance(rule, RecordingRule)
        for group, rule in self._rules:
            if not group.query_offset_ms and self._can_be_asked(rule, recorded, pending):
                results = self._asked(rule)
                if results is not None:
                    self._keep(group, rule, results, write, pending)

    def _can_be_asked(self, rule: Rule, recorded: set[str], pending: Mapping[str, int]) -> bool:
        """Whether all that it may read is stored for the whole test."""
        if asks_for_alerts((rule.query,)):
            return False
        read = {name for one in selectors(rule.query) for name in names(one, recorded)}
        return all(name in self._settled and not pending[name] for name in read)

    def _asked(self, rule: Rule) -> AheadResults | None:
        """None where it has no answer: then each evaluation says why by itself."""
        moments, step = self._moments, self._moments.step_ms
        parts: list[tuple[int, Matrix]] = []
        try:
            for first in range(0, moments.count, STEPS_AT_ONCE):
                last = min(first + STEPS_AT_ONCE, moments.count) - 1
                start_ms = moments.start_ms + first * step
                end_ms = start_ms + (last - first) * step
                parts.append((first, self._ask(rule.query, start_ms, end_ms, step)))
        except Exception:  # why: whatever breaks a query is told by the evaluation that it breaks
            return None
        return _joined(parts, moments)

    def _keep(
        self,
        group: RuleGroup,
        rule: Rule,
        results: AheadResults,
        write: WriteSeries,
        pending: dict[str, int],
    ) -> None:
        self._results[id(rule.query)] = results
        quiet: Mask = ~np.any(results.present, axis=1, keepdims=True)[:, 0]
        if isinstance(rule, RecordingRule):
            series = self._recordable(group, rule, results)
            if series is None:
                quiet[1:] &= quiet[:-1].copy()  # the first without a sample ends its series
            else:
                self._series.update(series)
                pending[rule.name] -= 1
                times = self._moments.start_ms + self._moments.step_ms * np.arange(len(quiet))
                write(series, *_samples(results, times))
                quiet[:] = True
        self._quiet[id(rule)] = quiet

    def _recordable(
        self, group: RuleGroup, rule: RecordingRule, results: AheadResults
    ) -> list[Labels] | None:
        """The series that it records, if they may be stored at once: nobody else's, all its own."""
        if group.limit or rule.name in self._input_names or rule.name not in self._settled:
            return None
        try:
            series = [labels for labels, _ in record(rule, [(one, 0.0) for one in results.labels])]
        except DuplicateRecordedSeries:
            return None
        return None if self._series.intersection(series) else series

    def is_quiet(self, rule: Rule, number: int) -> bool:
        """Whether the evaluation gives nothing, or is done already. An alerting rule that has
        alerts is to be evaluated all the same."""
        quiet = self._quiet.get(id(rule))
        return quiet is not None and bool(quiet[number])

    async def instant(self, query: str | Expr, at_ms: int, /) -> Result:
        results = self._results.get(id(query))
        number = self._moments.number(at_ms)
        if results is None or number < 0:
            return await self._engine.instant(query, at_ms)
        return Result(results.at(number, at_ms))


def _samples(results: AheadResults, times: Ints) -> tuple[Ints, Ints, Floats]:
    """What is absent after it was present is stale there, as where a rule gives it no more."""
    present = results.present
    filled = present.copy()
    filled[1:] |= present[:-1] & ~present[1:]
    at, of = filled.nonzero()
    return of, times[at], np.where(present, results.values, STALE)[at, of]


def _settled_names(rules: Sequence[tuple[RuleGroup, Rule]]) -> frozenset[str]:
    """The recorded names that are read only by rules after all that record them: these see at each
    evaluation what was recorded for it."""
    last: dict[str, int] = {}
    for place, (_, rule) in enumerate(rules):
        if isinstance(rule, RecordingRule):
            last[rule.name] = place
    settled = set(last)
    for place, (_, rule) in enumerate(rules):
        for selector in selectors(rule.query):
            settled -= {name for name in names(selector, settled) if last[name] >= place}
        for text in _own_queries(rule):
            settled -= {name for name in settled if name in text and last[name] >= place}
    return frozenset(settled)


def _joined(parts: Sequence[tuple[int, Matrix]], moments: Evaluations) -> AheadResults:
    rows: dict[Labels, int] = {}
    for _, matrix in parts:
        for track in matrix:
            rows.setdefault(track.labels, len(rows))
    values = np.zeros((moments.count, len(rows)))
    present = np.zeros((moments.count, len(rows)), np.bool_)
    for _, matrix in parts:
        for track in matrix:
            at = (track.times - moments.start_ms) // moments.step_ms
            values[at, rows[track.labels]] = track.values
            present[at, rows[track.labels]] = True
    return AheadResults(tuple(rows), values, present)
