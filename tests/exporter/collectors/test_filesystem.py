"""Space on filesystems, and what a mount that hangs costs."""

import asyncio
import os
from threading import Event

from support.site import only, recorded_site, statvfs, table
from tocsin_exporter.collectors.filesystem import Filesystem

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

    collector = Filesystem(recorded_site(statvfs=hang, mount_seconds=0.02))
    for _ in range(2):
        rows = table(await collector.collect())
        assert only(rows, "node_filesystem_device_error", mountpoint=NFS) == 1
        assert only(rows, "node_filesystem_size_bytes", mountpoint="/") == 1000 * 4096
    assert calls.count(NFS) == 1, "a second call would take a second thread hostage"
    answer.set()
    while only(table(await collector.collect()), "node_filesystem_device_error", mountpoint=NFS):
        await asyncio.sleep(0.001)
    collector.close()
