"""What the agent says of rules and sources that are not well: one incident a file or source."""

from functools import partial
from typing import Any

import pytest

from support.alert_events import alert, fires
from support.dispatcher_setup import START_MS, Floor
from support.policies import SECOND, config
from support.rule_deps import surroundings
from support.rule_texts import alerting, group, recording
from support.scripted_engine import Answer, Rows, row
from tocsin_alerting.incidents.actions import Verb
from tocsin_alerting.incidents.incident import Incident, IncidentState
from tocsin_alerting.incidents.journal.memory import MemoryJournal
from tocsin_alerting.incidents.routing import GroupBy
from tocsin_alerting.loops.meta_alerts import BrokenRules, MetaAlertCheck, MetaAlertLoop
from tocsin_alerting.rules.groups import Groups
from tocsin_alerting.rules.rule import RuleFile, RuleGroup
from tocsin_alerting.rules.severity import Severity


class World:
    """Rules on scripted answers, and the dispatcher that hears of them; one second is one slot."""

    def __init__(self, *groups: RuleGroup, journal: MemoryJournal | None = None) -> None:
        self.answers: dict[str, Answer] = {"m > 0": lambda _: [], "n > 0": lambda _: []}
        script = {text: partial(self._answer, text) for text in self.answers}
        self.floor = Floor(config(group=GroupBy(("alertname", "instance"))), journal)
        self.groups = Groups(surroundings(script), SECOND)
        self.load(*groups)
        self.check()

    def _answer(self, text: str, at_ms: int) -> Rows:
        return self.answers[text](at_ms)

    def load(self, *groups: RuleGroup) -> None:
        self.groups.load([RuleFile(one.file, (one,)) for one in groups], self.floor.now - 1)

    def check(self, *checks: MetaAlertCheck) -> None:
        own = checks or (BrokenRules(lambda: self.groups.all, "box"),)
        self.loop = MetaAlertLoop(self.floor.dispatcher, own, lambda: self.floor.now)

    async def run(self, times: int = 1) -> None:
        """Evaluate so often, and look after each."""
        for _ in range(times):
            self.floor.now += SECOND
            for progress in self.groups.all:
                await self.groups.evaluate(progress, self.floor.now)
            await self.loop.look()

    @property
    def incidents(self) -> list[Incident]:
        return list(self.floor.dispatcher.working.incidents.values())

    @property
    def states(self) -> list[IncidentState]:
        return [incident.state for incident in self.incidents]


def _fails(_: int) -> Any:
    raise ValueError("multiple matches for labels")


def _labels(incident: Incident) -> list[dict[str, str]]:
    return [dict(member.alert.labels) for member in incident.members.values()]


def _said(incident: Incident) -> str:
    (member,) = incident.members.values()
    return dict(member.alert.annotations)["description"]


async def _open(*groups: RuleGroup, **fields: Any) -> World:
    world = World(*groups, **fields)
    await world.floor.open()
    return world


async def test_a_rule_that_fails_three_times_in_a_row_is_an_incident_until_it_succeeds() -> None:
    world = await _open(group(alerting("m > 0", severity="P0")))
    world.answers["m > 0"] = _fails
    await world.run(2)
    assert not world.incidents
    await world.run()
    (incident,) = world.incidents
    assert incident.severity is Severity.P3
    (labels,) = _labels(incident)
    assert labels["alertname"] == "RuleBroken"
    assert (labels["file"], labels["rule"], labels["instance"]) == ("f.yml", "g/A/1", "box")
    assert _said(incident).startswith("multiple matches for labels.")
    (member,) = incident.members.values()
    assert member.alert.active_at_ms == START_MS + SECOND
    await world.run(5)
    assert len(world.incidents) == 1
    world.answers["m > 0"] = lambda _: []
    await world.run()
    assert world.states == [IncidentState.RESOLVED]


async def test_failures_with_a_success_between_them_are_no_incident() -> None:
    world = await _open(group(alerting("m > 0")))
    for _ in range(3):
        world.answers["m > 0"] = _fails
        await world.run(2)
        world.answers["m > 0"] = lambda _: []
        await world.run()
    assert not world.incidents


async def test_the_rules_of_a_file_are_one_incident_those_of_another_one_another() -> None:
    world = await _open(
        group(alerting("m > 0", uid="g/A/1"), recording("r", "m > 0")),
        group(alerting("m > 0", uid="h/A/1"), name="h", file="other.yml"),
    )
    world.answers["m > 0"] = _fails
    await world.run(3)
    files = [{labels["file"] for labels in _labels(incident)} for incident in world.incidents]
    assert files == [{"f.yml"}, {"other.yml"}]
    assert [len(incident.members) for incident in world.incidents] == [2, 1]


@pytest.mark.parametrize(
    ("limit", "severity", "words"),
    [
        (1, Severity.P1, "exceeded limit of 1 with 2 alerts. All its alerts are dropped"),
        (0, Severity.P3, "vector contains metrics with the same labelset"),
    ],
)
async def test_too_many_or_equal_results_are_told_at_once(
    limit: int, severity: Severity, words: str
) -> None:
    """What is dropped is stood for by one alert, as bad as what it stands for."""
    merged = alerting("m > 0", severity="P1", target="gone")
    rule = alerting("m > 0", severity="P1") if limit else merged
    world = await _open(group(rule, limit=limit))
    world.answers["m > 0"] = lambda _: [row(1.0, target="a"), row(1.0, target="b")]
    await world.run()
    (incident,) = world.incidents
    assert incident.severity is severity
    assert words in _said(incident)


async def test_a_restart_keeps_it_until_the_rule_is_seen_to_be_well() -> None:
    journal = MemoryJournal()
    first = await _open(group(alerting("m > 0")), journal=journal)
    first.answers["m > 0"] = _fails
    await first.run(3)
    second = await _open(group(alerting("m > 0")), journal=journal)
    await second.loop.look()
    second.answers["m > 0"] = _fails
    await second.run(4)
    assert [incident.number for incident in second.incidents if incident.is_open] == [1]
    second.answers["m > 0"] = lambda _: []
    await second.run()
    assert second.states == [IncidentState.RESOLVED]


async def test_it_ends_as_no_longer_watched_with_its_rule_or_when_it_is_switched_off() -> None:
    world = await _open(group(alerting("m > 0")))
    world.answers["m > 0"] = _fails
    await world.run(3)
    world.load(group(alerting("n > 0", name="Other")))
    world.answers["n > 0"] = _fails
    await world.run(3)
    (incident,) = world.incidents
    assert {labels["rule"] for labels in _labels(incident)} == {"g/A/1", "g/Other/1"}
    world.loop = MetaAlertLoop(world.floor.dispatcher, (), lambda: world.floor.now)
    await world.loop.look()
    assert not any(incident.is_open for incident in world.incidents)


async def test_what_a_person_closed_is_not_opened_again_by_the_next_look() -> None:
    world = await _open(group(alerting("m > 0")))
    world.answers["m > 0"] = _fails
    await world.run(3)
    await world.floor.act(Verb.RESOLVE)
    await world.run(3)
    assert not any(incident.is_open for incident in world.incidents)


async def test_an_alert_of_a_rule_that_is_called_so_is_grouped_as_the_configuration_says() -> None:
    world = await _open()
    await world.floor.hear(
        fires(alert("RuleBroken", "P3", instance="a", file="f")),
        fires(alert("RuleBroken", "P3", instance="b", file="f")),
    )
    assert len(world.incidents) == 2


async def test_what_fires_goes_on_with_the_severity_of_a_reload() -> None:
    world = await _open(group(alerting("m > 0")))
    check = BrokenRules(lambda: world.groups.all, "box")
    world.check(check)
    world.answers["m > 0"] = _fails
    await world.run(4)
    check.severity = Severity.P1
    await world.run(2)
    (incident,) = world.incidents
    assert incident.severity is Severity.P1 and incident.state is IncidentState.TRIGGERED
    firing = [dict(member.alert.labels)["severity"] for member in incident.active]
    assert firing == ["P1"]
    world.answers["m > 0"] = lambda _: []
    await world.run()
    assert world.states == [IncidentState.RESOLVED]
    assert world.incidents[0].resolution != "unwatched"
