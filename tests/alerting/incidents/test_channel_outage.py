"""A receiver is down for an hour under two hundred incidents, in virtual time."""

import random
from collections import defaultdict

import pytest

from support.alert_events import alert, clears, fires
from support.dispatcher_setup import START_MS, Floor
from support.policies import HOUR, MINUTE, SECOND, config, to
from tocsin_alerting.incidents.actions import Action, Verb
from tocsin_alerting.incidents.escalation_policy import EscalationPolicy, EscalationStep
from tocsin_alerting.incidents.incident import IncidentState
from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import Delivered, Outcome, RetryAt
from tocsin_alerting.incidents.rates import ReceiverRules, deadlines_ms, read_rates
from tocsin_alerting.incidents.routing import IncidentConfig
from tocsin_alerting.rules.alert import Alert

INCIDENTS, OUTAGE = 200, 60 * MINUTE
SEVERITIES = ("P0", "P1", "P2", "P3")


def _config(chat: ReceiverRules) -> IncidentConfig:
    """Each severity goes to the chat and by mail, P0 again every 15 min."""
    steps = tuple(EscalationStep(to("chat", "mail"), 15 * MINUTE) for _ in range(3))
    policies = {name: EscalationPolicy(name, steps[:1]) for name in SEVERITIES}
    policies["P0"] = EscalationPolicy("P0", steps, repeat=3)
    rules = {"chat": chat}
    return config(policies=policies, receiver_rules=rules, reopen_within_ms=4 * HOUR, storm=None)


class Outage:
    """What happens while the chat is down: incidents open, are acknowledged, end, fire again."""

    def __init__(self, chat: ReceiverRules, seed: int) -> None:
        self.floor = Floor(_config(chat))
        self.dice = random.Random(seed)
        self.alerts: list[Alert] = []
        self.opened: dict[int, int] = {}
        self.tries: list[int] = []  # of the chat, in ms since the start
        self.down_until = START_MS + OUTAGE
        self.floor.answers["chat"] = self._answer

    def _answer(self, one: Notification) -> Outcome:
        self.tries.append(self.floor.now - START_MS)
        is_down = self.floor.now < self.down_until
        return RetryAt("no response in time") if is_down else Delivered("ref")

    async def play(self) -> None:
        await self.floor.open()
        pause = OUTAGE * 9 // 10 // INCIDENTS
        for number in range(INCIDENTS):
            one = alert(f"A{number}", SEVERITIES[number % 4])
            self.alerts.append(one)
            await self.floor.hear(fires(one))
            self.opened[number + 1] = self.floor.now
            for _ in range(2):
                await self._something_else()
            await self.floor.advance(pause)
        await self.floor.advance(self.down_until - self.floor.now - SECOND)
        assert not any(one.receiver == "chat" for _, one in self.floor.arrived)

    async def _something_else(self) -> None:
        chosen = self.dice.randrange(len(self.alerts))
        match self.dice.choice(["ack", "clear", "fire", "nothing"]):
            case "ack":
                incident = await self.floor.dispatcher.incident(chosen + 1)
                if incident.state is IncidentState.TRIGGERED:
                    await self.floor.act(Verb.ACK, chosen + 1)
            case "clear":
                await self.floor.hear(clears(self.alerts[chosen]))
            case "fire":
                await self.floor.hear(fires(self.alerts[chosen]))

    def states(self) -> dict[int, IncidentState]:
        return {n: one.state for n, one in self.floor.dispatcher.working.incidents.items()}

    def by_chat(self) -> dict[int, list[str]]:
        heard: defaultdict[int, list[str]] = defaultdict(list)
        for _, one in self.floor.arrived:
            if one.receiver == "chat":
                heard[one.incident].append(one.reason.value)
        return heard


@pytest.mark.parametrize("seed", [1, 2])
async def test_at_its_return_one_message_an_incident_says_how_it_is(seed: int) -> None:
    outage = Outage(ReceiverRules(), seed)
    await outage.play()
    states = outage.states()
    await outage.floor.advance(MINUTE + 30 * SECOND)  # the milder ones alone would wait for ten
    heard = outage.by_chat()
    firing = {n for n, state in states.items() if state is IncidentState.TRIGGERED}
    over = {n for n, state in states.items() if state is IncidentState.RESOLVED}
    first = {n: reasons[0] for n, reasons in heard.items()}
    assert firing <= first.keys() and over <= first.keys()  # nothing is lost
    assert {first[n] for n in over} == {"fired_and_resolved"}
    assert not {"fired_and_resolved", "resolved", "acked"} & {first[n] for n in firing}
    assert [n for n, reasons in heard.items() if len(reasons) > 1 and not _is_p0(n)] == []
    acked = {n for n, state in states.items() if state is IncidentState.ACKED}
    assert len(firing) > 20 and len(over) > 20 and len(acked) > 20
    assert not acked & heard.keys()
    mails = [(at, one) for at, one in outage.floor.arrived if one.receiver == "mail"]
    assert all(at == one.at_ms - START_MS for at, one in mails)  # the others do not wait


def _is_p0(number: int) -> bool:
    """It is told again and again, also after the outage."""
    return SEVERITIES[(number - 1) % 4] == "P0"


@pytest.mark.parametrize("seed", [3])
async def test_meanwhile_the_fallback_has_every_page_within_its_time(seed: int) -> None:
    rules = ReceiverRules(deliver_within_ms=deadlines_ms(MINUTE), fallback="sms")
    outage = Outage(rules, seed)
    await outage.play()
    floor = outage.floor
    pages = [(at, one) for at, one in floor.arrived if one.receiver == "sms" and _fires(one)]
    assert len({one.incident for _, one in pages}) > INCIDENTS // 2
    assert all(at - (one.at_ms - START_MS) == 0 for at, one in pages)
    first_at = {one.incident: at + START_MS for at, one in reversed(pages)}
    assert {
        n: at - outage.opened[n] for n, at in first_at.items() if at - outage.opened[n] < MINUTE
    } == {}
    states = outage.states()
    unheard = {n for n, state in states.items() if state is IncidentState.TRIGGERED}
    late = {n for n in unheard - first_at.keys() if floor.now - outage.opened[n] > 2 * MINUTE}
    assert late == set()
    await floor.advance(12 * MINUTE)
    heard = outage.by_chat()
    over = {n for n, state in states.items() if state is IncidentState.RESOLVED}
    assert all(heard[n] == ["fired_and_resolved"] for n in over if n in heard)
    assert [n for n, reasons in heard.items() if len(reasons) > 1 and not _is_p0(n)] == []


def _fires(one: Notification) -> bool:
    return one.reason.value not in ("resolved", "acked", "fired_and_resolved")


async def test_at_its_return_they_go_out_within_its_rate() -> None:
    outage = Outage(ReceiverRules(read_rates(["20/min"])), seed=4)
    await outage.play()
    over = {n for n, state in outage.states().items() if state is IncidentState.RESOLVED}
    await outage.floor.advance(40 * MINUTE)
    tries = outage.tries
    assert all(later - first >= MINUTE for first, later in zip(tries, tries[20:], strict=False))
    heard = outage.by_chat()
    assert len(over) > 20 and over <= heard.keys()
    assert all(len(reasons) == 1 for n, reasons in heard.items() if not _is_p0(n))


@pytest.mark.parametrize("arrives", [False, True])
async def test_a_page_on_its_way_that_fails_makes_way_for_a_newer_one(arrives: bool) -> None:
    floor = Floor(_config(ReceiverRules()))
    await floor.open()
    await floor.dispatcher.handle([fires(alert("A", "P0"))], floor.now)
    on_their_way = await floor.dispatcher.claim(floor.now)
    await floor.dispatcher.act(Action(Verb.ESCALATE, 1, "li"), floor.now)
    for one in on_their_way:
        outcome = Delivered() if arrives else RetryAt("no response in time")
        await floor.dispatcher.delivered(one, outcome, floor.now)
    await floor.advance(MINUTE)
    assert floor.dispatcher.working.outbox.waiting() == []
    told = [one.reason.value for _, one in floor.arrived if one.receiver == "chat"]
    assert told == ["manual"]
    first = [one for one in floor.dispatcher.working.outbox.of_incident(1) if "opened" in one.key]
    assert {one.state.value for one in first} == {"sent" if arrives else "cancelled"}
    assert all(arrives or one.last_error.startswith("replaced by ") for one in first)
