"""Answers of hostile servers, before their body: bounded, and the loop has its turns."""

import asyncio
import socket
import ssl
import struct
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import cast

import httpcore2
import pytest

from support.authority import Authority
from support.broken_server import Behaviour, broken_server
from tocsin_exporter.engine_access import EngineAccess, EngineClient, Reply, Tls
from tocsin_exporter.http import BrokenOff
from tocsin_exporter.http_network import MOST_INTERIMS, MOST_LINES, Network
from tocsin_exporter.lookup import Lookup

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
EARLY = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
ENDLESS = {
    "100 Continue": (b"", CONTINUE * 1000),
    "103 with headers": (b"", EARLY * 1000),
    "102 without CR": (b"", b"HTTP/1.1 102 Processing\n\n" * 1000),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"a: b\r\n" * 5000),
    "headers of an interim answer": (b"HTTP/1.1 103 Early\r\n", b"a: b\r\n" * 5000),
}


def _says(*parts: bytes, for_ever: bool = False) -> Behaviour:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)
        while for_ever:
            writer.write(parts[-1])
            await writer.drain()
        await reader.read()

    return behave


async def _get(behave: Behaviour) -> Reply:
    async with broken_server(behave) as port, asyncio.timeout(20):
        client = EngineClient(EngineAccess.of(f"http://127.0.0.1:{port}"))
        try:
            return await client.get("/health")
        finally:
            await client.aclose()


@pytest.mark.parametrize("kind", ENDLESS)
async def test_an_answer_that_never_comes_to_its_body_is_refused_at_once(kind: str) -> None:
    """It was read for as long as the whole might take, and others waited for it."""
    with pytest.raises(BrokenOff):
        await _get(_says(*ENDLESS[kind], for_ever=True))


async def test_what_counts_may_follow_as_many_interim_answers_as_go_allows() -> None:
    allowed = CONTINUE + EARLY * (MOST_INTERIMS - 1)
    assert await _get(_says(allowed + OK)) == Reply(200, "ok")
    with pytest.raises(BrokenOff, match="more than 5 answers with 1xx"):
        await _get(_says(EARLY * (MOST_INTERIMS + 1) + OK))


async def test_answers_that_come_byte_by_byte_are_counted_alike() -> None:
    whole = CONTINUE + EARLY + b"HTTP/1.1 200 OK\r\nx: HTTP/1.1 100\r\ncontent-length: 2\r\n\r\nok"
    assert await _get(_says(*(bytes([one]) for one in whole))) == Reply(200, "ok")
    whole = EARLY * (MOST_INTERIMS + 1)
    with pytest.raises(BrokenOff, match="answers with 1xx"):
        await _get(_says(*(bytes([one]) for one in whole)))


async def test_lines_of_headers_have_a_bound() -> None:
    """A hundred kilobytes of the shortest took 60 ms and more at once."""
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n"
    most = MOST_LINES - head.count(b"\n") - 1
    assert await _get(_says(head + b"a:b\r\n" * most + b"\r\nok")) == Reply(200, "ok")
    with pytest.raises(BrokenOff, match="lines of headers"):
        await _get(_says(head + b"a:b\r\n" * (most + 1) + b"\r\nok"))


async def test_a_body_that_looks_like_interim_answers_is_a_body() -> None:
    body = (b"\r\n" + CONTINUE) * 100
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body)
    for parts in ((head + body,), (head, body), (head[:-1], head[-1:] + body)):
        assert await _get(_says(*parts)) == Reply(200, body.decode())


async def test_small_records_of_tls_leave_the_loop_to_others(tmp_path: Path) -> None:
    """They are read without a pause: thousands of them may lie in one packet."""
    authority, records, turns = Authority(tmp_path), 2000, 0

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came, goes = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls, asked = authority.server("127.0.0.1").wrap_bio(came, goes, server_side=True), b""
        while not asked:
            came.write(await reader.read(65536))
            with suppress(ssl.SSLWantReadError):
                tls.do_handshake()
                asked = tls.read()
            writer.write(goes.read())
        head = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx: "
        for byte in head + b"y" * records + b"\r\n\r\nok":
            tls.write(bytes([byte]))
        writer.write(goes.read())
        await reader.read()

    async with broken_server(behave) as port:
        access = EngineAccess.of(f"https://127.0.0.1:{port}")
        client = EngineClient(replace(access, tls=Tls(ca_file=authority.ca_file)))
        asking = asyncio.create_task(client.get("/health"))
        while not asking.done():
            turns += 1
            await asyncio.sleep(0)
        assert (await asking) == Reply(200, "ok")
        await client.aclose()
    assert turns > records // 20


class _ResetAtOnce:
    """Connects to a port that resets each connection as soon as it has accepted it."""

    async def connect(self, host: str, port: int) -> socket.socket:
        with socket.create_server((host, 0)) as server:
            connected = socket.create_connection(server.getsockname())
            accepted, _ = server.accept()
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            accepted.close()
        connected.setblocking(False)
        return connected


async def test_a_connection_that_is_reset_at_once_cannot_be_had() -> None:
    """It was taken for a fault of ours: the reading of an engine ended without saying "down"."""
    network = Network(cast(Lookup, _ResetAtOnce()))
    with pytest.raises(httpcore2.ConnectError, match="reset at once"):
        await network.connect_tcp("127.0.0.1", 1)
