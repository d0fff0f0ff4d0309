"""A journal that is damaged is said, set aside and begun anew; what memory knows goes into it."""

import contextlib
import logging
import os
import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.alert_events import alert, clears, fires
from support.dispatcher_setup import START_MS, Floor
from support.policies import HOUR, MINUTE, SECOND, config
from tocsin_alerting.incidents.actions import Verb
from tocsin_alerting.incidents.changeset import Changeset, EngineRow
from tocsin_alerting.incidents.errors import JournalDown, JournalReplaced, SchemaTooNew
from tocsin_alerting.incidents.incident import IncidentState
from tocsin_alerting.incidents.journal.broken_file import is_broken, set_aside, times_set_aside
from tocsin_alerting.incidents.journal.sqlite import SqliteJournal, open_incidents
from tocsin_alerting.incidents.numbers import BLIND_NUMBERS
from tocsin_alerting.local.data_lock import DataLock, DirectoryInUse, lock_directory
from tocsin_alerting.rules.instance_journal import InstanceRow

DOWN, SLOW = alert("EngineDown", "P0", target="a"), alert("Slow", "P1", target="a")
MARK = "incidents.db.broken-20251231T"


def wall() -> float:
    return START_MS / 1000 - 60


def set_aside_in(folder: Path) -> list[str]:
    return [one.name for one in folder.iterdir() if re.search(r"\.broken-\w+Z$", one.name)]


async def filled(path: Path) -> None:
    """A journal with one incident, and pages enough to be torn."""
    one = await Floor(config(), SqliteJournal(path)).open()
    for number in range(40):
        await one.hear(fires(alert("EngineDown", "P0", target=f"t{number}", pad="x" * 3000)))
    await one.dispatcher.close(one.now)


def garbage_header(path: Path) -> None:
    path.write_bytes(b"certainly not a database" + path.read_bytes()[24:])


def torn_pages(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for start in range(4096, len(data), 4096):
        data[start : start + 512] = os.urandom(512)
    path.write_bytes(data)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3 + 100])


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def without_a_table(path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("DROP TABLE timers")
    other.close()


def odd_row(path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("UPDATE incidents SET data_json = '{' WHERE id = 7")
    other.close()


def odd_timer(path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("UPDATE timers SET due_at_ms = 'soon' WHERE incident = 7")
    other.close()


def of_another_database(path: Path) -> None:
    """Its own pages, and the WAL of another one."""
    elsewhere = path.with_name("other.db")
    other = sqlite3.connect(elsewhere, isolation_level=None)
    other.execute("PRAGMA journal_mode = WAL")
    other.execute("CREATE TABLE a (b)")
    other.executemany("INSERT INTO a VALUES (?)", [("x" * 5000,)] * 40)
    shutil.copy(f"{elsewhere}-wal", f"{path}-wal")
    other.close()
    elsewhere.unlink()


def deleted(path: Path) -> None:
    for ending in ("", "-wal", "-shm"):
        path.with_name(path.name + ending).unlink()


DAMAGES = (
    garbage_header,
    torn_pages,
    truncated,
    directory,
    without_a_table,
    odd_row,
    odd_timer,
    of_another_database,
)


@pytest.mark.parametrize("damage", DAMAGES)
async def test_it_is_set_aside_and_a_new_one_takes_what_happens(
    tmp_path: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "incidents.db"
    await filled(path)
    damage(path)
    caplog.clear()
    journal = SqliteJournal(path, wall=wall)
    one = await Floor(config(), journal).open()
    await one.hear(fires(DOWN))
    for _ in range(3):  # what is damaged may turn up with the first transaction
        await one.advance(2 * SECOND)
        if one.dispatcher._reconnecting is not None:
            await one.dispatcher._reconnecting
    await one.hear(fires(SLOW))
    await one.advance(MINUTE)
    assert not one.sent[-1].not_recorded
    (said,) = [one for one in caplog.records if one.levelno == logging.ERROR and "aside" in one.msg]
    assert str(path) in said.getMessage() and MARK in said.getMessage()
    assert journal.set_aside_s == wall()
    assert [one.startswith(MARK) for one in set_aside_in(tmp_path)] == [True]
    assert "journal_replaced" in [e.event for e in await journal.history(0)]
    await one.dispatcher.close(one.now)
    assert len(open_incidents(path)) == 2
    assert {i.number > BLIND_NUMBERS for i in open_incidents(path)} == {True}
    again = SqliteJournal(path, wall=wall)
    await again.load()
    assert again.set_aside_s == float(round(wall()))


async def test_what_breaks_while_it_runs_loses_nothing_that_memory_knows(tmp_path: Path) -> None:
    path = tmp_path / "incidents.db"
    broken = False

    class Breaking(sqlite3.Connection):
        def execute(self, sql: str, *rest: Any) -> sqlite3.Cursor:
            if broken and sql.startswith("BEGIN"):
                error = sqlite3.DatabaseError("database disk image is malformed")
                error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
                raise error
            return super().execute(sql, *rest)

    def connect(name: str) -> sqlite3.Connection:
        nonlocal broken
        broken = False
        return sqlite3.connect(
            name, factory=Breaking, isolation_level=None, check_same_thread=False
        )

    journal = SqliteJournal(path, connect=connect, wall=wall)
    one = await Floor(config(), journal).open()
    row = InstanceRow("f.yml", "g", "g/A/1", 5, DOWN)
    await one.dispatcher.remember("f.yml", "g", [row], one.now)
    await one.dispatcher.remember_engine(EngineRow("h:1", "http://h:1", "vLLM", "m", 5), one.now)
    await one.hear(fires(DOWN))
    await one.act(Verb.ACK, request_id="once")
    broken = True
    await one.hear(fires(SLOW))  # finds it broken
    await one.hear(fires(alert("EngineDown", "P0", target="b")))
    await one.advance(2 * SECOND)
    assert one.dispatcher._reconnecting is not None
    await one.dispatcher._reconnecting
    assert not one.dispatcher.writer.down, one.dispatcher.writer.last_error
    saved = await journal.load()
    assert [(i.number, i.owner) for i in saved.incidents] == [(1, "li"), (2, ""), (3, "")]
    assert set(saved.timers) >= {1, 2, 3} and saved.incidents[0].members
    assert (saved.instances, [e.target for e in saved.engines]) == ((row,), ["h:1"])
    assert "once" in saved.requests and saved.meta["clean_shutdown"] == "0"
    assert {m.notification.incident for m in saved.messages} == {1, 3}  # the other waits
    assert [e.event for e in await journal.history(2)] == ["opened"]  # after it broke
    count = len(one.sent)
    await one.restart()
    await one.deliver()
    assert len(one.sent) == count
    assert (await one.dispatcher.incident(1)).owner == "li"


@pytest.mark.parametrize("damage", [torn_pages, deleted])
async def test_whoever_finds_it_broken_with_a_question_does_not_lose_the_rest(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    """What is written next must not be a part of what is known."""
    path = tmp_path / "incidents.db"
    journal = SqliteJournal(path, wall=wall)
    one = await Floor(config(), journal).open()
    await one.hear(fires(DOWN))
    if damage is torn_pages:
        await journal.close()
    damage(path)
    with pytest.raises(JournalDown):
        await journal.history(1)
    with pytest.raises(JournalReplaced):
        await journal.commit(Changeset(meta={"a": "b"}))
    await one.hear(fires(SLOW))
    await one.advance(2 * SECOND)
    if one.dispatcher._reconnecting is not None:
        await one.dispatcher._reconnecting
    assert len((await journal.load()).incidents) == 2


def deleted_alone(path: Path) -> None:
    path.unlink()


def replaced_by_another(path: Path) -> None:
    deleted(path)
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE a (b)")
    other.close()


def restored(path: Path) -> None:
    """An older copy is put back under a running agent."""
    with sqlite3.connect(path) as live, sqlite3.connect(path.with_name("copy.db")) as copy:
        live.backup(copy)
    live.close()
    copy.close()
    deleted(path)
    path.with_name("copy.db").rename(path)


def cut_to_nothing(path: Path) -> None:
    os.truncate(path, 0)


def cut_wal(path: Path) -> None:
    os.truncate(f"{path}-wal", 0)


@pytest.mark.parametrize(
    "remove",
    [
        *(deleted, deleted_alone, replaced_by_another, restored, cut_to_nothing, cut_wal),
    ],
)
async def test_one_that_is_deleted_while_it_runs_is_written_anew(
    tmp_path: Path, remove: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "incidents.db"
    journal = SqliteJournal(path, wall=wall)
    one = await Floor(config(), journal).open()
    await one.hear(fires(DOWN))
    await one.act(Verb.ACK)
    await one.hear(fires(SLOW))
    await one.advance(MINUTE)
    await one.act(Verb.RESOLVE, 2)
    caplog.clear()
    remove(path)
    await one.dispatcher.heartbeat(one.now)
    await one.advance(2 * SECOND)
    if one.dispatcher._reconnecting is not None:
        await one.dispatcher._reconnecting
    assert not one.dispatcher.writer.down, one.dispatcher.writer.last_error
    words = "deleted or replaced|truncated"
    said = [r for r in caplog.records if re.search(words, r.getMessage())]
    assert said and str(path) in said[0].getMessage()
    assert journal.set_aside_s == wall()
    assert "journal_replaced" in [e.event for e in await journal.history(0)]
    await one.hear(fires(alert("EngineDown", "P0", target="b")))
    assert not one.sent[-1].not_recorded
    keys = {n.key for n in one.sent}
    one.journal = SqliteJournal(path)
    await one.restart()  # as after kill -9
    assert (await one.dispatcher.incident(1)).owner == "li"
    await one.hear(fires(alert("EngineDown", "P0", target="c")))
    assert one.sent[-1].incident not in {1, 2, 3} and one.sent[-1].key not in keys


async def test_numbers_of_closed_incidents_are_not_given_again(tmp_path: Path) -> None:
    path = tmp_path / "incidents.db"
    one = await Floor(config(), SqliteJournal(path, wall=wall)).open()
    await one.hear(fires(DOWN))
    await one.hear(clears(DOWN))
    await one.advance(2 * HOUR)
    assert one.dispatcher.working.incidents == {}  # it is closed
    numbers = []
    for remove in (deleted, None):
        if remove is None:
            await one.dispatcher.prune(one.now + HOUR, 0)
        else:
            remove(path)
        await one.dispatcher.heartbeat(one.now)
        await one.advance(2 * SECOND)
        if one.dispatcher._reconnecting is not None:
            await one.dispatcher._reconnecting
        one.journal = SqliteJournal(path, wall=wall)
        await one.restart()
        numbers.append(one.dispatcher.working.numbers.give(one.now))
    assert numbers == [5001, 10_001]  # killed, twice


async def test_what_was_in_a_wal_that_is_deleted_alone_is_not_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "incidents.db"
    one = await Floor(config(), SqliteJournal(path, wall=wall)).open()
    await one.hear(fires(DOWN))
    await one.act(Verb.RESOLVE)
    path.with_name("incidents.db-wal").unlink()
    await one.hear(fires(SLOW))
    assert not one.dispatcher.writer.down
    assert "journal file deleted" in caplog.text and "incidents.db-wal" in caplog.text
    assert set_aside_in(tmp_path) == []
    one.journal = SqliteJournal(path)
    await one.restart()  # as after kill -9
    numbers = [i.number for i in await one.dispatcher.incidents(tuple(IncidentState))]
    assert numbers == [2, 1] and (await one.dispatcher.timeline(1)).history


async def test_a_folder_that_is_gone_is_not_asked_all_the_time(tmp_path: Path) -> None:
    path = tmp_path / "data" / "incidents.db"
    path.parent.mkdir()
    one = await Floor(config(), SqliteJournal(path, wall=wall)).open()
    shutil.rmtree(path.parent)
    await one.hear(fires(DOWN))
    assert one.sent[-1].not_recorded
    for _ in range(20):
        await one.advance(SECOND)
        await one.dispatcher.due(one.now)
        if one.dispatcher._reconnecting is not None:
            await one.dispatcher._reconnecting
    assert one.dispatcher.writer.retry_at_ms - one.now >= 2 * SECOND
    path.parent.mkdir()
    await one.advance(MINUTE)
    await one.dispatcher.due(one.now)
    if one.dispatcher._reconnecting is not None:
        await one.dispatcher._reconnecting
    assert not one.dispatcher.writer.down and len(open_incidents(path)) == 1


async def test_odd_rows_that_cost_nobody_an_incident_cost_no_start(tmp_path: Path) -> None:
    path = tmp_path / "incidents.db"
    await filled(path)
    with sqlite3.connect(path) as other:
        other.execute("INSERT OR REPLACE INTO meta VALUES ('last_eval', 'soon')")
        other.execute("INSERT INTO engines VALUES ('a:1', 'http://[::1', 'vLLM', 'm', 5)")
        other.execute("INSERT INTO engines VALUES ('b:1', 'http://b:1', 'vLLM', 'm', 'now')")
        other.execute("INSERT INTO engines VALUES ('c:1', 'http://c:1', 'vLLM', 'm', 5)")
    other.close()
    one = await Floor(config(), SqliteJournal(path)).open()
    assert [row.target for row in one.dispatcher.recovery.saved_engines] == ["c:1"]
    assert (
        not one.dispatcher.recovery.journal_is_new and len(one.dispatcher.working.incidents) == 40
    )
    assert set_aside_in(tmp_path) == []


async def test_one_that_breaks_again_at_once_is_not_set_aside_again_and_again(
    tmp_path: Path,
) -> None:
    path, now = tmp_path / "incidents.db", [wall()]
    journal = SqliteJournal(path, wall=lambda: now[0])
    await journal.load()
    for seconds, files in ((0, 1), (1, 1), (58, 1), (1, 2), (-600, 3)):
        now[0] += seconds
        await journal.close()
        garbage_header(path)
        with pytest.raises(JournalDown):
            await journal.load()
        assert len(set_aside_in(tmp_path)) == files
        with contextlib.suppress(JournalDown):
            await journal.load()


async def test_a_newer_schema_is_refused_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "incidents.db"
    await filled(path)
    with sqlite3.connect(path) as other:
        other.execute("UPDATE meta SET value = '99' WHERE key = 'schema_version'")
    other.close()
    with pytest.raises(SchemaTooNew, match="written by a newer Tocsin"):
        await Floor(config(), SqliteJournal(path)).open()
    assert set_aside_in(tmp_path) == []


def code(number: int) -> sqlite3.Error:
    error = sqlite3.OperationalError("it fails")
    error.sqlite_errorcode = number
    return error


@pytest.mark.parametrize(
    "number",
    [sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_BUSY]
    + [sqlite3.SQLITE_IOERR_SHORT_READ, sqlite3.SQLITE_CANTOPEN],
)
def test_what_may_come_back_stays(tmp_path: Path, number: int) -> None:
    path = tmp_path / "incidents.db"
    path.write_bytes(b"x")
    assert not is_broken(path, code(number), opened=False, reading=True)
    assert not is_broken(tmp_path / "no" / "such.db", code(number), opened=False, reading=True)


def test_a_fault_of_ours_while_writing_is_no_damage(tmp_path: Path) -> None:
    assert not is_broken(tmp_path / "i.db", TypeError("a row"), opened=True, reading=False)
    assert is_broken(tmp_path / "i.db", TypeError("a row"), opened=True, reading=True)
    assert is_broken(tmp_path / "i.db", code(sqlite3.SQLITE_CORRUPT | 2 << 8), True, False)


def test_two_in_one_second_have_two_names(tmp_path: Path) -> None:
    path = tmp_path / "incidents.db"
    assert list(times_set_aside(path)) == []
    for _ in range(2):
        for ending in ("", "-wal", "-shm"):
            path.with_name(path.name + ending).write_text("x")
        set_aside(path, HOUR / 1000)
    assert {one.name for one in tmp_path.iterdir()} == {
        f"incidents.db.broken-19700101T010000Z{number}{ending}"
        for number in ("", "-2")
        for ending in ("", "-shm", "-wal")
    }
    (tmp_path / "incidents.db.broken-by-hand").write_text("")
    assert set(times_set_aside(path)) == {3600.0}


@pytest.mark.parametrize("command", ["VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"])
async def test_what_an_operator_tidies_up_is_no_damage(tmp_path: Path, command: str) -> None:
    path = tmp_path / "incidents.db"
    await filled(path)
    journal = SqliteJournal(path, wall=wall)
    one = await Floor(config(), journal).open()
    await one.hear(fires(SLOW))
    await journal.prune(one.now + HOUR)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute(command)
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    await one.hear(clears(SLOW))
    await one.advance(MINUTE)
    assert journal.set_aside_s is None and not one.dispatcher.writer.down


async def test_a_directory_that_another_agent_has_by_now_is_left_to_it(tmp_path: Path) -> None:
    """The journal went into its folder, and its own was set aside."""
    path = tmp_path / "data" / "incidents.db"
    held = DataLock(path.parent)
    held.acquire()
    journal = SqliteJournal(path, wall=wall, hold=held.keep)
    one = await Floor(config(), journal).open()
    await one.hear(fires(DOWN))
    path.parent.rename(tmp_path / "gone")
    theirs = lock_directory(path.parent)
    path.write_text("of the other agent")
    await one.hear(fires(SLOW))
    await one.advance(MINUTE)
    assert "data is locked by" in one.dispatcher.writer.last_error
    assert path.read_text() == "of the other agent" and journal.set_aside_s is None
    assert [n.not_recorded for n in one.sent if n.incident == 2] == [True, True]
    os.close(theirs)
    shutil.rmtree(path.parent)
    await one.advance(2 * MINUTE)
    if one.dispatcher._reconnecting is not None:
        await one.dispatcher._reconnecting
    assert not one.dispatcher.writer.down, one.dispatcher.writer.last_error
    with pytest.raises(DirectoryInUse):
        lock_directory(path.parent)
    assert len((await journal.load()).incidents) == 2
