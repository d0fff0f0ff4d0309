"""What fires and clears again and again: its hold, its flapping, an acknowledgement kept."""

from dataclasses import replace
from typing import Any

import pytest

from support.alert_events import alert, clears, fires, unknown
from support.dispatcher_setup import Floor
from support.policies import HOUR, MINUTE, P0, P1, SECOND, config
from support.state_machine import Bench, bench
from tocsin_alerting.incidents.actions import Verb
from tocsin_alerting.incidents.damping import hold_ms
from tocsin_alerting.incidents.incident import Condition, IncidentState, Reason, TimerKind
from tocsin_alerting.incidents.routing import FlapDamping

FLAP = FlapDamping(3, 30 * MINUTE, 5 * MINUTE, 2, HOUR)
HELD: dict[str, Any] = {"policies": {"P0": replace(P0, resolve_hold_ms=10 * MINUTE)}}


def flapper(severity: str = "P0", **changes: Any) -> Bench:
    return bench(severity, flap=FLAP, **changes)


def flap(one: Bench, times: int, on_ms: int = MINUTE, off_ms: int = MINUTE) -> None:
    """It fires at the beginning and at the end."""
    for _ in range(times):
        one.advance(one.now + on_ms)
        one.do(clears(one.first))
        one.advance(one.now + off_ms)
        one.do(fires(one.first))


def state(one: Bench) -> IncidentState:
    return one.incident.state


def events(one: Bench) -> list[str]:
    return [record.event for record in one.history]


def test_the_third_time_is_one_message_that_says_so() -> None:
    one = flapper()
    flap(one, 2)
    assert len(one.at(Reason.REOPENED)) == 4 and not one.incident.flapping
    flap(one, 1)
    assert one.at(Reason.FLAPPING) == [(6, "li"), (6, "chat")]
    assert len(one.at(Reason.REOPENED)) == 4
    told = len(one.told)
    flap(one, 4)
    assert one.told[told:] == [], "nobody hears of each time"
    assert one.incident.flapping and one.incident.flaps == 7


def test_what_fires_again_seldom_does_not_flap() -> None:
    one = flapper()
    flap(one, 6, on_ms=14 * MINUTE, off_ms=2 * MINUTE)
    assert not one.incident.flapping and not one.at(Reason.FLAPPING)


def test_each_time_the_hold_grows_up_to_its_longest() -> None:
    one = flapper()
    flap(one, 3)
    holds = []
    for _ in range(6):
        holds.append(hold_ms(one.incident, one.config) // MINUTE)
        flap(one, 1)
    assert holds == [5, 10, 20, 40, 60, 60]


def test_all_times_are_counted_while_it_flaps() -> None:
    one = flapper()
    flap(one, 6)
    flap(one, 1, off_ms=35 * MINUTE)  # longer than the window, and not than the hold
    one.do(clears(one.first))
    one.advance(one.now + HOUR)
    assert one.incident.resolution == "fired again 7 times in 1h46m"


def test_its_end_is_told_after_the_hold() -> None:
    one = flapper()
    flap(one, 3)
    one.advance(7 * MINUTE)
    one.do(clears(one.first))
    one.advance(12 * MINUTE - SECOND)
    assert state(one) == IncidentState.TRIGGERED and one.incident.in_hold
    one.advance(12 * MINUTE)
    assert state(one) == IncidentState.RESOLVED and not one.incident.flapping
    assert one.at(Reason.RESOLVED)[-2:] == [(12, "chat"), (12, "li")]
    assert one.incident.resolution == "fired again 3 times in 10m"


def test_soon_after_its_end_it_flaps_at_once_and_with_a_longer_hold() -> None:
    one = flapper()
    flap(one, 3)
    flap(one, 1, off_ms=6 * MINUTE)  # longer than the hold
    assert one.at(Reason.RESOLVED)[-1] == (12, "li")
    assert one.at(Reason.FLAPPING)[-1] == (13, "chat")
    assert hold_ms(one.incident, one.config) == 10 * MINUTE
    one.do(clears(one.first))
    one.advance(22 * MINUTE)
    assert one.incident.in_hold
    one.advance(52 * MINUTE - SECOND)
    one.do(fires(one.first))
    one.do(clears(one.first))
    assert hold_ms(one.incident, one.config) == 0, "calm for a window: it begins anew"


def test_what_no_longer_clears_is_told_too() -> None:
    one = flapper()
    flap(one, 3)
    one.act(Verb.ACK)
    one.advance(35 * MINUTE)
    assert one.incident.flapping
    one.advance(36 * MINUTE)
    assert one.at(Reason.FLAP_ENDED) == [(36, "li")]
    assert not one.incident.flapping and "flap_ended" in events(one)
    flap(one, 1)
    assert one.at(Reason.FLAPPING) == [(6, "li"), (6, "chat")], "it counts anew"


def test_while_its_state_is_unknown_the_end_of_flapping_waits() -> None:
    one = flapper()
    flap(one, 3)
    one.act(Verb.ACK)
    one.advance(20 * MINUTE)
    one.do(unknown(one.first))
    one.advance(40 * MINUTE)
    one.do(fires(one.first))
    assert one.incident.flapping and not one.at(Reason.FLAP_ENDED)
    one.advance(66 * MINUTE)
    assert one.at(Reason.FLAP_ENDED) == [(66, "wang")], "whose step it is by then"


def test_a_policy_has_a_hold_of_its_own() -> None:
    one = bench(**HELD)
    one.advance(MINUTE)
    one.do(clears(one.first))
    assert one.incident.source is Condition.CLEAR and one.incident.is_open
    one.advance(5 * MINUTE)
    one.do(fires(one.first))
    assert [why for _, why, _ in one.told] == [Reason.OPENED] * 2, "nobody knew that it was clear"
    one.do(clears(one.first))
    one.advance(15 * MINUTE)
    assert state(one) == IncidentState.RESOLVED
    assert one.at(Reason.RESOLVED) == [(15, "chat"), (15, "li")]


def test_the_longer_one_of_two_holds_counts() -> None:
    own = replace(P0, resolve_hold_ms=7 * MINUTE)
    one = flapper(policies={"P0": own})
    assert hold_ms(one.incident, one.config) == 7 * MINUTE
    flap(one, 3)
    assert hold_ms(one.incident, one.config) == 7 * MINUTE
    flap(one, 1)
    assert hold_ms(one.incident, one.config) == 10 * MINUTE


def test_a_step_that_is_due_in_a_hold_pages_if_it_fires_again() -> None:
    one = bench(**HELD)
    one.advance(14 * MINUTE)
    one.do(clears(one.first))
    one.advance(20 * MINUTE)
    assert one.at(Reason.ESCALATED) == [] == one.at(Reason.SLO_BREACH)[2:]
    assert one.timers[TimerKind.STEP].due_at_ms == one.incident.hold_until_ms
    one.do(fires(one.first))
    one.advance(20 * MINUTE)
    assert one.at(Reason.ESCALATED) == [(20, "wang")]
    one.advance(35 * MINUTE - SECOND)
    assert one.at(Reason.ESCALATED) == [(20, "wang")]


def test_what_a_hold_kept_waiting_is_not_due_in_the_hold_after_it() -> None:
    one = bench(**HELD)
    one.advance(14 * MINUTE)
    one.do(clears(one.first))
    one.advance(25 * MINUTE)  # the step was due, and it is resolved
    one.do(fires(one.first))
    one.advance(26 * MINUTE)
    one.do(clears(one.first))
    one.advance(27 * MINUTE)
    one.do(fires(one.first))
    one.advance(40 * MINUTE)
    assert one.at(Reason.REOPENED) == [(25, "li"), (25, "chat")]
    assert one.at(Reason.ESCALATED) == [(40, "wang")]


def test_what_was_not_due_in_the_hold_comes_at_its_time() -> None:
    one = bench(**HELD)
    one.advance(MINUTE)
    one.do(clears(one.first))
    one.advance(2 * MINUTE)
    one.do(fires(one.first))
    one.advance(15 * MINUTE)
    assert one.at(Reason.SLO_BREACH) == [(5, "li"), (5, "chat")]
    assert one.at(Reason.ESCALATED) == [(15, "wang")]


def test_nobody_is_paged_before_the_group_wait_of_what_is_clear() -> None:
    one = bench("P1", policies={"P1": replace(P1, resolve_hold_ms=MINUTE)})
    one.do(clears(one.first))
    one.advance(30 * SECOND)
    assert one.told == []
    one.do(fires(one.first))
    one.advance(30 * SECOND)
    assert one.at(Reason.OPENED) == [(0, "chat"), (0, "mail")]


def test_an_acknowledgement_and_a_snooze_outlast_the_hold() -> None:
    one = bench(policies={"P0": replace(P0, resolve_hold_ms=HOUR)})
    one.act(Verb.ACK)
    one.do(clears(one.first))
    one.advance(50 * MINUTE)  # ack.timeout is 30 min, ack.remind 10
    assert state(one) == IncidentState.ACKED
    assert {why for _, why, _ in one.told} == {Reason.OPENED, Reason.ACKED}
    one.do(fires(one.first))
    one.advance(50 * MINUTE)
    assert one.at(Reason.ACK_EXPIRED)[0] == (50, "li")
    one.act(Verb.SNOOZE, until_ms=one.now + 10 * MINUTE)
    one.do(clears(one.first))
    one.advance(100 * MINUTE)
    assert state(one) == IncidentState.SNOOZED
    one.do(fires(one.first))
    one.advance(100 * MINUTE)
    assert one.at(Reason.SNOOZE_END) == [(100, "li"), (100, "chat")]


def test_the_end_of_a_mute_pages_when_it_fires_again() -> None:
    one = bench(**HELD)
    one.mute("silence:1")
    one.do(clears(one.first))
    one.advance(MINUTE)
    one.mute()
    assert not one.at(Reason.UNMUTED)
    one.advance(2 * MINUTE)
    one.do(fires(one.first))
    assert one.at(Reason.UNMUTED) == [(2, "li"), (2, "chat")]
    one.mute("silence:2")
    one.do(clears(one.first))
    one.mute()
    one.mute("silence:3")
    one.do(fires(one.first))
    assert one.at(Reason.UNMUTED) == [(2, "li"), (2, "chat")]


def test_the_end_of_a_mute_in_a_hold_waits_when_nobody_had_acknowledged_either() -> None:
    one = bench(policies={"P0": replace(P0, resolve_hold_ms=24 * HOUR)})
    one.advance(100 * MINUTE)
    assert one.incident.exhausted
    one.mute("silence:1")
    one.do(clears(one.first))
    one.mute()
    assert TimerKind.STEP not in one.timers and not one.at(Reason.UNMUTED)
    one.do(fires(one.first))
    assert one.at(Reason.UNMUTED) == [(100, "mail"), (100, "chat")]
    assert events(one).count("exhausted") == 1


def test_worse_when_it_fires_again() -> None:
    one = bench("P1", policies={"P1": replace(P1, resolve_hold_ms=2 * HOUR)})
    one.advance(MINUTE)
    one.do(clears(one.first))
    one.advance(70 * MINUTE)  # the step was due
    one.do(fires(alert("Slow", "P0", target="a")))
    one.advance(70 * MINUTE)
    assert one.at(Reason.WORSE) == [(70, "li"), (70, "chat")]
    assert one.at(Reason.ESCALATED) == []


def test_unknown_after_clear_ends_the_hold() -> None:
    one = bench(**HELD)
    one.advance(14 * MINUTE)
    one.do(clears(one.first))
    one.advance(16 * MINUTE)
    one.do(unknown(one.first))
    one.advance(24 * MINUTE)
    assert one.incident.is_open and one.incident.source is Condition.UNKNOWN
    assert one.at(Reason.ESCALATED) == [(16, "wang")]
    assert one.incident.flaps == 0


def test_resolved_by_hand_in_a_hold_is_resolved() -> None:
    one = bench(**HELD)
    one.do(clears(one.first))
    one.act(Verb.RESOLVE, "wang")
    assert state(one) == IncidentState.RESOLVED and not one.incident.closed_by_hand
    assert one.incident.ended_as == "resolved"
    assert one.at(Reason.RESOLVED) == [(0, "chat"), (0, "li")]
    assert [r.actor for r in one.history if r.event == "resolved"] == ["wang"]


@pytest.mark.parametrize("turn_off", [True, False])
def test_without_damping_nothing_is_held(turn_off: bool) -> None:
    one = bench(flap=None if turn_off else replace(FLAP, count=100))
    flap(one, 9)
    assert len(one.at(Reason.RESOLVED)) == 2 * 9 == len(one.at(Reason.REOPENED))


def test_an_acknowledgement_is_kept_when_it_fires_again() -> None:
    one = bench(reopen_keeps_ack=True)
    one.act(Verb.ACK)
    one.advance(10 * MINUTE)
    one.do(clears(one.first))
    one.advance(15 * MINUTE)
    one.do(fires(one.first))
    assert state(one) == IncidentState.ACKED and one.incident.owner == "li"
    assert one.at(Reason.REOPENED) == [(15, "li")]
    one.advance(29 * MINUTE)
    assert one.at(Reason.ACK_REMIND) == [(10, "li"), (25, "li")]
    one.advance(30 * MINUTE)
    assert one.at(Reason.ACK_EXPIRED) == [(30, "li"), (30, "chat")], "it lasts no longer for it"


def kept(one: Bench) -> bool:
    one.do(clears(one.first))
    one.advance(one.now + MINUTE)
    one.do(fires(one.first))
    return state(one) is IncidentState.ACKED


def test_an_acknowledgement_that_is_over_is_not_kept() -> None:
    one = bench(reopen_keeps_ack=True)
    assert not kept(one), "nobody had acknowledged"
    one.act(Verb.ASSIGN, "wang", to="li")
    assert not kept(one), "the assignee had not"
    one.act(Verb.ACK)
    one.do(clears(one.first))
    one.advance(one.now + 30 * MINUTE - SECOND)
    one.do(fires(one.first))
    assert state(one) == IncidentState.ACKED
    one.do(clears(one.first))
    one.advance(one.now + SECOND)
    one.do(fires(one.first))
    assert state(one) == IncidentState.TRIGGERED, "ack.timeout is over"


def test_without_the_setting_it_is_not_kept() -> None:
    one = bench()
    one.act(Verb.ACK)
    assert not kept(one)


def test_closed_by_hand_keeps_no_acknowledgement() -> None:
    one = bench(reopen_keeps_ack=True)
    one.act(Verb.ACK)
    one.act(Verb.RESOLVE)
    one.do(fires(alert("Slow", "P0", target="a", gpu="1")))
    assert state(one) == IncidentState.TRIGGERED


def test_who_has_it_hears_that_it_flaps() -> None:
    one = flapper(reopen_keeps_ack=True)
    one.act(Verb.ACK)
    flap(one, 3)
    assert one.at(Reason.REOPENED) == [(2, "li"), (4, "li")]
    assert one.at(Reason.FLAPPING) == [(6, "li")]


async def test_a_hold_outlives_a_kill_and_a_clock_step() -> None:
    floor = await Floor(config(**HELD)).open()
    first = alert("Slow", "P0", target="a")
    await floor.hear(fires(first))
    await floor.hear(clears(first))
    await floor.restart(down_ms=MINUTE)
    await floor.reconcile()
    floor.now += HOUR
    floor.dispatcher.clock_jumped(HOUR, floor.now)
    await floor.advance(9 * MINUTE - SECOND)
    assert floor.dispatcher.working.incidents[1].is_open
    await floor.advance(2 * MINUTE)
    assert len(floor.reasons("resolved")) == 2


async def test_a_hold_that_ended_while_the_agent_was_down_waits_for_the_rules() -> None:
    floor = await Floor(config(**HELD)).open()
    first = alert("Slow", "P0", target="a")
    await floor.hear(fires(first))
    await floor.hear(clears(first))
    await floor.restart(down_ms=HOUR)
    await floor.advance(SECOND)  # timers run before the rules do
    await floor.reconcile(fires(first))
    await floor.advance(2 * MINUTE)
    assert not floor.reasons("resolved") and not floor.reasons("reopened")
    await floor.hear(clears(first))
    await floor.restart(down_ms=HOUR)
    await floor.reconcile()
    await floor.advance(MINUTE)
    assert {who for _, who in floor.reasons("resolved")} >= {"li", "chat"}


async def test_what_flaps_is_remembered_over_a_restart() -> None:
    floor = await Floor(config(flap=FLAP)).open()
    first = alert("Slow", "P0", target="a")
    for _ in range(4):
        await floor.hear(fires(first))
        await floor.hear(clears(first))
        await floor.restart(down_ms=MINUTE)
        await floor.reconcile()
    one = floor.dispatcher.working.incidents[1]
    assert one.flapping and one.in_hold and one.flaps == 3
    timers = floor.dispatcher.working.schedule.of_incident(1)
    assert timers[TimerKind.HOLD_END].due_at_ms == one.hold_until_ms


def test_closed_by_hand_it_flaps_no_more_though_it_fires() -> None:
    one = flapper()
    flap(one, 4)
    one.act(Verb.RESOLVE)
    assert not one.incident.flapping
    one.advance(one.now + HOUR)
    assert one.at(Reason.STILL_FIRING) and hold_ms(one.incident, one.config) == 0
    assert not one.at(Reason.FLAP_ENDED)
