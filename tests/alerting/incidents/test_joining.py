"""Alerts that join an incident of which people have heard already."""

from dataclasses import replace
from typing import Any

from support.alert_events import alert, clears, fires
from support.dispatcher_setup import Floor
from support.policies import HOUR, MINUTE, P0, P1, SECOND, config
from support.state_machine import Bench, bench
from tocsin_alerting.incidents.actions import Verb
from tocsin_alerting.incidents.alert_changes import AlertsChanged
from tocsin_alerting.incidents.escalation_policy import AckTimes
from tocsin_alerting.incidents.incident import Reason
from tocsin_alerting.rules.alert import Alert

TELLS = {"policies": {"P0": replace(P0, new_alerts_after_ms=5 * MINUTE, recover_within_ms=None)}}


def gpu(number: int, severity: str = "P0") -> Alert:
    return alert("Slow", severity, target="a", gpu=str(number))


def telling(**changes: Any) -> Bench:
    return bench(**(TELLS | changes))


def test_at_once_when_the_last_page_is_older_than_the_interval() -> None:
    one = telling()
    one.advance(6 * MINUTE)
    one.do(fires(gpu(1)))
    one.advance(6 * MINUTE)
    assert one.at(Reason.NEW_ALERTS) == [(6, "li"), (6, "chat")]


def test_collected_until_the_interval_is_over() -> None:
    one = telling()
    for number in (1, 2, 3):
        one.advance(number * MINUTE)
        one.do(fires(gpu(number)))
    one.advance(5 * MINUTE - SECOND)
    assert not one.at(Reason.NEW_ALERTS)
    one.advance(20 * MINUTE)
    assert one.at(Reason.NEW_ALERTS) == [(5, "li"), (5, "chat")]
    assert [r.data for r in one.history if r.event == "new_alerts"] == [{"alerts": 3}]
    one.do(fires(gpu(4)))
    one.advance(20 * MINUTE)
    assert one.at(Reason.NEW_ALERTS)[2:] == [(20, "wang")], "whoever has it by then"


def test_a_page_has_them_and_none_is_needed() -> None:
    one = telling()
    one.advance(13 * MINUTE)
    one.do(fires(gpu(1)))
    one.advance(13 * MINUTE)
    one.advance(14 * MINUTE)
    one.do(fires(gpu(2)))  # would be told at 18; the step at 15 has it
    one.advance(29 * MINUTE)
    assert one.at(Reason.NEW_ALERTS) == [(13, "li"), (13, "chat")]


def test_nobody_hears_of_what_was_over_by_then() -> None:
    one = telling()
    one.advance(MINUTE)
    one.do(fires(gpu(1)))
    one.do(clears(gpu(1)))
    one.advance(14 * MINUTE)
    assert not one.at(Reason.NEW_ALERTS)
    one.do(fires(gpu(1)))  # people may know it
    one.advance(14 * MINUTE)
    assert not one.at(Reason.NEW_ALERTS)


def test_a_milder_tier_of_the_same_alert_is_not_new() -> None:
    one = telling()
    one.advance(6 * MINUTE)
    one.do(fires(alert("Slow", "P1", target="a")))
    one.advance(14 * MINUTE)
    assert not one.at(Reason.NEW_ALERTS)
    one.do(AlertsChanged((fires(gpu(1)), fires(gpu(1, "P2")))))
    one.advance(14 * MINUTE)
    assert [r.data for r in one.history if r.event == "new_alerts"] == [{"alerts": 1}]


def test_what_is_silenced_is_not_told() -> None:
    one = telling()
    one.advance(6 * MINUTE)
    quiet = frozenset({gpu(1).fingerprint})
    one.do(AlertsChanged((fires(gpu(1)),), quiet))
    one.advance(14 * MINUTE)
    assert not one.at(Reason.NEW_ALERTS)


def test_the_owner_hears_of_it_and_nobody_else() -> None:
    one = telling()
    one.act(Verb.ACK)
    one.advance(6 * MINUTE)
    one.do(fires(gpu(1)))
    one.advance(6 * MINUTE)
    assert one.at(Reason.NEW_ALERTS) == [(6, "li")]


def test_collected_before_an_acknowledgement_they_are_told_after_it() -> None:
    one = telling()
    one.advance(MINUTE)
    one.do(fires(gpu(1)))
    one.act(Verb.ACK)
    one.advance(9 * MINUTE)
    assert one.at(Reason.NEW_ALERTS) == [(5, "li")]


def test_muted_it_waits_and_snoozed_it_is_told_at_the_end() -> None:
    policy = replace(TELLS["policies"]["P0"], ack=AckTimes(HOUR))
    one = bench(policies={"P0": policy})
    one.act(Verb.ACK)
    one.mute("silence:1")
    one.advance(6 * MINUTE)
    one.do(fires(gpu(1)))
    one.advance(7 * MINUTE)
    one.mute()
    assert not one.at(Reason.NEW_ALERTS)
    one.advance(11 * MINUTE)
    assert one.at(Reason.NEW_ALERTS) == [(11, "li")]
    one.act(Verb.SNOOZE, until_ms=30 * MINUTE)
    one.do(fires(gpu(2)))
    one.advance(30 * MINUTE)
    assert len(one.at(Reason.NEW_ALERTS)) == 1
    assert one.at(Reason.SNOOZE_END) == [(30, "li"), (30, "chat")]


def test_before_the_first_page_the_group_wait_gathers_them() -> None:
    one = bench("P1", policies={"P1": replace(P1, new_alerts_after_ms=5 * MINUTE)})
    one.do(fires(gpu(1, "P1")))
    one.advance(HOUR - SECOND)
    assert not one.at(Reason.NEW_ALERTS)
    assert one.at(Reason.OPENED) == [(0, "chat"), (0, "mail")]


def test_a_policy_that_says_so_tells_nobody() -> None:
    one = bench()
    one.advance(6 * MINUTE)
    one.do(fires(gpu(1)))
    one.advance(14 * MINUTE)
    assert not one.at(Reason.NEW_ALERTS)


async def test_what_was_collected_is_told_after_a_kill() -> None:
    floor = await Floor(config(**TELLS)).open()
    await floor.hear(fires(gpu(0)))
    await floor.advance(MINUTE)
    await floor.hear(fires(gpu(1)))
    await floor.restart(down_ms=MINUTE)
    await floor.reconcile(fires(gpu(0)), fires(gpu(1)))
    await floor.advance(4 * MINUTE)
    assert floor.reasons("new_alerts") == [(5 * MINUTE, "li"), (5 * MINUTE, "chat")]
    texts = [one.note for _, one in floor.arrived if one.reason is Reason.NEW_ALERTS]
    assert texts == ["new alerts: 1"] * 2
