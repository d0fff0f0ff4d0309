"""Space on filesystems, and what a mount that hangs costs."""

import asyncio
import os
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from threading import Event

import pytest

from support.site import RECORDED, only, recorded_site, statvfs, table
from tocsin_exporter.collectors.collector import CollectorError
from tocsin_exporter.collectors.filesystem import SPARE_THREADS, THREADS, Filesystem
from tocsin_exporter.snapshot import Sample

NFS = "/mnt/nfs share"


async def test_free_is_not_available() -> None:
    rows = table(await Filesystem(recorded_site()).collect())
    of_root = {"device": "/dev/vda", "fstype": "ext4", "mountpoint": "/"}
    assert only(rows, "node_filesystem_size_bytes", **of_root) == 1000 * 4096
    assert only(rows, "node_filesystem_free_bytes", **of_root) == 400 * 4096
    assert only(rows, "node_filesystem_avail_bytes", **of_root) == 300 * 4096
    assert only(rows, "node_filesystem_files", **of_root) == 50
    assert only(rows, "node_filesystem_files_free", **of_root) == 20
    assert only(rows, "node_filesystem_readonly", mountpoint=NFS) == 1
    assert only(rows, "node_filesystem_device_error", **of_root) == 0


async def test_an_error_costs_the_metrics_of_its_mount() -> None:
    def refuse(path: str) -> os.statvfs_result:
        if path == NFS:
            raise OSError(116, "Stale file handle")
        return statvfs(path)

    rows = table(await Filesystem(recorded_site(statvfs=refuse)).collect())
    assert only(rows, "node_filesystem_device_error", mountpoint=NFS) == 1
    assert ("node_filesystem_size_bytes", NFS) not in {(n, dict(m)["mountpoint"]) for n, m in rows}
    assert only(rows, "node_filesystem_size_bytes", mountpoint="/") == 1000 * 4096


async def test_a_hung_mount_costs_its_own_metrics_until_it_answers_again() -> None:
    answer, calls = Event(), list[str]()

    def hang(path: str) -> os.statvfs_result:
        calls.append(path)
        if path == NFS:
            answer.wait()
        return statvfs(path)

    collector = Filesystem(recorded_site(statvfs=hang, mount_seconds=0.8))
    for _ in range(2):
        rows = table(await collector.collect())
        assert only(rows, "node_filesystem_device_error", mountpoint=NFS) == 1
        assert only(rows, "node_filesystem_size_bytes", mountpoint="/") == 1000 * 4096
    assert calls.count(NFS) == 1, "a second call would take a second thread hostage"
    answer.set()
    async with asyncio.timeout(20):
        while only(
            table(await collected(collector)), "node_filesystem_device_error", mountpoint=NFS
        ):
            await asyncio.sleep(0.001)
    collector.close()


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """A machine of 1,200 mounts more."""
    shutil.copytree(RECORDED, tmp_path / "m")
    with (tmp_path / "m/proc/1/mountinfo").open("a") as mounts:
        for n in range(1200):
            mounts.write(f"{1000 + n} 27 0:{100 + n} / /p/{n} rw,relatime - tmpfs tmpfs rw\n")
    return tmp_path / "m"


async def collected(collector: Filesystem) -> Sequence[Sample]:
    """Also what can be said when there was no time for all of it."""
    try:
        return await collector.collect()
    except CollectorError as error:
        return error.samples


def states(collector: Filesystem) -> dict[str, float]:
    return {dict(one.labels)["state"]: one.value for one in collector.health()}


async def test_a_thousand_mounts_take_a_few_threads(many: Path) -> None:
    before = threading.active_count()
    collector = Filesystem(recorded_site(many, mount_seconds=5.0))
    rows = table(await collector.collect())
    assert threading.active_count() - before <= THREADS + 1
    assert states(collector) == {"read": 1202, "error": 0, "hung": 0, "missed": 0}
    assert sum(name == "node_filesystem_size_bytes" for name, _ in rows) == 1202
    collector.close()


async def test_of_many_mounts_some_that_hang_cost_their_own_metrics(many: Path) -> None:
    """As long as threads can be spared for them: the others are asked first in the next round."""
    answer = Event()
    hanging = {f"/p/{n}" for n in range(SPARE_THREADS)}

    def hang(path: str) -> os.statvfs_result:
        if path in hanging:
            answer.wait()
        return statvfs(path)

    before = threading.active_count()
    collector = Filesystem(recorded_site(many, statvfs=hang, mount_seconds=0.2))
    try:
        for _ in range(20):
            rows = table(await collected(collector))
            if states(collector)["read"] == 1202 - len(hanging):
                break
        assert states(collector) == {
            "read": 1202 - len(hanging), "error": 0, "hung": len(hanging), "missed": 0,
        }  # fmt: skip
        assert threading.active_count() - before <= THREADS + SPARE_THREADS + 1
        for point in ("/p/0", "/p/1199"):
            there = ("node_filesystem_size_bytes", mount(point)) in rows
            assert there == (point not in hanging)
            assert rows["node_filesystem_device_error", mount(point)] == (point in hanging)
    finally:
        answer.set()
        collector.close()


async def test_where_no_thread_is_left_that_is_said(many: Path) -> None:
    answer = Event()

    def hang(path: str) -> os.statvfs_result:
        answer.wait()
        return statvfs(path)

    before = threading.active_count()
    collector = Filesystem(recorded_site(many, statvfs=hang, mount_seconds=0.1))
    try:
        for _ in range(12):
            with pytest.raises(CollectorError, match=r"no time for \d+ of 1202 mounts") as failed:
                await collector.collect()
        assert failed.value.samples
        assert states(collector) == {
            "read": 0, "error": 0, "hung": THREADS + SPARE_THREADS,
            "missed": 1202 - THREADS - SPARE_THREADS,
        }  # fmt: skip
        assert threading.active_count() - before <= THREADS + SPARE_THREADS + 1
        answer.set()
        async with asyncio.timeout(10):
            while True:
                try:
                    await collector.collect()
                    break
                except CollectorError:
                    await asyncio.sleep(0.01)
        assert states(collector)["read"] == 1202
    finally:
        answer.set()
        collector.close()


def mount(point: str) -> tuple[tuple[str, str], ...]:
    return (("device", "tmpfs"), ("fstype", "tmpfs"), ("mountpoint", point))
