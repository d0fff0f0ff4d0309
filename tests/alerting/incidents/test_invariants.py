"""Whatever happens in whatever order, I1 to I9 of docs/incidents.md hold."""

import asyncio
from collections import Counter
from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from support.alert_events import alert, clears, fires, gives_up, removed, unknown
from support.dispatcher_setup import Floor
from support.policies import HOUR, MINUTE, SECOND, config
from tocsin_alerting.incidents.actions import Verb
from tocsin_alerting.incidents.alert_matcher import parse_matcher
from tocsin_alerting.incidents.errors import Conflict, NoSuchIncident
from tocsin_alerting.incidents.incident import OPEN, Incident, IncidentState
from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import (
    WAITING_STATES,
    MessageState,
    Outcome,
    Permanent,
    RetryAt,
)
from tocsin_alerting.incidents.routing import InhibitRule
from tocsin_alerting.incidents.timers import TimerKind
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
        st.sampled_from(["ack", "unack", "resolve", "escalate", "snooze"]),
        st.sampled_from(["1", "2", "3", "4"]),
    ),
    st.tuples(st.sampled_from(["down", "broken", "gone", "up"]), st.sampled_from(CHANNELS)),
    st.tuples(st.just("restart"), st.sampled_from(["0", "30", "1000", "8000"])),
    st.tuples(st.just("lose"), st.just("")),
    st.tuples(st.just("jump"), st.sampled_from(["-3600", "3600", "45"])),
    st.tuples(st.just("wait"), st.sampled_from(["1", "20", "61", "901", "4000", "20000"])),
)


class Story:
    """Plays moves on a floor, and looks after each of them whether the invariants hold."""

    def __init__(self) -> None:
        self.floor = Floor(config(inhibit=(INHIBIT,)))
        self.states: dict[int, IncidentState] = {}
        self.entries: Counter[int] = Counter()
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
                await floor.reconcile(*(fires(ALERTS[name]) for name in self.firing))
            case "lose":  # claimed, and the process dies before the answer
                claimed = await floor.dispatcher.claim(floor.now)
                self.doubtful |= {way(one.notification) for one in claimed}
                await floor.restart()
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
        await self.floor.hear(kind(ALERTS[name]))

    async def act(self, verb: Verb, number: int) -> None:
        until_ms = self.floor.now + 20 * MINUTE if verb is Verb.SNOOZE else None
        try:
            await self.floor.act(verb, number, until_ms=until_ms)
        except (Conflict, NoSuchIncident):
            return

    def channel(self, verb: str, name: str) -> None:
        def refuse(one: Notification) -> Outcome:
            if verb in ("broken", "gone") and one.reason in ENDS:
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
        assert self.floor.dispatcher.overdue_ms(self.floor.now) == 0, "I7"

    def check_timers(self, one: Incident) -> None:
        timers = self.floor.dispatcher.working.schedule.of_incident(one.number)
        live = {kind for kind, timer in timers.items() if timer.is_live(one.generation)}
        running = live & {TimerKind.STEP, TimerKind.GROUP_WAIT}
        assert live == set(timers), "I6: a stale timer was kept"
        if one.state is IncidentState.TRIGGERED and not one.muted and not one.exhausted:
            assert len(running) == 1, ("I2", one, live)
        if one.state is IncidentState.ACKED:
            assert (TimerKind.ACK_TIMEOUT in live) == (one.policy.ack.timeout_ms is not None), "I3"
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
        assert {int(name.split(":")[1]) for name in one.muted_by} <= down or not one.is_open

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
        await self.floor.hear(*(clears(one) for one in ALERTS.values()))
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
    assert asyncio.run(Story().play(moves)) == []


def test_the_alerts_of_these_stories_differ() -> None:
    assert len({one.fingerprint for one in ALERTS.values()}) == len(ALERTS)
    assert all(isinstance(one, Alert) for one in ALERTS.values())
