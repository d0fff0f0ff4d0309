"""One file of tests: the rules' unit tests and the incident tests in it, test by test."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from tocsin_alerting.promql.parser.signatures import Semantics
from tocsin_alerting.promql.parser.types import refuse_unsupported
from tocsin_alerting.rules.rule import FilePosition, RuleFile
from tocsin_alerting.rules.rule_file import RuleFileCache
from tocsin_alerting.rules.rule_test import (
    BrokenPattern,
    RuleTestFailure,
    RuleTestStore,
    all_samples,
    load_tested,
    run_test,
)
from tocsin_alerting.rules.rule_test_file import ReadTestPart, RuleTest, RuleTestFile, read_tests
from tocsin_alerting.rules.rule_test_store import make_test_store
from tocsin_alerting.rules.yaml_reader import YamlReader
from tocsin_alerting.yaml_document import InvalidDocument, Path, Problem

if TYPE_CHECKING:
    from tocsin_alerting.incident_test.file_incidents import FileIncidentTests


@dataclass(frozen=True, slots=True)
class CaseOutcome:
    """`name` is that of the test, or its number; `failures` in the order of the file."""

    name: str
    failures: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class FileOutcome:
    """`error` is what keeps the whole file from being run. `rules` are those under test, and
    `fired` the places of the alerts that fired as a test expected."""

    outcomes: tuple[CaseOutcome, ...]
    unmatched: tuple[str, ...] = ()
    error: str = ""
    rules: tuple[RuleFile, ...] = ()
    fired: frozenset[FilePosition] = frozenset()

    @property
    def failures(self) -> list[str]:
        own = [failure for outcome in self.outcomes for failure in outcome.failures]
        return [*([self.error] if self.error else []), *own]


@dataclass(frozen=True, slots=True)
class JUnitSuite:
    """A file, what came of it, and when its tests began, in Unix seconds."""

    path: str
    outcome: FileOutcome
    began_s: float


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Which tests are run, and what is told of them. `seconds` is a monotonic clock; `debug` takes
    what promtool tells of each test, a text at a time."""

    semantics: Semantics
    seconds: Callable[[], float]
    patterns: tuple[re.Pattern[str], ...] = ()
    diff: bool = False
    debug: Callable[[str], object] | None = None

    def wanted(self, name: str) -> bool:
        return not self.patterns or any(pattern.search(name) for pattern in self.patterns)


class _IncidentTests:
    """Those of a file, most of which have none: what they need takes three times as long to import
    as all the rest, and is, when the first is met."""

    def __init__(self) -> None:
        self._made: FileIncidentTests | None = None

    @property
    def parts(self) -> Mapping[str, ReadTestPart]:
        return {key: partial(self._read, key) for key in ("policy_file", "incident_test")}

    def _read(self, key: str, reading: YamlReader, path: Path, number: int) -> None:
        from tocsin_alerting.incident_test.file_incidents import FileIncidentTests

        self._made = self._made or FileIncidentTests()
        self._made.parts[key](reading, path, number)

    def check(self, number: int) -> None:
        if self._made:
            self._made.check(number)

    async def run(
        self, file: RuleTestFile, test: RuleTest, number: int, rules: Sequence[RuleFile]
    ) -> list[RuleTestFailure]:
        return await self._made.run(file, test, number, rules) if self._made else []


def check_file(text: str, path: str, semantics: Semantics) -> int:
    """How many tests there are in `text`. Raises InvalidDocument for what is wrong in it, or in the
    configurations of its incident tests; rules are not read."""
    incidents = _IncidentTests()
    file = read_tests(text, path, semantics, incidents.parts)
    problems: list[Problem] = [
        Problem(case.place.file, case.place.line, case.place.column, case.error)
        for test in file.tests
        for case in test.exprs
        if case.error
    ]
    for number in range(len(file.tests)):
        try:
            incidents.check(number)
        except InvalidDocument as error:
            problems += error.problems
    if problems:
        raise InvalidDocument(dict.fromkeys(problems))
    return len(file.tests)


async def run_file(
    text: str, path: str, options: RunOptions, rule_files: RuleFileCache | None = None
) -> FileOutcome:
    """Run the tests in `text` whose names are wanted; `rule_files` keeps what their rules are.

    Raises InvalidDocument for what is wrong in it, in its rules or its configurations.
    """
    incidents = _IncidentTests()
    file = read_tests(text, path, options.semantics, incidents.parts)
    cache = rule_files or RuleFileCache(refuse_unsupported)
    try:
        tested = load_tested(file, refuse_unsupported, cache.known(options.semantics))
    except BrokenPattern as error:
        return FileOutcome((), error=str(error))
    outcomes = []
    fired: set[FilePosition] = set()
    for number, test in enumerate(file.tests):
        if not options.wanted(test.name):
            continue
        name, began = test.name or f"unnamed#{number}", options.seconds()
        told = _Told(name, options)
        bench = make_test_store(file.interval_ms, options.semantics)
        keep_alerts = options.debug is not None
        result = await run_test(file, test, tested.files, bench, options.diff, keep_alerts)
        fired |= result.fired
        if not result.broken:
            await told.samples(test, bench)
        failures = [
            *result.failures,
            *await incidents.run(file, test, number, tested.files),
        ]
        texts = tuple(failure.text for failure in failures)
        outcomes.append(CaseOutcome(name, texts, options.seconds() - began))
        told.end()
    return FileOutcome(
        tuple(outcomes), tested.unmatched, rules=tested.files, fired=frozenset(fired)
    )


class _Told:
    """What `--debug` of promtool tells of a test."""

    def __init__(self, name: str, options: RunOptions) -> None:
        self._name, self._began = name, options.seconds()
        self._seconds, self._tell = options.seconds, options.debug
        self._say(f"Starting test {name}")

    async def samples(self, test: RuleTest, bench: RuleTestStore) -> None:
        if self._tell is not None:
            self._say(await all_samples(test, bench))

    def end(self) -> None:
        if self._tell is None:
            return
        from tocsin_alerting.rules.go_time import GoDuration

        took = GoDuration(round((self._seconds() - self._began) * 1e9))
        self._say(f"Test {self._name} finished, took {took}")

    def _say(self, text: str) -> None:
        if self._tell is not None:
            self._tell(f"DEBUG: {text}")
