"""Exporters of the same metrics beside us are named in the log, once each time they appear."""

import asyncio
import logging

import pytest

from support.node_exporter import running_node_exporter
from tocsin_exporter.duplicate_exporters import DuplicateExporters, OtherExporter, metrics_page

NODE = OtherExporter("node_exporter", 9100, b"\nnode_exporter_build_info", "host")
DCGM = OtherExporter("dcgm-exporter", 9400, b"\nDCGM_FI_", "gpu")
PAGES = {
    9100: b"# HELP x\nnode_exporter_build_info 1\n",
    9400: b"# HELP x\nDCGM_FI_DEV_GPU_UTIL 1\n",
}


class Ports:
    """What answers; a port that is not there refuses."""

    def __init__(self, *ports: int) -> None:
        self.ports = set(ports)
        self.asked: list[int] = []

    async def page(self, port: int) -> bytes:
        self.asked.append(port)
        if port not in self.ports:
            raise ConnectionRefusedError
        return PAGES[port]


def names(caplog: pytest.LogCaptureFixture) -> list[str]:
    said = [record.getMessage().split(" ")[0] for record in caplog.records]
    caplog.clear()
    return said


async def test_each_is_named_once_and_again_when_it_was_away(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    ports = Ports(9100, 9400)
    duplicates = DuplicateExporters({"host", "gpu"}, ports.page, others=(NODE, DCGM))
    await duplicates.look()
    assert "sums count twice" in caplog.text and "exclude[]=host" in caplog.text
    assert names(caplog) == ["node_exporter", "dcgm-exporter"]
    await duplicates.look()
    assert names(caplog) == []
    ports.ports = {9400}
    await duplicates.look()
    ports.ports = {9100, 9400}
    await duplicates.look()
    assert names(caplog) == ["node_exporter"]


async def test_what_we_do_not_read_ourselves_is_no_double(caplog: pytest.LogCaptureFixture) -> None:
    ports = Ports(9100, 9400)
    await DuplicateExporters({"host"}, ports.page, others=(NODE, DCGM)).look()
    assert names(caplog) == ["node_exporter"] and ports.asked == [9100]


async def test_another_program_on_the_port_is_none(caplog: pytest.LogCaptureFixture) -> None:
    async def page(_port: int) -> bytes:
        return b"<html>node_exporter_build_info</html>"

    await DuplicateExporters({"host"}, page, others=(NODE,)).look()
    assert names(caplog) == []


async def test_an_agent_of_ours_on_the_port_is_none(caplog: pytest.LogCaptureFixture) -> None:
    async def page(_port: int) -> bytes:
        return b"# TYPE\nnode_exporter_build_info 1\ntocsin_build_info 1\n"

    await DuplicateExporters({"host"}, page, others=(NODE,)).look()
    assert names(caplog) == []


async def test_it_looks_for_ever_with_a_pause() -> None:
    pauses: list[float] = []
    ports = Ports()

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await DuplicateExporters({"host"}, ports.page, sleep, (NODE,)).follow()
    assert pauses == [10, 600, 600] and ports.asked == [9100, 9100]


async def test_the_real_node_exporter_is_seen(caplog: pytest.LogCaptureFixture) -> None:
    with running_node_exporter() as address:
        port = int(address.rpartition(":")[2])
        node = OtherExporter("node_exporter", port, NODE.mark, "host")
        await DuplicateExporters({"host"}, others=(node,)).look()
        assert names(caplog) == ["node_exporter"]
    with pytest.raises(OSError):
        await metrics_page(port)
