"""Whatever happens in whatever order, I1 to I9 of docs/incidents.md hold."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.alert_events import alert, clears, fires, gives_up, removed, unknown
from support.dispatcher_setup import START_MS, Floor
from support.policies import HOUR, MINUTE, SECOND, config
from tocsin_alerting.incidents.actions import Verb
from tocsin_alerting.incidents.alert_matcher import parse_matcher
from tocsin_alerting.incidents.calendar_times import TimeInterval, time_span
from tocsin_alerting.incidents.errors import Conflict, NoSuchIncident
from tocsin_alerting.incidents.escalation_policy import Addressee, EscalationStep, Recipient
from tocsin_alerting.incidents.incident import OPEN, Condition, Incident, IncidentState, TimerKind
from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.oncall import CalendarShifts, Schedule, Shift
from tocsin_alerting.incidents.outbox_message import (
    GIVE_UP_MS,
    WAITING_STATES,
    MessageState,
    Outcome,
    Permanent,
    RetryAt,
)
from tocsin_alerting.incidents.roster import Contact, Roster
from tocsin_alerting.incidents.routing import (
    FlapDamping,
    GroupBy,
    IncidentConfig,
    InhibitRule,
    StormLimit,
)
from tocsin_alerting.rules.alert import Alert

ALERTS = {
    "down": alert("EngineDown", "P0", target="a"),
    "slow": alert("Slow", "P1", target="a"),
    "slower": alert("Slow", "P0", target="a"),
    "warm": alert("Warm", "P2", target="a"),
}
INHIBIT = InhibitRule(
    (parse_matcher('alertname="EngineDown"'),),
    (parse_matcher('alertname!="EngineDown"'),),
    ("target",),
)
ENDS = ("resolved", "given_up", "unwatched")
CHANNELS = ("phone", "chat", "mail")
MOVES = st.one_of(
    st.tuples(
        st.sampled_from(["fire", "clear", "unknown", "give_up", "remove"]),
        st.sampled_from(list(ALERTS)),
    ),
    st.tuples(
        st.sampled_from(["ack", "unack", "resolve", "escalate", "snooze", "assign", "comment"]),
        st.sampled_from(["1", "2", "3", "4"]),
    ),
    st.tuples(st.sampled_from(["down", "broken", "gone", "up"]), st.sampled_from(CHANNELS)),
    st.tuples(st.just("restart"), st.sampled_from(["0", "30", "1000", "8000"])),
    st.tuples(st.just("lose"), st.just("")),
    st.tuples(st.just("jump"), st.sampled_from(["-3600", "3600", "45"])),
    st.tuples(st.just("wait"), st.sampled_from(["1", "20", "61", "901", "4000", "20000"])),
)

FLAPS = st.tuples(st.sampled_from(["fire", "clear"]), st.sampled_from(["slow", "warm"]))
LONG = st.lists(MOVES | FLAPS, min_size=100, max_size=100)


class Story:
    """Plays moves on a floor, and looks after each of them whether the invariants hold."""

    def __init__(
        self, incident_config: IncidentConfig, alerts: Mapping[str, Alert] = ALERTS
    ) -> None:
        self.floor = Floor(incident_config)
        self.alerts = alerts
        self.states: dict[int, IncidentState] = {}
        self.entries: Counter[int] = Counter()
        self.heard = 0
        self.clear_since: dict[int, int] = {}
        self.firing: set[str] = set()
        self.doubtful: set[tuple[int, str, str]] = set()  # nobody knows whether they got it
        self.refused: set[tuple[int, str, str]] = set()  # they would not hear that it is over

    async def play(self, moves: list[tuple[str, str]]) -> list[str]:
        """The broken promises about messages; whatever else breaks raises at once."""
        await self.floor.open()
        for verb, word in moves:
            await self.move(verb, word)
            await self.check()
        await self.end()
        return list(self.broken())

    async def move(self, verb: str, word: str) -> None:
        floor = self.floor
        match verb:
            case "fire" | "clear" | "unknown" | "give_up" | "remove":
                await self.hear(verb, word)
            case "down" | "broken" | "gone" | "up":
                self.channel(verb, word)
            case "restart":
                await floor.restart(down_ms=int(word) * SECOND)
                await floor.reconcile(*(fires(self.alerts[name]) for name in self.firing))
            case "lose":  # claimed, and the process dies before the answer
                claimed = await floor.dispatcher.claim(floor.now)
                self.doubtful |= {way(one.notification) for one in claimed}
                await floor.restart()
            case "all":
                await self.hear_all(word)
            case "jump":
                floor.now += int(word) * SECOND
                floor.dispatcher.clock_jumped(int(word) * SECOND, floor.now)
            case "wait":
                await floor.advance(int(word) * SECOND)
            case _:
                await self.act(Verb(verb), int(word))

    async def hear(self, verb: str, name: str) -> None:
        kinds = {"fire": fires, "clear": clears, "unknown": unknown}
        kind = {**kinds, "give_up": gives_up, "remove": removed}[verb]
        if verb == "fire":
            self.firing.add(name)
        elif verb in ("clear", "give_up", "remove"):
            self.firing.discard(name)
        await self.floor.hear(kind(self.alerts[name]))

    async def hear_all(self, verb: str) -> None:
        """At one evaluation."""
        kind = fires if verb == "fire" else clears
        self.firing = set(self.alerts) if verb == "fire" else set()
        await self.floor.hear(*map(kind, self.alerts.values()))

    async def act(self, verb: Verb, number: int) -> None:
        until_ms = self.floor.now + 20 * MINUTE if verb is Verb.SNOOZE else None
        try:
            await self.floor.act(verb, number, until_ms=until_ms, to="wang")
        except (Conflict, NoSuchIncident):
            return

    def channel(self, verb: str, name: str) -> None:
        def refuse(one: Notification) -> Outcome:
            tried_ms = self.floor.now - one.at_ms
            if one.reason in ENDS and (verb != "down" or tried_ms > GIVE_UP_MS - 4 * HOUR):
                self.refused.add(way(one))
            return RetryAt("503") if verb == "down" else Permanent("gone", final=verb == "gone")

        if verb == "up":
            self.floor.answers.pop(name, None)
        else:
            self.floor.answers[name] = refuse

    async def check(self) -> None:
        working = self.floor.dispatcher.working
        keys = Counter(one.key for one in working.incidents.values())
        assert set(keys.values()) <= {1}, "I1"
        for one in working.incidents.values():
            self.check_timers(one)
            self.check_mutes(one)
            await self.check_history(one)
        self.check_told()
        assert self.floor.dispatcher.overdue_ms(self.floor.now) == 0, "I7"

    def check_timers(self, one: Incident) -> None:
        timers = self.floor.dispatcher.working.schedule.of_incident(one.number)
        live = {kind for kind, timer in timers.items() if timer.is_live(one.generation)}
        running = live & {TimerKind.STEP, TimerKind.GROUP_WAIT, TimerKind.HOURS}
        assert live == set(timers), "I6: a stale timer was kept"
        if one.state is IncidentState.TRIGGERED and not one.muted and not one.exhausted:
            assert len(running) == 1, ("I2", one, live)
        if one.state is IncidentState.ACKED:
            assert (TimerKind.ACK_TIMEOUT in live) == (one.ack_timeout_ms is not None), "I3"
        if one.in_hold:
            assert one.is_open and one.source is Condition.CLEAR and not one.active
            assert timers[TimerKind.HOLD_END].due_at_ms == one.hold_until_ms
        elif one.is_open:
            assert one.active, "it is clear, and nothing ends it"
        if one.flapping:
            assert one.is_open and (TimerKind.FLAP_END in live or one.in_hold)
        if one.state is IncidentState.RESOLVED:
            ends = TimerKind.RE_RAISE if one.closed_by_hand else TimerKind.REOPEN_END
            assert ends in live and not running

    def check_mutes(self, one: Incident) -> None:
        messages = self.floor.dispatcher.working.outbox.of_incident(one.number)
        pages = [m for m in messages if m.is_page and m.state is MessageState.PENDING]
        assert not (pages and one.muted), "I8"
        assert not (pages and one.state not in OPEN), "a page is pending for what is over"
        down = {
            i.number for i in self.floor.dispatcher.working.incidents.values() if i.counts_as_firing
        }
        if one.is_storm and one.is_open:
            told = [i for i in self.floor.dispatcher.working.incidents.values() if i is not one]
            told = [i for i in told if i.storm == one.number and not i.told_singly]
            assert any(i.counts_as_firing for i in told), "a storm of nothing goes on"
        assert {int(name.split(":")[1]) for name in one.muted_by} <= down or not one.is_open

    def check_told(self) -> None:
        """What is clear pages nobody, unless a person asks for it."""
        every = self.floor.dispatcher.working.incidents.values()
        holding = {one.number for one in every if one.in_hold}
        since = self.clear_since
        self.clear_since = {number: since.get(number, self.floor.now) for number in holding}
        for _, one in self.floor.arrived[self.heard :]:
            by_person = one.actor or one.reason.value in (*ENDS, "fired_and_resolved")
            assert by_person or one.at_ms <= self.clear_since.get(one.incident, one.at_ms), one
        self.heard = len(self.floor.arrived)

    async def check_history(self, one: Incident) -> None:
        count = len(await self.floor.journal.history(one.number))
        if self.states.get(one.number) is not one.state:
            assert count > self.entries[one.number], "I4"
        self.states[one.number], self.entries[one.number] = one.state, count

    async def end(self) -> None:
        """Everything clears, every channel works: then all is told, to the right people, once."""
        self.floor.answers.clear()
        for name in sorted(self.firing):
            await self.hear("clear", name)
        await self.floor.hear(*(clears(one) for one in self.alerts.values()))
        await self.floor.advance(26 * HOUR)
        assert not self.floor.dispatcher.working.incidents, "something never closed"
        waiting = [
            m for m in self.floor.dispatcher.working.outbox.waiting() if m.state in WAITING_STATES
        ]
        assert not waiting, "something was never sent"

    def broken(self) -> Iterator[str]:
        paged: set[tuple[int, str, str]] = set()
        for _, one in self.floor.arrived:
            known = way(one) in paged | self.doubtful
            if one.reason in (*ENDS, "closed_by_hand", "closed_unknown"):
                if not known:
                    yield f"I9: {one.reason}, and was not paged: {way(one)}"
                if one.reason in ENDS:
                    paged.discard(way(one))
            elif one.reason == "fired_and_resolved":
                if way(one) in paged:
                    yield f"I9: told that no page came, and had one: {way(one)}"
            elif one.reason != "acked":
                paged.add(way(one))
        for never in paged - self.refused:
            yield f"I9: paged, and never told that it is over: {never}"
        arrived = Counter(one.key for _, one in self.floor.arrived)
        yield from (f"I5: arrived twice: {key}" for key, count in arrived.items() if count > 1)


def way(one: Notification) -> tuple[int, str, str]:
    return one.incident, one.receiver, one.contact


@settings(max_examples=250, deadline=None)
@given(st.lists(MOVES, max_size=30))
def test_the_invariants_hold(moves: list[tuple[str, str]]) -> None:
    assert asyncio.run(Story(config(inhibit=(INHIBIT,))).play(moves)) == []


def damped() -> IncidentConfig:
    """What fires again is held, an acknowledgement is kept, and what joins is told."""
    policies = {
        name: replace(
            config().policies[name],
            resolve_hold_ms=hold_ms,
            new_alerts_after_ms=5 * MINUTE,
        )
        for name, hold_ms in (("P0", 0), ("P1", 10 * MINUTE), ("P2", 2 * MINUTE))
    }
    flap = FlapDamping(2, 30 * MINUTE, 5 * MINUTE, 2, HOUR)
    group = GroupBy(("target",))  # so that alerts join, and one outlasts another
    return config(
        inhibit=(INHIBIT,), policies=policies, flap=flap, reopen_keeps_ack=True, group=group
    )


@settings(max_examples=250, deadline=None)
@given(st.lists(MOVES | FLAPS, max_size=40))
def test_they_hold_of_what_is_damped(moves: list[tuple[str, str]]) -> None:
    assert asyncio.run(Story(damped()).play(moves)) == []


@settings(max_examples=250, deadline=None)
@given(st.lists(MOVES | FLAPS, max_size=40))
def test_they_hold_of_each_alert_damped_for_itself(moves: list[tuple[str, str]]) -> None:
    alone = replace(damped(), group=GroupBy(("alertname", "target")))
    assert asyncio.run(Story(alone).play(moves)) == []


def people() -> IncidentConfig:
    """The same policies by names: the shift changes every three hours, somebody sleeps, one step is
    nobody, and P2 is told in working hours alone."""
    turns = tuple(
        Shift(START_MS + 3 * n * HOUR, START_MS + 3 * (n + 1) * HOUR, ("li", "wang", "zhao")[n % 3])
        for n in range(24)
        if n % 4 != 3
    )
    contacts = {
        "li": Contact({"phone": Addressee("phone", "li"), "mail": Addressee("mail", "li")}),
        "wang": Contact({"mail": Addressee("mail", "wang")}, quiet=NIGHT),
        "zhao": Contact({"chat": Addressee("chat", "zhao")}, hours=OFFICE),
    }
    on_call, everyone = Recipient(schedule="primary"), Recipient(everyone=True, via=("mail",))
    steps = (
        EscalationStep((on_call,), 15 * MINUTE),
        EscalationStep((Recipient(contact="wang"),), 15 * MINUTE),
        EscalationStep((Recipient(schedule="gone"),), 15 * MINUTE),
        EscalationStep((everyone, Recipient("chat")), 15 * MINUTE),
    )
    named = {
        name: replace(config().policies[name], steps=steps[:count])
        for name, count in (("P0", 4), ("P1", 2), ("P2", 1))
    }
    roster = Roster(
        contacts, {"primary": Schedule("primary", (CalendarShifts(turns),))}, {"P2": OFFICE}
    )
    return config(inhibit=(INHIBIT,), policies=named, roster=roster)


NIGHT = TimeInterval(times=(time_span("20:00", "06:00"),))
OFFICE = TimeInterval(times=(time_span("09:00", "17:00"),))


@settings(max_examples=250, deadline=None)
@given(st.lists(MOVES, max_size=30))
def test_they_hold_whoever_is_on_call(moves: list[tuple[str, str]]) -> None:
    assert asyncio.run(Story(people()).play(moves)) == []


CROWD = {
    f"{name}-{severity}-{target}": alert(name, severity, target=target)
    for name, severity in (("Lost", "P0"), ("Slow", "P0"), ("Slow", "P1"), ("Warm", "P2"))
    for target in "abc"
}
MIXED = {
    f"{name}-{severity}-{target}": alert(name, severity, target=target)
    for name, severity in (("Slow", "P2"), ("Slow", "P0"), ("Warm", "P2"), ("Lost", "P1"))
    for target in "abc"
}


def crowd_moves(alerts: Mapping[str, Alert]) -> st.SearchStrategy[list[tuple[str, str]]]:
    one = st.one_of(
        st.tuples(st.sampled_from(["fire", "clear", "give_up"]), st.sampled_from(list(alerts))),
        st.tuples(st.just("all"), st.sampled_from(["fire", "clear"])),
        st.tuples(
            st.sampled_from(["ack", "unack", "resolve", "escalate", "snooze", "assign"]),
            st.integers(1, 16).map(str),
        ),
        MOVES.filter(lambda move: move[1] not in ALERTS),
    )
    return st.lists(one, max_size=30)


@settings(max_examples=250, deadline=None)
@given(st.integers(1, 6), crowd_moves(CROWD))
def test_they_hold_in_storms(incidents: int, moves: list[tuple[str, str]]) -> None:
    limit = StormLimit(incidents, 60 * SECOND)
    story = Story(config(inhibit=(INHIBIT,), storm=limit), CROWD)
    assert asyncio.run(story.play(moves)) == []


@settings(max_examples=250, deadline=None)
@given(st.sampled_from([2 * MINUTE, HOUR, 24 * HOUR]), crowd_moves(MIXED))
def test_they_hold_with_digests(period_ms: int, moves: list[tuple[str, str]]) -> None:
    policies = {"P2": replace(config().policies["P2"], digest_ms=period_ms)}
    limit = StormLimit(4, 60 * SECOND)
    story = Story(config(inhibit=(INHIBIT,), policies=policies, storm=limit), MIXED)
    assert asyncio.run(story.play(moves)) == []


def test_the_alerts_of_these_stories_differ() -> None:
    for alerts in (ALERTS, CROWD, MIXED):
        assert len({one.fingerprint for one in alerts.values()}) == len(alerts)
    assert all(isinstance(one, Alert) for one in ALERTS.values())


@pytest.mark.long
@pytest.mark.parametrize("part", range(10))
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from([damped(), people(), config(inhibit=(INHIBIT,))]), LONG)
def test_they_hold_for_a_hundred_thousand_moves(
    part: int, how: IncidentConfig, moves: list[tuple[str, str]]
) -> None:
    assert asyncio.run(Story(how).play(moves)) == []
