"""What was closed long ago is forgotten in slices; what is open never is."""

import asyncio
import sqlite3
from pathlib import Path

from support.alert_events import alert, clears, fires
from support.dispatcher_setup import START_MS, Floor
from support.policies import HOUR, MINUTE, config
from tocsin_alerting.incidents.journal.pruning import SLICE_ROWS, prune_slice
from tocsin_alerting.incidents.journal.sqlite import SqliteJournal

TABLES = ("incidents", "incident_instances", "timers", "outbox", "history", "request_ids")


def opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None)


def counts(path: Path) -> dict[str, int]:
    with opened(path) as connection:
        sql = "SELECT COUNT(*) FROM {}"
        return {name: connection.execute(sql.format(name)).fetchone()[0] for name in TABLES}


async def a_year(path: Path, alerts: int) -> Floor:
    """Two incidents that are closed, one of many alerts, and one that is open."""
    one = await Floor(config(), SqliteJournal(path)).open()
    many = [alert("Slow", "P2", target="a", gpu=str(number)) for number in range(alerts)]
    ended = alert("Down", "P2", target="b")
    await one.hear(*map(fires, [*many, ended, alert("Old", "P2", target="c")]))
    await one.advance(MINUTE)
    await one.hear(*map(clears, [*many, ended]))
    await one.advance(HOUR)
    return one


async def test_all_of_it_goes_and_what_is_open_stays(tmp_path: Path) -> None:
    path = tmp_path / "incidents.db"
    one = await a_year(path, 2 * SLICE_ROWS + 10)
    assert counts(path)["incident_instances"] == 2 * SLICE_ROWS + 12
    assert await one.dispatcher.prune(one.now + HOUR, 0) == 2
    left = counts(path)
    assert (left["incidents"], left["incident_instances"]) == (1, 1)
    with opened(path) as connection:
        for table in ("timers", "outbox", "history"):
            found = connection.execute(f"SELECT DISTINCT incident FROM {table}").fetchall()
            assert {row[0] for row in found} <= {3, 0}, table
    await one.restart()
    assert [i.number for i in await one.dispatcher.incidents()] == [3]
    await one.dispatcher.close(one.now)


async def test_what_is_younger_stays_and_what_is_only_resolved(tmp_path: Path) -> None:
    path = tmp_path / "incidents.db"
    one = await a_year(path, 1)
    before = counts(path)
    assert await one.dispatcher.prune(one.now, 59 * MINUTE + HOUR) == 0
    assert counts(path)["incidents"] == before["incidents"]
    await one.hear(clears(alert("Old", "P2", target="c")))  # it may open again
    assert await one.dispatcher.prune(one.now + HOUR, 0) == 2
    assert counts(path)["incidents"] == 1
    await one.dispatcher.close(one.now)


async def test_a_slice_is_short_and_one_that_is_broken_off_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "incidents.db"
    one = await a_year(path, 25)
    await one.dispatcher.close(one.now)
    with opened(path) as connection:
        slices, incidents, more = 0, 0, True
        while more:
            before = connection.total_changes
            pruned = prune_slice(connection, one.now + HOUR, most=10)
            incidents, more, slices = incidents + pruned.incidents, pruned.more, slices + 1
            assert connection.total_changes - before <= 10 + 2
        assert incidents == 2 and slices > 3
        assert connection.execute("SELECT id FROM incidents").fetchall() == [(3,)]


async def test_pages_are_recorded_between_two_slices(tmp_path: Path) -> None:
    path = tmp_path / "incidents.db"
    one = await a_year(path, 3 * SLICE_ROWS)
    pruning = asyncio.create_task(one.dispatcher.prune(one.now + HOUR, 0))
    await asyncio.sleep(0)
    await one.hear(fires(alert("Down", "P0", target="d")))
    done_before = pruning.done()
    assert await pruning == 2
    assert not done_before
    assert not any(message.not_recorded for _, message in one.arrived)
    await one.dispatcher.close(one.now)


async def test_what_is_of_no_incident_goes_by_its_time(tmp_path: Path) -> None:
    path = tmp_path / "incidents.db"
    one = await a_year(path, 1)
    one.dispatcher.clock_jumped(0, START_MS)
    await one.dispatcher.heartbeat(one.now)
    assert counts(path)["history"] > 0
    await one.dispatcher.prune(one.now + HOUR, 0)
    with opened(path) as connection:
        old = connection.execute("SELECT COUNT(*) FROM history WHERE incident = 0").fetchone()
    assert old == (0,)
    await one.dispatcher.close(one.now)


async def test_one_that_was_superseded_goes_by_when_it_opened(tmp_path: Path) -> None:
    path = tmp_path / "incidents.db"
    one = await a_year(path, 1)
    await one.dispatcher.close(one.now)
    with opened(path) as connection:
        connection.execute("UPDATE incidents SET resolved_at_ms = NULL WHERE id = 1")
        assert prune_slice(connection, START_MS).incidents == 0
        assert prune_slice(connection, START_MS + 1).incidents == 1
