"""MetricMissing: a rule that reads no series for ten minutes says so, with what was meant."""

from collections.abc import Callable
from functools import partial

import pytest

from support.dispatcher_setup import START_MS
from support.policies import MINUTE, SECOND
from support.rule_deps import surroundings
from support.rule_texts import alerting, group, recording
from tocsin_alerting.agent_meta import family_of
from tocsin_alerting.loops.missing_metrics import MissingMetrics
from tocsin_alerting.loops.source_status import StoreSources
from tocsin_alerting.rules.alert import Alert, EventKind
from tocsin_alerting.rules.groups import Groups
from tocsin_alerting.rules.rule import Rule, RuleFile
from tocsin_alerting.rules.unknown_alerts import SourceStatus
from tocsin_alerting.tsdb.store import Store
from tocsin_exporter.snapshot import Source, labels

DOWN = Source("node", "dead")


class World:
    """A store that gets `series` each 15 s, and a look as often as the agent has one."""

    def __init__(self, *rules: Rule, file: str = "f.yml") -> None:
        self.now = START_MS
        self.store = Store()
        self.series: list[dict[str, str]] = [
            {"__name__": "node_load1", "job": "node", "instance": "a"},
            {"__name__": "up", "job": "node", "instance": "a"},
        ]
        self.groups = Groups(surroundings({}), SECOND)
        self.load(*rules, file=file)
        sources = StoreSources(self.store, tuple, lambda: True, lambda: self.now)
        self.check = MissingMetrics(
            lambda: self.groups.all,
            self.store,
            lambda source: sources.health(source) is SourceStatus.DEAD,
            lambda file: file.startswith("bundled"),
            family_of,
            "box",
            lambda: 0.0,
        )

    def load(self, *rules: Rule, file: str = "f.yml") -> None:
        self.groups.load([RuleFile(file, (group(*rules, file=file),))], self.now)

    async def after(self, ms: int, known: tuple[str, ...] = ()) -> list[Alert]:
        """So long after, what is missing."""
        end = self.now + ms
        found = await self.check.firing(self.now, known)
        while self.now < end:
            self.now += 15 * SECOND
            self.store.write([(labels(**one), self.now, 1.0) for one in self.series])
            found = await self.check.firing(self.now, known)
        return list(found.values())

    @property
    def warnings(self) -> list[tuple[str, ...]]:
        return [rule.warnings for progress in self.groups.all for rule in progress.rules]


def _text(alert: Alert) -> str:
    return dict(alert.annotations)["description"]


async def test_a_rule_that_reads_nothing_is_told_after_ten_minutes_with_names_that_are_near() -> (
    None
):
    world = World(alerting("nod_load1 > 5", "Load"))
    assert not await world.after(9 * MINUTE)
    assert world.warnings == [()]
    (alert,) = await world.after(2 * MINUTE)
    about = dict(alert.labels)
    assert (about["alertname"], about["severity"]) == ("MetricMissing", "P3")
    assert (about["file"], about["rule"]) == ("f.yml", "g/Load/1")
    assert "no series matches nod_load1; did you mean node_load1?" in _text(alert)
    assert world.warnings == [("no series matches nod_load1; did you mean node_load1?",)]
    world.series.append({"__name__": "nod_load1", "job": "node", "instance": "a"})
    assert not await world.after(MINUTE)
    assert world.warnings == [()]
    end = world.check.end(f"meta;MetricMissing;{world.groups.all[0].rules[0].origin}", world.now)
    assert end is not None
    assert end.kind is EventKind.CLEAR


async def test_a_label_that_nothing_has_is_told_with_the_values_that_there_are() -> None:
    world = World(
        alerting('node_load1{instance="b"} > 5'), alerting('node_load1{disk="x"} > 5', "B")
    )
    first, second = await world.after(11 * MINUTE)
    assert 'no series matches node_load1{instance="b"}; instance is "a".' in _text(first)
    assert "it has no disk." in _text(second)


async def test_a_metric_that_was_there_counts_for_as_long_as_a_range_holds_it() -> None:
    world = World(alerting("gone > 5", "Now"), alerting("max_over_time(gone[10m]) > 5", "Range"))
    world.series.append({"__name__": "gone", "job": "node", "instance": "a"})
    assert not await world.after(11 * MINUTE)
    world.series.pop()
    # The store is asked for what the look-back of an evaluation would still find.
    assert not await world.after(10 * MINUTE)
    assert [dict(a.labels)["rule"] for a in await world.after(6 * MINUTE)] == ["g/Now/1"]
    assert len(await world.after(10 * MINUTE)) == 2


@pytest.mark.parametrize(
    ("expr", "warned"),
    [
        ("absent(nod_load1)", False),
        ("absent_over_time(nod_load1[5m])", False),
        ("node_load1 > 5 or nod_load1 > 5", True),
        ("node_load1 / nod_cpus > 5", True),
        ("vector(1) > 2", False),
        ('ALERTS{alertname="Other"}', False),
        ("job:recorded > 5", False),
        ("DCGM_FI_DEV_GPU_TEMP > 80", False),
        ("rate(llm_e2e_request_latency_seconds_bucket[5m]) > 5", False),
        ("vllm:num_requests_running > 5", False),
    ],
)
async def test_what_is_meant_to_be_missing_is_no_alert(expr: str, warned: bool) -> None:
    """Absence, part of what is read, what rules write, hardware and engines that are not here."""
    recorded = recording("job:recorded", "node_load1 > 1000")
    world = World(alerting(expr), recorded)
    assert not await world.after(11 * MINUTE)
    assert bool(world.warnings[0]) is warned


async def test_a_bundled_rule_and_one_whose_source_is_dead_say_nothing() -> None:
    assert not await World(alerting("nod_load1 > 5"), file="bundled.yml").after(11 * MINUTE)
    world = World(alerting('node_load1{instance="dead"} > 5'))
    dead = {"job": DOWN.job, "instance": DOWN.instance}
    world.series += [{"__name__": name, **dead} for name in ("node_load1", "up")]
    await world.after(MINUTE)
    del world.series[-2:]
    assert not await world.after(30 * MINUTE)


async def test_engines_words_are_missing_where_there_is_such_an_engine() -> None:
    world = World(alerting("vllm:num_requests_runing > 5"))
    world.series.append({"__name__": "vllm:num_requests_running", "job": "vllm", "instance": "e"})
    (alert,) = await world.after(11 * MINUTE)
    assert "did you mean vllm:num_requests_running?" in _text(alert)


async def test_a_restart_and_a_new_rule_give_it_ten_minutes_again() -> None:
    world = World(alerting("nod_load1 > 5"))
    origin = f"meta;MetricMissing;{world.groups.all[0].rules[0].origin}"
    assert not await world.after(5 * MINUTE, (origin,))
    assert world.check.end(origin, world.now) is None, "it cannot be told yet"
    world.load(alerting("nod_load1 > 5"), alerting("nod_load5 > 5", "New"))
    assert len(await world.after(6 * MINUTE)) == 1
    assert len(await world.after(5 * MINUTE)) == 2
    world.load(alerting("node_load1 > 5", "Other"))
    gone = world.check.end(origin, world.now)
    assert gone is not None
    assert gone.kind is EventKind.REMOVED


def test_only_exact_names_of_ours_may_be_missing() -> None:
    told: Callable[[str], str] = partial(family_of)
    assert told("node_memory_MemAvailible_bytes") == ""
    assert told("http_requests_total") == ""
    assert told("DCGM_FI_DEV_GPU_TEMP") == "DCGM_FI_DEV_GPU_TEMP"


async def test_what_is_told_is_looked_at_again_at_each_look() -> None:
    """Half a minute is for what is not: who has corrected a name sees at once that it is well."""
    world = World(alerting("nod_load1 > 5"), alerting("node_load1 > 5", "B"))
    (alert,) = await world.after(11 * MINUTE)
    origin = "meta;MetricMissing;rules;f.yml;g/A/1"
    assert dict(alert.labels)["rule"] == "g/A/1"
    while (world.now - START_MS) % 30_000 != 0:
        await world.after(15 * SECOND)
    await world.check.firing(world.now, ())
    world.now += 5 * SECOND
    world.store.write([(labels(__name__="nod_load1", job="node", instance="a"), world.now, 1.0)])
    assert not await world.check.firing(world.now, (origin,))
    end = world.check.end(origin, world.now)
    assert end is not None and end.kind is EventKind.CLEAR
