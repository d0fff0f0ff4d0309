"""Connections by state: sockets of our own, counted by the kernel."""

import socket
import struct
from contextlib import closing
from pathlib import Path

import pytest

from support.site import only, table
from tocsin_exporter.clock import Clock
from tocsin_exporter.collectors.collector import CollectorError
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.collectors.tcpstat import messages, samples, tcpstat


async def test_a_connection_and_what_waits_in_it_are_counted() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        with closing(socket.create_connection(server.getsockname())) as client:
            client.sendall(b"x" * 54_321)
            collector = tcpstat(Host(now=Clock().wall))
            rows = table(await collector.collect())
            collector.close()
    assert only(rows, "node_tcp_connection_states", state="established") >= 2
    assert only(rows, "node_tcp_connection_states", state="listen") >= 1
    assert only(rows, "node_tcp_connection_states", state="rx_queued_bytes") >= 54_321


async def test_the_table_of_the_kernel_has_as_many() -> None:
    collector = tcpstat(Host(now=Clock().wall))
    for _ in range(5):
        before, rows, after = in_table(), table(await collector.collect()), in_table()
        listening = only(rows, "node_tcp_connection_states", state="listen")
        if before == after == listening:
            break
    collector.close()
    assert min(before, after) <= listening <= max(before, after)


def in_table() -> int:
    tables = [Path("/proc/net/tcp"), Path("/proc/net/tcp6")]
    lines = [line for path in tables if path.exists() for line in path.read_text().splitlines()]
    return sum(line.split()[3] == "0A" for line in lines)


def test_states_have_node_exporters_names() -> None:
    rows = table(samples(iter([(6, 0, 0), (6, 2, 0), (8, 0, 5), (77, 0, 0)])))
    of = {dict(labels)["state"]: value for (_, labels), value in rows.items()}
    assert of == {
        "time_wait": 2,
        "close_wait": 1,
        "unknown": 1,
        "rx_queued_bytes": 2,
        "tx_queued_bytes": 5,
    }


def test_an_answer_that_refuses_is_an_error_and_none_that_never_ends() -> None:
    refusal = struct.pack("=IHHIIi", 20, 2, 0, 1, 0, -1)
    with pytest.raises(CollectorError):
        messages(refusal)
    with pytest.raises(CollectorError):
        messages(struct.pack("=IHHII", 0, 20, 0, 1, 0))
    assert messages(struct.pack("=IHHII", 16, 3, 0, 1, 0)) == ([], True)
