"""Who the recipients of a step are at a moment, and how they are reached."""

from zoneinfo import ZoneInfo

import pytest

from support.alert_events import alert, clears, fires
from support.dispatcher_setup import START_MS, Floor
from support.policies import HOUR, MINUTE, P0, SECOND, config
from tocsin_alerting.incidents.actions import Verb
from tocsin_alerting.incidents.calendar_times import TimeInterval, time_span, weekdays
from tocsin_alerting.incidents.escalation_policy import (
    AckTimes,
    Addressee,
    EscalationPolicy,
    EscalationStep,
    FinalStep,
    Recipient,
)
from tocsin_alerting.incidents.oncall import Override, Schedule
from tocsin_alerting.incidents.roster import (
    Contact,
    Roster,
    possible_addressees,
    resolve,
    told_from_ms,
)
from tocsin_alerting.rules.severity import Severity

# The floor begins on Thursday 2026-01-01 at 0:00 UTC.
NIGHT = TimeInterval(times=(time_span("22:00", "07:00"),))
OFFICE = TimeInterval(times=(time_span("09:00", "19:00"),), weekdays=weekdays(["Mon-Fri"]))


def ways(name: str, *names: str) -> dict[str, Addressee]:
    return {way: Addressee(way, name) for way in names}


LI, WANG = Contact(ways("li", "mail", "phone")), Contact(ways("wang", "phone"))
SLEEPER = Contact(ways("zhao", "mail"), quiet=NIGHT)
PEOPLE = {"li": LI, "wang": WANG, "zhao": SLEEPER}


class Turns:
    """A layer of a schedule: who is on call from which time on."""

    def __init__(self, *turns: tuple[int, str]) -> None:
        self.turns = turns

    def on_call(self, at_ms: int) -> str:
        return next((who for start, who in reversed(self.turns) if start <= at_ms), "")

    def next_change_ms(self, at_ms: int) -> int | None:
        return next((start for start, _ in self.turns if start > at_ms), None)

    def members(self) -> tuple[str, ...]:
        return tuple(who for _, who in self.turns if who)


def on_call(*turns: tuple[int, str]) -> dict[str, Schedule]:
    return {"primary": Schedule("primary", (Turns(*turns),))}


ROSTER = Roster(PEOPLE, on_call((0, "li"), (START_MS + HOUR, "wang")))


@pytest.mark.parametrize(
    ("recipient", "severity", "expected"),
    [
        (Recipient(receiver="ops"), "P2", [("ops", "")]),
        (Recipient("phone", "li"), "P2", [("phone", "li")]),
        (Recipient(contact="li"), "P0", [("mail", "li"), ("phone", "li")]),
        (Recipient(contact="li"), "P1", [("mail", "li"), ("phone", "li")]),
        (Recipient(contact="li"), "P2", [("mail", "li")]),
        (Recipient(contact="li", via=("phone",)), "P3", [("phone", "li")]),
        (Recipient(contact="li", via=("phone", "mail")), "P3", [("phone", "li"), ("mail", "li")]),
        (Recipient(contact="wang", via=("mail",)), "P2", [("phone", "wang")]),
        (Recipient(contact="gone"), "P0", []),
        (Recipient(schedule="primary", via=("phone",)), "P2", [("phone", "li")]),
        (Recipient(schedule="gone"), "P0", []),
        (Recipient(everyone=True), "P2", [("mail", "li"), ("phone", "wang")]),
        (Recipient(everyone=True, via=("mail",)), "P0",
         [("mail", "li"), ("phone", "wang"), ("mail", "zhao")]),
    ],
)  # fmt: skip
def test_who_is_told_by_what(
    recipient: Recipient, severity: str, expected: list[tuple[str, str]]
) -> None:
    addressees = resolve([recipient], ROSTER, START_MS, Severity(severity))
    assert [(one.receiver, one.contact) for one in addressees] == expected


def test_nobody_is_told_twice_in_one_step() -> None:
    both = [Recipient(schedule="primary"), Recipient(contact="li"), Recipient(everyone=True)]
    addressees = resolve(both, ROSTER, START_MS, Severity.P2)
    assert addressees == (Addressee("mail", "li"), Addressee("phone", "wang"))


def test_who_is_on_call_is_asked_at_the_moment() -> None:
    step = [Recipient(schedule="primary")]
    later = resolve(step, ROSTER, START_MS + HOUR, Severity.P2)
    assert later == (Addressee("phone", "wang"),)
    override = Override("primary", "li", START_MS + HOUR, START_MS + 2 * HOUR)
    swapped = ROSTER.with_overrides([override])
    assert resolve(step, swapped, START_MS + HOUR, Severity.P2) == (Addressee("mail", "li"),)
    assert resolve(step, swapped, START_MS + 2 * HOUR, Severity.P2) == later


def test_everybody_whom_a_recipient_may_mean() -> None:
    assert set(possible_addressees([Recipient(schedule="primary")], ROSTER)) == {
        Addressee("mail", "li"),
        Addressee("phone", "li"),
        Addressee("phone", "wang"),
    }
    assert possible_addressees([Recipient("ops")], ROSTER) == (Addressee("ops"),)


def test_quiet_hours_end_and_hold_back_no_p0() -> None:
    step = (Recipient(contact="zhao"),)
    assert resolve(step, ROSTER, START_MS, Severity.P1) == ()
    assert resolve(step, ROSTER, START_MS, Severity.P0) == (Addressee("mail", "zhao"),)
    assert told_from_ms(step, ROSTER, START_MS, Severity.P2) == START_MS + 7 * HOUR
    assert told_from_ms(step, ROSTER, START_MS, Severity.P0) is None
    assert told_from_ms((Recipient(contact="gone"),), ROSTER, START_MS, Severity.P2) is None


def test_a_hand_over_may_end_the_wait_before_the_quiet_hours_do() -> None:
    roster = Roster(PEOPLE, on_call((0, "zhao"), (START_MS + 2 * HOUR, "li")))
    step = (Recipient(schedule="primary"),)
    assert told_from_ms(step, roster, START_MS, Severity.P2) == START_MS + 2 * HOUR


def step(*recipients: Recipient, after: int | None = None) -> EscalationStep:
    return EscalationStep(recipients, after)


def settings(roster: Roster, **policies: tuple[EscalationStep, ...]) -> Floor:
    made = {name: EscalationPolicy(name, steps) for name, steps in policies.items()}
    return Floor(config(policies=made, roster=roster))


PRIMARY = Recipient(schedule="primary", via=("phone",))
DOWN = alert("Down", "P0", target="a")


async def test_each_step_tells_who_is_on_call_then_and_the_end_those_who_were_told() -> None:
    steps = (step(PRIMARY, after=HOUR), step(PRIMARY))
    one = await settings(ROSTER, P0=steps).open()
    await one.hear(fires(DOWN))
    await one.advance(2 * HOUR)
    assert one.told[0] == (0, "opened", "li")
    assert one.reasons("escalated") == [(HOUR, "wang")]
    await one.hear(clears(DOWN))
    assert sorted(one.reasons("resolved")) == [(2 * HOUR, "li"), (2 * HOUR, "wang")]


async def test_who_took_over_since_hears_nothing_of_an_end_that_was_not_theirs() -> None:
    """I9: the shift changed between page and end."""
    one = await settings(ROSTER, P0=(step(PRIMARY),)).open()
    await one.hear(fires(DOWN))
    await one.advance(2 * HOUR)
    await one.hear(clears(DOWN))
    assert one.reasons("resolved") == [(2 * HOUR, "li")]


async def test_the_message_names_who_will_be_on_call_at_the_next_step() -> None:
    one = await settings(ROSTER, P0=(step(PRIMARY, after=HOUR), step(PRIMARY))).open()
    await one.hear(fires(DOWN))
    assert one.arrived[0][1].next_to == ("wang",)


async def test_a_step_that_is_nobody_goes_on_at_once() -> None:
    """Rule 9: nobody is on call yet."""
    roster = Roster(PEOPLE, on_call((START_MS + HOUR, "li")))
    one = await settings(roster, P0=(step(PRIMARY, after=HOUR), step(Recipient("ops")))).open()
    await one.hear(fires(DOWN))
    await one.advance(MINUTE)
    assert one.told == [(30 * SECOND, "unreachable", "ops")]
    story = await one.dispatcher.timeline(1)
    assert [e.data["recipients"] for e in story.history if e.event == "no_one_reached"] == [
        "schedule primary via phone"
    ]


async def test_with_nobody_in_any_step_the_next_shift_hears_of_it() -> None:
    roster = Roster(PEOPLE, on_call((START_MS + HOUR, "li")))
    one = await settings(roster, P0=(step(PRIMARY),)).open()
    await one.hear(fires(DOWN))
    await one.advance(2 * HOUR)
    assert one.told == [(HOUR, "opened", "li")]


async def test_with_a_next_shift_that_can_be_told_nothing_is_exhausted() -> None:
    roster = Roster(PEOPLE, on_call((START_MS + HOUR, "li")))
    one = await settings(roster, P0=(step(PRIMARY, after=10 * MINUTE),)).open()
    await one.hear(fires(DOWN))
    await one.advance(HOUR - SECOND)
    assert (await one.dispatcher.incident(1)).exhausted
    await one.advance(5 * MINUTE)
    assert one.told == [(HOUR, "opened", "li")]
    assert not (await one.dispatcher.incident(1)).exhausted


async def test_an_owner_is_reminded_though_the_policy_names_a_schedule_alone() -> None:
    policy = EscalationPolicy("P0", (step(PRIMARY, after=HOUR),), ack=AckTimes(HOUR, 10 * MINUTE))
    one = await Floor(config(policies={"P0": policy}, roster=ROSTER)).open()
    await one.hear(fires(DOWN))
    await one.act(Verb.ACK, actor="wang")
    await one.advance(10 * MINUTE)
    assert one.reasons("ack_remind") == [(10 * MINUTE, "wang")]


async def test_a_p2_waits_for_the_end_of_quiet_hours_and_says_so() -> None:
    one = await settings(ROSTER, P2=(step(Recipient(contact="zhao")),)).open()
    await one.hear(fires(alert("Slow", "P2", target="a")))
    await one.advance(8 * HOUR)
    assert one.told == [(7 * HOUR, "opened", "zhao")]
    story = await one.dispatcher.timeline(1)
    (waited,) = [entry.data for entry in story.history if entry.event == "waits_for_hours"]
    assert waited["until_ms"] == START_MS + 7 * HOUR


async def test_a_p2_waits_though_somebody_else_is_awake() -> None:
    steps = (step(Recipient(contact="zhao"), after=HOUR), step(Recipient(contact="li")))
    one = await settings(ROSTER, P2=steps).open()
    await one.hear(fires(alert("Slow", "P2", target="a")))
    await one.advance(8 * HOUR)
    assert one.told == [(7 * HOUR, "opened", "zhao"), (8 * HOUR, "escalated", "li")]


async def test_what_gets_worse_while_it_waits_pages_at_once() -> None:
    one = await settings(ROSTER, P2=(step(Recipient(contact="zhao")),), P0=P0.steps).open()
    await one.hear(fires(alert("Slow", "P2", target="a")))
    await one.advance(HOUR)
    await one.hear(fires(alert("Slow", "P0", target="a")))
    assert (HOUR, "worse", "chat") in one.told
    await one.act(Verb.ACK)
    await one.advance(10 * HOUR)
    assert not one.reasons("opened"), "the wait is over"


async def test_a_p1_goes_on_to_somebody_who_is_awake() -> None:
    steps = (step(Recipient(contact="zhao"), after=HOUR), step(Recipient(contact="li")))
    one = await settings(ROSTER, P1=steps).open()
    await one.hear(fires(alert("Slow", "P1", target="a")))
    await one.advance(MINUTE)
    assert {(at, who) for at, _, who in one.told} == {(30 * SECOND, "li")}


async def test_a_policy_waits_for_its_hours_whatever_it_has_to_say() -> None:
    """P3 in working hours; it opens on New Year's Day, a Thursday, at midnight."""
    roster = Roster(PEOPLE, policy_hours={"P3": OFFICE, "P0": OFFICE})
    policy = EscalationPolicy(
        "P3",
        (step(Recipient("ops"), after=HOUR),),
        final=FinalStep((Recipient("ops"),), HOUR, 48 * HOUR),
        recover_within_ms=4 * HOUR,
    )
    one = await Floor(config(policies={"P3": policy}, roster=roster)).open()
    await one.hear(fires(alert("Warm", "P3", target="a")))
    await one.hear(fires(DOWN))
    assert sorted(one.reasons("opened")) == [(0, "chat"), (0, "li")], "P0 does not wait"
    await one.act(Verb.ACK, 2)
    await one.advance(24 * HOUR)
    told = [(at, why) for at, why, who in one.told if who == "ops"]
    assert told[0] == (9 * HOUR, "opened")
    assert {why for _, why in told[1:]} == {"final"}
    assert all(9 * HOUR <= at < 19 * HOUR for at, _ in told)


async def test_a_mute_that_ends_outside_of_the_hours_does_not_page() -> None:
    roster = Roster(PEOPLE, policy_hours={"P2": OFFICE})
    one = await settings(roster, P2=(step(Recipient("ops")),)).open()
    await one.hear(fires(alert("Slow", "P2", target="a")))
    await one.act(Verb.SNOOZE, until_ms=START_MS + HOUR)
    await one.advance(10 * HOUR)
    assert [at for at, _, _ in one.told] == [9 * HOUR]


async def test_a_restart_forgets_no_wait() -> None:
    one = await settings(ROSTER, P2=(step(Recipient(contact="zhao")),)).open()
    await one.hear(fires(alert("Slow", "P2", target="a")))
    await one.advance(HOUR)
    await one.restart(down_ms=7 * HOUR)
    await one.reconcile(fires(alert("Slow", "P2", target="a")))
    await one.deliver()
    await one.advance(MINUTE)
    assert [who for _, _, who in one.told] == ["zhao"]


def test_hours_hold_in_their_own_time_zone() -> None:
    shanghai = TimeInterval(ZoneInfo("Asia/Shanghai"), (time_span("22:00", "07:00"),))
    contact = Contact(ways("li", "mail"), quiet=shanghai)
    assert contact.may_be_told(START_MS, Severity.P2), "8:00 in Shanghai"
    assert not contact.may_be_told(START_MS + 15 * HOUR, Severity.P2)
