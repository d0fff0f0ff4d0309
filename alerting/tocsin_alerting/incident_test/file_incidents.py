"""The incident tests of one file: read with its unit tests, checked, and played one by one.

It stands apart because it needs the whole agent, which tests of rules alone do not.
"""

import tempfile
from collections.abc import Mapping, Sequence
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
from tocsin_alerting.rules.rule import RuleFile
from tocsin_alerting.rules.rule_test import RuleTestFailure
from tocsin_alerting.rules.rule_test_file import ReadTestPart, RuleTest, RuleTestFile
from tocsin_alerting.rules.rule_test_store import RETENTION_MS, bench_on
from tocsin_alerting.tsdb.store import Store

START_MS = 1_767_225_600_000
"""When an incident test begins that does not say when: Thursday 1 January 2026, 00:00 UTC."""


class FileIncidentTests:
    """Tests are known by their numbers in the file; each configuration is read once."""

    def __init__(self) -> None:
        self._reader = IncidentTestReader()
        self._configs: dict[str, Config] = {}

    @property
    def parts(self) -> Mapping[str, ReadTestPart]:
        return self._reader.parts

    def check(self, number: int) -> None:
        """Raises InvalidDocument for what is wrong in the test's configuration."""
        if script := self._reader.test(number):
            check_names(script, self._config(script))

    def _config(self, script: IncidentTest) -> Config:
        path = script.policy_file
        if path not in self._configs:
            self._configs[path] = load_policy_file(path)
        return self._configs[path]

    async def run(
        self, file: RuleTestFile, test: RuleTest, number: int, rules: Sequence[RuleFile]
    ) -> list[RuleTestFailure]:
        """What fails; nothing where the test has no incident test."""
        script = self._reader.test(number)
        if script is None:
            return []
        config = self._config(script)
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
