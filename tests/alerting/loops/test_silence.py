"""Silence is no clear: a rule over a range, whose source stops and returns."""

import asyncio

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from support.examples import examples
from support.rule_texts import alerting, group
from tocsin_alerting.loops.source_status import StoreSources
from tocsin_alerting.promql.engine import QueryEngine
from tocsin_alerting.rules.alert import EventKind
from tocsin_alerting.rules.evaluation import EvaluationDeps, evaluate_rule
from tocsin_alerting.rules.state import RuleState
from tocsin_alerting.tsdb.store import Store
from tocsin_exporter.snapshot import Family, Layout, Series, Snapshot, Source, labels

SECOND = 1_000
OURS = Source("llm", "e:1")
PAGE = Layout((Series(Family("c_total", "counter", ""), "c_total", labels()),))


class Pushed:
    """A counter that grows by 1 a second while it is `bad`; the rule runs every second."""

    def __init__(self, expr: str, every_s: int = 1, ours: bool = False) -> None:
        self.store, self.every_s, self.now_s, self.count = Store(), every_s, 100_000, 0.0
        self.ours = ours
        sources = StoreSources(
            self.store,
            lambda: [OURS] if ours else [],
            lambda: True,
            lambda: self.now_s * SECOND,
        )
        self.deps = EvaluationDeps(
            QueryEngine(self.store), self.store.append_rule_samples, sources, lambda: 0.0
        )
        self.rule = alerting(expr)
        self.progress = RuleState("f", "g", self.rule)

    async def go(self, seconds: int, talks: bool = True, bad: bool = True) -> list[EventKind]:
        told: list[EventKind] = []
        for _ in range(seconds):
            self.now_s += 1
            self.count += bad
            if self.now_s % self.every_s == 0:
                self._send(talks)
            owner = group(self.rule)
            events = await evaluate_rule(self.progress, owner, self.now_s * SECOND, self.deps)
            told += [event.kind for event in events]
        return told

    def _send(self, talks: bool) -> None:
        at_ms = self.now_s * SECOND
        if self.ours:
            layout, values = (PAGE, [self.count]) if talks else (Layout(()), [])
            self.store.append(Snapshot(OURS, at_ms, talks, layout, np.array(values), 0.1))
        elif talks:
            named = (("__name__", "c_total"), ("instance", "i"), ("job", "x"))
            up = (("__name__", "up"), *named[1:])
            self.store.write([(named, at_ms, self.count), (up, at_ms, 1.0)])


RULES = (
    "rate(c_total[30s]) > 0.5",
    "sum(rate(c_total[30s])) > 0.5",
    "sum by (job) (increase(c_total[1m])) > 30",
    "rate(c_total[5m]) > 0.5",
    "rate(c_total[30s]) > 0.5 and rate(c_total[5m]) > 0.5",
    "rate(c_total[30s]) > 0.5 and on (instance) up == 1",
    "rate(c_total[30s]) > 0.5 unless on (instance) up == 0",
)


def gaps(short_s: int, middle_s: int, long_s: int) -> list[object]:
    """(`ours`, `gap_s`): each of both in every run, all pairs in the long one."""
    often = [(True, short_s), (False, long_s)]
    every = [(ours, gap_s) for ours in (True, False) for gap_s in (short_s, middle_s, long_s)]
    return [
        *often,
        *(pytest.param(*one, marks=pytest.mark.long) for one in every if one not in often),
    ]


@pytest.mark.parametrize("expr", RULES)
@pytest.mark.parametrize(("ours", "gap_s"), gaps(45, 90, 400))
async def test_a_source_that_stops_and_returns_clears_nothing(
    expr: str, ours: bool, gap_s: int
) -> None:
    one = Pushed(expr, 5, ours)
    assert EventKind.FIRING in await one.go(400)
    told = await one.go(gap_s, talks=False) + await one.go(400)
    assert EventKind.CLEAR not in told
    assert told[-1:] != [EventKind.UNKNOWN]
    assert (EventKind.CLEAR in await one.go(400, bad=False)) is True


@pytest.mark.parametrize(
    "expr",
    [
        "changes(c_total[1m]) > 8",
        "sum by (job) (changes(c_total[1m])) > 8",
        "sum_over_time(changes(c_total[10s])[1m:5s]) > 8",
        "stddev_over_time(c_total[1m]) > 12 < 20",
    ],
)
@pytest.mark.parametrize(("ours", "gap_s"), gaps(20, 40, 90))
async def test_a_pause_in_the_middle_of_a_range_clears_nothing(
    expr: str, ours: bool, gap_s: int
) -> None:
    one = Pushed(expr, 5, ours)
    assert EventKind.FIRING in await one.go(400)
    told = await one.go(gap_s, talks=False) + await one.go(200)
    assert EventKind.CLEAR not in told
    assert told[-1:] != [EventKind.UNKNOWN]
    assert (EventKind.CLEAR in await one.go(400, bad=False)) is True


async def test_a_short_pause_in_a_long_range_keeps_nothing_in_doubt() -> None:
    one = Pushed("changes(c_total[10m]) > 60", 5)
    assert await one.go(900) == [EventKind.FIRING]
    assert await one.go(40, talks=False) == []
    assert await one.go(300, bad=False) == [EventKind.CLEAR]


async def test_a_range_of_the_past_is_judged_by_what_came_then() -> None:
    one = Pushed("rate(c_total[30s] offset 30s) > 0.5", 5)
    assert EventKind.FIRING in await one.go(400)
    one.every_s = 20
    assert EventKind.CLEAR not in await one.go(400)
    assert (await one.go(200, bad=False))[-1:] == [EventKind.CLEAR]


@pytest.mark.parametrize("every_s", [1, 5, 15, 60])
@pytest.mark.parametrize("ours", [True, False])
async def test_what_a_healthy_source_shows_is_clear_at_once(every_s: int, ours: bool) -> None:
    one = Pushed("rate(c_total[5m]) > 0.5", every_s, ours)
    assert await one.go(600) == [EventKind.FIRING]
    assert await one.go(400, bad=False) == [EventKind.CLEAR]


async def test_a_writer_that_becomes_slower_is_believed_in_time() -> None:
    one = Pushed("rate(c_total[5m]) > 0.5", 1)
    await one.go(400)
    one.every_s = 60
    assert EventKind.CLEAR not in await one.go(900)
    assert (await one.go(900, bad=False))[-1:] == [EventKind.CLEAR]


async def test_a_window_may_hold_one_sample_where_that_is_enough() -> None:
    one = Pushed("max_over_time(c_total[1m]) >= 100 and max_over_time(c_total[1m]) < 700", 60)
    assert await one.go(600) == [EventKind.FIRING]
    assert await one.go(200) == [EventKind.CLEAR]


@pytest.mark.parametrize("expr", ["c_total > 5", "sum by (instance) (c_total) > 5", RULES[0]])
async def test_a_source_that_is_silent_for_hours_is_not_removed(expr: str) -> None:
    one = Pushed(expr, 5)
    assert EventKind.FIRING in await one.go(400)
    told = []
    for _ in range(12):  # memory keeps an hour
        one.now_s += 1200
        told += await one.go(5, talks=False)
        one.store.expire(one.now_s * SECOND)
    assert told == [EventKind.UNKNOWN]
    one.count = 0
    assert (await one.go(400, bad=False))[-1:] == [EventKind.CLEAR]


@settings(max_examples=examples(12), deadline=None)
@given(
    expr=st.sampled_from(RULES),
    every_s=st.sampled_from([1, 5]),
    ours=st.booleans(),
    spells=st.lists(st.tuples(st.integers(1, 120), st.booleans()), max_size=8),
)
@example(RULES[0], 5, False, [(5, False), (15, True), (10, False)])  # a little at both ends
def test_no_pattern_of_silence_makes_a_clear(
    expr: str, every_s: int, ours: bool, spells: list[tuple[int, bool]]
) -> None:
    async def story() -> None:
        one = Pushed(expr, every_s, ours)
        assert EventKind.FIRING in await one.go(320)
        for seconds, talks in spells:
            assert EventKind.CLEAR not in await one.go(seconds, talks)
        assert EventKind.CLEAR not in await one.go(320)
        assert (await one.go(620, bad=False))[-1:] == [EventKind.CLEAR]

    asyncio.run(story())
