"""What is not urgent comes together, at its time, and says what is over by then."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from support.alert_events import alert, clears, fires, gives_up
from support.dispatcher_setup import START_MS, Floor
from support.policies import HOUR, MINUTE, SECOND, config, to
from support.silences import silence
from tocsin_alerting.incidents.actions import Verb
from tocsin_alerting.incidents.calendar_times import TimeInterval, time_span, time_zone
from tocsin_alerting.incidents.digests import DAY_MS, next_digest_ms, off_the_half_hour_ms
from tocsin_alerting.incidents.escalation_policy import Addressee, EscalationStep, Recipient
from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import Outcome, RetryAt
from tocsin_alerting.incidents.roster import Contact, Roster
from tocsin_alerting.incidents.routing import IncidentConfig, StormLimit
from tocsin_alerting.rules.alert import Alert

SLOW, WARM, FULL = (alert(name, "P3", target="a") for name in ("Slow", "Warm", "Full"))


def with_digests(period_ms: int = 5 * MINUTE, **changes: Any) -> IncidentConfig:
    policies = {
        name: replace(config().policies[name], digest_ms=period_ms) for name in ("P3", "P4")
    }
    return config(policies=policies, **changes)


async def floor_with(*alerts: Alert, **changes: Any) -> Floor:
    floor = await Floor(with_digests(**changes)).open()
    floor.now += MINUTE
    if alerts:
        await floor.hear(*map(fires, alerts))
    return floor


def sent(floor: Floor) -> list[Notification]:
    return [one for one in floor.sent if one.reason.value == "digest"]


async def test_one_message_at_the_full_five_minutes() -> None:
    floor = await floor_with(SLOW, WARM, FULL)
    await floor.advance(3 * MINUTE)
    assert floor.sent == []
    await floor.advance(2 * MINUTE)
    (digest,) = floor.sent
    assert (digest.at_ms - START_MS) == 5 * MINUTE
    assert (digest.incident, digest.incidents) == (0, (1, 2, 3))
    assert [one["text"] for one in digest.counts["digest"]] == [
        "Slow fires",
        "Warm fires",
        "Full fires",
    ]
    assert digest.status == "firing"


async def test_what_is_over_meanwhile_is_said_so_and_last() -> None:
    floor = await floor_with(SLOW, WARM)
    await floor.hear(clears(SLOW))
    await floor.hear(fires(FULL))
    await floor.advance(5 * MINUTE)
    (digest,) = sent(floor)
    assert [one["reason"] for one in digest.counts["digest"]] == [
        "opened",
        "opened",
        "fired_and_resolved",
    ]
    assert (digest.counts["items"], digest.counts["over"]) == (3, 1)


async def test_the_end_of_what_was_in_one_is_in_a_later_one_and_there_once() -> None:
    floor = await floor_with(SLOW, WARM)
    await floor.advance(6 * MINUTE)
    await floor.hear(clears(SLOW), clears(WARM))
    assert len(floor.sent) == 1
    await floor.advance(HOUR)
    first, second = sent(floor)
    assert [one["reason"] for one in second.counts["digest"]] == ["resolved", "resolved"]
    assert second.status == "resolved"
    assert first.key != second.key


async def test_one_alone_is_its_own_message() -> None:
    floor = await floor_with(SLOW)
    await floor.advance(5 * MINUTE)
    assert [one.reason.value for one in floor.sent] == ["opened"]


@pytest.mark.parametrize("verb", [Verb.ACK, Verb.SNOOZE])
async def test_what_somebody_has_is_left_out(verb: Verb) -> None:
    floor = await floor_with(SLOW, WARM, FULL)
    await floor.act(verb, 1, until_ms=floor.now + HOUR)
    await floor.hear(clears(SLOW))
    await floor.advance(5 * MINUTE)
    assert [one.incidents for one in sent(floor)] == [(2, 3)]


async def test_what_is_silenced_is_left_out() -> None:
    floor = await floor_with(SLOW, WARM, FULL)
    await floor.dispatcher.silencing.put(silence(floor.now, 'alertname="Warm"'), "s1", floor.now)
    await floor.advance(5 * MINUTE)
    assert [one.incidents for one in sent(floor)] == [(1, 3)]


async def test_what_nobody_saw_clear_before_is_not_told_at_all() -> None:
    floor = await floor_with(SLOW, WARM, FULL)
    await floor.hear(gives_up(SLOW))
    await floor.advance(5 * MINUTE)
    assert [one.incidents for one in sent(floor)] == [(2, 3)]


async def test_a_restart_keeps_them_and_their_time() -> None:
    floor = await floor_with(SLOW, WARM)
    await floor.restart()
    await floor.reconcile(fires(SLOW), fires(WARM))
    await floor.advance(5 * MINUTE)
    assert [one.at_ms - START_MS for one in sent(floor)] == [5 * MINUTE]


async def test_a_kill_before_the_outcome_sends_the_same_one_again() -> None:
    floor = await floor_with(SLOW, WARM)
    floor.now += 4 * MINUTE
    (claimed,) = await floor.dispatcher.claim(floor.now)
    await floor.restart()
    await floor.reconcile(fires(SLOW), fires(WARM))
    await floor.advance(SECOND)
    assert [one.key for one in sent(floor)] == [claimed.key]


async def test_a_channel_that_fails_gets_the_same_one_again() -> None:
    def fails(one: Notification) -> Outcome:
        return RetryAt("503")

    floor = await floor_with(SLOW, WARM, period_ms=7 * DAY_MS)
    floor.answers["mail"] = fails
    for _ in range(8 * 24):
        if len(sent(floor)) < 4:
            await floor.advance(HOUR)
    assert len(sent(floor)) >= 4 and floor.now - START_MS > DAY_MS
    floor.answers.clear()
    await floor.advance(HOUR)
    assert len({one.key for one in sent(floor)}) == 1
    assert len(floor.arrived) == 2


async def test_it_holds_up_nothing_else_and_is_bounded() -> None:
    many = [alert("Slow", "P3", target=f"m{n}") for n in range(250)]
    floor = await floor_with(*many)
    floor.now += 4 * MINUTE
    (digest,) = await floor.dispatcher.claim(floor.now)
    assert len(digest.items) == 250
    assert len(digest.notification.alerts) == 100
    assert digest.notification.truncated_alerts == 150
    await floor.dispatcher.handle([fires(alert("Other", "P1", target="x"))], floor.now)
    await floor.dispatcher.due(floor.now + 15 * SECOND)
    others = await floor.dispatcher.claim(floor.now + 15 * SECOND)
    assert {one.notification.receiver for one in others} == {"chat", "mail"}


async def test_what_becomes_worse_does_not_wait() -> None:
    floor = await floor_with(SLOW)
    await floor.hear(fires(alert("Slow", "P1", target="a")))
    assert {(one.reason.value, one.severity) for one in floor.sent} == {("worse", "P1")}


async def test_urgent_ones_never_wait() -> None:
    policy = replace(config().policies["P1"], digest_ms=5 * MINUTE)
    floor = await Floor(config(policies={"P1": policy})).open()
    await floor.hear(fires(alert("Slow", "P1", target="a")))
    await floor.advance(30 * SECOND)
    assert len(floor.sent) == 2


async def test_they_are_no_storm() -> None:
    many = [alert("Slow", "P3", target=f"m{n}") for n in range(12)]
    floor = await floor_with(*many, storm=StormLimit(5, MINUTE))
    await floor.advance(5 * MINUTE)
    assert [len(one.incidents) for one in sent(floor)] == [12]


def test_days_end_at_nine_where_the_people_are() -> None:
    def next_ms(text: str, days: int = 1) -> str:
        at = datetime.fromisoformat(text)
        ms = next_digest_ms(round(at.timestamp() * 1000), days * DAY_MS, berlin)
        return datetime.fromtimestamp(ms / 1000, UTC).isoformat()

    berlin = config(zone=time_zone("Europe/Berlin"))
    assert next_ms("2026-03-28T07:59+00:00") == "2026-03-28T08:00:00+00:00"
    assert next_ms("2026-03-28T08:00+00:00") == "2026-03-29T07:00:00+00:00"  # summer time
    assert next_ms("2026-03-29T07:00+00:00") == "2026-03-30T07:00:00+00:00"
    assert next_ms("2026-03-28T08:00+00:00", days=7)[:10] in {
        f"2026-0{d}" for d in ("3-29", "3-30", "3-31", "4-01", "4-02", "4-03", "4-04")
    }


@pytest.mark.parametrize(
    ("period_ms", "latest"), [(MINUTE, 1), (2 * MINUTE, 1), (3 * MINUTE, 2), (HOUR, 4), (DAY_MS, 4)]
)
def test_they_keep_off_the_full_and_the_half_hour(period_ms: int, latest: int) -> None:
    def minutes(at_ms: int) -> set[int]:
        late = {off_the_half_hour_ms(at_ms, period_ms, one) - at_ms for one in people}
        assert all(ms % MINUTE == 0 for ms in late)
        return {ms // MINUTE for ms in late}

    people = [Addressee("chat", f"c{n}") for n in range(50)]
    assert minutes(START_MS // HOUR * HOUR) == set(range(1, latest + 1))
    assert minutes(START_MS // HOUR * HOUR + 30 * MINUTE) == set(range(1, latest + 1))
    for other in (5, 15, 29, 31, 55):
        assert minutes(START_MS // HOUR * HOUR + other * MINUTE) == {0}


def test_an_addressee_has_the_same_minute_in_every_hour_and_policy() -> None:
    one = Addressee("chat", "li")
    hours = [START_MS // HOUR * HOUR + n * HOUR for n in range(24)]
    late = {off_the_half_hour_ms(at, period, one) - at for at in hours for period in (HOUR, DAY_MS)}
    assert late == {2 * MINUTE}
    assert off_the_half_hour_ms(hours[0], HOUR, Addressee("li", "chat")) != hours[0]


async def test_hours_are_kept_to() -> None:
    night = TimeInterval(times=(time_span("00:00", "08:00"),))
    contacts = {"li": Contact({"mail": Addressee("mail", "li")}, quiet=night)}
    steps = (EscalationStep((Recipient(contact="li"),)),)
    policy = replace(config().policies["P3"], digest_ms=9 * MINUTE, steps=steps)
    settings_ = config(policies={"P3": policy}, roster=Roster(contacts))
    floor = await Floor(settings_).open()
    floor.now += 23 * HOUR + 58 * MINUTE  # the next digest would be within the night
    await floor.hear(fires(SLOW), fires(WARM))
    await floor.advance(7 * HOUR)
    assert floor.sent == []
    await floor.advance(HOUR + 5 * MINUTE)
    assert [(one.at_ms - START_MS) // HOUR for one in sent(floor)] == [32]


async def test_each_addressee_has_its_own() -> None:
    steps = (EscalationStep(to("mail", "chat")),)
    policy = replace(config().policies["P3"], digest_ms=5 * MINUTE, steps=steps)
    floor = await Floor(config(policies={"P3": policy})).open()
    await floor.hear(fires(SLOW), fires(WARM))
    await floor.advance(5 * MINUTE)
    assert {(one.receiver, one.incidents) for one in sent(floor)} == {
        ("mail", (1, 2)),
        ("chat", (1, 2)),
    }


async def test_the_hours_of_the_policy_are_kept_to() -> None:
    office = TimeInterval(times=(time_span("09:00", "17:00"),))
    policy = replace(config().policies["P3"], digest_ms=30 * MINUTE)
    roster = Roster(policy_hours={"P3": office})
    floor = await Floor(config(policies={"P3": policy}, roster=roster)).open()
    floor.now += 16 * HOUR + 50 * MINUTE
    await floor.hear(fires(SLOW), fires(WARM))
    await floor.advance(20 * HOUR)
    assert [one.at_ms - START_MS for one in sent(floor)] == [33 * HOUR + 3 * MINUTE]


async def test_what_somebody_asked_for_does_not_wait() -> None:
    contacts = {"li": Contact({"mail": Addressee("mail", "li")})}
    steps = (EscalationStep(to("mail"), HOUR), EscalationStep(to("chat")))
    policy = replace(config().policies["P3"], digest_ms=5 * MINUTE, steps=steps)
    floor = await Floor(config(policies={"P3": policy}, roster=Roster(contacts))).open()
    await floor.hear(fires(SLOW))
    await floor.act(Verb.ESCALATE, actor="wang")
    assert [(one.reason.value, one.receiver) for one in floor.sent] == [("manual", "chat")]
    await floor.act(Verb.ASSIGN, actor="wang", to="li")
    assert [(one.reason.value, one.contact) for one in floor.sent[1:]] == [("assigned", "li")]
