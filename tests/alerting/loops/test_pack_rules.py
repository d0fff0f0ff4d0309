"""CollectorFailing and ClockStepped without a file of rules that has them."""

from support.dispatcher_setup import Floor
from support.policies import MINUTE, SECOND, config
from support.rule_deps import surroundings
from support.rule_texts import alerting, group
from tocsin_alerting.bundled import bundled
from tocsin_alerting.incidents.incident import Incident, IncidentState
from tocsin_alerting.loops.meta_alerts import MetaAlertLoop
from tocsin_alerting.loops.pack_rules import PackRule
from tocsin_alerting.promql.engine import QueryEngine
from tocsin_alerting.promql.parser.types import refuse_unsupported
from tocsin_alerting.rules.groups import Groups
from tocsin_alerting.rules.meta_alerts import MetaAlertName
from tocsin_alerting.rules.rule import RuleFile
from tocsin_alerting.rules.rule_file import load
from tocsin_alerting.rules.severity import Severity
from tocsin_alerting.tsdb.store import Store
from tocsin_exporter.snapshot import labels

FILES = load([str(bundled("rules") / "*.yml")], refuse_unsupported)


class World:
    """A store that hears of two collectors each 15 s, and a look each 5 s."""

    def __init__(self, name: MetaAlertName) -> None:
        self.store = Store()
        self.ok = {"cpu": 1.0, "disk": 1.0}
        self.steps = 0.0
        self.floor = Floor(config())
        self.groups = Groups(surroundings({"m > 0": lambda _: []}), SECOND)
        self.user("Mine")
        engine = QueryEngine(self.store)
        files = [one for one in FILES if name in str(one)]
        deps = surroundings({}, engine=engine, write=self.store.append_rule_samples)
        self.check = PackRule(name, files, lambda: self.groups.all, lambda: deps, Severity.P1)
        self.loop = MetaAlertLoop(self.floor.dispatcher, (self.check,), lambda: self.floor.now)

    def user(self, name: str) -> None:
        self.groups.load([RuleFile("f.yml", (group(alerting("m > 0", name)),))], self.floor.now)

    async def after(self, ms: int) -> None:
        end = self.floor.now + ms
        while self.floor.now < end:
            self.floor.now += 5 * SECOND
            if self.floor.now % (15 * SECOND) < 5 * SECOND:
                about = {"job": "tocsin", "instance": "box"}
                success = {"__name__": "tocsin_collector_success", **about}
                self.store.write(
                    [
                        *(
                            (labels(**success, collector=name), self.floor.now, ok)
                            for name, ok in self.ok.items()
                        ),
                        (
                            labels(__name__="tocsin_clock_steps_total", **about),
                            self.floor.now,
                            self.steps,
                        ),
                        (
                            labels(__name__="tocsin_clock_last_step_seconds", **about),
                            self.floor.now,
                            -30.0,
                        ),
                    ]
                )
            await self.loop.look()

    @property
    def incidents(self) -> list[Incident]:
        return list(self.floor.dispatcher.working.incidents.values())


def _about(incident: Incident) -> list[dict[str, str]]:
    return [dict(member.alert.labels) for member in incident.active]


async def _open(name: MetaAlertName) -> World:
    world = World(name)
    await world.floor.open()
    await world.after(MINUTE)
    return world


async def test_a_collector_that_fails_is_told_by_no_file_of_rules() -> None:
    world = await _open(MetaAlertName.COLLECTOR_FAILING)
    world.ok["disk"] = 0.0
    await world.after(4 * MINUTE)
    assert not world.incidents, "for 5 minutes"
    await world.after(2 * MINUTE)
    (incident,) = world.incidents
    (about,) = _about(incident)
    assert (about["collector"], about["severity"]) == ("disk", "P1")
    assert incident.severity is Severity.P1
    (member,) = incident.active
    assert "cannot be read" in dict(member.alert.annotations)["summary"]
    world.ok["disk"] = 1.0
    await world.after(MINUTE)
    assert [one.state for one in world.incidents] == [IncidentState.RESOLVED]


async def test_a_restart_ends_nothing_that_lasts() -> None:
    world = await _open(MetaAlertName.COLLECTOR_FAILING)
    world.ok["disk"] = 0.0
    await world.after(7 * MINUTE)
    deps = world.check._deps
    files = [one for one in FILES if world.check.name in str(one)]
    fresh = PackRule(world.check.name, files, lambda: world.groups.all, deps, Severity.P1)
    world.loop.checks = (fresh,)
    await world.after(7 * MINUTE)
    assert [one.state for one in world.incidents] == [IncidentState.TRIGGERED]
    world.ok["disk"] = 1.0
    await world.after(MINUTE)
    assert [one.state for one in world.incidents] == [IncidentState.RESOLVED]


async def test_a_clock_that_was_set_is_told_by_no_file_of_rules() -> None:
    world = await _open(MetaAlertName.CLOCK_STEPPED)
    assert not world.incidents
    world.steps = 1.0
    await world.after(MINUTE)
    (incident,) = world.incidents
    (member,) = incident.active
    assert "set back by 30 s" in dict(member.alert.annotations)["description"]
    await world.after(16 * MINUTE)
    assert [one.state for one in world.incidents] == [IncidentState.RESOLVED]


async def test_it_is_silent_where_a_file_of_the_user_says_it() -> None:
    world = await _open(MetaAlertName.COLLECTOR_FAILING)
    world.ok["disk"] = 0.0
    world.user("CollectorFailing")
    await world.after(7 * MINUTE)
    assert not world.incidents
    world.user("Mine")
    await world.after(7 * MINUTE)
    assert len(world.incidents) == 1
    world.user("CollectorFailing")
    await world.after(MINUTE)
    assert [one.state for one in world.incidents] == [IncidentState.RESOLVED]
