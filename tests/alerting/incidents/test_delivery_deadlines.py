"""Rules 9d and 9e: a page that nobody took in time goes to others, and is tried on."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from support.alert_events import alert, clears, fires
from support.dispatcher_setup import Floor
from support.notifications import notification
from support.policies import HOUR, MINUTE, SECOND, config, to
from tocsin_alerting.incidents.actions import Verb
from tocsin_alerting.incidents.deadlines import DeliveryDeadlines
from tocsin_alerting.incidents.escalation_policy import (
    AckTimes,
    Addressee,
    EscalationPolicy,
    EscalationStep,
    Recipient,
)
from tocsin_alerting.incidents.history_words import line_words
from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import (
    Delivered,
    MessageState,
    OutboxMessage,
    Outcome,
    Permanent,
    RetryAt,
)
from tocsin_alerting.incidents.rates import ReceiverRules, deadlines_ms
from tocsin_alerting.incidents.roster import Contact, Roster

LI = Contact({"phone": Addressee("phone", "li"), "sms": Addressee("sms", "li")})
WITHIN = deadlines_ms(MINUTE)
DOWN = alert("EngineDown", "P0", target="a")


def down(_: Notification) -> Outcome:
    return RetryAt("HTTP 503")


def refuses(_: Notification) -> Outcome:
    return Permanent("HTTP 403")


async def _floor(first: str = "phone:li", **rules: ReceiverRules) -> Floor:
    steps = (EscalationStep(to(first), 15 * MINUTE), EscalationStep(to("mail")))
    policy = EscalationPolicy("P0", steps, ack=AckTimes(2 * HOUR, 10 * MINUTE))
    people = Roster(contacts={"li": LI})
    settings = config(policies={"P0": policy}, roster=people, receiver_rules=rules)
    return await Floor(settings).open()


async def test_the_fallback_gets_the_page_with_the_same_contact_and_the_first_is_withdrawn() -> (
    None
):
    floor = await _floor(phone=ReceiverRules(deliver_within_ms=WITHIN, fallback="sms"))
    floor.answers["phone"] = down
    await floor.hear(fires(DOWN))
    await floor.advance(59 * SECOND)
    assert floor.arrived == []
    await floor.advance(SECOND)
    assert [(at, one.receiver, one.contact, one.reason.value) for at, one in floor.arrived] == [
        (MINUTE, "sms", "li", "opened")
    ]
    tried = len(floor.sent)
    floor.answers["phone"] = lambda _: Delivered()
    await floor.advance(10 * MINUTE)
    assert len(floor.sent) == tried
    events = [(e.event, e.data.get("receiver")) for e in await _history(floor)]
    assert ("delivery_late", "phone") in events and ("fallback", "sms") in events
    assert not any(event == "no_one_reached" for event, _ in events)
    await floor.advance(5 * MINUTE)
    assert [(at, who) for at, _, who in floor.told] == [(MINUTE, "li"), (15 * MINUTE, "mail")]
    await floor.hear(clears(DOWN))
    ends = [(one.receiver, one.reason.value) for _, one in floor.arrived if one.status != "firing"]
    assert sorted(ends) == [("mail", "resolved"), ("sms", "resolved")]


async def test_while_the_fallback_fails_too_the_first_is_tried_on_and_the_next_step_follows() -> (
    None
):
    floor = await _floor(
        phone=ReceiverRules(deliver_within_ms=WITHIN, fallback="sms"),
        sms=ReceiverRules(deliver_within_ms=WITHIN),
    )
    floor.answers |= {"phone": down, "sms": down}
    await floor.hear(fires(DOWN))
    await floor.advance(2 * MINUTE)
    assert [(at, reason, who) for at, reason, who in floor.told] == [
        (2 * MINUTE, "unreachable", "mail")
    ]
    floor.answers.clear()
    await floor.advance(2 * MINUTE)
    assert sorted(one.receiver for at, one in floor.arrived if at > 2 * MINUTE) == ["phone", "sms"]


async def test_what_is_refused_goes_to_the_fallback_at_once() -> None:
    floor = await _floor(phone=ReceiverRules(fallback="chat"))
    floor.answers["phone"] = refuses
    await floor.hear(fires(DOWN))
    assert [(at, one.receiver, one.contact) for at, one in floor.arrived] == [(0, "chat", "")]


@pytest.mark.parametrize("fails", [down, refuses])
@pytest.mark.parametrize(("first", "second"), [("phone:li", "li"), ("hook", "backup")])
async def test_the_fallback_hears_how_it_went_on_and_the_history_says_whose_it_is(
    first: str, second: str, fails: Callable[[Notification], Outcome]
) -> None:
    rules = {"phone": "sms", "hook": "backup"}
    made = {
        name: ReceiverRules(deliver_within_ms=WITHIN, fallback=other)
        for name, other in rules.items()
    }
    floor = await _floor(first, **made)
    floor.answers["phone"] = floor.answers["hook"] = fails
    await floor.hear(fires(DOWN))
    await floor.advance(2 * MINUTE)
    await floor.act(Verb.ACK, actor="wang")
    await floor.advance(MINUTE)
    await floor.hear(clears(DOWN))
    told = [(why, who) for _, why, who in floor.told]
    assert told == [("opened", second), ("acked", second), ("resolved", second)]
    history = (await floor.dispatcher.timeline(1)).history
    lines = [line_words(one.event, "", one.data, 0) for one in history]
    name = first.partition(":")[0]
    assert f"not delivered by {name}, notifying by its fallback {rules[name]}" in lines
    arrived = [line for line in lines if line.startswith("notified ")]
    assert [line.rpartition("(")[2] for line in arrived] == [
        f"opened, fallback of {name})",
        "acked)",
        "resolved)",
    ]


async def test_without_a_fallback_the_next_way_of_the_contact_is_used() -> None:
    floor = await _floor(phone=ReceiverRules(deliver_within_ms=WITHIN))
    floor.answers["phone"] = down
    await floor.hear(fires(DOWN))
    await floor.advance(MINUTE)
    assert [(at, one.receiver) for at, one in floor.arrived] == [(MINUTE, "sms")]
    floor.answers.clear()  # nothing stands in for the phone, which is tried on
    await floor.advance(MINUTE)
    assert [one.receiver for _, one in floor.arrived] == ["sms", "phone"]


async def test_a_receiver_without_people_has_a_fallback_too() -> None:
    floor = await _floor("chat", chat=ReceiverRules(deliver_within_ms=WITHIN, fallback="mail"))
    floor.answers["chat"] = down
    await floor.hear(fires(DOWN))
    await floor.advance(MINUTE)
    assert [(at, one.receiver) for at, one in floor.arrived] == [(MINUTE, "mail")]


async def test_a_fallback_that_the_step_has_paged_already_is_not_paged_twice() -> None:
    rules = {"phone": ReceiverRules(deliver_within_ms=WITHIN, fallback="sms")}
    steps = (EscalationStep(to("phone:li", "sms:li"), 15 * MINUTE),)
    policies = {"P0": EscalationPolicy("P0", steps)}
    people = Roster(contacts={"li": LI})
    floor = await Floor(config(policies=policies, roster=people, receiver_rules=rules)).open()
    floor.answers["phone"] = down
    await floor.hear(fires(DOWN))
    await floor.advance(10 * MINUTE)
    assert [(at, one.receiver) for at, one in floor.arrived] == [(0, "sms")]
    assert any(e.event == "delivery_late" for e in await _history(floor))


async def test_the_owner_is_reminded_by_the_fallback() -> None:
    floor = await _floor(phone=ReceiverRules(deliver_within_ms=WITHIN, fallback="chat"))
    await floor.hear(fires(DOWN))
    await floor.act(Verb.ACK)
    floor.answers |= {"phone": down, "sms": down}
    before = len(floor.arrived)
    await floor.advance(12 * MINUTE)
    later = [(at, one.receiver, one.reason.value) for at, one in floor.arrived[before:]]
    assert later == [(11 * MINUTE, "chat", "ack_remind")]


async def test_what_was_acknowledged_meanwhile_goes_to_nobody_else() -> None:
    floor = await _floor(phone=ReceiverRules(deliver_within_ms=WITHIN, fallback="sms"))
    floor.answers["phone"] = down
    await floor.hear(fires(DOWN))
    await floor.act(Verb.ACK)
    await floor.advance(5 * MINUTE)
    assert floor.arrived == []


async def test_a_restart_keeps_the_deadline_and_what_is_late() -> None:
    floor = await _floor(phone=ReceiverRules(deliver_within_ms=WITHIN))
    floor.answers |= {"phone": down, "sms": down}
    await floor.hear(fires(DOWN))
    await floor.advance(30 * SECOND)
    await floor.restart()
    await floor.reconcile(fires(DOWN))
    await floor.advance(29 * SECOND)
    assert not any(one.late for one in floor.dispatcher.working.outbox.waiting())
    await floor.advance(SECOND)
    await floor.restart()
    await floor.reconcile(fires(DOWN))
    await floor.advance(MINUTE)
    late = [e for e in await _history(floor) if e.event == "delivery_late"]
    assert [(e.data["receiver"], e.data["waited_ms"]) for e in late] == [("phone", MINUTE)]


async def test_a_clock_that_is_set_makes_nothing_late() -> None:
    floor = await _floor(phone=ReceiverRules(deliver_within_ms=WITHIN, fallback="sms"))
    floor.answers["phone"] = down
    await floor.hear(fires(DOWN))
    floor.now += HOUR
    floor.dispatcher.clock_jumped(HOUR, floor.now)
    await floor.advance(59 * SECOND)
    assert floor.arrived == []
    await floor.advance(SECOND)
    assert [one.receiver for _, one in floor.arrived] == ["sms"]


async def test_what_waits_for_the_first_word_of_the_rules_is_not_late_by_it() -> None:
    floor = await _floor(
        "chat", chat=ReceiverRules(deliver_within_ms=deadlines_ms(10 * SECOND), fallback="mail")
    )
    calm = alert("Slow", "P1", target="b")
    policy = floor.settings.policies["P0"]
    floor.settings = replace(
        floor.settings, policies={**floor.settings.policies, "P1": replace(policy, name="P1")}
    )
    floor.answers |= {"chat": down, "mail": down}
    await floor.restart()
    await floor.hear(fires(calm))
    await floor.advance(5 * SECOND)
    await floor.restart(down_ms=MINUTE)
    floor.answers.clear()
    await floor.advance(30 * SECOND)
    assert floor.arrived == []
    await floor.reconcile(fires(calm))
    await floor.advance(SECOND)
    assert [one.receiver for _, one in floor.arrived] == ["chat"]


@pytest.mark.parametrize(
    ("change", "live"),
    [
        (lambda m: m, True),
        (lambda m: replace(m, late=True), False),
        (lambda m: replace(m, withdrawn=True, state=MessageState.SENDING), False),
        (lambda m: replace(m, state=MessageState.SENT), False),
        (lambda m: replace(m, deliver_by_ms=7), False),
        (lambda m: replace(m, state=MessageState.SENDING), True),
    ],
)
def test_only_what_is_awaited_is_late(
    change: Callable[[OutboxMessage], OutboxMessage], live: bool
) -> None:
    message = OutboxMessage(1, notification(), 1, deliver_by_ms=5)
    known: dict[str, Any] = {message.key: change(message)}
    deadlines = DeliveryDeadlines(known.get)
    deadlines.put(message, None)
    assert deadlines.next_ms() == (5 if live else None)
    assert deadlines.passed(4, 9) == []
    assert deadlines.passed(5, 9) == ([known[message.key]] if live else [])


def test_a_fallback_that_nobody_knows_is_none() -> None:
    rules = {"phone": ReceiverRules(fallback="gone")}
    settings = config(receiver_rules=rules, addressees=frozenset({Addressee("phone")}))
    assert settings.fallback_of(Addressee("phone")) is None
    assert settings.is_known(Recipient(receiver="phone"))


async def _history(floor: Floor) -> Any:
    return (await floor.dispatcher.timeline(1)).history
