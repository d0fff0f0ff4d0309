"""The dispatcher end to end: alerts in, messages out, with a journal that remembers."""

from collections import Counter

import pytest

from support.alert_events import alert, clears, fires, removed, unknown
from support.dispatcher_setup import START_MS, Floor
from support.policies import HOUR, MINUTE, SECOND, config, to
from tocsin_alerting.incidents.actions import Action, Verb
from tocsin_alerting.incidents.alert_matcher import parse_matcher
from tocsin_alerting.incidents.errors import Conflict, NoSuchIncident
from tocsin_alerting.incidents.escalation_policy import EscalationPolicy, EscalationStep
from tocsin_alerting.incidents.incident import Condition, IncidentState
from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import (
    Delivered,
    MessageState,
    Outcome,
    Permanent,
    RetryAt,
)
from tocsin_alerting.incidents.routing import InhibitRule, Route

DOWN = alert("EngineDown", "P0", target="a")
SLOW = alert("Slow", "P1", target="a")
INHIBIT = InhibitRule(
    (parse_matcher('alertname="EngineDown"'),),
    (parse_matcher('alertname!="EngineDown"'),),
    ("target",),
)


async def floor(**changes: object) -> Floor:
    return await Floor(config(**changes)).open()


async def test_a_p0_is_paged_at_once_and_escalates_until_answered() -> None:
    one = await floor()
    await one.hear(fires(DOWN))
    assert one.told == [(0, "opened", "li"), (0, "opened", "chat")]
    await one.advance(16 * MINUTE)
    assert one.reasons("escalated") == [(15 * MINUTE, "wang")]
    await one.act(Verb.ACK)
    await one.advance(20 * MINUTE)
    assert one.reasons("escalated") == [(15 * MINUTE, "wang")]
    await one.hear(clears(DOWN))
    assert {who for _, who in one.reasons("resolved")} == {"li", "chat", "wang"}


async def test_a_message_tells_its_reader_who_else_knows_and_who_is_next() -> None:
    one = await floor()
    await one.hear(fires(DOWN))
    first = one.sent[0]
    assert (first.title, first.severity, first.incident) == ("EngineDown target=a", "P0", 1)
    assert (first.others, first.next_to) == (("chat",), ("wang",))
    assert first.next_at_ms == START_MS + 15 * MINUTE
    assert first.alerts[0].annotations["summary"] == "EngineDown fires"
    assert not first.not_recorded
    await one.hear(clears(DOWN))
    last = one.sent[-1]
    assert (last.status, last.alerts[0].status) == ("resolved", "resolved")
    assert last.alerts[0].ends_at_ms == START_MS and last.next_at_ms is None


async def test_tiers_of_one_symptom_are_one_incident_and_one_page() -> None:
    one = await floor()
    tiers = [alert("Slow", severity, target="a") for severity in ("P2", "P1", "P0")]
    await one.hear(*map(fires, tiers))
    assert [why for _, why, _ in one.told] == ["opened", "opened"]
    (incident,) = await one.dispatcher.incidents()
    assert len(incident.members) == 3 and incident.severity == "P0"


async def test_tiers_that_reopen_an_incident_page_once() -> None:
    one = await floor()
    tiers = [alert("Slow", severity, target="a") for severity in ("P2", "P1", "P0")]
    await one.hear(*map(fires, tiers))
    await one.hear(*map(clears, tiers))
    await one.hear(*map(fires, tiers))
    assert (
        len(one.dispatcher.working.outbox.of_incident(1)) == 6
    )  # opened, resolved, reopened, to two each
    assert [why for _, why, _ in one.told[4:]] == ["reopened", "reopened"]


async def test_severity_words_and_none() -> None:
    one = await floor()
    quiet = alert("Watchdog", "none")
    await one.hear(fires(quiet), fires(alert("A", "critical")), fires(alert("B", "")))
    found = {i.group_labels[0][1]: i.severity.value for i in await one.dispatcher.incidents()}
    assert found == {"A": "P0", "B": "P2"}


async def test_routes_decide_policy_and_add_receivers() -> None:
    night = EscalationPolicy("night", (EscalationStep(to("phone:wang")),))
    routes = (
        Route((parse_matcher('team="ml"'),), None, to("hook"), continue_=True),
        Route((parse_matcher('alertname=~"S.*"'),), "night"),
        Route((), None),
    )
    one = await floor(policies={"night": night}, routes=routes)
    await one.hear(fires(alert("Slow", "P1", team="ml")), fires(DOWN))
    assert one.reasons("opened") == [(0, "wang"), (0, "hook"), (0, "li"), (0, "chat")] or (
        sorted(one.reasons("opened")) == [(0, "chat"), (0, "hook"), (0, "li"), (0, "wang")]
    )


async def test_an_inhibited_incident_pages_nobody_whatever_the_order() -> None:
    for events in ([fires(DOWN), fires(SLOW)], [fires(SLOW), fires(DOWN)]):
        one = await floor(inhibit=(INHIBIT,))
        await one.hear(*events)
        await one.advance(HOUR)
        assert {n.title for n in one.sent} == {"EngineDown target=a"}
        slow = next(i for i in await one.dispatcher.incidents() if i.severity == "P1")
        assert len(slow.muted_by) == 1


async def test_inhibition_needs_equal_labels() -> None:
    one = await floor(inhibit=(INHIBIT,))
    await one.hear(fires(DOWN), fires(alert("Slow", "P1", target="b")))
    await one.advance(MINUTE)
    assert "Slow target=b" in {n.title for n in one.sent}


async def test_what_outlives_its_cause_is_paged() -> None:
    one = await floor(inhibit=(INHIBIT,))
    await one.hear(fires(DOWN), fires(SLOW))
    await one.advance(10 * MINUTE)
    await one.hear(clears(DOWN))
    await one.advance(14 * SECOND)
    assert not one.reasons("unmuted")
    await one.advance(2 * SECOND)
    assert one.reasons("unmuted") == [(10 * MINUTE + 15 * SECOND, who) for who in ("chat", "mail")]


async def test_a_reopened_incident_is_muted_before_it_pages() -> None:
    one = await floor(inhibit=(INHIBIT,))
    await one.hear(fires(SLOW))
    await one.advance(MINUTE)
    await one.hear(clears(SLOW))
    slow = one.dispatcher.working.incident_of(SLOW.fingerprint)
    assert slow is None
    before = len(one.dispatcher.working.outbox.of_incident(1))
    await one.hear(fires(DOWN), fires(SLOW))
    assert not one.reasons("reopened")
    assert len(one.dispatcher.working.outbox.of_incident(1)) == before  # not even decided


async def test_two_that_would_silence_each_other_do_not() -> None:
    both = InhibitRule((parse_matcher('target="a"'),), (parse_matcher('target="a"'),))
    crossed = (
        InhibitRule(
            (parse_matcher('alertname="EngineDown"'),), (parse_matcher('alertname="Slow"'),)
        ),
        InhibitRule(
            (parse_matcher('alertname="Slow"'),), (parse_matcher('alertname="EngineDown"'),)
        ),
    )
    for rules in ((both,), crossed):
        one = await floor(inhibit=rules)
        await one.hear(fires(DOWN), fires(SLOW))
        assert "EngineDown target=a" in {n.title for n in one.sent}


async def test_a_retry_has_the_same_key_and_waits_longer_each_time() -> None:
    one = await floor()
    times: list[int] = []

    def busy(_: Notification) -> Outcome:
        times.append(one.now - START_MS)
        return RetryAt("503") if len(times) < 5 else Delivered()

    one.answers["phone"] = busy
    await one.hear(fires(DOWN))
    await one.advance(5 * MINUTE - 1)
    assert times == [0, 1000, 3000, 7000, 15000]
    assert len({n.key for n in one.sent if n.receiver == "phone"}) == 1


async def test_retry_after_is_obeyed() -> None:
    one = await floor()
    answers = [RetryAt("429", START_MS + 20 * SECOND)]
    one.answers["phone"] = lambda n: answers.pop() if answers else Delivered()
    await one.hear(fires(DOWN))
    await one.advance(MINUTE)
    assert (20 * SECOND, "opened", "li") in one.told


async def test_a_p0_is_tried_as_long_as_it_is_open_and_newer_pages_replace_older() -> None:
    one = await floor()
    one.answers["mail"] = lambda n: RetryAt("no route")
    await one.hear(fires(DOWN))
    await one.advance(2 * HOUR)
    waiting = [
        m for m in one.dispatcher.working.outbox.of_incident(1) if m.state is MessageState.PENDING
    ]
    assert len(waiting) == 1 and waiting[0].notification.reason == "final"
    one.answers.clear()
    await one.advance(MINUTE)
    assert [who for _, who in one.reasons("final")] == ["mail"]


async def test_resolved_goes_to_nobody_whose_page_failed() -> None:
    one = await floor()
    one.answers["phone"] = lambda n: Permanent("no such number", final=True)
    await one.hear(fires(DOWN))
    await one.hear(clears(DOWN))
    assert [who for _, who in one.reasons("resolved")] == ["chat"]
    story = await one.dispatcher.timeline(1)
    assert "delivery_failed" in [entry.event for entry in story.history]


async def test_a_step_that_nobody_got_is_followed_within_30_seconds() -> None:
    one = await floor()
    for name in ("phone", "chat"):
        one.answers[name] = lambda n: Permanent("gone")
    await one.hear(fires(DOWN))
    one.answers["phone"] = lambda n: Delivered()
    await one.advance(MINUTE)
    assert one.reasons("unreachable") == [(30 * SECOND, "wang")]


async def test_what_is_refused_for_seconds_arrives_all_the_same_and_once() -> None:
    """The password was wrong for 6 s: the next step does not wait, and neither does the first."""
    one = await floor()
    for name in ("phone", "chat"):
        one.answers[name] = lambda n: Permanent("535 wrong password")
    await one.hear(fires(DOWN))
    await one.advance(6 * SECOND)
    one.answers.clear()
    await one.advance(MINUTE)
    assert one.told[:3] == [
        (15 * SECOND, "opened", "li"),
        (15 * SECOND, "opened", "chat"),
        (30 * SECOND, "unreachable", "wang"),
    ]
    await one.advance(12 * MINUTE)
    assert max(Counter(n.key for _, n in one.arrived).values()) == 1


async def test_a_step_that_is_refused_again_and_again_is_given_up_once() -> None:
    lasting = EscalationPolicy("P0", (EscalationStep(to("phone:li")),))
    one = await floor(policies={"P0": lasting})
    one.answers["phone"] = lambda n: Permanent("550 policy")
    await one.hear(fires(DOWN))
    await one.advance(20 * MINUTE)
    tries = [n for n in one.sent if n.reason == "opened"]
    events = [entry.event for entry in (await one.dispatcher.timeline(1)).history]
    assert len(tries) == 14
    assert events.count("no_one_reached") == 1 and events.count("delivery_failed") == 1
    await one.hear(clears(DOWN))
    one.answers.clear()
    await one.advance(MINUTE)
    assert [why for _, why, _ in one.told] == ["fired_and_resolved"]


async def test_an_answer_or_the_end_ends_what_is_refused() -> None:
    for over in (Verb.ACK, None):
        one = await floor()
        one.answers["chat"] = lambda n: Permanent("403")
        await one.hear(fires(DOWN))
        if over is None:
            await one.hear(clears(DOWN))
        else:
            await one.act(over)
        one.answers.clear()
        await one.advance(11 * MINUTE)
        told = [why for _, why, who in one.told if who == "chat"]
        assert told == ([] if over else ["fired_and_resolved"])


async def test_in_flight_at_the_end_counts_as_told_unless_it_fails() -> None:
    one = await floor()
    await one.dispatcher.handle([fires(DOWN)], one.now)
    first, second = await one.dispatcher.claim(one.now)
    await one.dispatcher.handle([clears(DOWN)], one.now)
    assert await one.dispatcher.claim(one.now) == []  # not before the page itself is through
    await one.dispatcher.delivered(first, Delivered(), one.now)
    await one.dispatcher.delivered(second, RetryAt("timeout"), one.now)
    left = await one.dispatcher.claim(one.now)
    told = {d.notification.receiver: d.notification.reason.value for d in left}
    assert told == {
        first.notification.receiver: "resolved",
        second.notification.receiver: "fired_and_resolved",
    }


async def test_a_lease_that_ends_is_sent_again_with_the_same_key() -> None:
    one = await floor()
    await one.dispatcher.handle([fires(DOWN)], one.now)
    lost = await one.dispatcher.claim(one.now)
    assert await one.dispatcher.claim(one.now + 29 * SECOND) == []
    again = await one.dispatcher.claim(one.now + 30 * SECOND)
    assert [d.key for d in again] == [d.key for d in lost]
    assert {d.attempt for d in again} == {2}
    await one.dispatcher.delivered(
        lost[0], Delivered(), one.now + 31 * SECOND
    )  # late, and good news
    assert one.dispatcher.working.outbox.of_incident(1)[0].state is MessageState.SENT


async def test_an_answer_in_the_meantime_ends_the_trying() -> None:
    one = await floor()
    await one.dispatcher.handle([fires(DOWN)], one.now)
    assert len(await one.dispatcher.claim(one.now)) == 2
    await one.dispatcher.act(Action(Verb.ACK, 1, "li"), one.now)
    await one.advance(MINUTE)
    assert {n.reason for n in one.sent} == {"acked"}  # chat may have got it, and is told the end


async def test_an_action_repeated_is_done_once() -> None:
    one = await floor()
    await one.hear(fires(DOWN))
    first = await one.act(Verb.ACK, request_id="r1")
    await one.restart()
    again = await one.act(Verb.ACK, request_id="r1", actor="li")
    assert again == first
    await one.act(Verb.UNACK, request_id="r2")
    assert (await one.act(Verb.ACK, request_id="r1")).state is IncidentState.TRIGGERED


async def test_actions_that_cannot_be() -> None:
    one = await floor()
    with pytest.raises(NoSuchIncident, match="#7"):
        await one.act(Verb.ACK, 7)
    await one.hear(fires(DOWN))
    await one.hear(clears(DOWN))
    with pytest.raises(Conflict, match="RESOLVED"):
        await one.act(Verb.ACK)
    await one.advance(HOUR)
    with pytest.raises(Conflict, match="CLOSED"):
        await one.act(Verb.ACK)


async def test_closed_incidents_leave_memory_and_stay_in_the_journal() -> None:
    one = await floor()
    for number in range(1, 21):
        await one.hear(fires(DOWN))
        await one.hear(clears(DOWN))
        await one.advance(31 * MINUTE)
        assert not one.dispatcher.working.incidents and not len(one.dispatcher.working.outbox)
        assert (await one.dispatcher.incident(number)).state is IncidentState.CLOSED
    closed = await one.dispatcher.incidents([IncidentState.CLOSED], limit=5)
    assert [i.number for i in closed] == [20, 19, 18, 17, 16]
    story = await one.dispatcher.timeline(3)
    events = [entry.event for entry in story.history]
    assert events[0] == "opened" and events[-1] == "closed" and len(story.messages) == 4
    assert await one.dispatcher.prune(START_MS + 10 * HOUR, 0) == 20
    with pytest.raises(NoSuchIncident):
        await one.dispatcher.incident(3)


async def test_rule_removed_and_unknown() -> None:
    one = await floor()
    await one.hear(fires(DOWN), fires(SLOW))
    await one.hear(unknown(DOWN), removed(SLOW))
    found = {
        i.number: i
        for i in await one.dispatcher.incidents([IncidentState.TRIGGERED, IncidentState.RESOLVED])
    }
    assert found[1].source is Condition.UNKNOWN and found[1].is_open
    assert found[2].resolution == "rule removed"


async def test_an_alert_keeps_its_incident_when_the_grouping_changes() -> None:
    one = await floor()
    await one.hear(fires(DOWN))
    one.settings = config(routes=(Route((), None, group_by=("alertname",)),))
    await one.restart()
    await one.hear(clears(DOWN))
    assert (await one.dispatcher.incident(1)).state is IncidentState.RESOLVED


async def test_an_inhibition_ends_with_its_rule() -> None:
    one = await floor(inhibit=(INHIBIT,))
    await one.hear(fires(DOWN), fires(SLOW))
    await one.advance(MINUTE)
    one.settings = config()
    await one.restart()
    await one.advance(5 * MINUTE)
    assert len(one.reasons("unmuted")) == 2


async def test_no_due_time_is_left_behind() -> None:
    one = await floor()
    await one.hear(fires(DOWN))
    assert one.dispatcher.next_due_ms() == START_MS + 4 * MINUTE  # the warning before the slo
    assert one.dispatcher.overdue_ms(START_MS + 4 * MINUTE + 1) == 1
    assert one.dispatcher.next_claim_ms(one.now) is None


async def test_a_clock_stepped_by_an_hour_pages_nobody_early_or_late() -> None:
    for jump in (HOUR, -HOUR):
        one = await floor()
        await one.hear(fires(DOWN))
        await one.advance(10 * MINUTE)
        count = len(one.sent)
        one.now += jump
        one.dispatcher.clock_jumped(jump, one.now)
        await one.advance(5 * MINUTE - 1)
        assert len(one.sent) == count
        await one.advance(1)
        assert [n.reason for n in one.sent[count:]] == ["escalated"]
        (incident,) = await one.dispatcher.incidents()
        assert one.now - incident.opened_at_ms == 15 * MINUTE
        assert one.now - one.sent[-1].alerts[0].starts_at_ms == 15 * MINUTE


async def test_the_tiers_of_a_symptom_in_one_evaluation_open_it_as_the_worst() -> None:
    """Whatever their order: people are paged once, by the policy of the worst."""
    one = await Floor(config()).open()
    tiers = [alert("Slow", severity, target="a") for severity in ("P2", "P0", "P1")]
    await one.hear(*map(fires, tiers))
    history = (await one.dispatcher.timeline(1)).history
    assert [(entry.event, entry.data["severity"]) for entry in history[:2]] == [
        ("opened", "P0"),
        ("joined", "P1"),
    ]
    assert {reason for _, reason, _ in one.told} == {"opened"}
    assert not await one.dispatcher.incidents([IncidentState.CLOSED]) and len(one.told) == 2


async def test_whom_only_an_earlier_cycle_reached_hears_no_end_of_this_one() -> None:
    """Their page of this one never came: they are told that it fired, and is over."""
    one = await Floor(config()).open()
    down = alert("EngineDown", "P0", target="a")
    await one.hear(fires(down))
    await one.hear(clears(down))
    one.answers["phone"] = lambda _: RetryAt("busy")
    await one.hear(fires(down))
    await one.hear(clears(down))
    del one.answers["phone"]
    await one.advance(MINUTE)
    assert [reason for _, reason, who in one.told if who == "li"] == [
        "opened",
        "resolved",
        "fired_and_resolved",
    ]
    assert [reason for _, reason, who in one.told if who == "chat"] == [
        "opened",
        "resolved",
        "reopened",
        "resolved",
    ]


async def test_later_messages_name_what_the_first_one_is_called_at_the_other_side() -> None:
    one = await floor()
    names = iter(f"ts-{n}" for n in range(1, 100))
    one.answers["chat"] = lambda sent: Delivered(next(names))
    await one.hear(fires(DOWN))
    await one.act(Verb.ACK)
    await one.restart()
    await one.hear(clears(DOWN))
    await one.hear(fires(alert("Other", "P0", target="b")))
    threads = [(sent.incident, sent.thread) for sent in one.sent if sent.receiver == "chat"]
    assert threads == [(1, ""), (1, "ts-1"), (1, "ts-1"), (5001, "")]
