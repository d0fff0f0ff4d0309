"""An answer to an incident of the last run holds for the one that a start without its journal
opened in its place."""

import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.alert_events import alert, clears, fires
from support.dispatcher_setup import START_MS, Floor
from support.policies import HOUR, MINUTE, P0, SECOND, config
from tocsin_alerting.incidents.actions import Verb
from tocsin_alerting.incidents.escalation_policy import AckTimes
from tocsin_alerting.incidents.incident import Incident, IncidentState
from tocsin_alerting.incidents.journal.sqlite import SqliteJournal
from tocsin_alerting.incidents.routing import GroupBy, IncidentConfig

DOWN = alert("EngineDown", "P0", target="a")
OTHER = alert("EngineDown", "P0", target="a", gpu="1")
MILD = alert("EngineDown", "P2", target="a", gpu="2")
SAME = config()
WIDER = config(group=GroupBy(("alertname",)))
NARROWER = config(group=GroupBy(("alertname", "target", "gpu")))


class Locked:
    """Opens nothing while it is `locked`."""

    locked = True

    def __call__(self, name: str) -> sqlite3.Connection:
        if self.locked:
            raise sqlite3.OperationalError("database is locked")
        return sqlite3.connect(name, isolation_level=None, check_same_thread=False)


class Outage:
    """The last run had `alerts` in incident 1, and somebody answered; this one starts without the
    journal a minute later."""

    def __init__(self, path: Path, *alerts: Any, settings: IncidentConfig = SAME) -> None:
        self.path, self.alerts, self.settings = path / "incidents.db", alerts, settings
        self.connect = Locked()

    async def began(self, verb: Verb, **more: Any) -> Floor:
        old = await Floor(config(), SqliteJournal(self.path)).open()
        await old.hear(*map(fires, self.alerts))
        await old.act(verb, **more)
        await old.dispatcher.close(old.now)
        journal = SqliteJournal(self.path, connect=self.connect)
        one = Floor(self.settings, journal)
        one.now = old.now + MINUTE
        one.dispatcher.recovery.recall = (
            lambda _held, _rows: []
        )  # there are rules that have them all
        return await one.open()

    async def over(self, one: Floor) -> list[Incident]:
        """The journal is there: what is open now, the oldest first."""
        self.connect.locked = False
        await one.advance(2 * SECOND)
        await one.dispatcher.due(one.now)
        while one.dispatcher.writer.down:
            await one.dispatcher.writer.journal.history(0)  # a turn of its thread
        await one.deliver()
        assert (await one.dispatcher.incident(1)).state is IncidentState.CLOSED
        return sorted(one.dispatcher.working.incidents.values(), key=lambda each: each.number)


async def _events(one: Floor, number: int) -> list[tuple[str, str]]:
    return [(each.event, each.actor) for each in (await one.dispatcher.timeline(number)).history]


async def test_an_acknowledgement_goes_on_until_it_was_to_end(tmp_path: Path) -> None:
    outage = Outage(tmp_path, DOWN)
    one = await outage.began(Verb.ACK)
    await one.hear(fires(DOWN))
    (incident,) = await outage.over(one)
    assert (incident.state, incident.owner) == (IncidentState.ACKED, "li")
    assert incident.acked_at_ms == one.now - MINUTE - 2 * SECOND
    assert one.told[2:] == [(MINUTE + 2 * SECOND, "acked", "chat")]
    await one.advance(HOUR - MINUTE)
    told = [(at - 2 * MINUTE, why, who) for at, why, who in one.told[3:] if why != "slo_breach"]
    assert told[:5] == [
        (8 * MINUTE, "ack_remind", "li"),
        (18 * MINUTE, "ack_remind", "li"),
        (28 * MINUTE, "ack_expired", "li"),
        (28 * MINUTE, "ack_expired", "chat"),
        (43 * MINUTE, "escalated", "wang"),
    ]


async def test_an_acknowledgement_ends_sooner_where_the_policy_has_a_shorter_one(
    tmp_path: Path,
) -> None:
    shorter = replace(P0, ack=AckTimes(5 * MINUTE))
    outage = Outage(tmp_path, DOWN, settings=config(policies={"P0": shorter}))
    one = await outage.began(Verb.ACK)
    await one.hear(fires(DOWN))
    (incident,) = await outage.over(one)
    (ends,) = [
        timer for timer in one.dispatcher.timers(incident.number) if timer.kind == "ack_timeout"
    ]
    assert ends.due_at_ms <= one.now + 5 * MINUTE  # and not 30 minutes after the answer


async def test_the_timeline_says_where_it_comes_from(tmp_path: Path) -> None:
    outage = Outage(tmp_path, DOWN)
    one = await outage.began(Verb.ACK)
    await one.hear(fires(DOWN))
    (incident,) = await outage.over(one)
    history = (await one.dispatcher.timeline(incident.number)).history
    (kept,) = [each for each in history if each.event == "ack_kept"]
    assert (kept.actor, kept.data["as"]) == ("li", 1)
    assert kept.data["acked_at_ms"] == incident.acked_at_ms
    (closed,) = [e for e in (await one.dispatcher.timeline(1)).history if e.event == "superseded"]
    assert closed.data == {"successor": incident.number}
    await one.restart()
    again = await one.dispatcher.incident(incident.number)
    assert (again.state, again.owner) == (IncidentState.ACKED, "li")


LATER: dict[str, tuple[tuple[Verb, ...], IncidentState, str]] = {
    "another took it": ((Verb.ACK,), IncidentState.ACKED, "wang"),
    "given back": ((Verb.ACK, Verb.UNACK), IncidentState.TRIGGERED, ""),
    "escalated": ((Verb.ESCALATE,), IncidentState.TRIGGERED, ""),
    "closed": ((Verb.RESOLVE,), IncidentState.RESOLVED, ""),
}


@pytest.mark.parametrize("case", LATER)
async def test_what_was_answered_later_stands(tmp_path: Path, case: str) -> None:
    verbs, state, owner = LATER[case]
    outage = Outage(tmp_path, DOWN)
    one = await outage.began(Verb.ACK)
    await one.hear(fires(DOWN))
    (number,) = one.dispatcher.working.incidents
    for verb in verbs:
        await one.act(verb, number, "wang")
    (incident,) = await outage.over(one)
    assert (incident.state, incident.owner) == (state, owner)
    assert "ack_kept" not in dict(await _events(one, number))


async def test_an_acknowledgement_that_expired_meanwhile_is_none(tmp_path: Path) -> None:
    outage = Outage(tmp_path, DOWN)
    one = await outage.began(Verb.ACK)
    await one.hear(fires(DOWN))
    await one.advance(30 * MINUTE)
    (incident,) = await outage.over(one)
    assert (incident.state, incident.owner) == (IncidentState.TRIGGERED, "")
    assert one.reasons("escalated")


async def test_a_snooze_ends_at_its_time(tmp_path: Path) -> None:
    outage = Outage(tmp_path, DOWN)
    until_ms = START_MS + 20 * MINUTE
    one = await outage.began(Verb.SNOOZE, until_ms=until_ms)
    await one.hear(fires(DOWN))
    (incident,) = await outage.over(one)
    assert incident.state is IncidentState.SNOOZED
    assert ("snooze_kept", "") in await _events(one, incident.number)
    count = len(one.told)
    await one.advance(until_ms - one.now + SECOND)
    assert [each for each in one.told[count:] if each[1] != "slo_breach"] == [
        (20 * MINUTE, "snooze_end", "li"),
        (20 * MINUTE, "snooze_end", "chat"),
    ]


async def test_what_was_closed_by_hand_stays_so_until_it_was_to_be_raised(tmp_path: Path) -> None:
    outage = Outage(tmp_path, DOWN)
    one = await outage.began(Verb.RESOLVE)
    await one.hear(fires(DOWN))
    (incident,) = await outage.over(one)
    assert (incident.state, incident.resolution) == (IncidentState.RESOLVED, "by li")
    assert incident.closed_by_hand
    assert ("closing_kept", "li") in await _events(one, incident.number)
    assert {(why, who) for _, why, who in one.told[2:]} == {
        ("closed_by_hand", "li"),
        ("closed_by_hand", "chat"),
    }
    await one.advance(20 * MINUTE)
    assert one.reasons("still_firing") == [(15 * MINUTE, "li"), (15 * MINUTE, "chat")]


async def test_an_owner_hears_that_it_is_worse(tmp_path: Path) -> None:
    outage = Outage(tmp_path, MILD)
    one = await outage.began(Verb.ACK)
    await one.hear(fires(DOWN))
    (incident,) = await outage.over(one)
    assert (incident.state, incident.owner) == (IncidentState.ACKED, "li")
    assert {who for at, who in one.reasons("worse")} == {"li"}
    (timeout,) = [t for t in one.dispatcher.timers(incident.number) if t.kind == "ack_timeout"]
    assert 29 * MINUTE < timeout.due_at_ms - one.now <= 30 * MINUTE


@pytest.mark.parametrize("verb", [Verb.SNOOZE, Verb.RESOLVE])
async def test_what_is_worse_is_not_silenced(tmp_path: Path, verb: Verb) -> None:
    outage = Outage(tmp_path, MILD)
    more = {"until_ms": START_MS + HOUR} if verb is Verb.SNOOZE else {}
    one = await outage.began(verb, **more)
    await one.hear(fires(DOWN))
    (incident,) = await outage.over(one)
    assert incident.state is IncidentState.TRIGGERED


async def test_each_part_of_what_was_acknowledged_is_so(tmp_path: Path) -> None:
    """Also an alert that has yet to fire anew: its incident pages nobody."""
    outage = Outage(tmp_path, DOWN, OTHER, settings=NARROWER)
    one = await outage.began(Verb.ACK)
    await one.hear(fires(DOWN))
    count = len(one.told)
    incidents = await outage.over(one)
    assert [(each.state, each.owner) for each in incidents] == [(IncidentState.ACKED, "li")] * 2
    assert {why for _, why, _ in one.told[count:]} == {"acked"}
    await one.hear(clears(DOWN), clears(OTHER))
    assert not await one.dispatcher.incidents()


async def test_a_wider_incident_with_what_nobody_answered_goes_on(tmp_path: Path) -> None:
    outage = Outage(tmp_path, DOWN, settings=WIDER)
    one = await outage.began(Verb.ACK)
    await one.hear(fires(DOWN), fires(alert("EngineDown", "P0", target="b")))
    (incident,) = await outage.over(one)
    assert incident.state is IncidentState.TRIGGERED
    await one.advance(15 * MINUTE)
    assert one.reasons("escalated")
