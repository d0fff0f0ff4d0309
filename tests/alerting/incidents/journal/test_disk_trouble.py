"""The disk must not silence the pager: full, read-only, slow or broken, the page goes out."""

import asyncio
import os
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.alert_events import alert, clears, fires, origin, unknown
from support.dispatcher_setup import START_MS, Floor
from support.policies import HOUR, MINUTE, SECOND, config
from tocsin_alerting.incidents.actions import Verb
from tocsin_alerting.incidents.incident import IncidentState
from tocsin_alerting.incidents.journal.protocol import FIRST_OF_TIME
from tocsin_alerting.incidents.journal.sqlite import SqliteJournal, open_incidents
from tocsin_alerting.incidents.numbers import BLIND_NUMBERS
from tocsin_alerting.incidents.routing import GroupBy, IncidentConfig

DOWN = alert("EngineDown", "P0", target="a")
SLOW = alert("Slow", "P1", target="a")
MILD = alert("Warm", "P2", target="a")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB of its own."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small file system")
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)], capture_output=True
    )
    if made.returncode != 0:
        pytest.skip(f"cannot mount a small file system here: {made.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(disk: Path) -> Path:
    """Write until nothing fits any more."""
    ballast = disk / "ballast"
    with ballast.open("ab", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return ballast


async def settle(one: Floor) -> None:
    """Let the background writing of the backlog end."""
    for _ in range(400):
        if not (one.dispatcher.writer.down or one.dispatcher.writer.unwritten):
            return
        await asyncio.sleep(0.005)


async def test_full_from_the_start(small_disk: Path) -> None:
    ballast = fill(small_disk)
    path = small_disk / "incidents.db"
    one = await Floor(config(), SqliteJournal(path)).open()
    assert one.dispatcher.writer.down
    await one.hear(fires(DOWN), fires(MILD))
    assert [(n.receiver, n.not_recorded) for n in one.sent] == [("phone", True), ("chat", True)]
    (number,) = {n.incident for n in one.sent}
    assert number >= FIRST_OF_TIME
    await one.advance(16 * MINUTE)  # escalation goes on from memory; milder ones go late
    assert one.reasons("escalated") == [(15 * MINUTE, "wang")]
    assert (5 * MINUTE + 30 * SECOND, "chat") in one.reasons("opened")
    await one.act(Verb.ACK, number)
    ballast.unlink()
    await one.advance(MINUTE)
    await settle(one)
    assert not one.dispatcher.writer.down, one.dispatcher.writer.last_error
    await one.hear(fires(SLOW))
    await one.advance(MINUTE)
    assert not one.sent[-1].not_recorded
    assert (await one.dispatcher.incident(1)).severity == "P1"  # they are short from now on
    story = await one.dispatcher.timeline(number)
    assert [e.event for e in story.history][:3] == ["opened", "step", "delivered"]
    assert "journal_back" in [e.event for e in await one.journal.history(0)]
    await one.restart()
    incident = await one.dispatcher.incident(number)
    assert (incident.state, incident.owner) == (IncidentState.ACKED, "li")


async def test_full_later(small_disk: Path) -> None:
    path = small_disk / "incidents.db"
    one = await Floor(config(), SqliteJournal(path)).open()
    await one.hear(fires(SLOW))
    await one.advance(MINUTE)
    assert not any(n.not_recorded for n in one.sent)
    ballast = fill(small_disk)
    count = len(one.sent)
    for number in range(40):  # what the file has room for already is soon used up
        await one.hear(fires(alert("EngineDown", "P0", target=f"host-{number}", pad="x" * 4000)))
    unrecorded = [n for n in one.sent[count:] if n.not_recorded]
    assert len(one.sent) - count == 80 and unrecorded
    assert "full" in one.dispatcher.writer.last_error
    ballast.unlink()
    one.journal = SqliteJournal(path)
    await one.dispatcher.due(one.now + 2 * SECOND)
    await settle(one)
    assert not one.dispatcher.writer.down
    saved = await one.journal.load()
    assert len(saved.incidents) == 41


async def test_full_at_a_restart(small_disk: Path) -> None:
    """What was recorded before the disk filled is read, and goes on."""
    path = small_disk / "incidents.db"
    one = await Floor(config(), SqliteJournal(path)).open()
    await one.hear(fires(DOWN))
    fill(small_disk)
    one.journal = SqliteJournal(path)
    await one.restart(down_ms=16 * MINUTE)
    await one.advance(0)
    assert one.reasons("escalated") == [(16 * MINUTE, "wang")]
    assert one.sent[-1].not_recorded


async def test_read_only(tmp_path: Path) -> None:
    path = tmp_path / "incidents.db"
    await (await Floor(config(), SqliteJournal(path)).open()).dispatcher.close(START_MS)

    def read_only(name: str) -> sqlite3.Connection:
        return sqlite3.connect(
            f"file:{name}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
        )

    one = await Floor(config(), SqliteJournal(path, connect=read_only)).open()
    await one.hear(fires(DOWN))
    assert [n.not_recorded for n in one.sent] == [True, True]
    assert "readonly" in one.dispatcher.writer.last_error


class Slow(sqlite3.Connection):
    """A connection whose commits wait for `gate`."""

    gate = threading.Event()

    def execute(self, sql: str, *rest: Any) -> sqlite3.Cursor:
        if sql == "COMMIT":
            self.gate.wait()
        return super().execute(sql, *rest)


def slow_connect(name: str) -> sqlite3.Connection:
    return sqlite3.connect(name, factory=Slow, isolation_level=None, check_same_thread=False)


async def test_slower_than_patience(tmp_path: Path) -> None:
    path = tmp_path / "incidents.db"
    Slow.gate.set()
    one = await Floor(config(), SqliteJournal(path, connect=slow_connect), patience_s=0.05).open()
    Slow.gate.clear()
    try:
        await one.hear(fires(DOWN))
        assert not one.sent
        await one.advance(50)
        assert [n.not_recorded for n in one.sent] == [True, True]
        loop = asyncio.get_running_loop()
        began = loop.time()
        await one.hear(fires(SLOW))  # the second one does not wait again
        await one.advance(16 * MINUTE)
        assert loop.time() - began < 5
        assert one.reasons("escalated") == [(15 * MINUTE + 50, "wang")]
    finally:
        Slow.gate.set()
    await one.advance(MINUTE)
    await settle(one)
    assert not one.dispatcher.writer.down
    count = len(one.sent)
    await one.restart()
    await one.deliver()
    assert len(one.sent) == count  # all of it was recorded, nothing goes out again
    assert len(await one.dispatcher.incidents()) == 2


async def test_an_urgent_page_waits_no_longer_for_a_slow_disk_and_others_do(tmp_path: Path) -> None:
    path = tmp_path / "incidents.db"
    Slow.gate.set()
    one = await Floor(config(), SqliteJournal(path, connect=slow_connect), patience_s=0.15).open()
    Slow.gate.clear()
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        handling = [
            asyncio.create_task(one.dispatcher.handle([fires(what)], one.now))
            for what in (MILD, *(alert("EngineDown", "P0", target=f"t{n}") for n in range(50)))
        ]
        await asyncio.gather(*handling)
        await one.advance(MINUTE)  # the group wait of the mild one
        waited = loop.time() - began
        assert [n.severity for n in one.sent] == ["P0"] * 100
        assert waited < 6, "all of them waited together"
        assert not one.dispatcher.writer.down
        assert all(n.not_recorded for n in one.sent)
    finally:
        Slow.gate.set()
    await settle(one)
    await one.deliver()
    assert (one.sent[-1].severity, one.sent[-1].not_recorded) == ("P2", False)
    saved = await one.journal.load()
    assert len(saved.incidents) == 51


async def test_a_journal_that_hangs_is_down_after_two_seconds(tmp_path: Path) -> None:
    path = tmp_path / "incidents.db"
    Slow.gate.set()
    one = await Floor(config(), SqliteJournal(path, connect=slow_connect), patience_s=0.01).open()
    Slow.gate.clear()
    try:
        await one.hear(fires(DOWN))
        await one.hear(fires(alert("EngineDown", "P0", target="while it hangs")))
        assert not one.dispatcher.writer.down
        while not one.dispatcher.writer.down:
            await asyncio.sleep(0.05)
        assert one.dispatcher.writer.last_error == "journal write took longer than 2 s"
        await one.hear(fires(SLOW))
        await one.advance(MINUTE)
        assert one.reasons("opened")[-1] == (15 * SECOND, "mail")
    finally:
        Slow.gate.set()
    await one.advance(MINUTE)
    await settle(one)
    assert len((await one.journal.load()).incidents) == 3


async def test_what_a_slow_disk_had_not_got_at_the_end_is_written(tmp_path: Path) -> None:
    path = tmp_path / "incidents.db"
    Slow.gate.set()
    one = await Floor(config(), SqliteJournal(path, connect=slow_connect), patience_s=0.05).open()
    Slow.gate.clear()
    await one.hear(fires(DOWN))
    await one.hear(fires(SLOW))
    threading.Timer(0.3, Slow.gate.set).start()
    await one.dispatcher.close(one.now)
    assert len(open_incidents(path)) == 2


async def test_nothing_is_sent_before_it_is_recorded(tmp_path: Path) -> None:
    path = tmp_path / "incidents.db"
    Slow.gate.set()
    one = await Floor(config(), SqliteJournal(path, connect=slow_connect), patience_s=60).open()
    Slow.gate.clear()
    try:
        handling = asyncio.create_task(one.dispatcher.handle([fires(DOWN)], one.now))
        for _ in range(100):  # turns of the loop until it waits for the journal
            await asyncio.sleep(0)
        assert one.dispatcher.working.outbox.waiting() and await one.dispatcher.claim(one.now) == []
    finally:
        Slow.gate.set()
    await handling
    assert len(await one.dispatcher.claim(one.now)) == 2


class Locked:
    """Opens nothing while it is `locked`."""

    def __init__(self) -> None:
        self.locked = True

    def __call__(self, name: str) -> sqlite3.Connection:
        if self.locked:
            raise sqlite3.OperationalError("unable to open database file")
        return sqlite3.connect(name, isolation_level=None, check_same_thread=False)


async def test_a_clock_set_back_does_not_put_off_the_next_try(tmp_path: Path) -> None:
    path, connect = tmp_path / "incidents.db", Locked()
    one = await Floor(config(), SqliteJournal(path, connect=connect)).open()
    one.now -= HOUR
    one.dispatcher.clock_jumped(-HOUR, one.now)
    connect.locked = False
    await one.advance(2 * SECOND)
    await settle(one)
    assert not one.dispatcher.writer.down


async def test_a_journal_that_comes_late_is_taken_up(tmp_path: Path) -> None:
    """Unreadable at the start: the dispatcher pages without it, and learns later what it held."""
    path, connect = tmp_path / "incidents.db", Locked()
    old = await Floor(config(), SqliteJournal(path)).open()
    await old.hear(fires(DOWN), fires(SLOW))
    await old.act(Verb.ACK, 2)
    await old.dispatcher.close(old.now)
    one = await Floor(config(), SqliteJournal(path, connect=connect)).open()
    one.now += MINUTE
    await one.hear(fires(DOWN), fires(MILD))
    assert {n.incident > BLIND_NUMBERS for n in one.sent} == {True}
    assert all(n.not_recorded for n in one.sent)
    await one.reconcile(fires(DOWN), fires(MILD), silent=[origin(SLOW)])
    connect.locked = False
    await one.advance(MINUTE)
    await settle(one)
    assert not one.dispatcher.writer.down, one.dispatcher.writer.last_error
    assert (await one.dispatcher.incident(1)).state is IncidentState.CLOSED  # opened anew meanwhile
    assert (await one.dispatcher.incident(2)).state is IncidentState.RESOLVED  # fires no more
    keys = [n.key for n in one.sent]
    assert len(keys) == len(set(keys))
    entries = [e.seq for n in (0, 1, 2) for e in await one.journal.history(n)]
    assert len(entries) == len(set(entries))
    await one.hear(clears(DOWN), clears(MILD))
    await one.advance(HOUR)
    await one.restart()
    assert not await one.dispatcher.incidents(list(IncidentState)[:4])


async def test_a_journal_that_comes_after_a_whole_incident_is_taken_up(tmp_path: Path) -> None:
    """What was opened and closed without it used to take the numbers of messages in it: the good
    file was set aside, and another one every minute."""
    path, connect = tmp_path / "incidents.db", Locked()
    old = await Floor(config(), SqliteJournal(path)).open()
    await old.hear(fires(DOWN), fires(SLOW))
    await old.act(Verb.ACK, 2)
    await old.dispatcher.close(old.now)
    journal = SqliteJournal(path, connect=connect)
    one = await Floor(config(), journal).open()
    await one.hear(fires(MILD))
    await one.advance(6 * MINUTE)
    await one.hear(clears(MILD))
    await one.advance(2 * HOUR)
    assert not await one.dispatcher.incidents()
    connect.locked = False
    await one.advance(MINUTE)
    await settle(one)
    assert not one.dispatcher.writer.down, one.dispatcher.writer.last_error
    assert journal.set_aside_s is None
    await one.restart()
    assert (await one.dispatcher.incident(2)).owner == "li"
    numbers = [m.id for m in (await one.journal.load()).messages]
    assert len(numbers) == len(set(numbers))


OTHER = alert("EngineDown", "P0", target="a", gpu="1")
REGROUPED = {
    "the same": config(),
    "wider": config(group=GroupBy(("alertname",))),
    "narrower": config(group=GroupBy(("alertname", "target", "gpu"))),
}


async def _blind(path: Path, settings: IncidentConfig, connect: Locked) -> Floor:
    """The last run had two alerts in incident 1; this one hears of the first without the journal,
    and rules have both alerts."""
    old = await Floor(config(), SqliteJournal(path)).open()
    await old.hear(fires(DOWN), fires(OTHER))
    await old.dispatcher.close(old.now)
    one = await Floor(settings, SqliteJournal(path, connect=connect)).open()
    one.dispatcher.recovery.recall = lambda _held, _rows: []
    one.now += MINUTE
    await one.hear(fires(DOWN))
    return one


async def _ends(one: Floor) -> None:
    """Each alert is in one incident, which ends with it."""
    every = await one.dispatcher.incidents()
    assert (await one.dispatcher.incident(1)).state is IncidentState.CLOSED
    assert sorted(name for i in every for name in i.members) == sorted(
        (DOWN.fingerprint, OTHER.fingerprint)
    )
    await one.hear(clears(DOWN), clears(OTHER))
    assert not await one.dispatcher.incidents()
    count = len(one.told)
    await one.advance(26 * HOUR)
    assert len(one.told) == count
    await one.restart()
    assert not await one.dispatcher.incidents(list(IncidentState)[:4])


@pytest.mark.parametrize("grouping", REGROUPED)
async def test_an_alert_in_a_late_journal_stays_where_it_has_fired_anew(
    tmp_path: Path, grouping: str
) -> None:
    """Its incident of the last run has another key since: in both, one fired for ever."""
    connect = Locked()
    one = await _blind(tmp_path / "incidents.db", REGROUPED[grouping], connect)
    connect.locked = False
    await one.advance(MINUTE)
    await settle(one)
    assert not one.dispatcher.writer.down, one.dispatcher.writer.last_error
    await _ends(one)


@pytest.mark.parametrize("grouping", REGROUPED)
async def test_what_happens_before_a_late_journal_is_taken_over_takes_no_alert_away(
    tmp_path: Path, grouping: str
) -> None:
    """It is tried again after a fault; meanwhile the clock is set, and somebody takes it."""
    connect, fault = Locked(), [RuntimeError("a fault of ours")]

    def recall(_held: object, _rows: object) -> list[Any]:
        if fault:
            raise fault.pop()
        return []

    one = await _blind(tmp_path / "incidents.db", REGROUPED[grouping], connect)
    one.dispatcher.recovery.recall = recall
    connect.locked = False
    one.now += 2 * SECOND
    await one.dispatcher.due(one.now)
    while fault:
        await asyncio.sleep(0.005)
    one.now += HOUR
    one.dispatcher.clock_jumped(HOUR, one.now)
    await one.act(Verb.ACK, 1)
    await one.dispatcher.due(one.now)  # as when the loop is woken
    await one.advance(MINUTE)
    await settle(one)
    assert not one.dispatcher.writer.down, one.dispatcher.writer.last_error
    await _ends(one)


async def test_a_late_journal_that_is_taken_over_again_undoes_no_answer(tmp_path: Path) -> None:
    """The first try broke after it was read; somebody acknowledged before the second."""
    path, connect, faults = tmp_path / "incidents.db", Locked(), [RuntimeError("a fault of ours")]

    def recall(_held: object, _rows: object) -> list[Any]:
        if faults:
            raise faults.pop()
        return []

    old = await Floor(config(), SqliteJournal(path)).open()
    await old.hear(fires(DOWN))
    await old.dispatcher.close(old.now)
    one = await Floor(config(), SqliteJournal(path, connect=connect)).open()
    one.dispatcher.recovery.recall = recall
    connect.locked = False
    one.now += 2 * SECOND
    await one.dispatcher.due(one.now)
    while faults:
        await asyncio.sleep(0.005)
    await one.act(Verb.ACK, 1)
    await one.dispatcher.due(one.now)  # as when the loop is woken
    await one.advance(MINUTE)
    await settle(one)
    assert not one.dispatcher.writer.down, one.dispatcher.writer.last_error
    assert (await one.dispatcher.incident(1)).owner == "li"
    history = (await one.dispatcher.timeline(1)).history
    assert [entry.event for entry in history].count("acked") == 1


@pytest.mark.parametrize("step", [HOUR, -10 * MINUTE])
async def test_the_times_of_a_late_journal_are_by_the_clock_that_was_set_meanwhile(
    tmp_path: Path, step: int
) -> None:
    path, connect = tmp_path / "incidents.db", Locked()
    old = await Floor(config(), SqliteJournal(path)).open()
    await old.hear(fires(DOWN))
    await old.dispatcher.close(old.now)
    one = await Floor(config(), SqliteJournal(path, connect=connect)).open()
    one.now += step
    one.dispatcher.clock_jumped(step, one.now)
    one.dispatcher.recovery.recall = lambda _held, _rows: []
    connect.locked = False
    await one.advance(MINUTE)
    await settle(one)
    assert (await one.dispatcher.incident(1)).opened_at_ms == START_MS + step
    await one.advance(15 * MINUTE)
    assert one.reasons("escalated") == [(step + 15 * MINUTE, "wang")]


async def test_what_a_late_journal_has_in_doubt_takes_no_word_from_what_fires_anew(
    tmp_path: Path,
) -> None:
    """Nor is an incident that had resolved closed before its time."""
    path, connect, wider = tmp_path / "incidents.db", Locked(), REGROUPED["wider"]
    old = await Floor(config(), SqliteJournal(path)).open()
    await old.hear(fires(DOWN), fires(SLOW))
    await old.hear(unknown(DOWN), clears(SLOW))
    await old.dispatcher.close(old.now)
    one = await Floor(wider, SqliteJournal(path, connect=connect)).open()
    one.dispatcher.recovery.recall = lambda held, _rows: [
        event for event in held if event.alert != DOWN
    ]
    await one.hear(fires(DOWN), fires(SLOW))
    connect.locked = False
    await one.advance(MINUTE)
    await settle(one)
    states = [(await one.dispatcher.incident(number)).state for number in (1, 2)]
    assert states == [IncidentState.CLOSED, IncidentState.RESOLVED]
    assert {i.source.value for i in await one.dispatcher.incidents()} == {"firing"}
