"""When the groups run: a fault is told with the reading that shows it, whatever else is at work."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import pytest

from support.policies import config
from support.rule_deps import MemoryJournal
from support.rule_texts import alerting, group
from support.virtual_time import VirtualTimeLoop
from tocsin_alerting.incidents.dispatcher import Dispatcher
from tocsin_alerting.incidents.journal.memory import MemoryJournal as IncidentJournal
from tocsin_alerting.loops.rule_loop import RuleLoop
from tocsin_alerting.loops.scrape_barrier import ScrapeBarrier
from tocsin_alerting.loops.source_status import StoreSources
from tocsin_alerting.promql.engine import QueryEngine
from tocsin_alerting.promql.parser.ast import Expr
from tocsin_alerting.promql.result import Result
from tocsin_alerting.rules.evaluation import EvaluationDeps
from tocsin_alerting.rules.groups import Groups
from tocsin_alerting.rules.rule import RuleFile, RuleGroup
from tocsin_alerting.tsdb.store import Store
from tocsin_exporter.clock import Clock
from tocsin_exporter.scrape import ScrapeTarget
from tocsin_exporter.scrape_manager import ScrapeManager
from tocsin_exporter.snapshot import Family, Sample, Source

START = 1_700_000_000.0
VALUE = Family("m", "gauge", "What a test sets.")
READING_SECONDS = 0.03
SETTLED = 5.5  # seconds after which everything has run some times


class Settable:
    """A collector that takes `seconds` to read `value`."""

    name = "settable"

    def __init__(self) -> None:
        self.value, self.seconds = 0.0, READING_SECONDS

    async def collect(self) -> Sequence[Sample]:
        value = self.value
        await asyncio.sleep(self.seconds)
        return [Sample(VALUE, value)]

    def close(self) -> None:
        pass


class Costly:
    """The engine, where each query holds the loop for `seconds`."""

    def __init__(self, engine: QueryEngine) -> None:
        self._engine = engine
        self.seconds = 0.0

    async def instant(self, query: str | Expr, at_ms: int, /) -> Result:
        if self.seconds:
            asyncio.get_running_loop().hold(self.seconds)  # type: ignore[attr-defined]
        return self._engine.evaluate(query, at_ms)


class Box:
    """An agent that reads two sources each second, its store, and the groups over them."""

    def __init__(self, *groups: RuleGroup, phases_ms: Mapping[str, int] | None = None) -> None:
        loop = asyncio.get_running_loop()
        self.now = loop.time
        self.clock = Clock(lambda: START + loop.time(), loop.time)
        self.quick, self.other = Settable(), Settable()
        watches = [
            ScrapeTarget("process", Source("node", name), (collector,), 1.0, 0.9)
            for name, collector in (("a", self.quick), ("b", self.other))
        ]
        self.store = Store()
        self.agent = ScrapeManager(watches, self.clock, [self.store.append])
        self.engine = Costly(QueryEngine(self.store))
        now_ms = self.clock.now_ms
        sources = StoreSources(self.store, self._watched, lambda: self.agent.ready, now_ms)
        deps = EvaluationDeps(self.engine, self.store.append_rule_samples, sources, loop.time)
        phases = phases_ms or {}
        self.groups = Groups(
            deps, 1_000, phase_of=lambda progress: phases.get(progress.group.name, 0)
        )
        self.groups.load([RuleFile("f.yml", groups)], now_ms())
        self.dispatcher = Dispatcher(config(), IncidentJournal(), lambda: 0.0)
        agent, touched = self.agent, sources.touched
        self.rounds = RuleLoop(
            self.groups,
            self.dispatcher,
            MemoryJournal(),
            self.clock,
            ScrapeBarrier(
                agent.awaited,
                agent.arrival,
                self._watched,
                touched,
                self.store.last_seen,
                self.clock,
            ),
        )

    def _watched(self) -> list[Source]:
        return self.agent.sources

    async def __aenter__(self) -> "Box":
        await self.dispatcher.start(self.clock.now_ms())
        self._tasks = [asyncio.create_task(one.run()) for one in (self.agent, self.rounds)]
        await asyncio.sleep(SETTLED)
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def told_after(self) -> float:
        """Seconds until an incident is open."""
        began = self.now()
        while not self.dispatcher.working.incidents:
            await asyncio.sleep(0.001)
        return self.now() - began


def virtually(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(test())


@pytest.mark.parametrize("name", ["g17", "g45", "inference", "a", "z"])
def test_a_fault_is_told_with_the_reading_that_shows_it_whatever_the_group_is_called(
    name: str,
) -> None:
    async def story() -> None:
        async with Box(group(alerting(severity="P0"), name=name)) as box:
            box.quick.value = 1.0  # half a second before the next reading
            assert 0.5 < await box.told_after() < 0.55

    virtually(story)


def test_a_reading_that_began_late_is_not_left_for_the_next_slot() -> None:
    async def story() -> None:
        async with Box(group(alerting(severity="P0"))) as box:
            await asyncio.sleep(0.49)
            box.quick.value = 1.0
            await asyncio.sleep(0.0095)
            box.now.__self__.hold(0.06)  # type: ignore[attr-defined]
            assert await box.told_after() < 0.1
            assert box.agent.last[Source("node", "a")].at_ms % 1_000 > 20

    virtually(story)


@pytest.mark.parametrize(("hangs_for", "least"), [(0.0, 1.0), (3.0, 0.5)])
def test_a_source_that_hangs_costs_others_half_an_interval_once(
    hangs_for: float, least: float
) -> None:
    async def story() -> None:
        async with Box(group(alerting(severity="P0"), alerting("m > 5", name="B"))) as box:
            box.other.seconds = 60.0
            await asyncio.sleep(hangs_for)
            box.quick.value = 1.0
            assert least < await box.told_after() + 0.002 < least + 0.06

    virtually(story)


def test_times_of_evaluation_are_on_the_grid_so_that_for_is_exact() -> None:
    async def story() -> None:
        async with Box(group(alerting(for_ms=3_000, severity="P0"))) as box:
            box.quick.value = 1.0
            assert 3.5 < await box.told_after() < 3.55
            (alert,) = box.groups.all[0].rules[0].alerts.values()
            assert (alert.active_at_ms % 1_000, alert.fired_at_ms) == (
                0,
                alert.active_at_ms + 3_000,
            )

    virtually(story)


def test_late_groups_keep_none_that_comes_more_often_from_its_slots() -> None:
    async def story() -> None:
        phases_ms = {f"g{n}": 50 * n for n in range(100)}
        many = [group(alerting("m > 9", name=n), name=n, interval_ms=5_000) for n in phases_ms]
        urgent = group(alerting("m > 9", severity="P0"), name="urgent")
        async with Box(*many, urgent, phases_ms=phases_ms) as box:
            box.engine.seconds = 0.1  # ten seconds of work in each five
            await asyncio.sleep(5)
            (state,) = (one for one in box.groups.all if one.group.name == "urgent")
            before = state.evaluations
            await asyncio.sleep(10)
            assert state.evaluations - before >= 9

    virtually(story)


def test_many_rules_hold_up_neither_the_loop_nor_a_page() -> None:
    async def story() -> None:
        many = [
            group(*(alerting("m > 9", name=f"R{g}_{n}") for n in range(20)), name=f"g{g}")
            for g in range(50)
        ]
        async with Box(*many, group(alerting(severity="P0"), name="urgent")) as box:
            box.engine.seconds = 0.002  # two seconds of work in each
            late: list[float] = []

            async def measure() -> None:
                while True:
                    before = box.now()
                    await asyncio.sleep(0.01)
                    late.append(box.now() - before - 0.01)

            measuring = asyncio.create_task(measure())
            box.quick.value = 1.0
            assert await box.told_after() < 0.6
            await asyncio.sleep(3.0)
            assert max(late) < 0.02
            measuring.cancel()

    virtually(story)


def test_a_group_that_runs_longer_than_its_interval_goes_on_with_the_newest_slot() -> None:
    async def story() -> None:
        async with Box(group(*(alerting(name=f"R{n}") for n in range(30)))) as box:
            box.engine.seconds = 0.05
            (progress,) = box.groups.all
            before = progress.evaluations
            await asyncio.sleep(15.0)
            assert 8 <= progress.evaluations - before <= 11
            assert progress.missed >= 4
            assert box.clock.now_ms() - (progress.evaluated_ms or 0) < 4_000

    virtually(story)
