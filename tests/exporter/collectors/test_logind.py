"""Who is logged in, beside node_exporter, which asks the same bus."""

from pathlib import Path

import pytest
from prometheus_client import parser as text_parser

from support.fake_systemd import FakeLogind, answering, running_bus
from support.node_exporter import page, running_node_exporter
from support.site import table
from tocsin_exporter.collectors.collector import CollectorError
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.collectors.logind import Logind
from tocsin_exporter.snapshot import Labels

SESSIONS = [
    *(("seat0", False, "wayland", "user"), ("", True, "tty", "user"), ("", True, "tty", "user")),
    *(("seat0", False, "tty", "manager"), ("seat1", False, "hologram", "user")),
]


async def read(root: Path) -> dict[tuple[str, Labels], float]:
    collector = Logind(Host(now=lambda: 0.0, root=root))
    try:
        return table(await collector.collect())
    finally:
        collector.close()


async def test_it_says_what_node_exporter_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logind = FakeLogind(["seat0", "seat1"], SESSIONS)
    with running_bus(tmp_path) as address, answering(address, logind):
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
        with running_node_exporter(["logind"]) as exporter:
            text = page(exporter)
        ours = await read(tmp_path)
    theirs = {
        (s.name, tuple(sorted((k, v) for k, v in s.labels.items() if v))): s.value
        for f in text_parser.text_string_to_metric_families(text)
        for s in f.samples
        if f.name == "node_logind_sessions"
    }
    assert ours == theirs
    of_network = (("class", "user"), ("remote", "true"), ("type", "tty"))
    assert ours["node_logind_sessions", of_network] == 2
    assert sum(ours.values()) == len(SESSIONS)


async def test_without_logind_on_the_bus_it_fails(tmp_path: Path) -> None:
    with running_bus(tmp_path), pytest.raises(CollectorError, match="logind does not say"):
        await read(tmp_path)
