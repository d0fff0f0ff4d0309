"""Whose socket listens: real sockets, and tables as the kernel writes them."""

import os
import socket
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from exporter.collectors.test_engine import VLLM, pages, served
from tocsin_exporter.collectors.collector import CollectorError
from tocsin_exporter.collectors.engine import EngineCollector
from tocsin_exporter.engine_access import EngineAccess, EngineClient, NotTheirs
from tocsin_exporter.socket_owner import PROC_NET, peer_uid
from tocsin_exporter.socket_owner import owners as socket_owners

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n"
LOOPBACK, ANY = "0100007F", "00000000"
ANY6, ONE6 = "0" * 32, "0" * 24 + "01000000"
MAPPED = "0000000000000000FFFF00000100007F"
little = pytest.mark.skipif(sys.byteorder != "little", reason="tables of a little-endian machine")


def owners(host: str, port: int, proc_net: Path = PROC_NET) -> set[int] | None:
    found = socket_owners(host, port, proc_net)
    return None if found is None else set(found)


def row(address: str, uid: int, port: int = 8000, state: str = "0A") -> str:
    rest = f"00000000:0000 {state} 00000000:00000000 00:00000000 00000000"
    return f"   0: {address}:{port:04X} {rest} {uid:5}        0 4320 1 0 100 0 0 10 0\n"


def tables(folder: Path, four: str = "", six: str | None = "") -> Path:
    (folder / "tcp").write_text(HEAD + four)
    if six is not None:
        (folder / "tcp6").write_text(HEAD + six)
    return folder


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::1", "::"])
def test_a_socket_of_ours_is_ours(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as server:
        port = server.getsockname()[1]
        asked = "::1" if ":" in address else "127.0.0.1"
        assert owners(asked, port) == owners("localhost", port) == {os.geteuid()}
    assert owners(asked, port) == set()


@little
def test_whoever_is_meant_more_exactly_answers(tmp_path: Path) -> None:
    for mine in (ANY, LOOPBACK):
        both = row(LOOPBACK, 7, port=8001) + row(mine, 1001)
        assert owners("127.0.0.1", 8000, tables(tmp_path, both)) == {1001}
    for six in (row(ANY6, 1001), row(ONE6, 1001)):  # IPv6 alone: they can stand beside root's
        assert owners("127.0.0.1", 8000, tables(tmp_path, row(ANY, 0), six)) == {0}
        assert owners("localhost", 8000, tables(tmp_path, row(ANY, 0), six)) == {0, 1001}
    assert owners("127.0.0.1", 8000, tables(tmp_path, "", row(MAPPED, 5))) == {5}
    assert owners("127.0.0.1", 8000, tables(tmp_path, "", row(ANY6, 6))) == {6}
    assert owners("::1", 8000, tables(tmp_path, row(LOOPBACK, 1), row(ONE6, 2) + row(ANY6, 3))) == {
        2
    }


@little
def test_connections_are_no_listeners(tmp_path: Path) -> None:
    table = row(LOOPBACK, 0, port=9) + row(LOOPBACK, 1001, state="01") + row(LOOPBACK, 1002)
    assert owners("127.0.0.1", 8000, tables(tmp_path, table)) == set()


@little
def test_without_tables_nobody_knows(tmp_path: Path) -> None:
    assert owners("127.0.0.1", 8000, tmp_path) is None
    assert owners("127.0.0.1", 8000, tables(tmp_path, row(LOOPBACK, 4), None)) == {4}


async def test_an_engine_whose_port_another_holds_is_down_and_not_asked() -> None:
    async with served(pages({"/metrics": (200, VLLM)})) as url:
        access = EngineAccess.of(url)
        theirs = EngineCollector(replace(access, owners=frozenset({os.geteuid() + 1})), lambda: 0.0)
        with pytest.raises(CollectorError, match="belongs to user id") as down:
            await theirs.collect()
        assert down.value.samples[0].value == 0.0
        await theirs.aclose()
        client = EngineClient(replace(access, owners=frozenset()))
        with pytest.raises(NotTheirs):
            await client.status("/metrics")
        await client.aclose()
        ours = EngineCollector(replace(access, owners=frozenset({os.geteuid()})), lambda: 0.0)
        assert (await ours.collect())[0].value == 1.0
        await ours.aclose()


def test_the_kernel_says_who_connected_by_a_unix_socket() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        assert peer_uid(ours) == os.getuid()
    assert peer_uid(ours) is None  # closed
    assert peer_uid(None) is None


def test_over_tcp_the_kernel_does_not_know() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with socket.create_connection(listener.getsockname()) as client:
            connection, _ = listener.accept()
            with connection:
                assert peer_uid(connection) is None
                assert peer_uid(client) is None
