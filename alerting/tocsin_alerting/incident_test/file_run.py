"""One file of tests: the rules' unit tests and the incident tests in it, test by test."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tocsin_alerting.config.calendars import calendar_reader
from tocsin_alerting.config.config import Config
from tocsin_alerting.config.load import roster
from tocsin_alerting.incident_test.agent import AgentInputs
from tocsin_alerting.incident_test.channel import ScriptedChannel
from tocsin_alerting.incident_test.reading import IncidentTestReader
from tocsin_alerting.incident_test.run import IncidentTestRun
from tocsin_alerting.incident_test.script import IncidentTest
from tocsin_alerting.incident_test.settings import check_names, load_policy_file
from tocsin_alerting.incident_test.verdict import Judge
from tocsin_alerting.incident_test.virtual_time import VirtualTime
from tocsin_alerting.promql.functions.table import refuse_unsupported
from tocsin_alerting.promql.parser.signatures import Semantics
from tocsin_alerting.rules.rule import RuleFile
from tocsin_alerting.rules.rule_test import (
    BrokenPattern,
    RuleTestFailure,
    load_tested,
    run_test,
)
from tocsin_alerting.rules.rule_test_file import RuleTest, RuleTestFile, read_tests
from tocsin_alerting.rules.rule_test_store import RETENTION_MS, bench_on, make_test_store
from tocsin_alerting.tsdb.store import Store
from tocsin_alerting.yaml_document import InvalidDocument, Problem

START_MS = 1_767_225_600_000
"""When an incident test begins that does not say when: Thursday 1 January 2026, 00:00 UTC."""


@dataclass(frozen=True, slots=True)
class CaseOutcome:
    """`name` is that of the test, or its number; `failures` in the order of the file."""

    name: str
    failures: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class FileOutcome:
    """`error` is what keeps the whole file from being run."""

    outcomes: tuple[CaseOutcome, ...]
    unmatched: tuple[str, ...] = ()
    error: str = ""

    @property
    def failures(self) -> list[str]:
        own = [failure for outcome in self.outcomes for failure in outcome.failures]
        return [*([self.error] if self.error else []), *own]


def check_file(text: str, path: str, semantics: Semantics) -> int:
    """How many tests there are in `text`. Raises InvalidDocument for what is wrong in it, or in the
    configurations of its incident tests; rules are not read."""
    reader = IncidentTestReader()
    file = read_tests(text, path, semantics, reader.parts)
    configs: dict[str, Config] = {}
    problems: list[Problem] = []
    for number in range(len(file.tests)):
        if script := reader.test(number):
            try:
                check_names(script, _config(script, configs))
            except InvalidDocument as error:
                problems += error.problems
    if problems:
        raise InvalidDocument(dict.fromkeys(problems))
    return len(file.tests)


def _config(script: IncidentTest, configs: dict[str, Config]) -> Config:
    """That of its policy file; `configs` keeps what was read."""
    path = script.policy_file
    if path not in configs:
        configs[path] = load_policy_file(path)
    return configs[path]


async def run_file(
    text: str,
    path: str,
    semantics: Semantics,
    seconds: Callable[[], float],
    wanted: Callable[[str], bool] = lambda name: True,
) -> FileOutcome:
    """Run the tests in `text` whose names are wanted. `seconds` is a monotonic clock.

    Raises InvalidDocument for what is wrong in it, in its rules or its configurations.
    """
    reader = IncidentTestReader()
    file = read_tests(text, path, semantics, reader.parts)
    try:
        tested = load_tested(file, refuse_unsupported)
    except BrokenPattern as error:
        return FileOutcome((), error=str(error))
    outcomes = []
    configs: dict[str, Config] = {}
    for number, test in enumerate(file.tests):
        if not wanted(test.name):
            continue
        began = seconds()
        bench = make_test_store(file.interval_ms, semantics)
        failures = await run_test(file, test, tested.files, bench)
        if script := reader.test(number):
            failures += await run_incident_test(file, test, script, tested.files, configs)
        texts = tuple(failure.text for failure in failures)
        name = test.name or f"unnamed#{number}"
        outcomes.append(CaseOutcome(name, texts, seconds() - began))
    return FileOutcome(tuple(outcomes), tested.unmatched)


async def run_incident_test(
    file: RuleTestFile,
    test: RuleTest,
    script: IncidentTest,
    rules: Sequence[RuleFile],
    configs: dict[str, Config],
) -> list[RuleTestFailure]:
    """Play one incident test; `configs` keeps what was read of its policy files."""
    config = _config(script, configs)
    check_names(script, config)
    start_ms = script.start_ms
    if start_ms is None:
        start_ms = test.start_ms or START_MS
    time = VirtualTime(start_ms)
    store = Store(retention_ms=RETENTION_MS)
    calendars = calendar_reader(config, keep=False).read(start_ms, online=False)
    inputs = AgentInputs(
        config=config,
        calendars=calendars,
        test=test,
        rules=rules,
        interval_ms=file.interval_ms,
        store=store,
        bench=bench_on(store, file.interval_ms, file.semantics),
        channels={
            name: ScriptedChannel(name, config, lambda: time.elapsed_ms, time.sleep)
            for name in config.receivers
        },
        group_order=file.group_order,
    )
    with tempfile.TemporaryDirectory(prefix="tocsin-test-") as folder:
        recording = await IncidentTestRun(script, inputs, time, Path(folder)).play()
    judge = Judge(test.name, script, config, roster(config, calendars), time)
    return judge.failures(recording)
