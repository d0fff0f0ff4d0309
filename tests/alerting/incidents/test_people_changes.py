"""A way that fails is followed by the next one; a wait ends when there are people (9a, 9c)."""

from collections.abc import Callable

import pytest

from support.alert_events import alert, clears, fires
from support.dispatcher_setup import START_MS, Floor
from support.policies import HOUR, MINUTE, config
from tocsin_alerting.incidents.actions import Action, Verb
from tocsin_alerting.incidents.calendar_times import TimeInterval, time_span
from tocsin_alerting.incidents.escalation_policy import (
    Addressee,
    EscalationPolicy,
    EscalationStep,
    FinalStep,
    Recipient,
)
from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.oncall import CalendarShifts, Override, Schedule, Shift
from tocsin_alerting.incidents.outbox_message import Delivered, Outcome, Permanent, RetryAt
from tocsin_alerting.incidents.roster import Contact, Roster

WAYS = {way: Addressee(way, "li") for way in ("chat", "phone", "mail")}
LI, WANG = Contact(WAYS), Contact({"mail": Addressee("mail", "wang")})
DOWN = alert("Down", "P2", target="a")
BY_CHAT = Recipient(contact="li", via=("chat",))


def refuses(*people: str, final: bool = True) -> Callable[[Notification], Outcome]:
    return lambda one: Permanent("no", final) if one.contact in people else Delivered("ref")


def floor(*steps: EscalationStep, roster: Roster | None = None, **more: object) -> Floor:
    policy = EscalationPolicy("P2", steps, **more)  # type: ignore[arg-type]
    people = roster or Roster({"li": LI, "wang": WANG})
    return Floor(config(policies={"P2": policy}, roster=people))


async def _events(one: Floor) -> list[str]:
    return [entry.event for entry in (await one.dispatcher.timeline(1)).history]


async def test_the_next_way_is_taken_before_the_step_counts_as_unreachable() -> None:
    one = floor(EscalationStep((BY_CHAT,), HOUR), EscalationStep((Recipient(contact="wang"),)))
    one.answers = {"chat": refuses("li"), "phone": refuses("li")}
    await one.open()
    await one.hear(fires(DOWN))
    await one.advance(MINUTE)
    assert [m.receiver for m in one.sent] == ["chat", "phone", "mail"]
    assert one.told == [(0, "opened", "li")]
    events = await _events(one)
    assert events.count("next_way") == 2 and "no_one_reached" not in events
    await one.advance(HOUR)
    assert one.reasons("escalated") == [(HOUR, "wang")], "the step waits for its answer"


async def test_when_no_way_is_left_the_next_step_goes_on_after_30_s() -> None:
    one = floor(EscalationStep((BY_CHAT,), HOUR), EscalationStep((Recipient(contact="wang"),)))
    one.answers = {name: refuses("li") for name in WAYS}
    await one.open()
    await one.hear(fires(DOWN))
    await one.advance(MINUTE)
    assert [m.receiver for m in one.sent][:3] == ["chat", "phone", "mail"]
    assert (await _events(one)).count("no_one_reached") == 1
    assert one.reasons("unreachable") == [(30_000, "wang")]


async def test_who_is_not_reached_gets_it_otherwise_though_another_one_was() -> None:
    step = EscalationStep((BY_CHAT, Recipient(contact="wang")), HOUR)
    one = floor(step)
    one.answers = {"chat": refuses("li")}
    await one.open()
    await one.hear(fires(DOWN))
    assert {(m.receiver, m.contact) for _, m in one.arrived} == {("mail", "wang"), ("phone", "li")}


async def test_a_way_that_is_only_late_has_no_successor() -> None:
    one = floor(EscalationStep((BY_CHAT,), HOUR))
    one.answers = {"chat": lambda _: RetryAt("busy")}
    await one.open()
    await one.hear(fires(DOWN))
    await one.advance(10 * MINUTE)
    assert {m.receiver for m in one.sent} == {"chat"}


async def test_each_way_is_taken_once_and_the_end_goes_where_the_page_went() -> None:
    one = floor(EscalationStep((BY_CHAT,), HOUR))
    one.answers = {"chat": refuses("li", final=False)}
    await one.open()
    await one.hear(fires(DOWN))
    await one.advance(HOUR // 2)
    pages = [m.receiver for m in one.sent if m.reason == "opened"]
    assert pages.count("phone") == 1 and "mail" not in pages
    await one.hear(clears(DOWN, one.now))
    assert [m.receiver for _, m in one.arrived if m.reason == "resolved"] == ["phone"]


async def test_an_answer_comes_before_the_next_way() -> None:
    one = floor(EscalationStep((BY_CHAT, Recipient(contact="wang")), HOUR))
    await one.open()
    await one.dispatcher.handle([fires(DOWN)], one.now)
    await one.dispatcher.due(one.now + MINUTE)
    claimed = await one.dispatcher.claim(one.now + MINUTE)
    (chat,) = (d for d in claimed if d.notification.receiver == "chat")
    one.now += MINUTE
    await one.dispatcher.act(Action(Verb.ACK, 1, "wang"), one.now)
    await one.dispatcher.delivered(chat, Permanent("no", True), one.now)
    assert "next_way" not in await _events(one)


async def test_a_step_that_is_over_has_no_next_way() -> None:
    one = floor(EscalationStep((BY_CHAT,), HOUR), EscalationStep((Recipient(contact="wang"),)))
    await one.open()
    await one.dispatcher.handle([fires(DOWN)], one.now)
    await one.dispatcher.due(one.now)
    (chat,) = await one.dispatcher.claim(one.now)
    one.now += HOUR
    await one.dispatcher.due(one.now)
    await one.dispatcher.delivered(chat, Permanent("no", True), one.now)
    await one.deliver()
    assert "next_way" not in await _events(one)
    assert one.reasons("escalated") == [(HOUR, "wang")]


async def test_quiet_hours_hold_for_the_next_way_too() -> None:
    """They began while the first way was tried."""
    quiet = TimeInterval(times=(time_span("00:01", "23:59"),))  # START_MS is midnight
    li = Contact(WAYS, quiet=quiet)
    one = floor(EscalationStep((BY_CHAT,), HOUR), roster=Roster({"li": li}))
    refused = iter([RetryAt("busy", START_MS + 2 * MINUTE)])
    one.answers = {"chat": lambda _: next(refused, Permanent("no", True))}
    await one.open()
    await one.hear(fires(DOWN))
    await one.advance(HOUR)
    assert {m.receiver for m in one.sent} == {"chat"}


ON_CALL = Recipient(schedule="primary")


def take_over(contact: str = "wang", start_ms: int = START_MS + HOUR) -> Override:
    return Override("primary", contact, start_ms, start_ms + 9 * HOUR, "x", start_ms, "li", "")


def _schedule(*shifts: Shift) -> Roster:
    people = {"li": LI, "wang": WANG}
    return Roster(people, {"primary": Schedule("primary", (CalendarShifts(shifts),))})


@pytest.mark.parametrize("final", [None, FinalStep((ON_CALL,), HOUR * 5, HOUR * 24)])
async def test_nobody_is_on_call_until_somebody_takes_over(final: FinalStep | None) -> None:
    roster = _schedule(Shift(START_MS + 20 * HOUR, START_MS + 30 * HOUR, "li"))
    one = floor(EscalationStep((ON_CALL,), HOUR), roster=roster, final=final)
    await one.open()
    await one.hear(fires(DOWN))
    await one.advance(HOUR)
    assert one.told == []
    await one.dispatcher.override(take_over(), one.now)
    await one.advance(0)
    await one.deliver()
    assert [(at, who) for at, _, who in one.told] == [(HOUR, "wang")]


async def test_an_override_for_later_is_waited_for() -> None:
    roster = _schedule(Shift(START_MS + 20 * HOUR, START_MS + 30 * HOUR, "li"))
    one = await floor(EscalationStep((ON_CALL,), HOUR), roster=roster).open()
    await one.hear(fires(DOWN))
    await one.advance(HOUR)
    await one.dispatcher.override(take_over(start_ms=START_MS + 3 * HOUR), one.now)
    await one.advance(4 * HOUR)
    assert [(at, who) for at, _, who in one.told] == [(3 * HOUR, "wang")]


async def test_one_that_is_removed_is_not_waited_for() -> None:
    roster = _schedule(Shift(START_MS + 5 * HOUR, START_MS + 30 * HOUR, "li"))
    one = await floor(EscalationStep((ON_CALL,), HOUR), roster=roster).open()
    await one.dispatcher.override(take_over(start_ms=START_MS + 3 * HOUR), one.now)
    await one.hear(fires(DOWN))
    await one.advance(HOUR)
    before = (await _events(one)).count("no_one_reached")
    await one.dispatcher.remove_override("x", "li", one.now)
    assert not one.dispatcher.working.people_changed, "looked at once"
    await one.advance(MINUTE)
    assert (await _events(one)).count("no_one_reached") == before, "it does not run in vain"
    await one.advance(6 * HOUR)
    assert [(at, who) for at, _, who in one.told] == [(5 * HOUR, "li")]


async def test_a_calendar_that_is_read_ends_the_wait() -> None:
    one = await floor(EscalationStep((ON_CALL,), HOUR), roster=_schedule()).open()
    await one.hear(fires(DOWN))
    await one.advance(HOUR)
    one.dispatcher.working.set_roster(_schedule(Shift(START_MS, START_MS + 30 * HOUR, "li")))
    await one.dispatcher.due(one.now)
    await one.deliver()
    assert {who for _, _, who in one.told} <= {"li"}


async def test_what_waits_for_an_answer_is_left_alone() -> None:
    roster = _schedule(Shift(START_MS, START_MS + 30 * HOUR, "li"))
    final = FinalStep((ON_CALL,), 5 * HOUR, 24 * HOUR)
    one = await floor(EscalationStep((ON_CALL,), HOUR), roster=roster, final=final).open()
    await one.hear(fires(DOWN))
    await one.advance(2 * HOUR)
    told = len(one.told)
    await one.dispatcher.override(take_over(start_ms=START_MS), one.now)
    await one.advance(MINUTE)
    assert len(one.told) == told == 1
