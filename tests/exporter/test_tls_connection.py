"""TLS before the server, over real sockets: who gets in, who waits, and what is said to others."""

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from exporter.test_http_server import SHORT, Served, exchange, served, until
from support.web_pki import Pair, Pki
from tocsin_exporter.connections import ConnectionLimits, Connections
from tocsin_exporter.http_server import HttpProtocol
from tocsin_exporter.threads import Threads
from tocsin_exporter.tls import ServerTls
from tocsin_exporter.tls_connection import Handshakes, TlsConnection

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


@cache
def pki() -> Pki:
    return Pki()


class Doors:
    """The TLS of a server, which a test may change."""

    def __init__(self, tls: ServerTls, thread: Executor | None = None) -> None:
        self.tls, self.thread = tls, thread or Threads(1, "tls")
        self.made: list[TlsConnection] = []

    def first(self, table: Connections) -> Callable[..., Any]:
        handshakes = Handshakes(self.thread)

        def connection(**given: Any) -> TlsConnection:
            made = TlsConnection(HttpProtocol(**given), lambda: self.tls, handshakes, table)
            self.made.append(made)
            return made

        return connection


@asynccontextmanager
async def secured(
    tls: ServerTls | None = None, limits: ConnectionLimits | None = None, **others: Any
) -> AsyncIterator[tuple[Served, Doors]]:
    doors = Doors(tls or pki().server())
    async with served(limits, first=doors.first, **others) as server:
        yield server, doors


def trusting(authority: bytes | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=(authority or pki().authority).decode())
    return context


def showing(pair: Pair, tmp_path: Path) -> ssl.SSLContext:
    (tmp_path / "c.pem").write_bytes(pair.certificate + pair.key)
    context = trusting()
    context.load_cert_chain(tmp_path / "c.pem")
    return context


async def ask(server: Served, sent: bytes = LAST, context: ssl.SSLContext | None = None) -> bytes:
    """All that comes until the server ends, which it says in TLS too."""
    reader, writer = await asyncio.open_connection(
        "localhost", server.port, ssl=context or trusting()
    )
    try:
        writer.write(sent)
        return await asyncio.wait_for(reader.read(), 30)
    finally:
        writer.close()


async def test_requests_are_answered_one_after_the_other_and_large_ones_whole() -> None:
    async with secured() as (server, _):
        answer = await ask(server, GET + GET + LAST)
        assert answer.count(b"200 OK") == 3
        big = await ask(server, LAST.replace(b"GET /", b"GET /big"))
        assert len(big.partition(b"\r\n\r\n")[2]) == 16 << 20
        body = b"x" * 300_000
        post = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 300000\r\n\r\n"
        assert (await ask(server, post + body)).endswith(b"\r\n300000")
        assert server.scopes[0]["scheme"] == "https"
        await until(lambda: len(server.table) == 0)


async def test_who_speaks_http_is_told_so() -> None:
    async with secured() as (server, _):
        answer = await exchange(server.port, GET)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.0 400 Bad Request\r\n")
        assert body == b"Client sent an HTTP request to an HTTPS server.\n"
        assert b"content-length: %d" % len(body) in head
        assert server.table.bad_requests[400] == 1 and server.scopes == []
        await until(lambda: len(server.table) == 0)


async def test_the_next_connection_has_the_new_certificate_and_the_old_one_goes_on() -> None:
    other = Pki()
    async with secured() as (server, doors):
        reader, writer = await asyncio.open_connection("localhost", server.port, ssl=trusting())
        doors.tls = other.server()
        with pytest.raises(ssl.SSLCertVerificationError):
            await ask(server)
        assert b"200 OK" in await ask(server, context=trusting(other.authority))
        writer.write(LAST)
        assert b"200 OK" in await reader.read()
        writer.close()


async def test_handshakes_that_do_not_end_are_counted_and_ended_and_hold_nobody_up() -> None:
    async with secured(limits=SHORT) as (server, _):
        silent = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(20)]
        for _, writer in silent[:10]:
            writer.write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc")  # the beginning of a hello
        await until(lambda: len(server.table) == 20)
        assert b"200 OK" in await asyncio.wait_for(ask(server), 1.0)
        ends = [asyncio.wait_for(reader.read(), 10) for reader, _ in silent]
        await asyncio.gather(*ends, return_exceptions=True)
        await until(lambda: len(server.table) == 0)
        assert server.table.closed["slow_request"] == 20
        for _, writer in silent:
            writer.close()


async def test_who_only_begins_makes_room() -> None:
    limits = ConnectionLimits(connections=4, spare=0)
    async with secured(limits=limits) as (server, _):
        idle = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(8)]
        assert b"200 OK" in await ask(server)
        assert server.table.closed["evicted"] >= 1
        for _, writer in idle:
            writer.close()


async def test_a_hello_without_end_is_cut_off() -> None:
    async with secured() as (server, _):
        record = b"\x16\x03\x01\x40\x00\x01\x03\xff\xff" + b"x" * (0x4000 - 4)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            answer = await exchange(server.port, *[record] * 40)
            assert b"HTTP" not in answer
            raise ConnectionResetError
        await until(lambda: len(server.table) == 0)


async def test_a_client_is_known_by_its_certificate(tmp_path: Path) -> None:
    tls = pki().server(client_auth="RequireAndVerifyClientCert", client_authorities=pki().authority)
    context = showing(pki().pair("prom.example", common_name="prom-1"), tmp_path)
    async with secured(tls) as (server, _):
        assert b"200 OK" in await ask(server, context=context)
        assert server.scopes[0]["client_certificate"] == "prom-1"
        for stranger in (trusting(), showing(Pki().pair("prom.example"), tmp_path)):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                assert await ask(server, context=stranger) == b""
                raise ConnectionResetError
        assert len(server.scopes) == 1


async def test_a_certificate_may_be_left_out_where_it_is_only_verified_if_given(
    tmp_path: Path,
) -> None:
    tls = pki().server(client_auth="VerifyClientCertIfGiven", client_authorities=pki().authority)
    async with secured(tls) as (server, _):
        assert b"200 OK" in await ask(server)
        assert "client_certificate" not in server.scopes[0]
        await ask(server, context=showing(pki().pair("a.example"), tmp_path))
        assert server.scopes[1]["client_certificate"] == "a.example"


async def test_of_names_those_that_are_allowed_get_in(tmp_path: Path) -> None:
    tls = pki().server(
        client_auth="RequireAndVerifyClientCert",
        client_authorities=pki().authority,
        client_allowed_sans=["prom.example", "10.0.0.7"],
    )
    async with secured(tls) as (server, _):
        for names in (["prom.example"], ["x.example", "10.0.0.7"]):
            context = showing(pki().pair(*names), tmp_path)
            assert b"200 OK" in await ask(server, context=context)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            assert await ask(server, context=showing(pki().pair("x.example"), tmp_path)) == b""
            raise ConnectionResetError
        assert len(server.scopes) == 2


async def test_handshakes_of_a_crowd_at_one_address_wait_behind_the_next_of_another() -> None:
    done: list[str] = []
    with ThreadPoolExecutor(1) as thread:
        handshakes = Handshakes(thread)

        def work(name: str) -> Callable[[], bool]:
            return lambda: done.append(name) or True  # type: ignore[func-returns-value]

        steps = [handshakes.step("crowd", work(f"c{number}")) for number in range(6)]
        steps.append(handshakes.step("other", work("other")))
        tasks = [asyncio.ensure_future(step) for step in steps]
        await asyncio.sleep(0)
        tasks[3].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert done == ["c0", "c1", "other", "c2", "c4", "c5"]


async def test_who_goes_in_his_turn_gives_it_on() -> None:
    with ThreadPoolExecutor(1) as thread:
        handshakes = Handshakes(thread)
        steps = [asyncio.ensure_future(handshakes.step("a", lambda: True)) for _ in range(3)]
        await steps[0]
        steps[1].cancel()
        assert await asyncio.wait_for(steps[2], 10)
        assert await asyncio.wait_for(handshakes.step("b", lambda: True), 10)


async def test_what_comes_before_the_handshake_is_done_is_bounded_and_not_lost() -> None:
    free = threading.Event()
    with ThreadPoolExecutor(1) as thread:
        doors = Doors(pki().server(), thread)
        async with served(first=doors.first) as server:
            size = 8 << 20
            head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
            client = trusting().wrap_bio(to_client, to_server, server_hostname="localhost")
            with suppress(ssl.SSLWantReadError):
                client.do_handshake()
            writer.write(to_server.read())
            while True:
                to_client.write(await reader.read(65536))
                with suppress(ssl.SSLWantReadError):
                    client.do_handshake()
                    break
            thread.submit(free.wait, 30)  # before the last step
            client.write(head % size)
            for _ in range(size >> 16):
                client.write(b"x" * (1 << 16))
            writer.write(to_server.read())
            (connection,) = doors.made
            await until(lambda: len(connection._arrived) > 64 << 10)
            assert len(connection._arrived) < 1 << 20
            free.set()
            answer = b""
            while not answer.endswith(b"\r\n8388608"):
                piece = await asyncio.wait_for(reader.read(65536), 30)
                assert piece, answer
                to_client.write(piece)
                answer += decrypted(client)
            writer.close()


def decrypted(client: ssl.SSLObject) -> bytes:
    parts = []
    with suppress(ssl.SSLWantReadError, ssl.SSLZeroReturnError):
        while part := client.read(65536):
            parts.append(part)
    return b"".join(parts)


async def test_the_end_is_said_in_tls_too() -> None:
    def ask(port: int) -> bytes:
        with (
            socket.create_connection(("127.0.0.1", port)) as raw,
            trusting().wrap_socket(
                raw, server_hostname="localhost", suppress_ragged_eofs=False
            ) as secured,
        ):
            secured.sendall(LAST)
            parts = []
            while part := secured.recv(4096):
                parts.append(part)
            return b"".join(parts)

    async with secured() as (server, _):
        assert b"200 OK" in await asyncio.to_thread(ask, server.port)


class Pausing(asyncio.Protocol):
    """It takes one piece, and no more until it is told."""

    def __init__(self) -> None:
        self.got: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.got.append(data)
        if len(self.got) == 1:
            self.transport.pause_reading()


async def test_who_takes_no_more_is_given_no_more() -> None:
    served_by, table, tls = Pausing(), Connections(ConnectionLimits(connections=4)), pki().server()
    with ThreadPoolExecutor(1) as thread:
        handshakes = Handshakes(thread)
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: TlsConnection(served_by, lambda: tls, handshakes, table), "127.0.0.1", 0
        )
        port = server.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("localhost", port, ssl=trusting())
        for _ in range(100):
            writer.write(b"x")
        await until(lambda: served_by.got)
        assert served_by.got == [b"x"]
        served_by.transport.resume_reading()
        await until(lambda: len(served_by.got) == 100)
        writer.close()
        server.close()
        await until(lambda: served_by.transport.is_closing())


async def test_a_handshake_that_fails_is_said(caplog: pytest.LogCaptureFixture) -> None:
    tls = pki().server(client_auth="RequireAndVerifyClientCert", client_authorities=pki().authority)
    async with secured(tls) as (server, _):
        with suppress(ssl.SSLError, ConnectionError):
            await ask(server)
        said = "TLS handshake failed: peer did not return a certificate"
        await until(lambda: said in caplog.text)
        assert caplog.text.count(said) == 1
