"""Heartbeats that others owe us: when one is missing, and what a restart knows of it."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from support.dispatcher_setup import START_MS, Floor
from support.policies import HOUR, MINUTE, SECOND, config
from tocsin_alerting.incidents.actions import Verb
from tocsin_alerting.incidents.changeset import Changeset, HistoryEntry
from tocsin_alerting.incidents.errors import HeartbeatConflict, JournalDown, NoSuchHeartbeat
from tocsin_alerting.incidents.heartbeats import ExpectedHeartbeat, HeartbeatRow, HeartbeatState
from tocsin_alerting.incidents.incident import Incident, IncidentState
from tocsin_alerting.incidents.journal.memory import MemoryJournal
from tocsin_alerting.incidents.journal.protocol import JournalState
from tocsin_alerting.incidents.journal.sqlite import SqliteJournal
from tocsin_alerting.incidents.routing import GroupBy
from tocsin_alerting.rules.severity import Severity

BACKUP = ExpectedHeartbeat("backup", HOUR, 5 * MINUTE, Severity.P0, (("team", "storage"),))
LIMIT = HOUR + 5 * MINUTE


class FailingJournal(MemoryJournal):
    """One that can be neither read nor written while it is `failing`."""

    failing = False

    async def load(self) -> JournalState:
        self._check()
        return await super().load()

    async def commit(self, changeset: Changeset) -> None:
        self._check()
        await super().commit(changeset)

    def _check(self) -> None:
        if self.failing:
            raise JournalDown("disk on fire")


async def floor(*expected: ExpectedHeartbeat, journal: Any = None) -> Floor:
    return await Floor(config(heartbeats=expected), journal).open()


async def beat(one: Floor, name: str = "backup") -> None:
    await one.dispatcher.heartbeats.beat(name, one.now)
    await one.deliver()


async def journal_is_back(one: Floor) -> None:
    for _ in range(200):
        await one.advance(SECOND)
        await asyncio.sleep(0)


async def incidents(one: Floor) -> list[Incident]:
    return sorted(await one.dispatcher.incidents(tuple(IncidentState)), key=lambda i: i.number)


def state(one: Floor, name: str = "backup") -> HeartbeatState:
    known = one.dispatcher.working.heartbeats
    expected = known.get(name)
    assert expected is not None
    return known.state(expected, one.now)


async def test_one_that_falls_silent_pages_by_its_policy_and_its_end_is_told() -> None:
    one = await floor(BACKUP)
    await beat(one)
    await one.advance(LIMIT - 1)
    assert one.told == [] and state(one) is HeartbeatState.LATE
    await one.advance(1)
    assert one.told == [(LIMIT, "opened", "li"), (LIMIT, "opened", "chat")]
    (incident,) = await incidents(one)
    (member,) = incident.active
    assert dict(member.alert.labels) == {
        "alertname": "HeartbeatMissing",
        "heartbeat": "backup",
        "instance": "backup",
        "severity": "P0",
        "team": "storage",
    }
    assert dict(member.alert.annotations) == {
        "summary": 'Heartbeat "backup" is missing',
        "description": "It is expected every 1h, with 5m of grace, and came last"
        " 2026-01-01T00:00:00.000Z.",
        "runbook_url": "http://127.0.0.1:4911/runbooks/HeartbeatMissing",
    }
    assert member.alert.active_at_ms == START_MS + HOUR
    assert state(one) is HeartbeatState.MISSING
    await one.advance(MINUTE)
    await beat(one)
    assert sorted(one.reasons("resolved")) == [(LIMIT + MINUTE, "chat"), (LIMIT + MINUTE, "li")]
    assert state(one) is HeartbeatState.OK
    await one.advance(LIMIT)  # and once more
    assert [at for at, _ in one.reasons("opened")] == 2 * [LIMIT] + 2 * [2 * LIMIT + MINUTE]


async def test_it_is_told_once_however_long_it_stays_away() -> None:
    one = await floor(BACKUP)
    await beat(one)
    await one.advance(LIMIT)
    await one.act(Verb.ACK)
    await one.advance(10 * HOUR)
    assert len(await incidents(one)) == 1


async def test_one_that_comes_in_time_is_never_missing() -> None:
    one = await floor(BACKUP)
    for _ in range(5):
        await beat(one)
        assert state(one) is HeartbeatState.OK
        await one.advance(LIMIT - SECOND)
    assert await incidents(one) == []


async def test_one_that_was_never_seen_pages_nobody_and_says_so() -> None:
    one = await floor(BACKUP)
    await one.advance(48 * HOUR)
    assert state(one) is HeartbeatState.NEVER_SEEN and await incidents(one) == []


async def test_labels_of_ours_cannot_be_changed_and_an_instance_can() -> None:
    labels = (("alertname", "X"), ("instance", "gpu7"), ("severity", "none"))
    alert = ExpectedHeartbeat("a", HOUR, labels=labels).alert(START_MS, START_MS)
    assert dict(alert.labels) == {
        "alertname": "HeartbeatMissing",
        "heartbeat": "a",
        "instance": "gpu7",
        "severity": "P2",
    }


async def test_each_heartbeat_has_an_incident_of_its_own() -> None:
    one = await Floor(
        config(
            heartbeats=(BACKUP, ExpectedHeartbeat("cron", HOUR, 5 * MINUTE, Severity.P1)),
            group=GroupBy(),
        )
    ).open()
    await beat(one)
    await beat(one, "cron")
    await one.advance(LIMIT)
    assert [incident.severity for incident in await incidents(one)] == ["P0", "P1"]


# restarts


async def test_a_restart_opens_no_false_one_and_the_time_counts_from_it(tmp_path: Path) -> None:
    one = await floor(BACKUP, journal=SqliteJournal(tmp_path / "incidents.db"))
    await beat(one)
    await one.advance(MINUTE)
    await one.restart(down_ms=5 * HOUR)
    assert state(one) is HeartbeatState.OK
    await one.advance(LIMIT - 1)
    assert await incidents(one) == []
    await one.advance(1)
    assert len(await incidents(one)) == 1


async def test_a_restart_ends_none_and_its_return_does(tmp_path: Path) -> None:
    one = await floor(BACKUP, journal=SqliteJournal(tmp_path / "incidents.db"))
    await beat(one)
    await one.advance(LIMIT)
    await one.restart(down_ms=HOUR)
    assert state(one) is HeartbeatState.MISSING
    await one.advance(3 * HOUR)
    (incident,) = await incidents(one)
    assert incident.is_open and len(one.reasons("opened")) == 2
    await beat(one)
    (incident,) = await incidents(one)
    assert incident.state is IncidentState.RESOLVED


async def test_one_that_is_no_longer_configured_is_not_called_resolved(tmp_path: Path) -> None:
    one = await floor(BACKUP, journal=SqliteJournal(tmp_path / "incidents.db"))
    await beat(one)
    await one.advance(LIMIT)
    one.settings = config()
    await one.restart()
    await one.deliver()
    (incident,) = await incidents(one)
    assert not incident.is_open and one.reasons("resolved") == []
    assert {who for _, who in one.reasons("unwatched")} == {"li", "chat"}


async def test_one_whose_labels_changed_is_missing_still_by_the_new_ones(tmp_path: Path) -> None:
    one = await floor(BACKUP, journal=SqliteJournal(tmp_path / "incidents.db"))
    await beat(one)
    await one.advance(LIMIT)
    one.settings = config(heartbeats=(ExpectedHeartbeat("backup", HOUR, severity=Severity.P1),))
    await one.restart()
    (incident,) = await incidents(one)
    assert incident.is_open and [dict(m.alert.labels).get("team") for m in incident.active] == [
        None
    ]
    await beat(one)
    assert not (await incidents(one))[0].is_open


async def test_after_a_broken_journal_all_are_expected(tmp_path: Path) -> None:
    (tmp_path / "incidents.db").write_bytes(b"this is no database" * 100)
    one = await floor(BACKUP, journal=SqliteJournal(tmp_path / "incidents.db"))
    await one.advance(LIMIT)
    (incident,) = await incidents(one)
    description = dict(incident.active[0].alert.annotations)["description"]
    assert description.endswith("and came last before a restart.")


async def test_without_a_journal_they_are_watched_in_memory() -> None:
    journal = FailingJournal()
    one = await floor(BACKUP, journal=journal)
    await beat(one)
    journal.failing = True
    await one.restart()
    await one.advance(LIMIT)
    assert len(one.reasons("opened")) == 2 and one.dispatcher.writer.down
    journal.failing = False
    await journal_is_back(one)
    assert not one.dispatcher.writer.down
    assert state(one) is HeartbeatState.MISSING
    await beat(one)
    assert one.reasons("resolved")


async def test_a_journal_that_comes_late_ends_nothing_that_has_not_come() -> None:
    journal = FailingJournal()
    other = ExpectedHeartbeat("cron", HOUR, 5 * MINUTE, Severity.P1)
    settings = config(heartbeats=(BACKUP, other), group=GroupBy())
    one = await Floor(settings, journal).open()
    await beat(one)
    await beat(one, "cron")
    await one.advance(LIMIT)
    journal.failing = True
    await one.restart()
    await beat(one, "cron")
    journal.failing = False
    await journal_is_back(one)
    backup, cron = await incidents(one)
    assert backup.is_open and not cron.is_open
    assert (state(one), state(one, "cron")) == (HeartbeatState.MISSING, HeartbeatState.OK)


async def test_a_journal_that_comes_late_says_which_never_came() -> None:
    journal = FailingJournal()
    one = await floor(BACKUP, journal=journal)
    journal.failing = True
    await one.restart()
    assert state(one) is HeartbeatState.OK  # nobody knows
    journal.failing = False
    await journal_is_back(one)
    assert state(one) is HeartbeatState.NEVER_SEEN
    await one.advance(2 * LIMIT)
    assert await incidents(one) == []


async def test_the_first_one_is_on_the_disk_at_once() -> None:
    one = await floor(BACKUP)
    await one.dispatcher.heartbeats.beat("backup", one.now)
    (row,) = (await one.journal.load()).heartbeats
    assert row == HeartbeatRow("backup", START_MS)


async def test_a_journal_that_is_lost_while_it_runs_is_begun_with_them(tmp_path: Path) -> None:
    path = tmp_path / "incidents.db"
    one = await floor(journal=SqliteJournal(path))
    await one.dispatcher.heartbeats.add(ExpectedHeartbeat("cron", MINUTE, SECOND), one.now)
    await beat(one, "cron")
    _delete_all(tmp_path)
    await one.dispatcher.heartbeat(one.now)
    async with asyncio.timeout(60):
        while not path.exists() or one.dispatcher.writer.down:
            await one.advance(SECOND // 2)
            await asyncio.sleep(0.01)
    one.journal = SqliteJournal(path)
    (row,) = (await one.journal.load()).heartbeats
    assert row.name == "cron" and row.added is not None


def _delete_all(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


def test_a_journal_by_another_clock_moves_them() -> None:
    state = JournalState(heartbeats=(HeartbeatRow("a", 5), HeartbeatRow("b", None)))
    assert state.shifted(10).heartbeats == (HeartbeatRow("a", 15), HeartbeatRow("b", None))


def test_what_is_written_in_parts_has_them() -> None:
    one = Changeset(heartbeats={"a": HeartbeatRow("a", 5)})
    entries = [HistoryEntry(n, 0, n, "opened", "", {}) for n in range(1, 10)]
    one.history = entries
    first, rest = one.split(3)
    assert {**first.heartbeats, **rest.heartbeats} == one.heartbeats and rest.history


async def test_a_clock_that_is_set_makes_none_missing() -> None:
    one = await floor(BACKUP)
    await beat(one)
    one.now += 24 * HOUR
    one.dispatcher.clock_jumped(24 * HOUR, one.now)
    await one.advance(LIMIT - 1)
    assert await incidents(one) == []
    await one.advance(1)
    assert len(await incidents(one)) == 1


async def test_what_stopped_us_makes_none_missing() -> None:
    one = await floor(BACKUP)
    await beat(one)
    one.now += 5 * HOUR
    one.dispatcher.working.heartbeats.begin(one.now)  # as the loop does that woke so late
    await one.advance(LIMIT - 1)
    assert await incidents(one) == []
    await one.advance(1)
    assert len(await incidents(one)) == 1


# added by hand


async def test_one_that_was_added_survives_a_kill_with_its_time(tmp_path: Path) -> None:
    one = await floor(journal=SqliteJournal(tmp_path / "incidents.db"))
    added = ExpectedHeartbeat(
        "cron", MINUTE, SECOND, Severity.P0, (("a", "b"),), (("c", "d"),), "5a" * 32, one.now, "li"
    )
    await one.dispatcher.heartbeats.add(added, one.now)
    await beat(one, "cron")
    await one.restart()
    known = one.dispatcher.working.heartbeats
    assert [*known] == [added] and known.seen_ms("cron") == START_MS
    assert one.dispatcher.heartbeats.name_of("5a" * 32) == "cron"
    assert one.dispatcher.heartbeats.name_of("5b" * 32) is None
    await one.advance(MINUTE + SECOND)
    assert len(await incidents(one)) == 1


async def test_a_name_stands_once_and_what_is_configured_is_forgotten_there() -> None:
    one = await floor(BACKUP)
    watch = one.dispatcher.heartbeats
    await watch.add(ExpectedHeartbeat("cron", MINUTE), one.now)
    with pytest.raises(HeartbeatConflict, match='"cron" already; forget it first'):
        await watch.add(ExpectedHeartbeat("cron", MINUTE), one.now)
    with pytest.raises(HeartbeatConflict, match='"backup" in the configuration'):
        await watch.add(BACKUP, one.now)
    with pytest.raises(HeartbeatConflict, match="remove it there"):
        await watch.forget("backup", "li", one.now)
    with pytest.raises(NoSuchHeartbeat, match='no heartbeat is called "nightly"'):
        await watch.forget("nightly", "li", one.now)
    with pytest.raises(NoSuchHeartbeat):
        await watch.beat("nightly", one.now)


async def test_a_forgotten_one_is_not_watched_and_stays_forgotten(tmp_path: Path) -> None:
    one = await floor(journal=SqliteJournal(tmp_path / "incidents.db"))
    await one.dispatcher.heartbeats.add(ExpectedHeartbeat("cron", MINUTE, SECOND), one.now)
    await beat(one, "cron")
    await one.advance(HOUR)
    await one.dispatcher.heartbeats.forget("cron", "li", one.now)
    await one.deliver()
    (incident,) = await incidents(one)
    assert not incident.is_open and one.reasons("resolved") == []
    history = [entry.event for entry in await one.journal.history(0)]
    assert history[-1] == "heartbeat_forgotten" and "heartbeat_added" in history
    await one.restart()
    assert [*one.dispatcher.working.heartbeats] == []
