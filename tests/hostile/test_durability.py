"""Kills, damaged files, slow disks: people are paged, and no mistake says that it is over."""

import asyncio
import os
import random
import shutil
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.agent_process import AgentProcess
from support.alert_events import alert, fires
from support.policies import config
from support.remote_write import remote_write
from support.small_disk import small_disk
from support.story import reason, until
from support.webhook_sink import WebhookSink
from tocsin_alerting.incidents.dispatcher import Dispatcher
from tocsin_alerting.incidents.journal.sqlite import SqliteJournal
from tocsin_alerting.loops.incident_loop import IncidentLoop
from tocsin_alerting.notify.channel import ChannelDeps
from tocsin_alerting.notify.delivery import DeliveryLoop
from tocsin_alerting.notify.secret import Vault
from tocsin_alerting.notify.webhook.channel import Webhook
from tocsin_alerting.notify.webhook.settings import WebhookSettings
from tocsin_exporter.clock import Clock
from tocsin_exporter.snapshot import Labels

RULES = """\
groups:
- name: pushed
  rules:
  - {alert: Pushed, expr: pushed_faults > 5, labels: {severity: P0}}
"""
CONFIG = """\
collect: {{host: 0s, engines: 0s, gpu: 0s, processes: 0s}}
evaluation_interval: 1s
rule_files: [rules.yml, bundled]
receivers: {{hook: {{type: webhook, url: "{url}"}}}}
policies:
  P0: {{group: {{wait: 0s}}, steps: [{{notify: [{{receiver: hook}}]}}]}}
  P1: {{group: {{wait: 0s}}, steps: [{{notify: [{{receiver: hook}}]}}]}}
"""
KILLS = 2


@dataclass
class Box:
    agent: AgentProcess
    sink: WebhookSink

    @property
    def data(self) -> Path:
        return self.agent.folder / "data"

    async def push(self, value: float, machine: str = "far") -> None:
        labels: Labels = (("__name__", "pushed_faults"), ("instance", machine), ("job", "others"))
        now_ms = int(time.time() * 1000)
        await asyncio.to_thread(remote_write, self.agent.url, [(labels, [(now_ms, value)])])

    def pages(self, name: str = "Pushed", why: str = "opened") -> list[dict[str, Any]]:
        told = (one for one in self.sink.requests if reason(one) == why)
        return [one.json() for one in told if name in one.body.decode()]

    async def paged(self, count: int, name: str = "Pushed", within: float = 20) -> None:
        deadline = time.monotonic() + within
        while len(self.pages(name)) < count:
            assert time.monotonic() < deadline, self.agent.said()[-3000:]
            await asyncio.sleep(0.01)

    async def source(self) -> list[str]:
        found = await asyncio.to_thread(self.agent.get, "/api/v1/incidents")
        open_ones = [one for one in found["incidents"] if "Pushed" in str(one["labels"])]
        return [one["source"] for one in open_ones]


@asynccontextmanager
async def box(folder: Path) -> AsyncIterator[Box]:
    async with WebhookSink() as sink:
        (folder / "rules.yml").write_text(RULES)
        (folder / "tocsin.yml").write_text(CONFIG.format(url=sink.url))
        agent = AgentProcess(
            folder, "--config.file", "tocsin.yml", "--storage.path", "data", "--no-worker"
        )
        try:
            yield Box(agent, sink)
        finally:
            agent.kill()


def _nothing(data: Path) -> None:
    """A kill alone."""


def _emptied(data: Path) -> None:
    for log in (data / "samples").glob("*.log"):
        os.truncate(log, 0)


def _lost(data: Path) -> None:
    shutil.rmtree(data / "samples")


@pytest.mark.parametrize(
    "loss", [_emptied, *(pytest.param(one, marks=pytest.mark.long) for one in (_nothing, _lost))]
)
async def test_killed_right_after_the_page_and_nobody_hears_that_it_is_over(
    tmp_path: Path, loss: Callable[[Path], None]
) -> None:
    dice = random.Random(loss.__name__)
    async with box(tmp_path) as one:
        await asyncio.to_thread(one.agent.start)
        for number in range(1, KILLS + 1):
            await one.push(9, f"far{number}")
            await one.paged(number)
            await asyncio.sleep(dice.uniform(0, 0.2))
            one.agent.kill()
            loss(one.data)
            await asyncio.to_thread(one.agent.start)
        await asyncio.sleep(3)  # the rule has run again
        assert not one.pages(why="resolved")
        assert len(await one.source()) == KILLS
        for number in range(1, KILLS + 1):
            await one.push(0, f"far{number}")
        await until(lambda: len(one.pages(why="resolved")) == KILLS, 20)
        modes = [
            stat.S_IMODE(path.stat().st_mode) for path in one.data.rglob("*") if path.is_file()
        ]
        assert set(modes) == {0o600}
        assert stat.S_IMODE(one.data.stat().st_mode) == 0o700


def _garbage(path: Path) -> None:
    path.write_bytes(b"certainly not a database" * 400)


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _strangers(path: Path) -> None:
    path.unlink()
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE letters (text)")
    other.close()


@pytest.mark.parametrize(
    "damage",
    [_garbage, *(pytest.param(one, marks=pytest.mark.long) for one in (_directory, _strangers))],
)
async def test_a_damaged_journal_is_set_aside_and_a_fault_pages(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    async with box(tmp_path) as one:
        await asyncio.to_thread(one.agent.start)
        await one.push(9)
        await one.paged(1)
        await asyncio.to_thread(one.agent.terminate)
        for beside in ("-wal", "-shm"):
            (one.data / f"incidents.db{beside}").unlink(missing_ok=True)
        damage(one.data / "incidents.db")
        await asyncio.to_thread(one.agent.start)
        await one.push(9, "another")
        began = time.monotonic()
        await one.paged(3)  # the one of before is told again
        assert time.monotonic() - began < 20
        await one.paged(1, "TocsinFileSetAside")
        assert "set aside as incidents.db.broken-" in one.agent.said()
        assert [page["tocsin"]["notRecorded"] for page in one.pages()] == [False] * 3
        assert one.agent.status()["journal"] == "up"
        assert not one.pages(why="resolved")


async def test_a_journal_that_is_overwritten_while_it_runs_silences_nobody(tmp_path: Path) -> None:
    async with box(tmp_path) as one:
        await asyncio.to_thread(one.agent.start)
        await one.push(9)
        await one.paged(1)
        for ending in ("", "-wal"):
            path = one.data / f"incidents.db{ending}"
            with path.open("r+b") as file:
                file.write(os.urandom(path.stat().st_size))
        await one.push(9, "another")
        began = time.monotonic()
        await one.paged(2)
        assert time.monotonic() - began < 20
        one.agent.kill()
        await asyncio.to_thread(one.agent.start)
        await one.paged(1, "TocsinFileSetAside")
        await until(lambda: one.agent.status()["journal"] == "up", 10)
        assert not one.pages(why="resolved")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Another program has the file to itself."""
    hold = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
    hold += "[c.execute(s) for s in ('PRAGMA locking_mode = EXCLUSIVE', 'BEGIN EXCLUSIVE')];"
    hold += "print('locked', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", hold, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        yield
        other.kill()


async def test_who_acknowledged_is_not_paged_again_for_a_journal_that_was_locked(
    tmp_path: Path,
) -> None:
    """And who acknowledges while it is locked reads that it may be lost."""
    async with box(tmp_path) as one:
        await asyncio.to_thread(one.agent.start)
        await one.push(9)
        await one.paged(1)
        acked = await asyncio.to_thread(one.agent.alertctl, "ack", "1", "--by", "li")
        assert (acked.returncode, acked.stderr) == (0, "")
        one.agent.kill()
        with _locked(one.data / "incidents.db"):
            await asyncio.to_thread(one.agent.start)
            await one.push(9)
            await one.push(9, "another")
            await one.paged(3)
            opened = {str(p["groupLabels"]): p["tocsin"]["incident"] for p in one.pages()[1:]}
            (again,) = (number for labels, number in opened.items() if "another" not in labels)
            (new,) = set(opened.values()) - {again}
            said = await asyncio.to_thread(one.agent.alertctl, "ack", str(new), "--by", "wang")
            assert "ACKED, owned by wang" in said.stdout
            assert "not on disk yet" in said.stderr
        await until(lambda: one.agent.status()["journal"] == "up", 40)
        story = one.agent.get(f"/api/v1/incidents/{again}")
        assert (story["state"], story["owner"], story["recorded"]) == ("ACKED", "li", True)
        assert "ack_kept" in {entry["event"] for entry in story["history"]}
        one.agent.kill()
        await asyncio.to_thread(one.agent.start)
        for number, owner in ((again, "li"), (new, "wang")):
            story = one.agent.get(f"/api/v1/incidents/{number}")
            assert (story["state"], story["owner"]) == ("ACKED", owner)


def _rules(folder: Path, **fires_from_s: float) -> None:
    rules = "".join(
        f"  - {{alert: {name}, expr: vector(time()) > {at}, labels: {{severity: P0}}}}\n"
        for name, at in fires_from_s.items()
    )
    (folder / "rules.yml").write_text(f"groups:\n- name: timed\n  rules:\n{rules}")


async def test_a_number_that_was_told_is_not_told_of_another_after_kills_on_a_full_disk(
    tmp_path: Path,
) -> None:
    with small_disk(tmp_path / "data", "8m") as disk:
        async with box(tmp_path) as one:
            full_s = time.time() + 12
            _rules(tmp_path, First=0, Second=full_s)
            await asyncio.to_thread(one.agent.start)
            await one.paged(1, "First")
            disk.fill()
            await one.paged(1, "Second", within=40)
            for name in ("Third", "Fourth"):  # the disk is full still
                one.agent.kill()
                _rules(tmp_path, **{"First": 0, name: 0})
                await asyncio.to_thread(one.agent.start)
                await one.paged(1, name)
            one.agent.kill()
            disk.free()
            _rules(tmp_path, First=0, Fifth=0)
            await asyncio.to_thread(one.agent.start)
            await one.paged(1, "Fifth")
            names: dict[int, set[str]] = {}
            for name in ("First", "Second", "Third", "Fourth", "Fifth"):
                for page in one.pages(name):
                    names.setdefault(page["tocsin"]["incident"], set()).add(name)
            assert all(len(several) == 1 for several in names.values()), names
            assert max(number for number, (name,) in names.items() if name == "Fifth") < 100_000


class Disk(sqlite3.Connection):
    """One that takes `seconds` for each transaction."""

    seconds = 0.0

    def execute(self, sql: str, *rest: Any) -> sqlite3.Cursor:
        if sql == "COMMIT":
            time.sleep(self.seconds)
        return super().execute(sql, *rest)


def _disk(name: str) -> sqlite3.Connection:
    return sqlite3.connect(name, factory=Disk, isolation_level=None, check_same_thread=False)


def _webhook(name: str, url: str) -> Webhook:
    settings = WebhookSettings.model_validate({"type": "webhook", "url": url})
    return Webhook(name, settings, ChannelDeps(vault=Vault({}, Path.read_text)))


@pytest.mark.parametrize("seconds", [0.0, 0.1, 1.0, 5.0])
async def test_a_page_waits_no_longer_than_the_limit_for_a_slow_disk(
    tmp_path: Path, seconds: float, record_property: Callable[[str, object], None]
) -> None:
    clock = Clock(time.time, time.monotonic)
    journal = SqliteJournal(tmp_path / "incidents.db", connect=_disk)
    async with WebhookSink() as sink:
        channels = {name: _webhook(name, sink.url) for name in ("phone", "chat", "mail")}
        dispatcher = Dispatcher(config(), journal, lambda: 0.0)
        delivery_loop = DeliveryLoop(dispatcher, channels, clock.now_ms)
        await dispatcher.start(clock.now_ms())
        paging = asyncio.create_task(IncidentLoop(dispatcher, delivery_loop, clock).run())
        Disk.seconds = seconds
        waits: list[float] = []
        for number in range(3):
            began = time.time()
            fault = fires(alert("EngineDown", "P0", target=f"h{number}"), clock.now_ms())
            handling = asyncio.create_task(dispatcher.handle([fault], clock.now_ms()))
            seen = await sink.wait_for(2 * number + 2, within=10)
            waits.append(max(one.at for one in seen[2 * number :]) - began)
            await handling
        Disk.seconds = 0.0
        record_property("seconds from fault to page", [round(one, 3) for one in waits])
        print([round(one, 3) for one in waits])
        assert max(waits) < 1.0, waits
        marked = {one.json()["tocsin"]["notRecorded"] for one in sink.requests}
        assert marked == {True} if seconds >= 1 else False in marked or seconds
        paging.cancel()
        await asyncio.gather(paging, return_exceptions=True)
        await delivery_loop.close()
        await dispatcher.close(clock.now_ms())
