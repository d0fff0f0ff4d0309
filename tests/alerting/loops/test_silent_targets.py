"""TargetSilent: a source that rules read and that is silent, where nothing else says so."""

from typing import Any

import pytest

from support.dispatcher_setup import START_MS
from support.policies import MINUTE, SECOND
from support.rule_deps import surroundings
from support.rule_texts import alerting, group
from support.scripted_engine import Rows, row
from tocsin_alerting.loops.silent_targets import SilentTargets
from tocsin_alerting.rules.alert import Alert, EventKind
from tocsin_alerting.rules.groups import Groups
from tocsin_alerting.rules.rule import Rule, RuleFile
from tocsin_alerting.tsdb.store import Store
from tocsin_exporter.snapshot import Source, labels

A, B = Source("node", "a"), Source("node", "b")


class World:
    """Two machines whose samples another Prometheus sends us, and a rule on them."""

    def __init__(self, *rules: Rule, **fields: Any) -> None:
        self.now = START_MS
        self.store = Store()
        self.up = {A: 1.0, B: 1.0}
        self.fields = fields
        self.rows: dict[str, Rows] = {}
        own = rules or (alerting("node_load1 > 5"),)
        script = {rule.expr: lambda _, text=rule.expr: self.rows.get(text, []) for rule in own}
        self.groups = Groups(surroundings(script), SECOND)
        self.groups.load([RuleFile("f.yml", (group(*own),))], self.now)
        self.restart()

    def restart(self) -> None:
        touched = lambda selector: self.store.matching_sources(selector.matcher_sets)  # noqa: E731
        self.check = SilentTargets(
            lambda: self.groups.all,
            self.store.sources,
            self.fields.get("watched", list),
            self.fields.get("absent", list),
            touched,
            pages=self.fields.get("pages", list),
        )

    async def after(self, ms: int, known: tuple[str, ...] = ()) -> list[Alert]:
        end = self.now + ms
        found = await self.check.firing(self.now, known)
        while self.now < end:
            self.now += 15 * SECOND
            for source, up in self.up.items():
                about = {"job": source.job, "instance": source.instance}
                load = [(labels(__name__="node_load1", **about), self.now, 1.0)] if up else []
                self.store.write([(labels(__name__="up", **about), self.now, up), *load])
            for progress in self.groups.all:
                await self.groups.evaluate(progress, self.now)
            found = await self.check.firing(self.now, known)
        return list(found.values())


def _about(alert: Alert) -> tuple[str, str]:
    about = dict(alert.labels)
    assert (about["alertname"], about["severity"]) == ("TargetSilent", "P3")
    return about["job"], about["instance"]


async def test_a_source_that_sends_nothing_any_more_is_told_until_it_does() -> None:
    world = World()
    assert not await world.after(10 * MINUTE)
    del world.up[B]
    assert not await world.after(4 * MINUTE)
    (alert,) = await world.after(2 * MINUTE)
    assert _about(alert) == ("node", "b")
    origin = "meta;TargetSilent;node;b"
    assert world.check.end(origin, world.now) is None
    world.up[B] = 1.0
    assert not await world.after(MINUTE, (origin,))
    end = world.check.end(origin, world.now)
    assert end is not None
    assert end.kind is EventKind.CLEAR


async def test_one_that_is_said_to_be_down_is_told_too_if_no_rule_asks_for_that() -> None:
    world = World()
    await world.after(MINUTE)
    world.up[B] = 0.0
    assert not await world.after(4 * MINUTE)
    assert [_about(alert) for alert in await world.after(2 * MINUTE)] == [("node", "b")]


@pytest.mark.parametrize(
    ("expr", "told"),
    [
        ("up == 0", {"job": "node", "instance": "b"}),
        ("llm_engine_up == 0", {"target": "b"}),
        ("sum by (job) (up) == 0", {"job": "node"}),
    ],
)
async def test_where_a_rule_on_up_fires_or_is_about_to_it_says_nothing(
    expr: str, told: dict[str, str]
) -> None:
    rule = alerting(expr, "Down", for_ms=60 * MINUTE)
    world = World(alerting("node_load1 > 5"), rule)
    await world.after(MINUTE)
    world.up[B] = 0.0
    world.rows[expr] = [row(0.0, **told)]
    assert not await world.after(20 * MINUTE)
    world.rows[expr] = [row(0.0, job="other", instance="b"), row(0.0, instance="c")]
    assert [_about(alert) for alert in await world.after(MINUTE)] == [("node", "b")]


async def test_what_stands_stays_when_such_a_rule_fires_later() -> None:
    world = World(alerting("node_load1 > 5"), alerting("up == 0", "Down"))
    await world.after(MINUTE)
    world.up[B] = 0.0
    assert await world.after(6 * MINUTE)
    world.rows["up == 0"] = [row(0.0, job="node", instance="b")]
    assert len(await world.after(MINUTE, ("meta;TargetSilent;node;b",))) == 1


async def test_a_source_that_no_rule_reads_one_that_was_removed_and_one_of_old_are_not_told() -> (
    None
):
    world = World(alerting('node_load1{instance="a"} > 5'))
    await world.after(MINUTE)
    del world.up[B]
    assert not await world.after(10 * MINUTE)

    world = World()
    await world.after(MINUTE)
    del world.up[B]
    world.store.end_source(B, world.now)
    assert not await world.after(10 * MINUTE)
    gone = world.check.end("meta;TargetSilent;node;b", world.now)
    assert gone is not None
    assert gone.kind is EventKind.REMOVED

    world = World()
    await world.after(MINUTE)
    del world.up[B]
    await world.after(MINUTE)
    world.restart()
    assert not await world.after(10 * MINUTE), "whether it is still meant to be there nobody knows"


async def test_a_target_of_a_scrape_job_is_told_though_no_rule_reads_it() -> None:
    """Nobody else would: one fault is one page, never none."""
    world = World(alerting('node_load1{instance="a"} > 5'), pages=lambda: [B])
    await world.after(MINUTE)
    world.up[B] = 0.0
    assert not await world.after(4 * MINUTE)
    assert [_about(alert) for alert in await world.after(2 * MINUTE)] == [("node", "b")]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Down", {"job": "node", "instance": "b"}),
        ("CollectorFailing", {"instance": "agent", "collector": "scrape", "target": "node/b"}),
    ],
)
async def test_a_target_of_a_scrape_job_is_told_once(name: str, told: dict[str, str]) -> None:
    """By a rule on `up`, or as one that we could not ask, which CollectorFailing says."""
    world = World(alerting("up == 0", name, for_ms=60 * MINUTE), pages=lambda: [B])
    await world.after(MINUTE)
    world.up[B] = 0.0
    world.rows["up == 0"] = [row(0.0, **told)]
    assert not await world.after(20 * MINUTE)


async def test_one_that_we_read_ourselves_is_told_after_a_restart_unless_nothing_is_there() -> None:
    absent: list[Source] = []
    world = World(watched=lambda: [A, B], absent=lambda: absent)
    await world.after(MINUTE)
    del world.up[B]
    await world.after(MINUTE)
    world.restart()
    assert len(await world.after(6 * MINUTE)) == 1
    absent.append(B)
    assert not await world.after(MINUTE)


async def test_a_clock_that_is_set_makes_nobody_silent() -> None:
    world = World()
    await world.after(MINUTE)
    world.up[B] = 0.0
    await world.after(MINUTE)
    for delta_ms in (60 * MINUTE, -30 * MINUTE):
        world.store.shift_clock(delta_ms, world.now)
        world.groups.shift(delta_ms)
        world.check.shift(delta_ms)
        world.now += delta_ms
        assert not await world.after(MINUTE)
    assert len(await world.after(3 * MINUTE)) == 1


async def test_who_spoke_until_the_last_run_ended_is_expected_in_this_one() -> None:
    """Somebody who left long before is not: whether he is meant to be there, nobody knows."""
    own, gone = Source("tocsin", "box"), Source("node", "gone")
    world = World(watched=lambda: [own])
    world.up = {A: 1.0, gone: 1.0, own: 1.0}
    await world.after(MINUTE)
    world.up = {A: 1.0, own: 1.0}
    await world.after(10 * MINUTE)
    world.up = {own: 1.0}
    world.now += 30 * MINUTE  # the agent is away, and A as well since
    world.restart()
    world.check.resume()
    assert not await world.after(4 * MINUTE)
    (alert,) = await world.after(2 * MINUTE)
    assert _about(alert) == ("node", "a")
    world.up[A] = 1.0
    await world.after(MINUTE, ("meta;TargetSilent;node;a",))
    end = world.check.end("meta;TargetSilent;node;a", world.now)
    assert end is not None and end.kind is EventKind.CLEAR
