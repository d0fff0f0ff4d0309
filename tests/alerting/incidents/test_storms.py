"""Many incidents at once are one summary; what must not be lost in it is told singly."""

from dataclasses import replace

import pytest

from support.alert_events import alert, clears, fires, gives_up, unknown
from support.dispatcher_setup import START_MS, Floor
from support.policies import HOUR, MINUTE, SECOND, config, to
from tocsin_alerting.incidents.actions import Verb
from tocsin_alerting.incidents.alert_matcher import parse_matcher
from tocsin_alerting.incidents.drills import Drill
from tocsin_alerting.incidents.errors import Conflict
from tocsin_alerting.incidents.escalation_policy import Addressee, EscalationStep, Recipient
from tocsin_alerting.incidents.incident import Incident, IncidentState
from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.roster import Contact, Roster
from tocsin_alerting.incidents.routing import InhibitRule, StormLimit
from tocsin_alerting.incidents.store_watch import STORE_ALERT_NAME, WatchedStore
from tocsin_alerting.rules.alert import Alert
from tocsin_alerting.rules.severity import Severity

LIMIT = StormLimit(5, 60 * SECOND)


def many(count: int, severity: str = "P2", name: str = "Slow", first: int = 0) -> list[Alert]:
    return [
        alert(name, severity, at_ms=START_MS, target=f"m{n}") for n in range(first, first + count)
    ]


def storms(floor: Floor) -> list[Incident]:
    return [one for one in floor.dispatcher.working.incidents.values() if one.is_storm]


async def floor_with(count: int, severity: str = "P2", **changes: object) -> Floor:
    floor = await Floor(config(**{"storm": LIMIT, **changes})).open()
    await floor.hear(*map(fires, many(count, severity)))
    return floor


def of_storm(floor: Floor) -> list[Notification]:
    return [one for _, one in floor.arrived if one.counts]


async def test_one_summary_in_the_place_of_many() -> None:
    floor = await floor_with(12)
    await floor.advance(MINUTE)
    (summary,) = [one for _, one in floor.arrived]
    assert summary.counts["incidents"] == summary.counts["firing"] == 12
    assert summary.counts["severities"] == [["P2", 12]]
    assert summary.counts["labels"][0] == {
        "name": "alertname",
        "values": [["Slow", 12]],
        "others": 0,
    }
    assert summary.counts["labels"][1]["others"] == 7
    assert len(summary.incidents) == 12
    assert summary.incident not in summary.incidents
    assert summary.alerts[0].annotations["summary"] == "12 incidents opened at once: 12 P2"
    assert summary.receiver == "chat"


async def test_fewer_are_told_singly() -> None:
    floor = await floor_with(4)
    await floor.advance(MINUTE)
    assert len(floor.arrived) == 4
    assert not storms(floor)


async def test_without_a_limit_each_is_told_singly() -> None:
    floor = await floor_with(30, storm=None)
    await floor.advance(MINUTE)
    assert len(floor.arrived) == 30


async def test_those_that_open_slowly_are_no_storm() -> None:
    floor = await floor_with(0)
    for one in many(10):
        await floor.hear(fires(one))
        await floor.advance(20 * SECOND)
    await floor.advance(MINUTE)
    assert len(floor.arrived) == 10
    assert not storms(floor)


async def test_whoever_was_told_of_one_is_not_told_again_by_the_summary() -> None:
    """Three had paged when the storm began: they stay what they are."""
    floor = await floor_with(3)
    await floor.advance(45 * SECOND)
    assert len(floor.arrived) == 3
    await floor.hear(*map(fires, many(6, first=3)))
    await floor.advance(MINUTE)
    assert [one.counts.get("incidents") for _, one in floor.arrived] == [None] * 3 + [6]


async def test_the_end_is_told_once_when_the_last_is_over() -> None:
    floor = await floor_with(12)
    await floor.advance(MINUTE)
    await floor.hear(*map(clears, many(11)))
    assert len(floor.arrived) == 1
    await floor.hear(clears(many(12)[11]))
    assert [one.reason.value for _, one in floor.arrived] == ["opened", "resolved"]
    end = floor.arrived[-1][1]
    assert (end.counts["incidents"], end.counts["firing"]) == (12, 0)
    await floor.advance(HOUR)
    assert len(floor.arrived) == 2
    assert not floor.dispatcher.working.incidents


async def test_over_before_the_summary_nobody_hears_of_it() -> None:
    floor = await floor_with(12)
    await floor.hear(*map(clears, many(12)))
    await floor.advance(HOUR)
    assert floor.arrived == []


async def test_what_nobody_saw_clear_is_not_told_as_resolved() -> None:
    floor = await floor_with(12)
    await floor.advance(MINUTE)
    await floor.hear(unknown(many(1)[0]))
    await floor.hear(gives_up(many(1)[0]))
    await floor.restart()
    await floor.hear(*map(clears, many(11, first=1)))
    end = floor.arrived[-1][1]
    assert end.reason.value == "unwatched"
    assert "1 of 12" in end.note
    assert "resolved" not in [one.reason.value for _, one in floor.arrived]


async def test_p0_is_told_singly_up_to_twenty() -> None:
    floor = await floor_with(50, "P0", storm=StormLimit())
    singly = [one for _, one in floor.arrived if not one.counts]
    assert len({one.incident for one in singly}) == 20
    await floor.advance(10 * SECOND)
    summary, *_ = of_storm(floor)
    assert summary.counts["incidents"] == 30
    assert summary.severity == "P0"


async def test_the_first_p0_of_each_alert_is_always_told_singly() -> None:
    floor = await floor_with(50, "P0", storm=StormLimit())
    await floor.hear(*map(fires, many(3, "P0", "Gone")))
    singly = {one.incident: one for _, one in floor.arrived if not one.counts}
    assert len(singly) == 21
    assert sum(one.group_labels["alertname"] == "Gone" for one in singly.values()) == 1


async def test_the_storm_escalates_until_somebody_acknowledges() -> None:
    floor = await floor_with(12, "P1")
    await floor.advance(3 * HOUR)
    assert [reason for _, reason, _ in floor.told] == ["opened", "opened", "escalated"]
    (storm,) = storms(floor)
    assert {one.incident for _, one in floor.arrived} == {storm.number}


async def test_acknowledging_it_acknowledges_its_incidents() -> None:
    floor = await floor_with(500)
    await floor.advance(MINUTE)
    (storm,) = storms(floor)
    await floor.act(Verb.ACK, storm.number)
    others = [one for one in floor.dispatcher.working.incidents.values() if not one.is_storm]
    assert {(one.state, one.owner) for one in others} == {(IncidentState.ACKED, "li")}
    await floor.advance(HOUR)
    assert [reason for _, reason, _ in floor.told] == ["opened", "acked"]
    assert {one.incident for _, one in floor.arrived} == {storm.number}


async def test_an_acknowledgement_half_passed_on_goes_on_after_a_kill() -> None:
    floor = await floor_with(12)
    await floor.advance(MINUTE)
    (storm,) = storms(floor)
    working = floor.dispatcher.working
    from tocsin_alerting.incidents.actions import Action
    from tocsin_alerting.incidents.transitions import transition

    acked = transition(storm, Action(Verb.ACK, storm.number, "li"), floor.now, working.config)
    working.apply(acked, floor.now)
    await floor.dispatcher._save(floor.now)
    await floor.restart()
    await floor.advance(SECOND)
    others = [o for o in floor.dispatcher.working.incidents.values() if not o.is_storm]
    assert {one.owner for one in others} == {"li"}


async def test_what_joins_later_is_not_acknowledged_and_its_owner_hears_of_it() -> None:
    floor = await floor_with(12)
    await floor.advance(40 * SECOND)
    (storm,) = storms(floor)
    await floor.act(Verb.ACK, storm.number)
    await floor.hear(*map(fires, many(3, first=12)))
    later = [o for o in floor.dispatcher.working.incidents.values() if o.number > storm.number]
    assert {one.state for one in later} == {IncidentState.TRIGGERED}
    await floor.advance(10 * MINUTE)
    assert [reason for _, reason, _ in floor.told] == ["opened", "acked", "storm_grew"]
    assert floor.arrived[-1][1].counts["incidents"] == 15


async def test_when_each_has_its_owner_the_storm_has_one() -> None:
    floor = await floor_with(6)
    await floor.advance(MINUTE)
    (storm,) = storms(floor)
    for number in range(1, 8):
        if number != storm.number:
            await floor.act(Verb.ACK, number, "wang")
    assert storms(floor)[0].owner == "wang"
    floor.now += SECOND
    await floor.act(Verb.UNACK, storm.number)
    await floor.hear(fires(many(1)[0]))
    assert storms(floor)[0].state is IncidentState.TRIGGERED


async def test_news_is_told_every_five_minutes_and_only_news() -> None:
    floor = await floor_with(6)
    await floor.advance(50 * SECOND)
    await floor.hear(*map(fires, many(7, first=6)))
    await floor.advance(HOUR)
    assert floor.reasons("storm_grew") == [(5 * MINUTE, "chat")]
    assert floor.arrived[-1][1].counts["incidents"] == 13
    await floor.hear(*map(fires, many(9, first=13)))
    await floor.advance(HOUR)
    assert len(floor.reasons("storm_grew")) == 2
    assert floor.arrived[-1][1].counts["incidents"] == 22


async def test_long_after_it_began_one_alone_is_told_singly() -> None:
    floor = await floor_with(6)
    await floor.advance(10 * MINUTE)
    await floor.hear(fires(alert("Other", "P1", target="x")))
    await floor.advance(MINUTE)
    assert floor.arrived[-1][1].title == "Other target=x"


async def test_what_gets_worse_in_it_raises_it() -> None:
    floor = await floor_with(6)
    await floor.advance(MINUTE)
    await floor.hear(*map(fires, many(1, "P1")))
    worse = floor.arrived[-1][1]
    assert (worse.reason.value, worse.severity) == ("worse", "P1")
    assert worse.counts["severities"] == [["P1", 1], ["P2", 5]]


async def test_what_becomes_p0_in_it_is_told_singly() -> None:
    floor = await floor_with(6)
    await floor.advance(MINUTE)
    await floor.hear(*map(fires, many(1, "P0")))
    assert {one.title for _, one in floor.arrived[1:]} == {"Slow target=m0"}
    assert storms(floor)[0].severity == "P2"
    await floor.hear(*map(clears, many(5, first=1)))
    assert floor.arrived[-1][1].reason.value == "resolved"
    await floor.hear(*map(clears, [*many(1, "P0"), *many(1)]))
    assert floor.arrived[-1][1].title == "Slow target=m0"


async def test_whom_only_some_of_them_would_page_is_told_too() -> None:
    policy = replace(config().policies["P2"], name="ml", steps=(EscalationStep(to("hook")),))
    floor = await Floor(config(storm=LIMIT, policies={"P3": policy})).open()
    await floor.hear(*map(fires, many(6)))
    await floor.advance(45 * SECOND)
    await floor.hear(*map(fires, many(1, "P3", "Loss")))
    await floor.advance(MINUTE)
    assert [(one.receiver, one.reason.value) for one in of_storm(floor)] == [
        ("chat", "opened"),
        ("hook", "storm_grew"),
    ]
    await floor.advance(5 * MINUTE)
    assert [(one.receiver, one.counts["incidents"]) for one in of_storm(floor)[2:]] == [
        ("chat", 7),
        ("hook", 7),
    ]


async def test_those_that_a_cause_inhibits_are_no_storm() -> None:
    rule = InhibitRule((parse_matcher('alertname="Down"'),), (parse_matcher('alertname="Slow"'),))
    floor = await Floor(config(storm=LIMIT, inhibit=(rule,))).open()
    await floor.hear(fires(alert("Down", "P1", target="x")), *map(fires, many(12)))
    await floor.advance(MINUTE)
    assert not storms(floor)
    assert {one.title for _, one in floor.arrived} == {"Down target=x"}
    await floor.hear(clears(alert("Down", "P1", target="x")))
    await floor.advance(MINUTE)
    (storm,) = storms(floor)
    assert [one.incident for _, one in floor.arrived][-1] == storm.number
    assert len(of_storm(floor)) == 1


async def test_a_storm_of_which_all_are_inhibited_is_quiet() -> None:
    rule = InhibitRule((parse_matcher('alertname="Down"'),), (parse_matcher('alertname="Slow"'),))
    floor = await Floor(config(storm=LIMIT, inhibit=(rule,))).open()
    await floor.hear(*map(fires, many(12, "P1")))
    floor.now += 10 * SECOND
    down = fires(alert("Down", "P2", target="x"))
    floor.dispatcher._correlator.storms._recent.clear()
    await floor.hear(down)
    (storm,) = storms(floor)
    assert storm.muted
    await floor.advance(MINUTE)
    assert of_storm(floor) == []
    await floor.hear(clears(alert("Down", "P2", target="x")))
    await floor.advance(MINUTE)
    assert {one.reason.value for one in of_storm(floor)} == {"unmuted"}


@pytest.mark.parametrize("again", [False, True])
async def test_after_a_restart_its_end_is_told(again: bool) -> None:
    floor = await floor_with(12)
    await floor.advance(MINUTE)
    if again:
        await floor.restart()
    await floor.hear(*map(clears, many(6)))
    await floor.restart(HOUR)
    await floor.reconcile(*map(fires, many(6, first=6)))
    await floor.advance(2 * MINUTE)
    before = len(floor.arrived)
    await floor.restart()
    await floor.hear(*map(clears, many(6, first=6)))
    assert [one.reason.value for _, one in floor.arrived[before:]] == ["resolved"]


@pytest.mark.parametrize("restart", [False, True])
async def test_without_their_storm_they_page(restart: bool) -> None:
    """Its incident was lost: nobody may be muted by what nobody is told of."""
    floor = await floor_with(12)
    await floor.advance(MINUTE)
    working = floor.dispatcher.working
    (storm,) = storms(floor)
    closed = replace(storm, state=IncidentState.CLOSED)
    working.apply((closed, ()), floor.now)
    await floor.dispatcher.heartbeat(floor.now)
    if restart:
        await floor.restart()
        await floor.reconcile(*map(fires, many(12)))
    await floor.dispatcher.due(floor.now)
    await floor.advance(2 * MINUTE)
    told = [one for _, one in floor.arrived[1:]]
    assert told and len({one.incident for one in told}) <= LIMIT.incidents


@pytest.mark.parametrize("verb", [Verb.ESCALATE, Verb.ASSIGN])
async def test_what_somebody_takes_out_of_it_pages(verb: Verb) -> None:
    floor = await floor_with(12, "P1")
    await floor.advance(MINUTE)
    await floor.act(verb, 1, to="wang")
    one = floor.dispatcher.working.incidents[1]
    assert (one.muted, one.told_singly) == (False, True)
    assert floor.arrived[-1][1].incident == 1


async def test_an_action_that_is_refused_takes_nothing_out() -> None:
    floor = await floor_with(12)
    await floor.advance(MINUTE)
    with pytest.raises(Conflict):
        await floor.act(Verb.ESCALATE, 1, step=9)
    assert floor.dispatcher.working.incidents[1].muted


async def test_closed_by_hand_it_comes_back_while_they_fire() -> None:
    floor = await floor_with(12, "P1")
    await floor.advance(30 * SECOND)
    (storm,) = storms(floor)
    await floor.act(Verb.RESOLVE, storm.number)
    await floor.advance(62 * MINUTE)
    assert list(dict.fromkeys(reason for _, reason, _ in floor.told)) == [
        "opened",
        "closed_by_hand",
        "still_firing",
    ]
    assert storms(floor)[0].policy.name == "P1"


async def test_what_reopens_at_once_is_a_storm() -> None:
    floor = await floor_with(4)
    await floor.advance(MINUTE)
    await floor.hear(*map(fires, many(4, first=4)))
    await floor.advance(2 * MINUTE)
    await floor.hear(*map(clears, many(8)))
    await floor.advance(2 * MINUTE)
    before = len(floor.arrived)
    await floor.hear(*map(fires, many(8)))
    await floor.advance(MINUTE)
    again = [one for _, one in floor.arrived[before:]]
    assert len(again) == 5  # four before it was one, and the summary of the others
    assert again[-1].counts["incidents"] == 4


async def test_after_it_is_over_one_of_it_pages_singly() -> None:
    floor = await floor_with(12)
    await floor.advance(MINUTE)
    await floor.hear(*map(clears, many(12)))
    await floor.advance(2 * MINUTE)
    await floor.hear(fires(many(1)[0]))
    assert floor.arrived[-1][1].reason.value == "reopened"
    assert floor.arrived[-1][1].title == "Slow target=m0"


async def test_a_restart_forgets_none_of_those_that_opened_shortly_before() -> None:
    floor = await floor_with(4)
    await floor.restart(5 * SECOND)
    await floor.hear(*map(fires, many(2, first=4)))
    await floor.advance(2 * MINUTE)
    assert len(storms(floor)) == 1
    assert [one.counts.get("incidents") for _, one in floor.arrived] == [6]


async def test_a_restart_does_not_page_as_many_of_p0_again() -> None:
    floor = await floor_with(8, "P0")
    await floor.restart(5 * SECOND)
    await floor.reconcile(*map(fires, many(8, "P0")))
    before = len(floor.arrived)
    await floor.hear(*map(fires, many(3, "P0", first=8)))
    assert [one for _, one in floor.arrived[before:] if not one.counts] == []


async def test_what_joined_after_the_acknowledgement_stays_so_after_a_restart() -> None:
    floor = await floor_with(12)
    await floor.advance(40 * SECOND)
    (storm,) = storms(floor)
    await floor.act(Verb.ACK, storm.number)
    floor.now += SECOND
    await floor.hear(*map(fires, many(3, first=12)))
    await floor.restart()
    await floor.reconcile(*map(fires, many(15)))
    later = [o for o in floor.dispatcher.working.incidents.values() if o.number > storm.number]
    assert {one.state for one in later} == {IncidentState.TRIGGERED}


async def test_who_was_given_the_storm_has_its_incidents_once_he_acknowledges() -> None:
    floor = await floor_with(12, "P1")
    await floor.advance(MINUTE)
    (storm,) = storms(floor)

    def owners() -> set[str]:
        return {o.owner for o in floor.dispatcher.working.incidents.values() if not o.is_storm}

    await floor.act(Verb.ASSIGN, storm.number, to="wang")
    assert owners() == {""}
    await floor.act(Verb.ACK, storm.number, "wang")
    assert owners() == {"wang"}


async def test_an_overdue_page_of_it_waits_for_the_first_word_of_one_of_it() -> None:
    floor = await floor_with(12, "P1")
    await floor.advance(MINUTE)
    await floor.restart(HOUR)
    assert floor.reasons("escalated") == []
    await floor.reconcile(*map(fires, many(12, "P1")))
    await floor.advance(SECOND)
    assert [who for _, who in floor.reasons("escalated")] == ["wang"]


async def quiet_one_by_one(verb: Verb, count: int = 12) -> Floor:
    """Opened one after the other, and answered all at the same moment."""
    floor = await floor_with(0, "P1")
    for one in many(count, "P1"):
        await floor.hear(fires(one))
        await floor.advance(2 * MINUTE)
    assert not storms(floor)
    for number in range(1, count + 1):
        await floor.act(verb, number, until_ms=floor.now + HOUR)
    return floor


@pytest.mark.parametrize(
    ("verb", "reason", "wait_ms"),
    [
        (Verb.ACK, "ack_expired", 5 * HOUR),
        (Verb.SNOOZE, "snooze_end", HOUR),
        (Verb.RESOLVE, "still_firing", 3 * HOUR),
    ],
)
async def test_what_many_were_quiet_for_ends_at_once_and_is_told_as_one(
    verb: Verb, reason: str, wait_ms: int
) -> None:
    floor = await quiet_one_by_one(verb)
    while not storms(floor) and wait_ms > 0:
        await floor.advance(MINUTE)
        wait_ms -= MINUTE
    (storm,) = storms(floor)
    await floor.advance(MINUTE)
    singly = {one.incident for _, one in floor.arrived if one.reason.value == reason}
    assert singly == {1, 2, 3, 4}
    assert {one.counts["incidents"] for one in of_storm(floor)} == {8}
    known = floor.dispatcher.working.incidents
    members = [one for one in known.values() if one.storm == storm.number and not one.is_storm]
    assert {(one.state, one.muted_by) for one in members} == {
        (IncidentState.TRIGGERED, frozenset({f"storm:{storm.number}"}))
    }
    await floor.restart()
    await floor.reconcile(*map(fires, many(12, "P1")))
    await floor.act(Verb.ACK, storm.number)
    known = floor.dispatcher.working.incidents
    assert {known[one.number].state for one in members} == {IncidentState.ACKED}


async def test_what_was_quiet_and_joins_an_acknowledged_storm_is_not_acknowledged() -> None:
    floor = await quiet_one_by_one(Verb.SNOOZE, 6)
    await floor.advance(HOUR - 10 * SECOND)
    await floor.hear(*map(fires, many(12, "P1", "Other", first=20)))
    await floor.advance(5 * SECOND)
    (storm,) = storms(floor)
    await floor.act(Verb.ACK, storm.number)
    await floor.advance(10 * SECOND)
    await floor.restart()
    await floor.dispatcher.due(floor.now)
    known = floor.dispatcher.working.incidents
    assert {known[number].storm for number in range(1, 7)} == {storm.number}
    assert {known[number].state for number in range(1, 7)} == {IncidentState.TRIGGERED}


async def test_what_nothing_tells_of_and_does_not_page_counts_towards_no_storm() -> None:
    """Nobody can tell of those that were closed by hand: they wait, and page nobody."""
    floor = await quiet_one_by_one(Verb.RESOLVE)
    await floor.hear(*map(unknown, many(12, "P1")))
    before = len(floor.arrived)
    await floor.advance(2 * HOUR)
    assert not storms(floor)
    assert len(floor.arrived) == before


async def test_what_was_quiet_and_is_muted_otherwise_is_no_storm() -> None:
    rule = InhibitRule((parse_matcher('alertname="Down"'),), (parse_matcher('alertname="Slow"'),))
    floor = await Floor(config(storm=LIMIT, inhibit=(rule,))).open()
    await floor.hear(*map(fires, many(4)))
    await floor.advance(2 * MINUTE)
    await floor.hear(*map(fires, many(4, first=4)))
    await floor.advance(2 * MINUTE)
    for number in range(1, 9):
        await floor.act(Verb.SNOOZE, number, until_ms=floor.now + HOUR)
    await floor.hear(fires(alert("Down", "P1", target="x")))
    await floor.advance(HOUR + MINUTE)
    assert not storms(floor)
    assert floor.reasons("snooze_end") == []


async def begin_drill(floor: Floor, name: str = "d1") -> int:
    drill = Drill(name, Severity.P2, {}, floor.now + HOUR, "li")
    return await floor.dispatcher.drills.begin(drill, floor.now)


async def test_a_drill_during_a_storm_is_told_singly() -> None:
    floor = await floor_with(12)
    await floor.advance(10 * SECOND)
    number = await begin_drill(floor)
    await floor.advance(MINUTE)
    drill = floor.dispatcher.working.incidents[number]
    assert (drill.storm, drill.muted) == (0, False)
    assert number in {one.incident for _, one in floor.arrived}


@pytest.mark.parametrize("restart", [False, True])
async def test_drills_count_towards_no_storm(restart: bool) -> None:
    floor = await floor_with(0)
    numbers = [await begin_drill(floor, f"d{n}") for n in range(6)]
    if restart:
        await floor.restart(SECOND)
    await floor.hear(*map(fires, many(4)))
    await floor.advance(30 * SECOND)
    assert not storms(floor)
    for number in numbers:
        await floor.act(Verb.SNOOZE, number, until_ms=floor.now + 10 * SECOND)
    await floor.advance(MINUTE)
    assert not storms(floor)


async def test_whoever_heard_of_the_storm_under_another_name_is_not_told_at_once_again() -> None:
    roster = Roster({"li": Contact({"phone": Addressee("phone", "li")})})
    by_receiver, by_name = EscalationStep(to("phone:li")), Recipient(contact="li")
    policies = {
        "P2": replace(config().policies["P2"], steps=(by_receiver,)),
        "P3": replace(config().policies["P2"], name="ml", steps=(EscalationStep((by_name,)),)),
    }
    floor = await Floor(config(storm=LIMIT, policies=policies, roster=roster)).open()
    await floor.hear(*map(fires, many(6)))
    await floor.advance(45 * SECOND)
    await floor.hear(*map(fires, many(1, "P3", "Loss")))
    await floor.advance(MINUTE)
    assert [(one.contact, one.reason.value) for one in of_storm(floor)] == [("li", "opened")]


async def test_that_the_pager_is_blind_is_told_singly() -> None:
    """The engine that evaluates the rules is gone, and with it half the machines: no summary says
    that nobody evaluates any more."""
    floor = await floor_with(12)
    store = WatchedStore("http://store:9090", "store:9090", 0)
    await floor.dispatcher.stores.take(store, "connection refused", floor.now)
    await floor.advance(MINUTE)
    found = floor.dispatcher.working.incidents.values()
    (blind,) = [one for one in found if STORE_ALERT_NAME in str(one.group_labels)]
    assert not blind.muted_by and not blind.storm
    assert blind.number in {one.incident for _, one in floor.arrived}
    (storm,) = storms(floor)
    assert of_storm(floor)[0].counts["incidents"] == 12
    assert blind.number not in of_storm(floor)[0].incidents and storm.is_open
