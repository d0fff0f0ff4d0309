from pathlib import Path

from support.site import only, recorded_site, table
from tocsin_exporter.collectors.diskstats import diskstats


async def test_sectors_become_bytes_and_milliseconds_seconds() -> None:
    rows = table(await diskstats(recorded_site()).collect())
    assert only(rows, "node_disk_read_bytes_total", device="nvme0n1") == 4384826 * 512
    assert only(rows, "node_disk_read_time_seconds_total", device="nvme0n1") == 22173 * 0.001
    assert only(rows, "node_disk_io_now", device="nvme0n1") == 3
    assert only(rows, "node_disk_discarded_sectors_total", device="nvme0n1") == 245856
    assert only(rows, "node_disk_flush_requests_total", device="nvme0n1") == 1210


async def test_partitions_and_loops_are_left_out_and_old_kernels_have_fewer_columns() -> None:
    rows = table(await diskstats(recorded_site()).collect())
    assert {dict(labels)["device"] for _, labels in rows} == {"nvme0n1", "sda"}
    assert ("node_disk_discards_completed_total", (("device", "sda"),)) not in rows


async def test_udev_tells_what_a_disk_is() -> None:
    rows = table(await diskstats(recorded_site()).collect())
    assert only(rows, "node_disk_info", model="Fast NVMe 2TB", serial="S123", wwn="eui.0025") == 1
    assert only(rows, "node_disk_info", device="sda", major="8", minor="0") == 1


async def test_udev_tells_what_is_on_a_disk_and_what_lvm_calls_it(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    counts = " ".join(["0"] * 11)
    disks = f"253 0 dm-0 {counts}\n 8 0 sda {counts}\n 8 16 sdb {counts}\n"
    (tmp_path / "proc/diskstats").write_text(disks)
    (tmp_path / "udev").mkdir()
    (tmp_path / "udev/b253:0").write_text(
        "E:DM_NAME=vg-models\nE:DM_UUID=LVM-x\nE:DM_VG_NAME=vg\nE:DM_LV_NAME=models\n"
        "E:ID_FS_TYPE=ext4\nE:ID_FS_USAGE=filesystem\nE:ID_FS_UUID=83324ce8\nE:ID_FS_VERSION=1.0\n"
    )
    (tmp_path / "udev/b8:0").write_text(
        "E:ID_ATA=1\nE:ID_ATA_WRITE_CACHE=1\nE:ID_ATA_ROTATION_RATE_RPM=7200\n"
    )
    (tmp_path / "udev/b8:16").write_text("E:ID_ATA_WRITE_CACHE=1\n")
    rows = table(await diskstats(recorded_site(tmp_path)).collect())
    named = {"uuid": "LVM-x", "vg_name": "vg", "lv_name": "models"}
    assert only(rows, "node_disk_device_mapper_info", device="dm-0", **named) == 1
    assert any(("name", "vg-models") in labels for _, labels in rows)
    known = {"type": "ext4", "usage": "filesystem", "uuid": "83324ce8", "version": "1.0"}
    assert only(rows, "node_disk_filesystem_info", device="dm-0", **known) == 1
    assert only(rows, "node_disk_ata_rotation_rate_rpm", device="sda") == 7200
    assert only(rows, "node_disk_ata_write_cache") == 1  # not of what is no ATA disk
