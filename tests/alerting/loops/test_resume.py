"""A restart changes nothing that is true: what collectors counted is read back from the store."""

import logging
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from support.archives import Kept
from support.fake_nvml import FakeNvml
from support.policies import config
from support.site import NOW, RECORDED, only, recorded_site, table
from tocsin_alerting.incidents.dispatcher import Dispatcher
from tocsin_alerting.incidents.journal.memory import MemoryJournal
from tocsin_alerting.incidents.journal.sqlite import SqliteJournal
from tocsin_alerting.incidents.numbers import BLIND_NUMBERS
from tocsin_alerting.loops.resume import (
    answered_seconds,
    load_last_run,
    resume_collectors,
    warn_of_lost_journal,
)
from tocsin_alerting.promql.engine import QueryEngine
from tocsin_exporter.catalogue import LLM
from tocsin_exporter.clock import Stamps
from tocsin_exporter.collectors.gpu import Gpu
from tocsin_exporter.collectors.gpu_xid import XidWatcher
from tocsin_exporter.collectors.processes import Processes
from tocsin_exporter.snapshot import LastSample, LayoutCache, Sample, Snapshot, Source

HERE = Source("process", "box")
GROUP = "namedprocess_namegroup_"
LAST_SEEN = "tocsin_process_group_last_seen_timestamp_seconds"
AT_MS = int(NOW * 1000)


@dataclass
class Noted:
    """A collector that notes what it is told, or fails at it."""

    name: str = "noted"
    remembered: frozenset[str] = frozenset({GROUP + "num_procs"})
    fails: bool = False
    told: list[LastSample] = field(default_factory=list)
    at: float = 0.0

    def resume(self, last: Iterable[LastSample], at: float) -> None:
        self.told, self.at = list(last), at
        if self.fails:
            raise KeyError("odd")


def keep(kept: Kept, source: Source, samples: Iterable[Sample], at_ms: int) -> None:
    layout, values = LayoutCache().build(samples)
    kept.store.append(Snapshot(source, at_ms, True, layout, values))
    kept.disk.tick()


async def after_restart(kept: Kept, source: Source, collector: object) -> Kept:
    later = kept.again()
    resume_collectors(later.store, QueryEngine(later.store), [(source, collector)])
    return later


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    shutil.copytree(RECORDED / "proc", tmp_path / "m" / "proc")
    return tmp_path / "m"


async def test_no_counter_of_a_group_falls_and_none_counts_twice(
    machine: Path, tmp_path: Path
) -> None:
    kept = Kept(tmp_path / "data")
    before = Processes(recorded_site(machine))
    keep(kept, HERE, await before.collect(), AT_MS)
    shutil.rmtree(machine / "proc/4243")
    said = table(await before.collect())
    keep(kept, HERE, await before.collect(), AT_MS + 15_000)
    before.close()
    after = Processes(recorded_site(machine))
    kept = await after_restart(kept, HERE, after)
    assert table(await after.collect()) == said
    assert only(said, GROUP + "cpu_seconds_total", groupname="vllm", mode="user") == 13
    after.close()
    kept.disk.abandon_wal()


async def test_a_group_that_was_gone_is_gone_after_a_restart(machine: Path, tmp_path: Path) -> None:
    kept = Kept(tmp_path / "data")
    before = Processes(recorded_site(machine))
    await before.collect()
    for pid in (4242, 4243):
        shutil.rmtree(machine / "proc" / str(pid))
    keep(kept, HERE, await before.collect(), AT_MS)
    before.close()
    for _ in range(2):  # and after the next one
        after = Processes(recorded_site(machine))
        kept = await after_restart(kept, HERE, after)
        samples = await after.collect()
        rows = table(samples)
        assert only(rows, GROUP + "num_procs", groupname="vllm") == 0
        assert only(rows, LAST_SEEN, groupname="vllm") == NOW
        assert only(rows, GROUP + "cpu_seconds_total", groupname="vllm", mode="user") == 13
        keep(kept, HERE, samples, AT_MS + 86_400_000)
        after.close()
    kept.disk.abandon_wal()


async def test_a_process_of_after_the_last_sample_counts_from_its_start(
    machine: Path, tmp_path: Path
) -> None:
    kept = Kept(tmp_path / "data")
    away = machine / "4243"
    shutil.move(machine / "proc/4243", away)
    before = Processes(recorded_site(machine))
    boot = 1_795_254_402
    keep(kept, HERE, await before.collect(), (boot + 55) * 1000)  # 4242 at 50, 4243 at 60
    before.close()
    shutil.move(away, machine / "proc/4243")
    stat = (machine / "proc/4243/stat").read_text().replace(" 4000 ", " 6000 ")
    (machine / "proc/4243/stat").write_text(stat)
    after = Processes(recorded_site(machine))
    kept = await after_restart(kept, HERE, after)
    rows = table(await after.collect())
    assert only(rows, GROUP + "cpu_seconds_total", groupname="vllm", mode="user") == 13
    after.close()
    kept.disk.abandon_wal()


async def test_gpus_that_were_missing_and_their_errors_are_known_still(tmp_path: Path) -> None:
    fake, dcgm = FakeNvml(), Source("dcgm", "box")
    kept = Kept(tmp_path)
    before = Gpu(fake.nvml, lambda: NOW)
    await before.collect()
    before.xid.record("GPU-11111111-0000-0000-0000-000000000000", 79)
    keep(kept, dcgm, await before.collect(), AT_MS)
    before.close()
    fake.gpus(1)
    after = Gpu(fake.nvml, lambda: NOW + 60)
    try:
        kept = await after_restart(kept, dcgm, after)
        rows = table(await after.collect())
    finally:
        fake.gpus(2)
        after.close()
    assert only(rows, "gpu_devices") == 1
    assert only(rows, "gpu_devices_expected") == 2
    assert only(rows, "gpu_xid_errors_total", gpu="0", xid="79") == 1
    assert only(rows, "gpu_xid_last_timestamp_seconds", gpu="0", xid="79") == NOW
    assert only(rows, "DCGM_FI_DEV_XID_ERRORS", gpu="0") == 79
    kept.disk.abandon_wal()


async def test_only_its_own_machine_and_names_are_told_with_their_time(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    samples = await Processes(recorded_site()).collect()
    for source in (HERE, Source("process", "other")):
        keep(kept, source, samples, AT_MS)
    noted = Noted()
    kept = await after_restart(kept, HERE, noted)
    assert noted.at == NOW
    assert {one.labels["groupname"]: one.value for one in noted.told}["vllm"] == 2
    assert {one.name for one in noted.told} == noted.remembered
    kept.disk.abandon_wal()


async def test_a_collector_that_cannot_go_on_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = Kept(tmp_path)
    keep(kept, HERE, await Processes(recorded_site()).collect(), AT_MS)
    with caplog.at_level(logging.ERROR):
        kept = await after_restart(kept, HERE, Noted(fails=True))
    assert "failed to restore counters" in caplog.text
    empty = await after_restart(Kept(tmp_path / "empty"), HERE, Noted(fails=True))
    empty.disk.abandon_wal()
    kept.disk.abandon_wal()


async def numbered(path: Path, kept: Kept) -> int:
    """The number that an incident gets next."""
    dispatcher = Dispatcher(config(), SqliteJournal(path), lambda: 0.0)
    await dispatcher.start(AT_MS)
    warn_of_lost_journal(dispatcher, kept.store, [(HERE, None)], AT_MS)
    await dispatcher.close(AT_MS)
    return dispatcher.working.numbers.give(AT_MS)


async def test_a_journal_that_was_lost_is_said_and_its_numbers_are_not_given_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept, path = Kept(tmp_path / "data"), tmp_path / "incidents.db"
    assert await numbered(path, kept) == 1  # the first start of all
    keep(kept, HERE, await Processes(recorded_site()).collect(), AT_MS)
    assert await numbered(path, kept) == 1  # no incident so far, and nothing was lost
    assert caplog.records == []
    path.unlink()
    assert await numbered(path, kept) > BLIND_NUMBERS
    (said,) = caplog.records
    assert "journal is new" in said.message
    kept.disk.abandon_wal()


async def test_how_long_an_engine_answered_is_read_back(tmp_path: Path) -> None:
    kept, engine = Kept(tmp_path / "data"), Source("llm", "127.0.0.1:8000")
    for second in range(0, 600, 5):
        up = float(second < 300 or second >= 450)
        keep(kept, engine, [Sample(LLM["llm_engine_up"], up, ())], AT_MS + 1000 * second)
    later = kept.again()
    now_ms = AT_MS + 1_200_000  # nobody was here for 600 s
    asked = QueryEngine(later.store)
    assert answered_seconds(asked, engine, 5.0, now_ms) == 450
    assert answered_seconds(asked, replace(engine, instance="127.0.0.1:8"), 5.0, now_ms) == 0
    assert answered_seconds(asked, engine, 5.0, now_ms + 3_600_000) == 0
    later.disk.abandon_wal()


async def test_what_the_last_run_left_moves_with_a_clock_that_was_set_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What a remote writer sent last is a little ahead of what was read here."""
    kept, sent = Kept(tmp_path), (("__name__", "m"), ("instance", "far:1"), ("job", "far"))
    keep(kept, HERE, [Sample(LLM["llm_engine_up"], 1.0, ())], AT_MS)
    kept.store.write([(sent, AT_MS + 5_000, 1.0)])
    kept.disk.tick()
    now_ms = AT_MS - 7_200_000
    for behind_ms in (7_200_000, 0):
        kept, dispatcher = kept.again(), Dispatcher(config(), MemoryJournal(), lambda: 0.0)
        stamps = Stamps(lambda: now_ms / 1000)
        stamps.remember([(now_ms + behind_ms) / 1000 - 60])
        caplog.clear()
        assert await load_last_run(kept.store, dispatcher, now_ms, [stamps]) == -behind_ms - (
            behind_ms > 0
        )
        assert ("7200 s behind" in caplog.text) == (behind_ms > 0)
        assert kept.store.newest_ms(HERE) == now_ms - 1
        assert kept.store.newest_ms(Source("far", "far:1")) == now_ms + 4_999
        assert stamps.newest() == pytest.approx(now_ms / 1000 - 60, abs=0.01)
        kept.disk.tick()
    keep(kept, HERE, [Sample(LLM["llm_engine_up"], 1.0, ())], now_ms)
    assert kept.store.stats().refused == {}
    kept.disk.abandon_wal()


async def test_times_that_are_values_move_with_the_clock_too(machine: Path, tmp_path: Path) -> None:
    """When a process group was seen last, and when a GPU had an error."""
    kept = Kept(tmp_path / "data")
    before = Processes(recorded_site(machine))
    keep(kept, HERE, await before.collect(), AT_MS)
    before.close()
    for pid in (4242, 4243):
        shutil.rmtree(machine / "proc" / str(pid))
    kept, after = kept.again(), Processes(recorded_site(machine))
    resume_collectors(kept.store, QueryEngine(kept.store), [(HERE, after)], -7_200_000)
    assert only(table(await after.collect()), LAST_SEEN, groupname="vllm") == NOW - 7200
    after.move(3600)
    assert only(table(await after.collect()), LAST_SEEN, groupname="vllm") == NOW - 3600
    after.move(1e9)  # it was seen between the step and the news of it
    assert only(table(await after.collect()), LAST_SEEN, groupname="vllm") == NOW
    after.close()
    kept.disk.abandon_wal()


def test_an_error_of_a_gpu_keeps_its_age() -> None:
    xid = XidWatcher(FakeNvml(), lambda: NOW)
    xid.record("GPU-a", 94)
    for moved, at in ((-7200.0, NOW - 7200), (3600.0, NOW - 3600), (7200.0, NOW)):
        xid.move(moved)
        assert xid._last == {("GPU-a", 94): at}
