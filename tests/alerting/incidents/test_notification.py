"""When what a message tells of began: with the condition, not when the rule had waited."""

import json
from dataclasses import replace

from support.alert_events import alert, clears, fires, unknown
from support.dispatcher_setup import START_MS, Floor
from support.policies import MINUTE, P0, config
from tocsin_alerting.incidents.incident import Condition, Incident, Member, began_ms
from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import Permanent
from tocsin_alerting.rules.alert import Alert
from tocsin_alerting.rules.severity import Severity


def _member(active_ms: int, ended_ms: int | None) -> Member:
    source = Condition.FIRING if ended_ms is None else Condition.CLEAR
    return Member(alert(at_ms=active_ms), source, active_ms, ended_ms)


def _incident(*members: Member) -> Incident:
    named = {str(number): member for number, member in enumerate(members)}
    return Incident(1, "u", "k", (), P0, Severity.P0, 0, members=named)


def test_the_last_stretch_in_which_something_was_wrong() -> None:
    for members, began in (
        ((), None),
        ((_member(10, None), _member(20, None)), 10),
        ((_member(10, 30), _member(20, 60), _member(50, None)), 10),
        ((_member(10, 30), _member(40, 60), _member(50, None)), 40),
        ((_member(10, 30), _member(40, 60)), 40),
    ):
        assert began_ms(_incident(*members), 100) == began


async def test_an_outage_of_80_s_lasted_80_s_though_its_rule_waited_for_60() -> None:
    floor = await Floor(config()).open()
    await floor.reconcile()
    began = floor.now - 60_000
    down = replace(alert(target="a:1"), active_at_ms=began, fired_at_ms=floor.now)
    await floor.hear(fires(down, floor.now))
    await floor.advance(20_000)
    await floor.hear(clears(down, floor.now))
    opened, *_, over = (one for _, one in floor.arrived)
    assert opened.began_at_ms == over.began_at_ms == began
    assert over.reason.value == "resolved" and over.at_ms - began == 80_000
    assert opened.alerts[0].active_at_ms == began and opened.alerts[0].starts_at_ms == START_MS


async def test_it_began_with_its_first_alert_though_that_one_cleared_and_fires_again() -> None:
    floor = await Floor(config()).open()
    await floor.reconcile()
    began = floor.now

    async def fire(gpu: str) -> Alert:
        one = replace(alert(target="a:1", gpu=gpu), active_at_ms=floor.now, fired_at_ms=floor.now)
        await floor.hear(fires(one, floor.now))
        await floor.advance(10_000)
        return one

    first, second = await fire("0"), await fire("1")
    for _ in range(2):
        await floor.hear(clears(first, floor.now))
        await floor.advance(10_000)
        first = await fire("0")
    await floor.hear(clears(second, floor.now))
    await floor.restart()
    second = await fire("1")
    assert began_ms(await floor.dispatcher.incident(1), floor.now) == began
    await floor.hear(clears(first, floor.now), clears(second, floor.now))
    ended, over = floor.now, floor.arrived[-1][1]
    assert (over.reason.value, over.began_at_ms, over.at_ms) == ("resolved", began, ended)
    assert began_ms(await floor.dispatcher.incident(1), floor.now + 1) == began
    await floor.advance(10_000)
    again = floor.now
    first = await fire("0")
    assert floor.arrived[-1][1].reason.value == "reopened"
    assert floor.arrived[-1][1].began_at_ms == again, "it was over in between"
    await floor.hear(clears(first, floor.now))
    pending = replace(first, active_at_ms=floor.now - 1_000, fired_at_ms=floor.now + 5_000)
    await floor.advance(5_000)
    await floor.hear(fires(pending, floor.now))
    assert floor.arrived[-1][1].began_at_ms == again, "its condition held when the other ended"


async def test_it_began_with_an_alert_that_had_waited_longer_and_fires_again() -> None:
    floor = await Floor(config()).open()
    await floor.reconcile()
    opened = floor.now
    first = replace(alert(target="a:1", gpu="0"), active_at_ms=opened, fired_at_ms=opened)
    waited = replace(
        alert(target="a:1", gpu="1"), active_at_ms=opened - 60_000, fired_at_ms=opened + 5_000
    )
    await floor.hear(fires(first, floor.now))
    await floor.advance(5_000)
    await floor.hear(fires(waited, floor.now))
    for _ in range(2):
        await floor.advance(5_000)
        await floor.hear(clears(waited, floor.now))
        await floor.advance(5_000)
        waited = replace(waited, active_at_ms=floor.now, fired_at_ms=floor.now)
        await floor.hear(fires(waited, floor.now))
        assert began_ms(await floor.dispatcher.incident(1), floor.now) == opened - 60_000


async def test_it_began_before_the_time_in_which_nobody_could_tell() -> None:
    floor = await Floor(config()).open()
    await floor.reconcile()
    began = floor.now - 60_000
    down = replace(alert(target="a:1"), active_at_ms=began, fired_at_ms=floor.now)
    await floor.hear(fires(down, floor.now))
    await floor.advance(60_000)
    await floor.hear(unknown(down, floor.now))
    await floor.advance(60_000)
    again = replace(down, active_at_ms=floor.now - 1_000, fired_at_ms=floor.now)
    await floor.hear(fires(again, floor.now))
    incident = await floor.dispatcher.incident(1)
    assert began_ms(incident, floor.now) == began
    await floor.advance(60_000)
    await floor.hear(clears(again, floor.now))
    over = floor.arrived[-1][1]
    assert over.reason.value == "resolved" and over.began_at_ms == began
    assert over.alerts[0].active_at_ms == began


def test_by_another_clock_it_began_as_long_ago() -> None:
    moved = _member(10, 30).shifted(1_000)
    assert began_ms(_incident(moved), 2_000) == 1_010 and moved.ended_at_ms == 1_030
    fired_again = replace(_incident(_member(20, None)), began_at_ms=10)
    assert began_ms(fired_again.shifted(1_000), 2_000) == 1_010


async def test_an_escalation_names_who_got_the_page_before_and_when() -> None:
    floor = await Floor(config()).open()
    floor.answers["chat"] = lambda _: Permanent("gone")
    await floor.reconcile()
    await floor.hear(fires(alert(target="a:1"), floor.now))
    (first, *_) = (one for _, one in floor.arrived)
    assert first.unanswered == ()
    await floor.restart()
    await floor.reconcile(fires(alert(target="a:1"), floor.now))
    await floor.advance(15 * MINUTE)
    escalated = floor.arrived[-1][1]
    assert (escalated.reason.value, escalated.contact) == ("escalated", "wang")
    assert escalated.unanswered == (("li", START_MS),)  # and not the chat, which refused
    assert Notification.from_json(json.loads(json.dumps(escalated.to_json()))) == escalated
    await floor.advance(15 * MINUTE)
    names = [name for name, _ in floor.arrived[-1][1].unanswered]
    assert names == ["li", "wang"]


def test_what_an_older_outbox_holds_is_read() -> None:
    floor_page = Notification.from_json(_OLD)
    assert floor_page.began_at_ms is None and floor_page.alerts[0].active_at_ms is None


_OLD = {
    **{"key": "k", "incident": 1, "receiver": "r", "contact": "", "reason": "opened"},
    **{"severity": "P0", "status": "firing", "state": "TRIGGERED", "step": 0, "loop": 0},
    **{"title": "t", "group_key": "g", "group_labels": {}, "opened_at_ms": 1, "at_ms": 2},
    "alerts": [
        {
            **{"status": "firing", "labels": {}, "annotations": {}, "starts_at_ms": 1},
            **{"ends_at_ms": None, "value": 1.0, "fingerprint": "f"},
        }
    ],
}


async def test_a_message_carries_at_most_100_alerts_and_counts_the_rest() -> None:
    floor = await Floor(config()).open()
    await floor.reconcile()
    for number in range(150):
        one = alert(target="a:1", part=str(number))
        await floor.hear(fires(replace(one, fired_at_ms=floor.now), floor.now))
    await floor.advance(60 * MINUTE)
    _, last = floor.arrived[-1]
    assert (len(last.alerts), last.truncated_alerts) == (100, 50)
