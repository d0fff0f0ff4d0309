"""Which slot of the rules comes next, and what the dispatcher hears of each group."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Never

import pytest

from support.alert_events import alert, fires
from support.dispatcher_setup import START_MS
from support.policies import HOUR, MINUTE, SECOND, config
from support.rule_deps import SetSources, surroundings
from support.rule_texts import alerting, group, recording
from support.scrape_barrier import nothing_awaited
from support.scripted_engine import Rows, row
from support.virtual_time import VirtualTimeLoop
from tocsin_alerting.incidents.actions import Action, Verb
from tocsin_alerting.incidents.changeset import Changeset
from tocsin_alerting.incidents.dispatcher import Dispatcher
from tocsin_alerting.incidents.incident import IncidentState, Reason
from tocsin_alerting.incidents.journal.memory import MemoryJournal
from tocsin_alerting.incidents.journal.protocol import Journal
from tocsin_alerting.incidents.outbox_message import Delivered
from tocsin_alerting.loops.rule_loop import (
    DispatcherInstances,
    RuleLoop,
    next_slot_after_ms,
    targets_in_trouble,
)
from tocsin_alerting.promql.eval.limits import QueryTimeout
from tocsin_alerting.rules.alert import UNCLEARED, Alert, AlertEvent, AlertState, EventKind
from tocsin_alerting.rules.groups import Groups
from tocsin_alerting.rules.instance_journal import InstanceRow
from tocsin_alerting.rules.instant_query import EngineUnreachable
from tocsin_alerting.rules.rule import RuleFile, RuleGroup
from tocsin_alerting.rules.unknown_alerts import SourceStatus
from tocsin_exporter.clock import Clock
from tocsin_exporter.snapshot import Source


def test_a_sleeper_that_wakes_early_does_not_run_its_slot_again() -> None:
    assert next_slot_after_ms(now_ms=9_999, done_ms=10_000) == 10_000
    assert next_slot_after_ms(now_ms=10_001, done_ms=10_000) == 10_001


def test_a_clock_that_was_set_back_does_not_hold_the_rules_up() -> None:
    assert next_slot_after_ms(now_ms=10_000, done_ms=3_610_000) == 10_000


FAST = group(alerting("down == 1", "Down", severity="P0"), name="fast", interval_ms=SECOND)
HOURLY = group(alerting("old == 1", "Old", severity="P0"), name="hourly", interval_ms=60 * MINUTE)


class World:
    """One run of the agent's rules on a journal; `down` is what fires."""

    def __init__(
        self,
        journal: Journal,
        *groups: RuleGroup,
        dispatcher: type[Dispatcher] = Dispatcher,
        instances: type[DispatcherInstances] = DispatcherInstances,
        expects: bool = False,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.clock = Clock(lambda: START_MS / 1000 + loop.time(), loop.time)
        self.down: Rows = [row(1.0, __name__="down", target="a")]
        self.old: Rows = []
        self.fails: bool | Exception = False
        script = {"down == 1": self._down, "old == 1": lambda _: self.old}
        self.sources = SetSources({Source("j", "a"): SourceStatus.ALIVE})
        deps = surroundings(script, sources=self.sources)
        self.groups = Groups(deps, SECOND)
        self.dispatcher = dispatcher(config(), journal, lambda: 0.0)
        kept = instances(self.dispatcher, self.clock.now_ms)
        self.rounds = RuleLoop(
            self.groups, self.dispatcher, kept, self.clock, nothing_awaited(self.clock), expects
        )
        self._files = [RuleFile("f.yml", groups)]

    def _down(self, _at_ms: int) -> Rows:
        if self.fails:
            raise QueryTimeout("it takes too long") if self.fails is True else self.fails
        return self.down

    async def run(self, seconds: float) -> None:
        now_ms = self.clock.now_ms()
        await self.dispatcher.start(now_ms)
        self.groups.remember(
            self.dispatcher.recovery.saved_instances,
            events=self.dispatcher.working.active_events(now_ms),
        )
        await self.dispatcher.handle(self.groups.load(self._files, now_ms), now_ms)
        running = asyncio.ensure_future(self.rounds.run())
        await asyncio.sleep(seconds)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    async def states(self) -> dict[str, str]:
        every = await self.dispatcher.incidents(tuple(IncidentState))
        return {dict(one.group_labels)["alertname"]: one.state.value for one in every}


def in_virtual_time(story: Callable[[], Awaitable[None]]) -> None:
    async def told() -> None:
        await story()

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(told())


def test_a_group_pages_as_soon_as_it_has_run() -> None:
    async def story() -> None:
        world = World(MemoryJournal(), FAST, HOURLY)
        await world.run(2)
        assert await world.states() == {"Down": "TRIGGERED"}
        assert not any(rule.evaluated_ms for rule in world.groups.all[1].rules)
        assert not world.rounds.waiting(world.clock.now_ms())

    in_virtual_time(story)


def test_a_restart_clears_by_a_group_that_has_run_and_by_no_other() -> None:
    async def story() -> None:
        journal = MemoryJournal()
        before = World(journal, FAST, replace(HOURLY, interval_ms=SECOND))
        before.old = [row(1.0, __name__="old", target="a")]
        await before.run(2)
        assert await before.states() == {"Down": "TRIGGERED", "Old": "TRIGGERED"}
        after = World(journal, FAST, HOURLY)
        after.down = []
        await after.run(2)
        assert await after.states() == {"Down": "RESOLVED", "Old": "TRIGGERED"}

    in_virtual_time(story)


def test_what_a_rule_that_is_gone_said_is_over() -> None:
    async def story() -> None:
        journal = MemoryJournal()
        lost = alert("Lost", target="b")
        world = World(journal, FAST)
        await world.dispatcher.start(world.clock.now_ms())
        await world.dispatcher.handle([fires(lost)], world.clock.now_ms())
        posted = AlertEvent(EventKind.FIRING, alert("Posted", target="c"), START_MS, origin="api")
        await world.dispatcher.handle([posted], world.clock.now_ms())
        again = World(journal, FAST)
        await again.run(2)
        states = await again.states()
        assert states == {"Down": "TRIGGERED", "Lost": "RESOLVED", "Posted": "TRIGGERED"}

    in_virtual_time(story)


MOVED = {
    "to another group": ("f.yml", "later", "later/Down/1"),
    "to another file": ("g.yml", "fast", "fast/Down/1"),
    "to both": ("g.yml", "later", "later/Down/7"),
}


@pytest.mark.parametrize("where", MOVED)
@pytest.mark.parametrize("killed", [False, True])
def test_a_rule_that_moved_over_a_restart_goes_on_with_its_alerts(where: str, killed: bool) -> None:
    """Another group runs first, and it waits for half a minute: nobody hears of an end."""
    file, name, uid = MOVED[where]
    rule = alerting("down == 1", "Down", uid="fast/Down/1", for_ms=30 * SECOND, severity="P0")

    async def story() -> None:
        journal = MemoryJournal()
        before = World(journal, group(rule, name="fast", interval_ms=SECOND))
        await before.run(32)
        await before.dispatcher.act(Action(Verb.ACK, 1, "li"), before.clock.now_ms())
        if killed:  # the rows were not written in time
            await journal.commit(Changeset(instances={("f.yml", "fast"): ()}))
        moved = group(replace(rule, uid=uid), name=name, file=file, interval_ms=5 * SECOND)
        after = World(journal, group(recording("r", "old == 1"), name="a", interval_ms=SECOND))
        after._files.append(RuleFile(file, (moved,)))
        await after.run(12)
        incident = await after.dispatcher.incident(1)
        assert (incident.state, incident.owner) == (IncidentState.ACKED, "li")
        events = [entry.event for entry in (await after.dispatcher.timeline(1)).history]
        assert "resolved" not in events and "reopened" not in events
        third = World(journal, moved)
        third.down = []
        await third.run(12)
        assert (await third.dispatcher.incident(1)).state is IncidentState.RESOLVED

    in_virtual_time(story)


def test_tiers_that_change_places_over_a_restart_stay_what_they_are() -> None:
    tiers = [
        alerting("down == 1", "Down", uid=f"fast/Down/{place}", for_ms=for_ms, severity=severity)
        for place, (severity, for_ms) in enumerate((("P0", 30 * SECOND), ("P1", 30 * SECOND)))
    ]
    swapped = [replace(tiers[1], uid=tiers[0].uid), replace(tiers[0], uid=tiers[1].uid)]

    async def story() -> None:
        journal = MemoryJournal()
        await World(journal, group(*tiers, name="fast", interval_ms=SECOND)).run(32)
        after = World(journal, group(*swapped, name="fast", interval_ms=SECOND))
        await after.run(3)
        incident = await after.dispatcher.incident(1)
        assert (incident.state, incident.severity) == (IncidentState.TRIGGERED, "P0")
        assert [one.source.value for one in incident.members.values()] == ["firing"] * 2
        told = (await after.dispatcher.timeline(1)).history
        assert not {"resolved", "severity_lowered"} & {entry.event for entry in told}

    in_virtual_time(story)


def test_a_group_that_is_due_and_has_not_run_is_named() -> None:
    async def story() -> None:
        world = World(MemoryJournal(), FAST)
        world.groups.load([RuleFile("f.yml", (FAST,))], START_MS)
        waiting = world.rounds.waiting
        assert not waiting(START_MS + 5 * SECOND)  # in time: it may be waiting for its sources
        assert [one.group.name for one in waiting(START_MS + 7 * SECOND)] == ["fast"]
        assert "not run yet: fast" in world.rounds.unready(START_MS + 7 * SECOND)

    in_virtual_time(story)


def test_where_no_rule_can_be_evaluated_it_is_not_ready_and_says_why() -> None:
    """It said that it was, and paged nobody."""

    async def story() -> None:
        world = World(MemoryJournal(), FAST)
        await world.run(5)
        assert world.rounds.unready(world.clock.now_ms()) == ""
        world.fails = True
        running = asyncio.ensure_future(world.rounds.run())
        await asyncio.sleep(5)
        why = world.rounds.unready(world.clock.now_ms())
        assert why.startswith("no rule can be evaluated: ") and "it takes too long" in why
        world.fails = EngineUnreachable("an engine elsewhere, which is told as such")
        await asyncio.sleep(5)
        assert world.rounds.unready(world.clock.now_ms()) == ""
        world.fails = False
        await asyncio.sleep(5)
        assert world.rounds.unready(world.clock.now_ms()) == ""
        running.cancel()

    in_virtual_time(story)


@pytest.mark.parametrize("expects", [True, False])
def test_that_no_rule_was_found_is_a_fault_where_some_are_named(expects: bool) -> None:
    """A pager without rules is one only where that was written."""

    async def story() -> None:
        world = World(MemoryJournal(), expects=expects)
        await world.run(5)
        why = world.rounds.unready(world.clock.now_ms())
        assert why.startswith("no rule can be evaluated") is expects and bool(why) is expects

    in_virtual_time(story)


@pytest.mark.parametrize(
    ("labels", "troubled"),
    [
        ({"target": "h:1", "instance": "h:1"}, {"h:1"}),
        ({"target": "h:1/a"}, {"h:1/a"}),
        ({"target": "h:1", "instance": "prober:9115"}, set()),
        ({"target": "https://example.com", "instance": "https://example.com"}, set()),
        ({"instance": "h:1"}, set()),
        ({"target": "h:99999"}, set()),
        ({"target": "[h:1"}, set()),
    ],
)
def test_only_engines_of_ours_are_in_trouble(labels: dict[str, str], troubled: set[str]) -> None:
    one = Alert("g/A/0", tuple(sorted(labels.items())), (), AlertState.FIRING, 1.0, 0, 0)
    assert targets_in_trouble([InstanceRow("f", "g", "g/A/0", 0, one)]) == troubled


def test_what_a_person_has_forgotten_is_in_no_trouble() -> None:
    names = ("127.0.0.1:8000", "localhost:8000", "127.0.0.1:8001")
    alerts = (Alert("r", (("target", one),), (), AlertState.FIRING, 1.0, 0, 0) for one in names)
    rows = [InstanceRow("f", "g", "r", 0, one) for one in alerts]
    assert targets_in_trouble(rows, {"127.0.0.1:8000"}) == {"127.0.0.1:8001"}


def test_what_clears_later_says_why() -> None:
    async def story() -> None:
        world = World(MemoryJournal(), FAST)
        await world.run(2)
        world.down = []
        running = asyncio.ensure_future(world.rounds.run())
        await asyncio.sleep(2)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert (await world.dispatcher.incident(1)).resolution == "clear"

    in_virtual_time(story)


SELDOM = group(alerting("down == 1", "Down", severity="P0"), name="seldom", interval_ms=HOUR)


@pytest.mark.parametrize("by_hand", [False, True], ids=["open", "closed by hand"])
def test_what_was_unknown_for_a_day_is_given_up_and_never_called_over(by_hand: bool) -> None:
    async def story() -> None:
        world = World(MemoryJournal(), SELDOM)
        running = asyncio.ensure_future(world.run(28 * 3600))
        await asyncio.sleep(3600 + 60)
        await _deliver(world)
        world.down = _Broken()
        await asyncio.sleep(3600)
        if by_hand:
            await world.dispatcher.act(Action(Verb.RESOLVE, 1, "li"), world.clock.now_ms())
        await running
        story = await world.dispatcher.timeline(1)
        assert not story.incident.is_open
        told = [one.notification.reason for one in story.messages]
        assert Reason.GIVEN_UP in told and Reason.RESOLVED not in told
        assert not story.incident.closed_by_hand

    in_virtual_time(story)


class _Broken(list):  # type: ignore[type-arg]
    """Rows that cannot be had."""

    def __iter__(self) -> Never:
        raise RuntimeError("the source is broken")


async def _deliver(world: World) -> None:
    for delivery in await world.dispatcher.claim(world.clock.now_ms()):
        await world.dispatcher.delivered(delivery, Delivered(), world.clock.now_ms())


def test_what_was_unknown_is_unknown_still_after_a_restart_with_a_broken_rule() -> None:
    async def story() -> None:
        journal = MemoryJournal()
        before = World(journal, FAST)
        running = asyncio.ensure_future(before.run(4))
        await asyncio.sleep(2)
        before.down = _Broken()
        await running
        assert (await before.dispatcher.incident(1)).source == "unknown"
        after = World(journal, FAST)
        after.down = _Broken()
        await after.run(2)
        assert (await after.dispatcher.incident(1)).source == "unknown"

    in_virtual_time(story)


EACH_HALF_HOUR = replace(FAST, interval_ms=30 * MINUTE)


async def _unknown_for_a_moment(journal: Journal, fired_s: float) -> World:
    """It fired for so long, and then its rule broke."""
    world = World(journal, EACH_HALF_HOUR)
    running = asyncio.ensure_future(world.run(fired_s + 1900))
    await asyncio.sleep(fired_s)
    await _deliver(world)
    world.down = _Broken()
    await running
    assert (await world.dispatcher.incident(1)).source == "unknown"
    return world


@pytest.mark.parametrize("ends", [False, True], ids=["broken still", "no longer in the result"])
@pytest.mark.parametrize("moved", [False, True], ids=["same file", "another file"])
def test_what_is_given_up_at_the_first_evaluation_is_never_called_over(
    ends: bool, moved: bool
) -> None:
    """The agent was down for longer than an alert may be unknown."""

    async def story() -> None:
        journal = MemoryJournal()
        await _unknown_for_a_moment(journal, 1900)
        await asyncio.sleep(25 * 3600)
        after = World(journal, replace(EACH_HALF_HOUR, file="other.yml" if moved else "f.yml"))
        after.down = [] if ends else _Broken()
        after.sources.healths[Source("j", "a")] = SourceStatus.DEAD
        await after.run(1900)
        story = await after.dispatcher.timeline(1)
        told = [one.notification.reason for one in story.messages]
        assert not story.incident.is_open
        assert Reason.GIVEN_UP in told and Reason.RESOLVED not in told

    in_virtual_time(story)


def test_an_alert_that_lost_its_row_is_unknown_since_it_was_and_not_since_it_fired() -> None:
    async def story() -> None:
        journal = MemoryJournal()
        await _unknown_for_a_moment(journal, 25 * 3600)
        await journal.commit(Changeset(instances={("f.yml", "fast"): ()}))
        after = World(journal, EACH_HALF_HOUR)
        after.down = _Broken()
        await after.run(22 * 3600)
        (rule,) = after.groups.all[0].rules
        assert [one.over for one in rule.unknown_alerts.values()] == [False]
        incident = await after.dispatcher.incident(1)
        assert (incident.state, incident.source) == (IncidentState.TRIGGERED, "unknown")
        assert not incident.unknown_since_ms or incident.unknown_since_ms > START_MS + 24 * HOUR

    in_virtual_time(story)


RENAMED = group(alerting("down == 1", "Gone", severity="P0"), name="fast", interval_ms=SECOND)
NOT_PAGED = group(alerting("down == 1", "Down", severity="none"), name="fast", interval_ms=SECOND)
WAITS = group(alerting("down == 1", "Down", MINUTE, severity="P0"), name="fast", interval_ms=SECOND)
OTHER_LABELS = group(
    alerting("down == 1", "Down", severity="P0", team="ml"), name="fast", interval_ms=SECOND
)


@pytest.mark.parametrize("moved", [False, True], ids=["same file", "another file"])
@pytest.mark.parametrize(
    "groups",
    [(), (RENAMED,), (NOT_PAGED,), (WAITS,)],
    ids=["no rule", "renamed", "severity none", "longer for"],
)
def test_what_a_changed_rule_no_longer_watches_is_not_over(
    groups: tuple[RuleGroup, ...], moved: bool
) -> None:
    async def story() -> None:
        journal = MemoryJournal()
        before = World(journal, FAST)
        await before.run(2)
        await _deliver(before)
        path = "other.yml" if moved else "f.yml"
        after = World(journal, *(replace(one, file=path) for one in groups))
        await after.run(2)
        story = await after.dispatcher.timeline(1)
        assert not story.incident.is_open
        told = [one.notification.reason for one in story.messages]
        assert Reason.UNWATCHED in told and Reason.RESOLVED not in told

    in_virtual_time(story)


def test_a_rule_with_other_labels_goes_on_and_says_when_it_is_over() -> None:
    async def story() -> None:
        journal = MemoryJournal()
        before = World(journal, FAST)
        await before.run(2)
        await _deliver(before)
        after = World(journal, OTHER_LABELS)
        running = asyncio.ensure_future(after.run(6))
        await asyncio.sleep(3)
        assert (await after.dispatcher.incident(1)).state is IncidentState.TRIGGERED
        after.down = []
        await running
        told = [one.notification.reason for one in (await after.dispatcher.timeline(1)).messages]
        assert told == [Reason.OPENED, Reason.OPENED, Reason.RESOLVED, Reason.RESOLVED]

    in_virtual_time(story)


class _Stumbling(Dispatcher):
    """It breaks once, when it is to take what changed."""

    stumbles = 1

    async def handle(self, events: Sequence[AlertEvent], now_ms: int) -> None:
        if events and self.stumbles:
            self.stumbles -= 1
            raise RuntimeError("a fault of ours")
        await super().handle(events, now_ms)


def test_what_a_fault_kept_from_the_desk_is_said_again() -> None:
    async def story() -> None:
        world = World(MemoryJournal(), FAST, dispatcher=_Stumbling)
        world.down = []
        running = asyncio.ensure_future(world.run(6))
        await asyncio.sleep(2)
        world.down = [row(1.0, __name__="down", target="a")]
        await running
        assert await world.states() == {"Down": "TRIGGERED"}

    in_virtual_time(story)


class _Deaf(Dispatcher):
    """It breaks whenever it is told what ended without being over."""

    deaf = True

    async def handle(self, events: Sequence[AlertEvent], now_ms: int) -> None:
        if self.deaf and any(event.kind in UNCLEARED for event in events):
            raise RuntimeError("a fault of ours")
        await super().handle(events, now_ms)


@pytest.mark.parametrize("gone", [False, True], ids=["given up", "source removed"])
def test_an_end_that_a_fault_kept_from_the_desk_is_not_said_again_as_over(gone: bool) -> None:
    async def story() -> None:
        world = World(MemoryJournal(), EACH_HALF_HOUR, dispatcher=_Deaf)
        running = asyncio.ensure_future(world.run(26 * 3600))
        await asyncio.sleep(1900)
        await _deliver(world)
        world.down = [] if gone else _Broken()
        if gone:
            del world.sources.healths[Source("j", "a")]
        await running
        story = await world.dispatcher.timeline(1)
        told = [one.notification.reason for one in story.messages]
        assert not story.incident.is_open and Reason.RESOLVED not in told

    in_virtual_time(story)


class _Refusing(DispatcherInstances):
    """It cannot keep what one group has to remember."""

    async def save(self, file: str, group: str, rows: Sequence[InstanceRow]) -> None:
        if group == "fast":
            raise RuntimeError("a fault of ours")
        await super().save(file, group, rows)


def test_a_group_that_breaks_costs_no_other_its_evaluations() -> None:
    async def story() -> None:
        other = replace(HOURLY, name="other", interval_ms=SECOND)
        world = World(MemoryJournal(), FAST, other, instances=_Refusing)
        world.old = [row(1.0, __name__="old", target="a")]
        await world.run(10)
        assert await world.states() == {"Down": "TRIGGERED", "Old": "TRIGGERED"}
        assert [group.evaluations for group in world.groups.all] == [9, 9]

    in_virtual_time(story)


def test_a_clock_that_is_set_while_a_group_waits_for_its_turn_costs_no_slot() -> None:
    async def story() -> None:
        world = World(MemoryJournal(), FAST)
        await world.run(2)
        (progress,) = world.groups.all
        await asyncio.sleep(1)  # a slice is over: the next one has to be waited for
        slot_ms = (progress.evaluated_ms or 0) + SECOND
        waiting = asyncio.ensure_future(world.rounds.evaluate(progress, slot_ms))
        await asyncio.sleep(0)
        world.groups.shift(HOUR)
        await waiting
        assert (progress.evaluated_ms, progress.missed) == (slot_ms + HOUR, 0)

    in_virtual_time(story)
