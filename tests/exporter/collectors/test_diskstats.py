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
