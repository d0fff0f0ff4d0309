"""What rules read of each other, when an engine dies and answers again: nobody hears "resolved"."""

import asyncio
import time
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.examples import examples
from support.rule_deps import MemoryJournal
from support.rule_texts import alerting, group, recording
from tocsin_alerting.loops.source_status import StoreSources
from tocsin_alerting.promql.engine import QueryEngine
from tocsin_alerting.rules.alert import AlertState, EventKind
from tocsin_alerting.rules.dependencies import connect
from tocsin_alerting.rules.evaluation import EvaluationDeps
from tocsin_alerting.rules.groups import Groups
from tocsin_alerting.rules.inputs import RangeWindow
from tocsin_alerting.rules.rule import Rule, RuleFile, RuleGroup
from tocsin_alerting.rules.state import RuleState
from tocsin_alerting.tsdb.store import Store
from tocsin_exporter.snapshot import Family, Layout, Series, Snapshot, Source, labels

SECOND = 1_000
ENGINE = Source("llm", "e:1")
PAGE = Layout(
    (
        Series(Family("m", "gauge", ""), "m", labels()),
        Series(Family("c_total", "counter", ""), "c_total", labels()),
    )
)
OVER = {EventKind.CLEAR, EventKind.REMOVED, EventKind.GIVEN_UP}
RECORDS = {"l:m": "m", "l:rate": "rate(c_total[10s])", "l:sum": "sum(l:m)", "l:two": "l:rate * 2"}
ALERTS = {
    "Rate": "rate(c_total[10s]) > 0",
    "Back": "m offset 10s > 0",
    "Recorded": "l:m > 0",
    "Twice": "l:two > 0",
    "Mean": "avg_over_time(l:rate[20s]) > 0",
    "BackRecorded": "l:sum offset 10s > 0",
    "Steps": "max_over_time(l:two[10s:5s]) > 0",
    "Or": "(l:sum or vector(0)) > 0",
    "Pattern": 'count({__name__=~"l:.*"} > 0) > 2',
    "And": 'm > 0 and on () ALERTS{alertname="Rate"}',
    "Age": 'time() - ALERTS_FOR_STATE{alertname="Recorded"} > 30',
    "Name": 'count({__name__=~"ALERTS.*", alertname="Recorded"}) > 0',
    "Alerts": "l:alerts > 0",
    "BackAlerts": 'ALERTS{alertname="Recorded"} offset 10s == 1',
}


class Machine:
    """An engine that is read every second, and groups, which run in this order at one time."""

    def __init__(self, groups: Sequence[RuleGroup]) -> None:
        self.store, self.now_s, self.count = Store(), 100_000, 0.0
        sources = StoreSources(
            self.store, lambda: [ENGINE], lambda: True, lambda: self.now_s * SECOND
        )
        deps = EvaluationDeps(
            QueryEngine(self.store), self.store.append_rule_samples, sources, lambda: 0.0
        )
        self.groups = Groups(deps, SECOND)
        self.groups.load([RuleFile("f.yml", tuple(groups))], self.now_s * SECOND)

    async def go(self, seconds: int, up: bool = True, bad: bool = True) -> set[str]:
        """The alerts that ended."""
        over: set[str] = set()
        for _ in range(seconds):
            self.now_s += 1
            self.count += bad
            self._read(up, bad)
            for group_state in self.groups.all:
                if self.now_s * SECOND % group_state.interval_ms == 0:
                    events = await self.groups.evaluate(group_state, self.now_s * SECOND)
                    over |= {event.alert.name for event in events if event.kind in OVER}
        return over

    def _read(self, up: bool, bad: bool) -> None:
        values = np.array([float(bad), self.count]) if up else np.empty(0)
        layout = PAGE if up else Layout(())
        self.store.append(Snapshot(ENGINE, self.now_s * SECOND, up, layout, values, 0.1))

    async def restart(self) -> None:
        """With all that the last run left."""
        journal, before = MemoryJournal(), self.groups
        for group_state in before.all:
            await before.persist(group_state, journal)
        self.groups = Groups(before.deps, SECOND)
        self.groups.remember(await journal.load(), self.now_s * SECOND, self.store.newest_ms)
        files = [RuleFile("f.yml", tuple(group_state.group for group_state in before.all))]
        self.groups.load(files, self.now_s * SECOND)

    @property
    def standing(self) -> set[str]:
        """The alerts that fire, or of which nobody knows."""
        rules = [rule for one in self.groups.all for rule in one.rules]
        fire = {
            one.name
            for rule in rules
            for one in rule.alerts.values()
            if one.state is AlertState.FIRING
        }
        return fire | {one.alert.name for rule in rules for one in rule.unknown_alerts.values()}


def grouped(records: Mapping[str, str], alerts: Mapping[str, str], slow_s: int) -> list[RuleGroup]:
    """The alerts run first, and often."""
    first = [alerting(expr, name) for name, expr in alerts.items()]
    then = [recording(name, expr) for name, expr in reversed(list(records.items()))]
    return [
        group(*reversed(first), name="alerts", interval_ms=SECOND),
        group(*then, name="records", interval_ms=slow_s * SECOND),
    ]


@pytest.mark.parametrize(
    ("dead_s", "slow_s"),
    [
        (3, 7),
        (60, 1),
        *(
            pytest.param(*one, marks=pytest.mark.long)
            for one in ((3, 1), (15, 1), (15, 7), (60, 7))
        ),
    ],
)
async def test_nothing_is_over_before_all_that_it_reads_was_made_anew(
    dead_s: int, slow_s: int
) -> None:
    records = {**RECORDS, "l:alerts": 'count(ALERTS{alertname="Recorded"})'}
    machine = Machine(grouped(records, ALERTS, slow_s))
    await machine.go(120)
    assert machine.standing == set(ALERTS)
    assert await machine.go(dead_s, up=False) == set()
    assert await machine.go(90) == set()
    over = await machine.go(120, bad=False)
    assert (over, machine.standing) == (set(ALERTS), set())


@pytest.mark.parametrize("slow_s", [pytest.param(1, marks=pytest.mark.long), 7])
async def test_what_is_well_again_is_over_when_all_was_made_anew(slow_s: int) -> None:
    records = {**RECORDS, "l:alerts": 'count(ALERTS{alertname="Recorded"})'}
    machine = Machine(grouped(records, ALERTS, slow_s))
    await machine.go(120)
    await machine.go(60, up=False)
    assert await machine.go(120, bad=False) == set(ALERTS)
    assert machine.standing == set()


ALERTS_OF_A = 'ALERTS{alertname="A"}'
PLAIN = ("m", "rate(c_total[8s])")
SHAPES = (
    "{} * 2",
    "sum({})",
    "max_over_time({}[12s:3s])",
    "avg_over_time({}[10s:2s])",
    "last_over_time({}[6s:2s])",
    "{} or vector(0)",
    "{} and on () m",
    "sum({} offset 5s)",
)


@st.composite
def graphs(draw: st.DrawFn) -> list[RuleGroup]:
    """Rules that read each other in no circle, in any order, in groups of any interval."""
    made: list[str] = list(PLAIN)
    rules: list[Rule] = []
    for number in range(draw(st.integers(2, 8))):
        operand = draw(st.sampled_from(made))
        shape = draw(st.sampled_from(SHAPES if "(" not in operand else SHAPES[:-1]))
        if draw(st.booleans()):
            rules.append(recording(f"r{number}", shape.format(operand)))
            made.append(f"r{number}")
        else:
            rules.append(alerting(f"({shape.format(operand)}) > 0", f"A{number}"))
            made.append(f'ALERTS{{alertname="A{number}"}}')
    order = draw(st.permutations([*rules, alerting(f"({made[-1]}) > 0", "Last")]))
    cut = draw(st.integers(0, len(order)))
    parts = [part for part in (order[:cut], order[cut:]) if part]
    intervals = st.sampled_from([1, 2, 5])
    return [
        group(*part, name=f"g{at}", interval_ms=draw(intervals) * SECOND)
        for at, part in enumerate(parts)
    ]


async def test_an_engine_that_died_between_two_evaluations_counts_as_long_as_its_samples() -> None:
    machine = Machine([group(alerting("rate(c_total[8s]) > 0"), interval_ms=5 * SECOND)])
    await machine.go(154)
    assert await machine.go(40, up=False) == set()
    assert machine.standing == {"A"}


async def test_samples_from_before_a_range_on_what_is_recorded_count_for_nothing() -> None:
    rules = alerting("last_over_time(r[6s:2s]) > 0"), recording("r", "m * 2")
    machine = Machine([group(*rules, interval_ms=2 * SECOND)])
    await machine.go(50)
    assert await machine.go(4, up=False) == set()
    assert await machine.go(30) == set()
    assert (await machine.go(30, bad=False), machine.standing) == ({"A"}, set())


@pytest.mark.parametrize("expr", ["r > 0", "sum(r) > 0", "avg_over_time(r[20s]) > 0"])
async def test_a_range_is_of_those_alone_whose_series_it_is_on(expr: str) -> None:
    """The rule records every 5 s: one of its own samples in 8 s is as it should be."""
    rules = alerting(expr), recording("r", "rate(c_total[8s])")
    machine = Machine([group(*rules, interval_ms=5 * SECOND)])
    await machine.go(100)
    assert (await machine.go(60, bad=False), machine.standing) == ({"A"}, set())


@pytest.mark.parametrize("late", ["{} offset 5s", "max_over_time({}[12s:3s])"])
async def test_a_rule_waits_for_one_that_waits_for_the_time_that_it_reads(late: str) -> None:
    """What B reads of A is as old as 5 s or more, and C reads B."""
    texts = {
        "A": "m > 0",
        "B": f"sum({late.format(ALERTS_OF_A)}) > 0",
        "C": 'ALERTS{alertname="B"} == 1',
    }
    rules = [alerting(text, name) for name, text in texts.items()]
    machine = Machine([group(*rules, interval_ms=SECOND)])
    await machine.go(30)
    for dead_s in (1, 11):
        assert await machine.go(dead_s, up=False) == set()
        assert await machine.go(30) == set()
    assert (await machine.go(30, bad=False), machine.standing) == (set("ABC"), set())


@settings(max_examples=examples(25), deadline=None)
@given(groups=graphs(), silences=st.lists(st.integers(1, 40), min_size=1, max_size=2))
def test_no_graph_of_rules_makes_a_clear_of_a_silence(
    groups: list[RuleGroup], silences: list[int]
) -> None:
    async def story() -> None:
        machine = Machine(groups)
        await machine.go(150)
        for dead_s in silences:
            assert await machine.go(dead_s, up=False) == set()
            assert await machine.go(50) == set()
        await machine.go(250, bad=False)
        assert machine.standing == set()

    asyncio.run(story())


async def test_what_a_rule_would_record_that_fails_is_unknown() -> None:
    """It fails as soon as two series match."""
    fails = "vector(1) + on () (c_total > 30 or on (__name__) m)"
    machine = Machine(grouped({"l:m": fails}, {"A": "l:m > 0"}, 1))
    await machine.go(20)
    assert machine.standing == {"A"}
    assert await machine.go(400) == set()
    assert machine.standing == {"A"}


async def test_what_only_alerts_say_is_over_soon_after_a_restart_in_an_outage() -> None:
    """No source says how it stands, and what the last run left does not."""
    read = {"Count": 'count(ALERTS{alertname="M"}) > 0', "Plain": 'ALERTS{alertname="M"} == 1'}
    rules = grouped({}, {**read, "M": "m > 0"}, 1)[:1]
    machine = Machine(rules)
    await machine.go(60)
    assert await machine.go(10, up=False) == set()
    await machine.restart()
    assert await machine.go(5, up=False) == set()
    assert await machine.go(20) == set()
    over = await machine.go(320, bad=False)
    assert (over, machine.standing) == ({"Count", "Plain", "M"}, set())


async def test_what_is_recorded_rarely_was_made_of_an_evaluation_long_ago() -> None:
    often = [alerting("l:rare > -1 and on () m > 0", "A")]
    groups = [
        group(*often, name="alerts", interval_ms=SECOND),
        group(recording("l:rare", "l:m * 1"), name="rare", interval_ms=240 * SECOND),
        group(recording("l:m", "m"), name="records", interval_ms=SECOND),
    ]
    machine = Machine(groups)
    await machine.go(250 + 240 - machine.now_s % 240)
    await machine.go(200)
    assert machine.standing == {"A"}
    assert await machine.go(1, bad=False) == {"A"}


def test_many_rules_that_record_each_other_are_connected_at_once() -> None:
    texts = {f"l:{number}": 'count({__name__=~"l:.*"})' for number in range(120)}
    rules = [
        RuleState("f", "g", recording(name, text), interval_ms=SECOND)
        for name, text in texts.items()
    ]
    began = time.process_time()
    connect(rules)
    assert time.process_time() - began < 2
    assert sum(not rule.behind for rule in rules) == 1
    assert max(len(rule.behind) for rule in rules) == len(rules) - 1


def test_rules_that_record_each_other_in_a_circle_wait_for_no_end() -> None:
    texts = {"a": "m or b", "b": "a offset 1m", "c": "c offset 1m"}
    rules = [
        RuleState("f", "g", recording(name, text), interval_ms=SECOND)
        for name, text in texts.items()
    ]
    connect(rules)
    by_name = {rule.rule.name: rule for rule in rules}
    assert not by_name["c"].behind
    assert RangeWindow(0) in {window for _, window in by_name["a"].windows}
