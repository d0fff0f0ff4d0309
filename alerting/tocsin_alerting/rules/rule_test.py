"""Runs unit tests of rules: same verdict and same words as `promtool test rules`.

Every group is evaluated each `evaluation_interval`, whatever its own interval; what a test sees at
its `eval_time` is the state of the last evaluation at or before it, and of the input what came
until the last evaluation; only firing alerts count.
"""

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import ndiff
from glob import glob
from itertools import chain
from os.path import normpath
from pathlib import Path as FilePath
from typing import NamedTuple, TypeVar

import numpy as np

from tocsin_alerting.promql.parser.signatures import Semantics
from tocsin_alerting.promql.result import Matrix
from tocsin_alerting.rules.alert import AlertState
from tocsin_alerting.rules.evaluation import EvaluationDeps, WriteSamples, evaluate_rule
from tocsin_alerting.rules.groups import Groups
from tocsin_alerting.rules.humanize import scientific
from tocsin_alerting.rules.instant_query import InstantQuerier, rows
from tocsin_alerting.rules.rule import NOWHERE, AlertingRule, FilePosition, RuleFile
from tocsin_alerting.rules.rule_file import CheckExpression, KnownRuleFile, load, no_objection
from tocsin_alerting.rules.rule_test_ahead import (
    AskRange,
    Evaluations,
    RulesAhead,
    WriteSeries,
    asks_for_alerts,
    parsed,
    reads_ahead,
)
from tocsin_alerting.rules.rule_test_file import AlertCase, ExprCase, RuleTest, RuleTestFile
from tocsin_alerting.rules.rule_test_needed import needed_rules
from tocsin_alerting.rules.series_notation import STALE, Value
from tocsin_alerting.rules.state import GroupState, RuleState
from tocsin_alerting.rules.unknown_alerts import AllAlive
from tocsin_alerting.strconv import format_number, quote
from tocsin_alerting.time_format import format_duration
from tocsin_alerting.tsdb.values import STALE as STALE_CELL
from tocsin_alerting.tsdb.values import Floats, Ints
from tocsin_exporter.snapshot import Labels


class ComparedAlert(NamedTuple):
    """An alert as it is compared; sorted by labels, then annotations."""

    labels: Labels
    annotations: Labels


@dataclass(frozen=True, slots=True)
class RuleTestStore:
    """A store and an engine on it, made anew for each test.

    `append(at_ms, samples)` stores input; a value is a number or STALE. `write` is that of
    EvaluationDeps. With `ask` and `write_series`, rules that can be are asked for many evaluations
    at once.
    """

    engine: InstantQuerier
    append: Callable[[int, Sequence[tuple[Labels, Value]]], object]
    write: WriteSamples
    ask: AskRange
    write_series: WriteSeries
    semantics: Semantics = 3


W = TypeVar("W")
G = TypeVar("G")
_UNCLOSED = re.compile(r"\[[^]]*$")
MakeStore = Callable[[int], RuleTestStore]
"""Given the default step of subqueries in milliseconds."""


@dataclass(frozen=True, slots=True)
class RuleTestFailure:
    """`text` is promtool's."""

    text: str
    place: FilePosition


@dataclass(frozen=True, slots=True)
class RuleTestResult:
    """What failed in one test, and where the alerts stand that fired in it as expected. `broken`: a
    rule failed, and the test ended there."""

    failures: list[RuleTestFailure]
    fired: frozenset[FilePosition] = frozenset()
    broken: bool = False


@dataclass(frozen=True, slots=True)
class RuleTestReport:
    """`str` is what promtool prints of a file; `unmatched` are rule files that are not there."""

    path: str
    tests: int
    failures: tuple[RuleTestFailure, ...]
    unmatched: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.failures

    def __str__(self) -> str:
        head = f"Unit Testing:  {self.path}\n"
        if self.ok:
            return f"{head}  SUCCESS\n"
        return head + "  FAILED:\n" + "".join(f"{failure.text}\n\n" for failure in self.failures)


class _RuleFailed(Exception):
    """A rule failed at run time: the file's tests end here, as in promtool."""

    def __init__(self, failures: list[RuleTestFailure]) -> None:
        super().__init__("a rule failed")
        self.failures = failures


class BrokenPattern(ValueError):
    """A name in `rule_files` that is no pattern."""


@dataclass(frozen=True, slots=True)
class RulesUnderTest:
    """The rules of a test file; `unmatched` are those of its patterns that match no file."""

    files: tuple[RuleFile, ...]
    unmatched: tuple[str, ...]


def load_tested(
    file: RuleTestFile,
    check_expr: CheckExpression = no_objection,
    known: KnownRuleFile = lambda path, text: None,
) -> RulesUnderTest:
    """Raises BrokenPattern, and InvalidDocument when a test needs a broken rule file."""
    folder = FilePath(file.path).parent
    patterns = [normpath(folder / pattern) if pattern else "" for pattern in file.rule_files]
    if any(map(_UNCLOSED.search, patterns)):
        raise BrokenPattern("syntax error in pattern")
    paths = {pattern: sorted(glob(pattern, include_hidden=True)) for pattern in patterns}
    unmatched = tuple(pattern for pattern, matched in paths.items() if not matched)
    rules: list[RuleFile] = []
    if file.tests:
        found = chain.from_iterable(paths.values())
        rules = load(found, check_expr, file.semantics, known=known)
    return RulesUnderTest(tuple(rules), unmatched)


async def run_test(
    file: RuleTestFile,
    test: RuleTest,
    rules: Iterable[RuleFile],
    bench: RuleTestStore,
    diff: bool = False,
    keep_alerts: bool = False,
) -> RuleTestResult:
    """Run one test of the file; with `diff`, failures show what differs instead of both sides. With
    `keep_alerts` the store has ALERTS, even if the test does not look at them."""
    series = (one.labels for one in test.series)
    needed = await needed_rules(rules, series, bench.engine, test.start_ms)
    run = _RuleTestRun(file, test, needed, bench, diff)
    run.keep_alerts = keep_alerts
    failures = await run.failures()
    return RuleTestResult(failures, frozenset(run.fired), run.broken)


async def all_samples(test: RuleTest, bench: RuleTestStore) -> str:
    """All that a test put in and its rules recorded, in promtool's form, sorted by labels."""
    from tocsin_alerting.rules.go_time import GoDuration

    past_ms = (test.end_ms - test.start_ms + 1000) // 1000 * 1000  # PromQL knows whole seconds
    after = GoDuration(past_ms * 1_000_000)
    query = f'{{__name__=~".+"}}[{past_ms}ms]'
    answer = (await bench.engine.instant(query, test.start_ms + past_ms)).value
    lines = [f"Dump of all data (input_series and rules) at {after}:"]
    for track in answer if isinstance(answer, Matrix) else ():
        lines.append(f"{_braced(track.labels)} =>")
        samples = zip(track.values.tolist(), track.times.tolist(), strict=True)
        lines += [f"{format_number(value)} @[{at_ms}]" for value, at_ms in samples]
    return "\n".join(lines)


async def run(
    file: RuleTestFile, make_bench: MakeStore, check_expr: CheckExpression = no_objection
) -> RuleTestReport:
    """Runs every test of the file. Raises InvalidDocument when a test needs a broken rule file."""
    try:
        tested = load_tested(file, check_expr)
    except BrokenPattern as error:
        return RuleTestReport(file.path, 0, (RuleTestFailure(str(error), NOWHERE),))
    failures: list[RuleTestFailure] = []
    for test in file.tests:
        result = await run_test(file, test, tested.files, make_bench(file.interval_ms))
        failures += result.failures
    return RuleTestReport(file.path, len(file.tests), tuple(failures), tested.unmatched)


class _RuleTestRun:
    """One test under way."""

    def __init__(
        self,
        file: RuleTestFile,
        test: RuleTest,
        rules: Iterable[RuleFile],
        bench: RuleTestStore,
        diff: bool,
    ) -> None:
        self._test, self._file, self._bench, self._diff = test, file, bench, diff
        self.fired: set[FilePosition] = set()
        self.broken = self.keep_alerts = False
        self._deps = self._alert_deps = EvaluationDeps(
            bench.engine,
            bench.write,
            AllAlive(),
            lambda: 0.0,
            test.external_labels,
            test.external_url,
        )
        self._groups = Groups(self._deps, file.interval_ms)
        self._groups.load(rules, test.start_ms)
        self._rules = [(group, rule) for group in self._ordered() for rule in group.rules]
        for _, progress in self._rules:  # all that they read is known, whoever recorded it
            progress.behind, progress.alerting_rules = (), {}
        self._input = input_columns(test)
        self._loaded = 0

    async def failures(self) -> list[RuleTestFailure]:
        failures: list[RuleTestFailure] = []
        waiting = sorted(self._test.alerts, key=lambda case: case.eval_ms)
        interval_ms = self._file.interval_ms
        moments = Evaluations(self._test.start_ms, self._test.end_ms, interval_ms)
        ahead = self._ahead(moments)
        for number in range(moments.count):
            at_ms = moments.start_ms + number * interval_ms
            try:
                await self._evaluate(at_ms, number, ahead)
            except _RuleFailed as error:
                self.broken = True
                return failures + error.failures
            while waiting and waiting[0].eval_ms < at_ms + interval_ms - self._test.start_ms:
                failures.extend(self._alert_case(waiting.pop(0)))
        for case in self._test.exprs:  # input after the last evaluation is never loaded
            failures.extend(await self._expr_case(case))
        return failures

    def _ahead(self, moments: Evaluations) -> RulesAhead | None:
        """None where a rule may see what comes after its evaluation, if it is there."""
        if reads_ahead(progress.rule for _, progress in self._rules):
            return None
        last_ms = moments.start_ms + (moments.count - 1) * moments.step_ms
        self._bench.write_series(*input_samples(self._test, last_ms))
        self._loaded = len(self._input)
        rules = [(group.group, progress.rule) for group, progress in self._rules]
        inputs = frozenset(dict(series.labels).get("__name__", "") for series in self._test.series)
        ahead = RulesAhead(self._bench.engine, self._bench.ask, moments, rules, inputs)
        ahead.work(self._bench.write_series)
        cases = parsed((case.expr for case in self._test.exprs), self._bench.semantics)
        self._deps = self._alert_deps = replace(self._deps, engine=ahead)
        queries = (*(rule.query for _, rule in rules), *cases)
        if not self.keep_alerts and not asks_for_alerts(queries, (rule for _, rule in rules)):
            self._alert_deps = replace(self._deps, write=lambda source, at_ms, samples: None)
        return ahead

    async def _evaluate(self, at_ms: int, number: int, ahead: RulesAhead | None) -> None:
        self._load_until(at_ms)
        broken: list[RuleTestFailure] = []
        for group, progress in self._rules:
            rule = progress.rule
            if ahead and not progress.alerts and ahead.is_quiet(rule, number):
                continue
            deps = self._alert_deps if isinstance(rule, AlertingRule) else self._deps
            await evaluate_rule(progress, group.group, at_ms, deps)
            if progress.last_error:
                broken.append(self._broken(progress, at_ms))
        if broken:
            raise _RuleFailed(broken)

    def _load_until(self, at_ms: int) -> None:
        while self._loaded < len(self._input) and self._input[self._loaded][0] <= at_ms:
            self._bench.append(*self._input[self._loaded])
            self._loaded += 1

    def _ordered(self) -> list[GroupState]:
        order = {name: number for number, name in enumerate(self._file.group_order)}
        return sorted(self._groups.all, key=lambda group: order.get(group.group.name, 0))

    def _broken(self, rule: RuleState, at_ms: int) -> RuleTestFailure:
        from tocsin_alerting.rules.go_time import GoDuration  # gotime: most tests need none

        after = GoDuration((at_ms - self._test.start_ms) * 1_000_000)
        text = f"    rule: {rule.rule.name}, time: {after}, err: {rule.last_error}"
        return RuleTestFailure(text, rule.rule.place)

    def _alert_case(self, case: AlertCase) -> Iterable[RuleTestFailure]:
        firing = list(self._firing(case.alertname))
        got = sorted(alert for _, alert in firing)
        expected = sorted(ComparedAlert(alert.labels, alert.annotations) for alert in case.expected)
        if _subset_of(expected, got) if self._test.subset else got == expected:
            self.fired.update(place for place, _ in firing)
            return
        name = f"    name: {self._test.name},\n" if self._test.name else ""
        head = f"{name}    alertname: {case.alertname}, time: {format_duration(case.eval_ms)}, \n"
        if self._diff:
            text = head + _differences(_lines(expected), _lines(got))
        else:
            text = f"{head}        exp:{_listed(expected)}, \n        got:{_listed(got)}"
        yield RuleTestFailure(text, case.place)

    def _firing(self, name: str) -> Iterable[tuple[FilePosition, ComparedAlert]]:
        for group in self._groups.all:
            for progress in group.rules:
                if isinstance(progress.rule, AlertingRule) and progress.rule.name == name:
                    for alert in progress.alerts.values():
                        if alert.state is AlertState.FIRING:
                            compared = ComparedAlert(alert.labels, alert.annotations)
                            yield progress.rule.place, compared

    async def _expr_case(self, case: ExprCase) -> Iterable[RuleTestFailure]:
        head = f"    expr: {quote(case.expr)}, time: {format_duration(case.eval_ms)},"
        try:
            at_ms = self._test.start_ms + case.eval_ms
            result = rows(await self._bench.engine.instant(case.expr, at_ms))
        except Exception as error:  # why: whatever breaks a query is this test's failure
            return [RuleTestFailure(f"{head} err: {error}", case.place)]
        got, expected = sorted(result, key=_labels), sorted(case.expected, key=_labels)
        same = _same_subset if self._test.subset else _same
        if same(got, expected, self._file.fuzzy):
            return []
        if self._diff:
            lines = ([_sample(*one) for one in side] for side in (expected, got))
            return [RuleTestFailure(f"{head}\n{_differences(*lines)}", case.place)]
        text = f"{head}\n        exp: {_samples(expected)}\n        got: {_samples(got)}"
        return [RuleTestFailure(text, case.place)]


def input_columns(test: RuleTest) -> list[tuple[int, list[tuple[Labels, Value]]]]:
    """The input by time. A series that stands twice is what stands last."""
    columns: dict[int, list[tuple[Labels, Value]]] = defaultdict(list)
    for labels, values in {series.labels: series.values for series in test.series}.items():
        first = None if test.interval_ms else 1
        for number, value in list(enumerate(values))[:first]:
            if value is not None:
                columns[test.start_ms + number * test.interval_ms].append((labels, value))
    return sorted(columns.items())


def input_samples(test: RuleTest, last_ms: int) -> tuple[list[Labels], Ints, Ints, Floats]:
    """The same until `last_ms` as a store takes it in one piece: the series, and of each sample in
    the order of time which series it is of, when it is, and what."""
    columns = [column for column in input_columns(test) if column[0] <= last_ms]
    places = {series.labels: number for number, series in enumerate(test.series)}
    samples = [(places[one], at, value) for at, column in columns for one, value in column]
    cells = (STALE_CELL if value == STALE else value for _, _, value in samples)
    return (
        [series.labels for series in test.series],
        np.fromiter((of for of, _, _ in samples), np.int64, len(samples)),
        np.fromiter((at for _, at, _ in samples), np.int64, len(samples)),
        np.fromiter(cells, np.float64, len(samples)),
    )


def _subset_of(expected: Sequence[ComparedAlert], got: Sequence[ComparedAlert]) -> bool:
    """Whether each alert that is expected is another one of those got, and there are no more."""

    def fits(wanted: ComparedAlert, one: ComparedAlert) -> bool:
        labels, annotations = set(wanted.labels), set(wanted.annotations)
        return labels <= set(one.labels) and annotations <= set(one.annotations)

    return pairs_off(expected, got, fits)


def _labels(sample: tuple[Labels, float]) -> Labels:
    return sample[0]


def _same(
    got: Sequence[tuple[Labels, float]], expected: Sequence[tuple[Labels, float]], fuzzy: bool
) -> bool:
    if [_labels(sample) for sample in got] != [_labels(sample) for sample in expected]:
        return False
    return all(_equal(a, b, fuzzy) for (_, a), (_, b) in zip(got, expected, strict=True))


def _same_subset(
    got: Sequence[tuple[Labels, float]], expected: Sequence[tuple[Labels, float]], fuzzy: bool
) -> bool:
    """Each expected sample is another one of those got, and there are no more."""

    def fits(wanted: tuple[Labels, float], one: tuple[Labels, float]) -> bool:
        return set(wanted[0]) <= set(one[0]) and _equal(one[1], wanted[1], fuzzy)

    return pairs_off(expected, got, fits)


def pairs_off(expected: Sequence[W], got: Sequence[G], fits: Callable[[W, G], bool]) -> bool:
    """Whether each of `expected` has one of `got` to itself that fits, and none is left over."""
    holder: dict[int, int] = {}  # who of `expected` has which of `got`

    def place(number: int, tried: set[int]) -> bool:
        for at, one in enumerate(got):
            if at not in tried and fits(expected[number], one):
                tried.add(at)
                if at not in holder or place(holder[at], tried):
                    holder[at] = number
                    return True
        return False

    same_count = len(got) == len(expected)
    return same_count and all(place(number, set()) for number in range(len(expected)))


def _equal(a: float, b: float, fuzzy: bool) -> bool:
    """A NaN equals nothing, not even the NaN that was expected: promtool compares with `==`."""
    if a == b:
        return True
    return fuzzy and (math.nextafter(a, math.inf) == b or math.nextafter(a, -math.inf) == b)


def _samples(samples: Iterable[tuple[Labels, float]]) -> str:
    return ", ".join(_sample(labels, value) for labels, value in samples) or "nil"


def _sample(labels: Labels, value: float) -> str:
    return f"{_braced(labels)} {scientific(value, 'E')}"


def _braced(labels: Labels) -> str:
    return "{" + ", ".join(f"{name}={quote(value)}" for name, value in labels) + "}"


def _listed(alerts: Sequence[ComparedAlert]) -> str:
    if not alerts:
        return "[]"
    parts = [
        f"            {number}:\n"
        f"              Labels:{_braced(alert.labels)}\n"
        f"              Annotations:{_braced(alert.annotations)}"
        for number, alert in enumerate(alerts)
    ]
    return "[\n" + ",\n".join(parts) + "\n            ]"


def _lines(alerts: Sequence[ComparedAlert]) -> list[str]:
    """An alert a block, a label or an annotation a line."""
    lines: list[str] = []
    for number, alert in enumerate(alerts):
        for kind, pairs in (("Labels", alert.labels), ("Annotations", alert.annotations)):
            lines += [f"{number}: {kind}", *(f"  {name}={quote(value)}" for name, value in pairs)]
    return lines


def _differences(expected: Sequence[str], got: Sequence[str]) -> str:
    """`-` is what is missing, `+` what should not be there."""
    told = (line for line in ndiff(expected, got) if not line.startswith("?"))
    return "        diff (- expected, + got):\n" + "\n".join(f"          {line}" for line in told)
