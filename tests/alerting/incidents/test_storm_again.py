"""What joins a storm after somebody took it is covered by no acknowledgement of before."""

import pytest

from support.alert_events import alert, clears, fires
from support.dispatcher_setup import START_MS, Floor
from support.policies import HOUR, MINUTE, SECOND, config
from tocsin_alerting.incidents.actions import Verb
from tocsin_alerting.incidents.incident import Incident, IncidentState
from tocsin_alerting.incidents.routing import StormLimit
from tocsin_alerting.rules.alert import Alert

LIMIT = StormLimit(5, 60 * SECOND)


def many(count: int, severity: str = "P0", name: str = "Fire", first: int = 0) -> list[Alert]:
    return [
        alert(name, severity, at_ms=START_MS, target=f"m{n}") for n in range(first, first + count)
    ]


async def acked_storm(severity: str = "P0", limit: StormLimit = LIMIT, count: int = 12) -> Floor:
    floor = await Floor(config(storm=limit)).open()
    await floor.hear(*map(fires, many(count, severity)))
    await floor.advance(40 * SECOND)
    await floor.act(Verb.ACK, storm_of(floor).number)
    floor.arrived.clear()
    return floor


def storm_of(floor: Floor) -> Incident:
    (storm,) = (one for one in floor.dispatcher.working.incidents.values() if one.is_storm)
    return storm


def pages(floor: Floor) -> list[tuple[str, str]]:
    return [
        (one.reason.value, one.contact or one.receiver) for _, one in floor.arrived if one.counts
    ]


def singly(floor: Floor) -> set[int]:
    return {one.incident for _, one in floor.arrived if not one.counts}


async def test_after_a_quiet_minute_as_many_of_p0_page_singly_again() -> None:
    floor = await acked_storm(limit=StormLimit(), count=30)
    await floor.advance(63 * SECOND)
    floor.arrived.clear()
    for kill in range(1, 6):
        await floor.hear(*map(fires, many(4, "P0", f"Kill{kill}")))
        await floor.advance(6 * SECOND)
    assert len(singly(floor)) == 20
    assert pages(floor) == []
    await floor.hear(*map(fires, many(3, "P0", "Kill5", first=4)))
    await floor.advance(6 * SECOND)
    assert len(singly(floor)) == 20
    assert pages(floor) == [("storm_grew", "li"), ("storm_grew", "chat")]


async def test_p0_that_joins_an_acknowledged_storm_pages_again_once_for_the_wave() -> None:
    floor = await acked_storm()
    await floor.hear(*map(fires, many(3, first=12)))
    await floor.advance(SECOND)
    await floor.hear(*map(fires, many(2, first=15)))
    await floor.advance(4 * SECOND)
    assert pages(floor) == [("storm_grew", "li"), ("storm_grew", "chat")]
    assert singly(floor) == set()
    assert floor.arrived[-1][1].counts["incidents"] == 12
    storm = storm_of(floor)
    assert (storm.state, storm.owner) == (IncidentState.TRIGGERED, "")
    await floor.advance(16 * MINUTE)
    assert ("escalated", "wang") in pages(floor)
    await floor.act(Verb.ACK, storm.number)
    assert {one.state for one in floor.dispatcher.working.incidents.values() if one.storm} == {
        IncidentState.ACKED
    }


async def test_p0_in_an_acknowledged_storm_of_p2_pages_by_the_policy_of_p0() -> None:
    floor = await acked_storm("P2")
    await floor.hear(*map(fires, many(9, name="Worse")))
    assert len(singly(floor)) == 5
    assert sorted(set(pages(floor))) == [("worse", "chat"), ("worse", "li")]
    await floor.advance(16 * MINUTE)
    assert ("escalated", "wang") in pages(floor)


async def test_a_kill_between_joining_and_paging_loses_no_page() -> None:
    floor = await acked_storm()
    await floor.hear(*map(fires, many(3, first=12)))
    await floor.restart(2 * SECOND)
    await floor.reconcile(*map(fires, many(15)))
    await floor.advance(5 * SECOND)
    assert pages(floor) == [("storm_grew", "li"), ("storm_grew", "chat")]


async def test_p0_that_joins_a_storm_whose_escalation_is_over_begins_it_again() -> None:
    floor = await Floor(config(storm=StormLimit(5, 10 * HOUR))).open()
    await floor.hear(*map(fires, many(12)))
    await floor.advance(4 * HOUR)
    assert storm_of(floor).exhausted
    floor.arrived.clear()
    await floor.hear(*map(fires, many(3, first=12)))
    await floor.advance(6 * SECOND)
    assert pages(floor) == [("storm_grew", "li"), ("storm_grew", "chat")]
    assert not storm_of(floor).exhausted


async def test_p0_is_not_snoozed_with_the_storm_that_it_joins() -> None:
    floor = await acked_storm()
    await floor.act(Verb.SNOOZE, storm_of(floor).number, until_ms=floor.now + 20 * MINUTE)
    await floor.hear(*map(fires, many(1, first=12)))
    await floor.advance(6 * SECOND)
    assert pages(floor) == [("storm_grew", "li"), ("storm_grew", "chat")]


async def test_p1_that_joins_an_acknowledged_storm_of_p1_pages_again() -> None:
    floor = await acked_storm("P1")
    await floor.hear(*map(fires, many(3, "P1", first=12)))
    await floor.advance(16 * SECOND)
    assert pages(floor) == [("storm_grew", "chat"), ("storm_grew", "mail")]


@pytest.mark.parametrize("severity", ["P2", "P3", "P4"])
async def test_what_may_wait_leaves_the_storm_acknowledged(severity: str) -> None:
    floor = await acked_storm("P2")
    await floor.hear(*map(fires, many(3, severity, first=12)))
    await floor.advance(MINUTE)
    assert pages(floor) == []
    assert storm_of(floor).state is IncidentState.ACKED


async def test_one_of_p0_that_fires_again_is_not_covered_either() -> None:
    floor = await acked_storm()
    last = many(1, first=11)[0]
    await floor.hear(clears(last))
    await floor.advance(SECOND)
    await floor.hear(fires(last))
    await floor.advance(6 * SECOND)
    assert pages(floor) == [("storm_grew", "li"), ("storm_grew", "chat")]
    assert floor.arrived[-1][1].counts["incidents"] == 7


async def test_one_of_p0_that_fires_again_after_a_quiet_minute_pages_singly() -> None:
    floor = await acked_storm()
    last = many(1, first=11)[0]
    await floor.advance(MINUTE)
    await floor.hear(clears(last))
    await floor.advance(SECOND)
    floor.arrived.clear()
    await floor.hear(fires(last))
    await floor.advance(6 * SECOND)
    assert len(singly(floor)) == 1
    assert pages(floor) == []


async def test_one_that_becomes_p0_in_an_acknowledged_storm_of_p0_is_told() -> None:
    floor = await acked_storm("P2")
    await floor.hear(*map(fires, many(9, name="Worse")))
    await floor.act(Verb.ACK, storm_of(floor).number)
    floor.arrived.clear()
    floor.now += SECOND
    await floor.hear(fires(many(1)[0]))
    await floor.advance(6 * SECOND)
    assert pages(floor) == [("storm_grew", "li"), ("storm_grew", "chat")]


async def test_what_left_its_storm_when_it_fired_again_stays_out_of_it() -> None:
    floor = await acked_storm()
    last = many(1, first=11)[0]
    await floor.advance(MINUTE)
    await floor.hear(clears(last))
    await floor.hear(fires(last))
    await floor.advance(20 * MINUTE)
    again = floor.dispatcher.working.incidents[12]
    assert (again.muted, again.told_singly) == (False, True)
    assert ("escalated", "wang") in [(why, who) for _, why, who in floor.told]


async def test_of_many_that_become_p0_at_once_no_more_than_the_limit_page_singly() -> None:
    floor = await Floor(config(storm=LIMIT)).open()
    await floor.hear(*map(fires, many(30, "P2")))
    await floor.advance(2 * MINUTE)
    floor.arrived.clear()
    await floor.hear(*map(fires, many(30)))
    assert len(singly(floor)) == LIMIT.incidents
    assert ("worse", "li") in pages(floor)


async def test_an_owner_of_one_that_becomes_p0_hears_of_it_by_the_storm() -> None:
    floor = await acked_storm("P2")
    await floor.advance(2 * MINUTE)
    floor.arrived.clear()
    worse = many(1)[0]
    await floor.hear(fires(worse))
    assert sorted(pages(floor)) == [("worse", "chat"), ("worse", "li")]


async def test_what_becomes_p0_in_a_storm_closed_by_hand_pages_singly() -> None:
    floor = await acked_storm("P2")
    await floor.hear(*map(fires, many(3, "P2", first=12)))
    await floor.act(Verb.RESOLVE, storm_of(floor).number)
    floor.arrived.clear()
    await floor.hear(*map(fires, many(3, "P1", first=12)))
    await floor.advance(16 * SECOND)
    assert len(singly(floor)) == 3


async def test_after_a_quiet_minute_what_becomes_p0_in_it_pages_singly() -> None:
    floor = await acked_storm()
    await floor.hear(*map(fires, many(3, "P2", first=12)))
    await floor.advance(2 * MINUTE)
    floor.arrived.clear()
    await floor.hear(fires(many(1, first=12)[0]))
    assert len(singly(floor)) == 1
    assert pages(floor) == []
