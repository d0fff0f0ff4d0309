"""The journal on a real disk: what is committed is read back, by another process too."""

import math
import re
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.alert_events import alert, clears, fires
from support.dispatcher_setup import START_MS, Floor
from support.exhausted import no_threads
from support.policies import HOUR, MINUTE, config
from tocsin_alerting.incidents.actions import Verb
from tocsin_alerting.incidents.changeset import Changeset, EngineRow
from tocsin_alerting.incidents.errors import JournalDown, SchemaTooNew
from tocsin_alerting.incidents.incident import IncidentState
from tocsin_alerting.incidents.journal.memory import MemoryJournal
from tocsin_alerting.incidents.journal.protocol import Journal
from tocsin_alerting.incidents.journal.sqlite import SqliteJournal
from tocsin_alerting.rules.instance_journal import InstanceRow
from tocsin_alerting.rules.unknown_alerts import UnknownAlert
from tocsin_exporter.snapshot import Source

DOWN = alert("EngineDown", "P0", target="a", 中="文")
SLOW = alert("Slow", "P1", target="a")
TABLES = {
    "meta", "incidents", "incident_instances", "timers", "outbox", "history", "rule_instances",
    "request_ids", "engines", "external_alerts",
}  # fmt: skip
ONLY_TABLES = " WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
SYNCHRONOUS_FULL = 2


async def a_day(journal: Journal) -> Floor:
    """Some of everything: opened, escalated, acknowledged, resolved, closed, refused."""
    one = await Floor(config(), journal).open()
    await one.hear(fires(DOWN), fires(SLOW))
    await one.advance(16 * MINUTE)
    await one.act(Verb.ACK, request_id="r1", note="looking")
    await one.hear(clears(SLOW))
    await one.advance(HOUR)
    await one.dispatcher.heartbeat(one.now)
    return one


async def test_what_is_committed_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "incidents.db"
    journal = SqliteJournal(path)
    one = await a_day(journal)
    before = one.dispatcher.working
    read = await SqliteJournal(path).load()
    assert {i.number: i for i in read.incidents} == before.incidents
    assert {n: {t.kind: t for t in ts} for n, ts in read.timers.items()} == {
        number: dict(before.schedule.of_incident(number)) for number in before.incidents
    }
    assert list(read.messages) == [
        m for number in (1, 2) for m in before.outbox.of_incident(number)
    ] or {m.key: m for m in read.messages} == {
        m.key: m for n in before.incidents for m in before.outbox.of_incident(n)
    }
    assert read.requests["r1"] == (1, START_MS + 16 * MINUTE)
    assert read.meta["last_eval"] == str(one.now)


async def test_it_remembers_exactly_what_the_one_in_memory_does(tmp_path: Path) -> None:
    on_disk, in_memory = SqliteJournal(tmp_path / "i.db"), MemoryJournal()
    await a_day(on_disk)
    await a_day(in_memory)
    journals: tuple[Journal, Journal] = (on_disk, in_memory)
    first, second = [
        (
            sorted((await j.load()).incidents, key=lambda i: i.number),
            await j.incidents([IncidentState.CLOSED], 10),
            [await j.history(n) for n in (0, 1, 2)],
            [await j.messages(n) for n in (1, 2)],
        )
        for j in journals
    ]
    assert first == second


async def test_the_tables_are_there_for_other_tools(tmp_path: Path) -> None:
    path = tmp_path / "incidents.db"
    await a_day(SqliteJournal(path))
    with sqlite3.connect(path) as other:  # while the journal is open
        names = {name for (name,) in other.execute("SELECT name FROM sqlite_master")}
        assert names >= TABLES
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert other.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone()
        states = dict(other.execute("SELECT id, state FROM incidents"))
        assert states == {1: "TRIGGERED", 2: "CLOSED"}
        contacts = {row for row in other.execute("SELECT channel, contact FROM outbox")}
        assert ("phone", "li") in contacts
    other.close()


async def test_the_page_draws_the_tables_as_a_new_journal_has_them(tmp_path: Path) -> None:
    page = (Path(__file__).parents[4] / "docs" / "incidents.md").read_text()
    drawn = {
        row[1]: {word.strip() for word in re.split(r"[,:;]", row[2])}
        for row in re.finditer(r"^\| `(\w+)` \|[^|]*\|([^|]*)\|$", page, re.MULTILINE)
    }
    path = tmp_path / "incidents.db"
    await SqliteJournal(path).load()
    with sqlite3.connect(path) as other:
        tables = {name for (name,) in other.execute("SELECT name FROM sqlite_master" + ONLY_TABLES)}
        assert drawn.keys() == tables
        for table in tables:
            columns = {row[1] for row in other.execute(f"PRAGMA table_info({table})")}
            assert columns and columns <= drawn[table], (table, columns - drawn[table])
    other.close()


@pytest.mark.parametrize("shared_index", [True, False])
async def test_a_commit_is_on_the_disk_when_it_returns(tmp_path: Path, shared_index: bool) -> None:
    """Every connection waits for the disk with each commit: also one that has the file alone."""
    opened: list[sqlite3.Connection] = []

    class NoSharedIndex(sqlite3.Connection):
        def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
            if sql == "PRAGMA journal_mode = WAL" and len(opened) == 1:
                raise sqlite3.OperationalError("disk I/O error")
            return super().execute(sql, *values)

    def connect(name: str) -> sqlite3.Connection:
        kind = sqlite3.Connection if shared_index else NoSharedIndex
        opened.append(
            sqlite3.connect(name, factory=kind, isolation_level=None, check_same_thread=False)
        )
        return opened[-1]

    journal = SqliteJournal(tmp_path / "incidents.db", connect=connect)
    await journal.commit(Changeset(meta={"last_eval": "1"}))
    assert len(opened) == (1 if shared_index else 2)
    pragmas = ("journal_mode", "synchronous", "locking_mode")
    values = tuple(opened[-1].execute(f"PRAGMA {name}").fetchone()[0] for name in pragmas)
    assert values == ("wal", SYNCHRONOUS_FULL, "normal" if shared_index else "exclusive")
    await journal.close()


async def test_rule_instances_are_kept_and_forgotten(tmp_path: Path) -> None:
    one = await Floor(config(), SqliteJournal(tmp_path / "incidents.db")).open()
    engine = Source("llm", "a:8000")
    unknown_alert = UnknownAlert(SLOW, START_MS, frozenset({engine}), "the source is dead")
    rows = [
        InstanceRow("f.yml", "g", "g/EngineDown/0", START_MS, DOWN, None, frozenset({engine})),
        InstanceRow("f.yml", "g", "g/Slow/0", START_MS, None, unknown_alert),
        InstanceRow(
            "f.yml", "g", "g/Odd/0", START_MS, replace(SLOW, value=math.inf), unknown_alert
        ),
    ]
    nan = InstanceRow("f.yml", "h", "h/Nan/0", START_MS, replace(DOWN, value=math.nan))
    await one.dispatcher.remember("f.yml", "g", rows, one.now)
    await one.dispatcher.remember("f.yml", "h", [nan], one.now)
    await one.restart()
    kept = {row.rule: row for row in one.dispatcher.recovery.saved_instances}
    read = kept.pop("h/Nan/0").alert
    assert read is not None and math.isnan(read.value)
    assert list(kept.values()) == rows
    await one.dispatcher.remember("f.yml", "g", rows[:1], one.now)
    await one.dispatcher.remember("f.yml", "h", [], one.now)
    await one.restart()
    assert list(one.dispatcher.recovery.saved_instances) == rows[:1]


async def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "incidents.db"
    await a_day(SqliteJournal(path))
    with sqlite3.connect(path) as other:
        other.execute("UPDATE meta SET value = '99' WHERE key = 'schema_version'")
    other.close()
    with pytest.raises(SchemaTooNew, match=r"incidents.db.*schema 99.*supports [0-9]+"):
        await Floor(config(), SqliteJournal(path)).open()


async def test_what_is_no_database_is_said_to_be_none(tmp_path: Path) -> None:
    path = tmp_path / "incidents.db"
    path.write_bytes(b"certainly not a database" * 100)
    with pytest.raises(JournalDown, match="not a database") as caught:
        await SqliteJournal(path).load()
    assert not caught.value.blank
    with pytest.raises(JournalDown) as caught:
        await SqliteJournal(tmp_path / "no" / "such" / "folder.db").load()
    assert caught.value.blank


async def test_writing_a_batch_twice_is_writing_it_once(tmp_path: Path) -> None:
    seen: list[Changeset] = []

    class Spy(MemoryJournal):
        async def commit(self, changeset: Changeset) -> None:
            seen.append(changeset)
            await super().commit(changeset)

    await a_day(Spy())
    once, twice = SqliteJournal(tmp_path / "1.db"), SqliteJournal(tmp_path / "2.db")
    for changeset in seen:
        await once.commit(changeset)
        await twice.commit(changeset)
        await twice.commit(changeset)
    assert (await once.load()) == (await twice.load())
    assert (await once.history(1)) == (await twice.history(1))


async def test_a_batch_is_all_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "incidents.db"

    def crash(point: str) -> None:
        if point == "before commit" and armed:
            raise sqlite3.OperationalError("disk I/O error")

    armed = False
    journal = SqliteJournal(path, at=crash)
    one = await Floor(config(), journal).open()
    armed = True
    await one.hear(fires(DOWN))
    assert one.dispatcher.writer.down and "disk I/O error" in one.dispatcher.writer.last_error
    assert [n.not_recorded for n in one.sent] == [True, True]
    with sqlite3.connect(path) as other:
        for table in ("incidents", "timers", "outbox", "incident_instances"):
            assert other.execute(f"SELECT COUNT(*) FROM {table}").fetchone() == (0,)
    other.close()


async def test_a_fault_of_ours_in_the_journal_is_no_end_of_paging(tmp_path: Path) -> None:
    def fault(point: str) -> None:
        if point == "before commit" and armed:
            raise TypeError("a row that cannot be")

    armed = False
    one = await Floor(config(), SqliteJournal(tmp_path / "incidents.db", at=fault)).open()
    armed = True
    await one.hear(fires(DOWN))
    assert [n.not_recorded for n in one.sent] == [True, True]
    assert "a row that cannot be" in one.dispatcher.writer.last_error


async def test_pruning_keeps_what_is_open(tmp_path: Path) -> None:
    one = await a_day(SqliteJournal(tmp_path / "incidents.db"))
    assert await one.dispatcher.prune(one.now + HOUR, 0) == 1
    with pytest.raises(Exception, match="no incident #2"):
        await one.dispatcher.incident(2)
    await one.restart()
    assert [i.number for i in await one.dispatcher.incidents()] == [1]
    assert one.dispatcher.working.numbers.give(one.now) == 5001  # it was killed


@pytest.mark.parametrize("kind", [SqliteJournal, lambda _: MemoryJournal()])
async def test_engines_are_kept_until_they_are_forgotten(
    tmp_path: Path, kind: Callable[[Path], Journal]
) -> None:
    journal = kind(tmp_path / "incidents.db")
    here, gone = EngineRow("h:1", "http://h:1", "vLLM", "m", 5), EngineRow("h:2", "http://h:2", "x")
    await journal.commit(Changeset(engines={"h:1": here, "h:2": gone}))
    await journal.commit(Changeset(engines={"h:2": None}))
    moved = replace(here, model="n", seen_ms=6)
    await journal.commit(Changeset(engines={"h:1": moved}))
    assert (await journal.load()).engines == (moved,)


async def test_a_file_of_the_same_version_without_engines_gets_the_table(tmp_path: Path) -> None:
    """An older version that finds the table reads the file as ever: the version is the same."""
    path = tmp_path / "incidents.db"
    await a_day(SqliteJournal(path))
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE engines")
    read = await SqliteJournal(path).load()
    assert read.engines == () and len(read.incidents) > 0
    await SqliteJournal(path).commit(
        Changeset(engines={"h:1": EngineRow("h:1", "http://h:1", "x")})
    )
    assert len((await SqliteJournal(path).load()).engines) == 1


@pytest.mark.parametrize("writable", [True, False])
async def test_a_file_of_the_same_version_that_counts_no_refusals_and_knows_no_deadline(
    tmp_path: Path, writable: bool
) -> None:
    """Such a column is added, or read as none from a disk that takes no writes."""
    path = tmp_path / "incidents.db"
    await a_day(SqliteJournal(path))
    before = await SqliteJournal(path).load()
    with sqlite3.connect(path) as connection:
        for column in ("refusals", "deliver_by_ms", "late"):
            connection.execute(f"ALTER TABLE outbox DROP COLUMN {column}")

    def read_only(name: str) -> sqlite3.Connection:
        address = f"file:{name}?mode=ro"
        return sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False)

    journal = SqliteJournal(path, connect=None if writable else read_only)
    read = await journal.load()
    assert read.messages == before.messages and read.messages
    if writable:
        refused = replace(read.messages[0], refusals=3, deliver_by_ms=7, late=True)
        await journal.commit(Changeset(messages={refused.key: refused}))
        assert refused in (await SqliteJournal(path).load()).messages


async def test_of_a_message_that_moved_on_only_the_state_is_written(tmp_path: Path) -> None:
    path = tmp_path / "incidents.db"
    journal = SqliteJournal(path)
    await a_day(journal)
    before = (await journal.load()).messages[0]
    later = replace(before, attempts=7, notification=replace(before.notification, title="other"))
    await journal.commit(Changeset(messages={later.key: later}, state_only={later.key}))
    (read,) = [one for one in (await journal.load()).messages if one.key == before.key]
    assert (read.attempts, read.notification) == (7, before.notification)
    await journal.commit(Changeset(messages={later.key: later}))
    assert later in (await journal.load()).messages


def _instances(names: Iterable[int], seen_ms: int) -> tuple[InstanceRow, ...]:
    sources = frozenset({Source("job", "a"), Source("job", "b")})
    alerts = (alert("Hot", n=str(number)) for number in names)
    return tuple(InstanceRow("f", "g", "g/Hot/1", seen_ms, one, None, sources) for one in alerts)


async def _parts(journal: SqliteJournal, changeset: Changeset, most: int, failing: int) -> None:
    """As the recorder writes; the attempt number `failing` breaks before it has begun."""
    count = 0
    while changeset:
        part, changeset = changeset.split(most)
        count += 1
        if count == failing:
            part.merge(changeset)
            changeset = part
        else:
            await journal.commit(part)
            assert len(part.begun) <= 1 and (part.begun or not changeset)


@pytest.mark.parametrize("failing", range(1, 8))
async def test_the_rows_of_a_group_in_parts_are_those_of_one_transaction(
    tmp_path: Path, failing: int
) -> None:
    """A crash in between finds the rows of before, of now, or both; at the end what is gone is."""
    path = tmp_path / "incidents.db"
    journal = SqliteJournal(path)
    before, now = _instances(range(20), 1), _instances(range(5, 30), 2)
    other = (InstanceRow("f", "h", "h/Cold/1", 1, alert("Cold")),)
    await journal.commit(Changeset(instances={("f", "g"): before, ("f", "h"): other}))
    crashed = SqliteJournal(tmp_path / "crashed.db")
    await crashed.commit(Changeset(instances={("f", "g"): before}))
    first, _ = Changeset(instances={("f", "g"): now}).split(6)
    await crashed.commit(first)
    left = {one.fingerprint: one.seen_ms for one in (await crashed.load()).instances}
    assert left == {one.fingerprint: one.seen_ms for one in (*before, *now[:6])}
    changeset = Changeset(instances={("f", "g"): now}, meta={"last_eval": "7"})
    await _parts(journal, changeset, 6, failing)
    saved = await SqliteJournal(path).load()
    assert sorted(saved.instances, key=_key) == sorted((*now, *other), key=_key)
    assert saved.meta["last_eval"] == "7"


async def test_a_newer_set_of_rows_begins_anew(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "incidents.db")
    first, rest = Changeset(instances={("f", "g"): _instances(range(20), 1)}).split(6)
    await journal.commit(first)
    newer = _instances(range(10, 15), 2)
    rest.merge(Changeset(instances={("f", "g"): newer}))
    await _parts(journal, rest, 6, 0)
    assert sorted((await journal.load()).instances, key=_key) == sorted(newer, key=_key)


def _key(row: InstanceRow) -> tuple[str, str]:
    return row.rule, row.fingerprint


async def test_rows_that_are_gone_before_they_were_written_stay_gone(tmp_path: Path) -> None:
    """Those of the first part, which failed, came back with the rows that took their place."""
    journal = SqliteJournal(tmp_path / "incidents.db")
    first, rest = Changeset(instances={("f", "g"): _instances(range(20), 1)}).split(6)
    first.merge(rest)
    newer = _instances(range(10, 13), 2)
    first.merge(Changeset(instances={("f", "g"): newer}))
    await _parts(journal, first, 6, 0)
    assert sorted((await journal.load()).instances, key=_key) == sorted(newer, key=_key)


async def test_what_utf8_cannot_say_costs_one_letter(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "incidents.db")
    odd = InstanceRow("caf\udce9.yml", "g", "g/Hot/1", 1, alert("Hot", model="m\ud800"))
    well = InstanceRow("f", "g", "g/Cold/1", 1, alert("Cold"))
    await journal.commit(Changeset(instances={("caf\udce9.yml", "g"): (odd,), ("f", "g"): (well,)}))
    kept = {row.file: row.alert for row in (await journal.load()).instances}
    assert kept["f"] == well.alert and (there := kept["caf?.yml"]) is not None
    assert dict(there.labels)["model"] == "m?"


async def test_a_journal_without_its_thread_is_down_and_comes_back(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "incidents.db")
    with no_threads(), pytest.raises(JournalDown, match="can't start new thread"):
        await journal.load()
    assert (await journal.load()).incidents == ()
    await journal.close()
