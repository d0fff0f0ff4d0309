"""Killed at any moment and started again: nothing is lost, nothing is said twice for nothing."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from support.alert_events import alert, clears, fires, gives_up, origin, removed, unknown
from support.dispatcher_setup import Floor
from support.policies import HOUR, MINUTE, SECOND, config
from tocsin_alerting.incidents.actions import Verb
from tocsin_alerting.incidents.changeset import EngineRow
from tocsin_alerting.incidents.incident import Condition, IncidentState, Reason
from tocsin_alerting.incidents.journal.sqlite import SqliteJournal
from tocsin_alerting.incidents.outbox_message import Delivered
from tocsin_alerting.rules.alert import AlertEvent, EventKind, rules_origin
from tocsin_alerting.rules.instance_journal import InstanceRow
from tocsin_alerting.rules.unknown_alerts import UnknownAlert

DOWN = alert("EngineDown", "P0", target="a")
SLOW = alert("Slow", "P1", target="a")


@pytest.fixture
async def one(tmp_path: Path) -> Floor:
    return await Floor(config(), SqliteJournal(tmp_path / "incidents.db")).open()


async def test_a_step_due_while_down_goes_out_once(one: Floor) -> None:
    await one.hear(fires(DOWN))
    await one.advance(14 * MINUTE)
    await one.restart(down_ms=2 * MINUTE)
    await one.advance(0)
    await one.restart()
    await one.reconcile(fires(DOWN))
    await one.advance(14 * MINUTE)
    assert one.reasons("escalated") == [(16 * MINUTE, "wang")]
    assert len(one.reasons("opened")) == 2


async def test_an_engine_that_was_forgotten_is_until_it_is_watched_again(one: Floor) -> None:
    await one.dispatcher.remember_engine(EngineRow("h:1", "http://h:1", "vLLM"), one.now)
    for name in ("h:1", "LOCALHOST:2", "h:3"):
        await one.dispatcher.forget_engine(name, one.now)
    one.dispatcher.working.watch_engine("h:3")
    await one.dispatcher.heartbeat(one.now)
    await one.restart()
    assert one.dispatcher.recovery.saved_engines == ()
    assert one.dispatcher.recovery.saved_forgotten == {"h:1", "127.0.0.1:2"}
    one.dispatcher.working.watch_engine("127.0.0.1:2")
    await one.dispatcher.heartbeat(one.now)
    await one.restart()
    assert one.dispatcher.recovery.saved_forgotten == {"h:1"}


async def test_steps_due_while_down_are_one_page(one: Floor) -> None:
    await one.hear(fires(DOWN))
    await one.restart(down_ms=31 * MINUTE)
    await one.advance(0)
    told = sorted(who for _, who in one.reasons("escalated"))
    assert told == ["chat", "mail", "wang"]
    await one.advance(15 * MINUTE)
    assert len(one.reasons("escalated")) == 3


async def test_a_page_on_its_way_at_an_acknowledgement_is_not_sent_again(one: Floor) -> None:
    await one.dispatcher.handle([fires(DOWN)], one.now)
    assert len(await one.dispatcher.claim(one.now)) == 2  # nobody reports what came of them
    await one.act(Verb.ACK)
    await one.restart(down_ms=MINUTE)
    await one.advance(8 * MINUTE)
    assert Reason.OPENED not in {sent.reason for sent in one.sent}


async def test_milder_pages_wait_for_the_first_evaluation(one: Floor) -> None:
    await one.hear(fires(SLOW))
    await one.advance(10 * SECOND)
    await one.restart(down_ms=HOUR)
    await one.advance(10 * SECOND)
    assert not one.told
    await one.reconcile()  # it is over
    await one.advance(HOUR)
    assert not one.told and not await one.dispatcher.incidents()


async def test_milder_pages_go_when_it_fires_still(one: Floor) -> None:
    await one.hear(fires(SLOW))
    await one.restart(down_ms=HOUR)
    await one.reconcile(fires(SLOW))
    await one.deliver()
    assert {who for _, who in one.reasons("opened")} == {"chat", "mail"}


async def test_milder_pages_wait_a_minute_at_most(one: Floor) -> None:
    await one.hear(fires(SLOW))
    await one.restart(down_ms=HOUR)
    await one.advance(59 * SECOND)
    assert not one.told
    await one.advance(SECOND)
    assert len(one.reasons("opened")) == 2


@pytest.mark.parametrize("step", [HOUR, -HOUR])
async def test_a_clock_step_neither_ends_nor_prolongs_that_minute(one: Floor, step: int) -> None:
    await one.hear(fires(SLOW))
    await one.restart(down_ms=HOUR)
    await one.advance(30 * SECOND)
    one.now += step
    one.dispatcher.clock_jumped(step, one.now)
    await one.advance(29 * SECOND)
    assert not one.told
    await one.advance(SECOND)
    assert len(one.reasons("opened")) == 2


async def test_what_began_and_ended_while_down(one: Floor) -> None:
    await one.hear(fires(DOWN))
    await one.restart(down_ms=MINUTE)
    await one.reconcile(fires(SLOW))
    await one.deliver()
    assert {who for _, who in one.reasons("resolved")} == {"li", "chat"}
    assert [i.severity for i in await one.dispatcher.incidents()] == ["P1"]


async def test_unknown_survives_and_ends(one: Floor) -> None:
    await one.hear(fires(DOWN))
    await one.hear(unknown(DOWN))
    await one.restart(down_ms=MINUTE)
    await one.reconcile(unknown(DOWN))
    assert (await one.dispatcher.incident(1)).source == "unknown"
    await one.reconcile(fires(DOWN))
    assert (await one.dispatcher.incident(1)).source == "firing"
    await one.restart()
    await one.reconcile(unknown(DOWN))
    assert (await one.dispatcher.incident(1)).source == "unknown"  # began while down


async def test_a_message_claimed_and_not_confirmed_is_sent_again_at_once(one: Floor) -> None:
    await one.dispatcher.handle([fires(DOWN)], one.now)
    first, second = await one.dispatcher.claim(one.now)
    await one.dispatcher.delivered(first, Delivered(), one.now)
    await one.restart(down_ms=SECOND)
    again = await one.dispatcher.claim(one.now)
    assert [d.key for d in again] == [second.key]


async def test_an_answer_and_its_end_survive(one: Floor) -> None:
    await one.hear(fires(DOWN))
    await one.act(Verb.ACK)
    await one.restart(down_ms=5 * MINUTE)
    await one.reconcile(fires(DOWN))
    incident = await one.dispatcher.incident(1)
    assert (incident.state, incident.owner) == (IncidentState.ACKED, "li")
    await one.advance(25 * MINUTE)
    assert one.reasons("ack_expired")[0] == (30 * MINUTE, "li")


async def test_numbers_go_on(one: Floor) -> None:
    await one.hear(fires(DOWN))
    await one.hear(clears(DOWN))
    await one.advance(HOUR)
    await one.restart()
    assert [entry.event for entry in await one.journal.history(0)] == ["started", "started"]
    await one.hear(fires(DOWN))
    assert [i.number for i in await one.dispatcher.incidents()] == [5001]  # it was killed
    keys = [n.key for n in one.sent]
    assert len(keys) == len(set(keys))


async def test_the_downtime_is_in_the_history(one: Floor) -> None:
    await one.dispatcher.heartbeat(one.now)
    await one.restart(down_ms=HOUR)
    started = [e for e in await one.journal.history(0) if e.event == "started"][-1]
    assert started.data == {"downtime_ms": HOUR, "clean": False}
    await one.dispatcher.close(one.now)
    one.journal = SqliteJournal(one.journal._path)  # type: ignore[attr-defined]
    await one.restart()
    started = [e for e in await one.journal.history(0) if e.event == "started"][-1]
    assert started.data == {"downtime_ms": HOUR, "clean": True}


async def test_a_restart_clears_only_what_its_origin_says(one: Floor) -> None:
    posted = AlertEvent(EventKind.FIRING, alert("Posted", "P0", target="b"), one.now, origin="api")
    await one.hear(fires(DOWN), fires(SLOW), posted)
    await one.restart(down_ms=MINUTE)
    await one.dispatcher.reconcile([], [origin(DOWN)], one.now)
    assert {i.severity for i in await one.dispatcher.incidents()} == {"P0", "P1"}  # posted, slow
    await one.dispatcher.reconcile([], [origin(SLOW)], one.now)
    assert [i.group_labels[0][1] for i in await one.dispatcher.incidents()] == ["Posted"]


async def test_the_hold_ends_incident_by_incident(one: Floor) -> None:
    warm = alert("Warm", "P1", target="a")
    await one.hear(fires(SLOW), fires(warm))
    await one.restart(down_ms=HOUR)
    await one.dispatcher.reconcile([fires(SLOW)], [origin(SLOW)], one.now)
    await one.deliver()
    assert {n.title.split()[0] for n in one.sent} == {"Slow"}
    await one.advance(HOUR)
    assert {n.title.split()[0] for n in one.sent} == {"Slow", "Warm"}


async def test_an_alert_of_two_rules_fires_until_both_have_cleared(one: Floor) -> None:
    other = replace(DOWN, rule="other/EngineDown/0")
    await one.hear(fires(DOWN), fires(other))
    await one.hear(clears(DOWN))
    await one.restart(down_ms=SECOND)
    assert (await one.dispatcher.incident(1)).is_open
    await one.hear(unknown(other))
    assert (await one.dispatcher.incident(1)).source == "unknown"
    await one.hear(removed(other))
    assert (await one.dispatcher.incident(1)).state is IncidentState.RESOLVED


async def test_a_journal_from_before_origins_is_reconciled_by_the_rule(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    one = await Floor(config(), SqliteJournal(path)).open()
    await one.hear(fires(DOWN), fires(SLOW))
    await one.dispatcher.close(one.now)
    with closing(sqlite3.connect(path)) as file:
        file.execute("ALTER TABLE incident_instances DROP COLUMN origins_json")
        file.execute("UPDATE meta SET value = '1' WHERE key = 'schema_version'")
        file.commit()
    one.journal = SqliteJournal(path)
    await one.restart()
    assert set(one.dispatcher.origins) == {rules_origin("", DOWN.rule), rules_origin("", SLOW.rule)}
    both = [origin(DOWN), rules_origin("", DOWN.rule)]
    await one.dispatcher.reconcile([fires(DOWN)], both, one.now)
    await one.hear(clears(DOWN))
    assert (await one.dispatcher.incident(1)).state is IncidentState.RESOLVED
    assert (await one.dispatcher.incident(2)).is_open


async def test_the_hold_lasts_until_all_who_spoke_of_an_incident_have_spoken(one: Floor) -> None:
    beside = alert("Slow", "P1", target="a", gpu="1")
    other = replace(beside, rule="other/Slow/0")
    await one.hear(fires(SLOW), fires(other))
    await one.restart(down_ms=HOUR)
    await one.dispatcher.reconcile([fires(SLOW)], [origin(SLOW)], one.now)
    await one.deliver()
    assert not one.told
    await one.dispatcher.reconcile([fires(other)], [origin(other)], one.now)
    await one.deliver()
    assert {who for _, who in one.reasons("opened")} == {"chat", "mail"}


async def test_what_was_given_up_is_not_over_after_a_restart(tmp_path: Path) -> None:
    both = [alert("Hot", "P0", gpu=gpu) for gpu in "01"]
    one = await Floor(config(), SqliteJournal(tmp_path / "incidents.db")).open()
    await one.hear(*map(fires, both))
    await one.hear(unknown(both[0]))
    await one.hear(gives_up(both[0]))
    await one.restart()
    await one.dispatcher.reconcile([fires(both[1])], [origin(one) for one in both], one.now)
    states = {
        m.alert.labels[1][1]: m.source for m in (await one.dispatcher.incident(1)).members.values()
    }
    assert states == {"0": Condition.UNKNOWN, "1": Condition.FIRING}
    await one.hear(clears(both[1]))
    assert one.reasons("given_up") and not one.reasons("resolved")


@pytest.mark.parametrize("back", [MINUTE, 2 * HOUR, 20_000 * HOUR])
async def test_a_clock_that_was_set_back_meanwhile_moves_no_timer(one: Floor, back: int) -> None:
    """What the first restart has written, the second reads as it is."""
    await one.hear(fires(DOWN))
    await one.advance(14 * MINUTE)
    before = (await one.dispatcher.incident(1)).opened_at_ms
    await one.dispatcher.heartbeat(one.now)
    await one.restart(down_ms=-back)
    await one.advance(10 * SECOND)
    assert abs(before - back - (await one.dispatcher.incident(1)).opened_at_ms) < SECOND
    await one.restart()
    await one.reconcile(fires(DOWN))
    await one.advance(45 * SECOND)
    assert not one.reasons("escalated")
    await one.advance(10 * SECOND)
    assert [who for _, who in one.reasons("escalated")] == ["wang"]
    assert not one.reasons("resolved")


async def test_all_that_an_earlier_clock_wrote_is_written_anew(one: Floor, tmp_path: Path) -> None:
    """A message on its way, an action that was done, a rule's rows, an engine."""
    await one.hear(fires(DOWN), fires(SLOW))
    await one.act(Verb.ACK, request_id="r")
    rows = [InstanceRow("f", "g", "g/A/1", one.now, DOWN, UnknownAlert(SLOW, one.now))]
    await one.dispatcher.remember("f", "g", rows, one.now)
    await one.dispatcher.remember_engine(
        EngineRow("e:1", "http://e:1", "vllm", "", one.now), one.now
    )
    await one.dispatcher.heartbeat(one.now)
    await one.restart(down_ms=-2 * HOUR)
    ahead = "SELECT {0} FROM {1} WHERE {0} > " + str(one.now)
    with closing(sqlite3.connect(tmp_path / "incidents.db")) as read:
        for table, column in (
            ("incidents", "opened_at_ms"),
            ("incident_instances", "since_ms"),
            ("outbox", "next_at_ms"),
            ("rule_instances", "last_eval_ms"),
            ("rule_instances", "active_at_ms"),
            ("request_ids", "at_ms"),
            ("engines", "seen_ms"),
        ):
            assert read.execute(f"SELECT {column} FROM {table}").fetchall(), table
            assert not read.execute(ahead.format(column, table)).fetchall(), (table, column)
        (heard,) = read.execute("SELECT value FROM meta WHERE key = 'last_eval'").fetchone()
        assert int(heard) <= one.now
    (kept,) = one.dispatcher.recovery.saved_instances
    assert kept.unknown_alert is not None and kept.unknown_alert.since_ms < one.now
