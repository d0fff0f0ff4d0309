from pathlib import Path

import pytest

from support.site import only, recorded_site, table
from tocsin_exporter.collectors.collector import Unavailable
from tocsin_exporter.collectors.netclass import Netclass


async def test_properties_in_base_units() -> None:
    rows = table(await Netclass(recorded_site()).collect())
    assert only(rows, "node_network_speed_bytes", device="eth0") == 10_000 * 125_000
    assert only(rows, "node_network_flags", device="eth0") == 0x1003
    assert only(rows, "node_network_up", device="eth0") == 1
    assert only(rows, "node_network_up", device="lo") == 0
    assert only(rows, "node_network_receive_nohandler_total", device="eth0") == 13
    assert only(rows, "node_network_info", duplex="full", operstate="up") == 1


async def test_what_a_driver_does_not_answer_is_left_out_and_an_unknown_speed_is_as_upstream() -> (
    None
):
    rows = table(await Netclass(recorded_site()).collect())
    assert ("node_network_carrier", (("device", "lo"),)) not in rows
    assert only(rows, "node_network_speed_bytes", device="lo") == -125_000


async def test_without_sysfs_there_is_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        await Netclass(recorded_site(tmp_path)).collect()
