"""The server's bounds on its clients, over real sockets; time is short here, and taken from it."""

import asyncio
import logging
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
import uvloop
from starlette.responses import PlainTextResponse, Response

from tocsin_exporter.connections import ConnectionLimits, Connections
from tocsin_exporter.http_server import ServerConfig, by_unix_socket
from tocsin_exporter.relative_redirects import App, Receive, RelativeRedirects, Scope, Send

HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
PARTING = b"the server is ending\n"
SHORT = ConnectionLimits(
    connections=64, head_seconds=1, body_seconds=1, read_seconds=1, idle_seconds=2
)


@dataclass
class Served:
    port: int
    table: Connections
    scopes: list[Scope]
    gone: list[str]


@asynccontextmanager
async def served(
    limits: ConnectionLimits | None = None,
    listener: socket.socket | None = None,
    app: App | None = None,
    first: Callable[[Connections], Callable[..., Any] | None] = lambda table: None,
) -> AsyncIterator[Served]:
    """`app`, or one that reads all of a request and answers its length; `/big` with 16 MiB, `/slow`
    never, `/there/` with a redirect."""
    listener = listener or socket.create_server(("127.0.0.1", 0))
    table = Connections(limits or ConnectionLimits(connections=64))
    state = Served(0 if listener.family == socket.AF_UNIX else listener.getsockname()[1],
                   table, [], [])  # fmt: skip

    async def usual(scope: Scope, receive: Any, send: Any) -> None:
        state.scopes.append(scope)
        length, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                state.gone.append(scope["path"])
                return
            length, more = length + len(message["body"]), message["more_body"]
        if scope["path"] == "/slow":
            await receive()
            state.gone.append(scope["path"])
            return
        body = b"x" * (16 << 20) if scope["path"] == "/big" else b"%d" % length
        status, headers = 200, [(b"content-length", b"%d" % len(body))]
        if scope["path"] == "/there/":
            headers.append((b"location", b"http://evil.example//there?a=b"))
            status = 307
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    parting = PlainTextResponse(PARTING, 503)
    server = uvicorn.Server(ServerConfig(app or usual, table, 1, parting, first(table)))

    def serve() -> None:  # on the loop that the servers have
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(server.serve([listener]))

    serving = asyncio.create_task(asyncio.to_thread(serve))
    while not server.started:
        await asyncio.sleep(0.005)
    try:
        yield state
    finally:
        server.should_exit = True
        await serving


async def exchange(port: int, *pieces: bytes, read: bool = True) -> bytes:
    """All that comes back until the server closes, whatever becomes of what is sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        return await asyncio.wait_for(reader.read(), 30) if read else b""
    except ConnectionError:
        return await reader.read()
    finally:
        writer.close()


async def until(true: Callable[[], object], within: float = 10.0) -> None:
    async with asyncio.timeout(within):
        while not true():
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("pieces", "status"),
    [
        ([HEAD + b"A: " + b"x" * 6_000_000], 431),
        ([HEAD + b"A: ", *[b"x" * 10_000] * 50], 431),
        ([HEAD + b"x" * 6_000_000], 431),
        ([HEAD + b"A: " + b"x" * 40_000 + b"\r\nB: " + b"x" * 40_000 + b"\r\n\r\n"], 431),
        ([HEAD + b"A: 1\r\n" * 101 + b"\r\n"], 431),
        ([b"\r\n" * 1_000_000], 431),
        ([b"GET /" + b"x" * 17_000 + b" HTTP/1.1\r\n"], 414),
        ([b"GET /?a=" + b"x" * 6_000_000], 414),
        ([b"GET /?a=", *[b"x" * 1_000] * 17], 414),
        ([CHUNKED + b"3\r\nabc\r\n0\r\nX: " + b"x" * 6_000_000], 431),
        ([CHUNKED + b"3\r\nabc\r\n0\r\n" + b"X: y\r\n" * 500_000], 431),
        ([CHUNKED + b"3;" + b"x" * 6_000_000], 431),
        ([CHUNKED + b"1\r\na\r\n" * 5_000], 413),
        ([CHUNKED, *[b"5\r\n\r\n\r\na\r\n" * 5_000] * 20], 413),
        ([b"\x16\x03\x01\x02\x00\x01"], 400),
        ([b"GET / HTTP/1.1\r\nA: b\r\n\r\n"], 400),
        ([HEAD + b"HOST: b\r\n\r\n"], 400),
        ([b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n"], 400),
        ([CHUNKED.replace(b": ch", b": gzip, ch") + b"1\r\na\r\n0\r\n\r\n"], 501),
        ([CHUNKED.replace(b"Tr", b"Transfer-Encoding: chunked\r\nTr")], 400),
        ([b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n"], 400),
        ([b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"], 400),
        ([b"GET / HTTP/2.0\r\nHost: a\r\n\r\n"], 505),
        ([b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n"], 400),
    ],
)
async def test_what_is_too_long_or_no_request_is_answered_and_ended(
    pieces: list[bytes], status: int
) -> None:
    async with served() as server:
        answer = await exchange(server.port, *pieces)
        assert answer.startswith(b"HTTP/1.1 %d " % status), answer[:200]
        assert answer.count(b"HTTP/1.1") == 1
        assert b"\r\nconnection: close\r\n" in answer
        assert server.table.bad_requests[status] == 1
        await until(lambda: len(server.table) == 0)


@pytest.mark.parametrize(
    ("request_", "length"),
    [
        (HEAD + b"Connection: close\r\nA: " + b"x" * 60_000 + b"\r\n\r\n", 0),
        (b"GET /?a=" + b"x" * 16_000 + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 0),
        (HEAD + b"Connection: close\r\n" + b"A: 1\r\n" * 98 + b"\r\n", 0),
        (HEAD.replace(b"GET", b"POST") + b"Connection: close\r\nContent-Length: 3000000\r\n\r\n"
         + b"x" * 3_000_000, 3_000_000),
        (CHUNKED.replace(b"Host", b"Connection: close\r\nHost") + b"1\r\na\r\n" * 4_000
         + b"0\r\nTrailer: 1\r\n\r\n", 4_000),
        (CHUNKED.replace(b"Host", b"Connection: close\r\nHost")
         + (b"20\r\n" + b"\r\n\r\n" * 8 + b"\r\n") * 100_000 + b"0\r\n\r\n", 3_200_000),
        (HEAD + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n", 0),
        (b"GET / HTTP/1.0\r\n\r\n", 0),
        (CHUNKED.replace(b"chunked\r\n", b"Chunked\r\nConnection: close\r\n")
         + b"1\r\na\r\n0\r\n\r\n", 1),
    ],
)  # fmt: skip
async def test_what_is_just_short_enough_is_served(request_: bytes, length: int) -> None:
    async with served(SHORT) as server:
        answer = await exchange(server.port, request_)
        assert answer.startswith(b"HTTP/1.1 200 "), answer[:200]
        assert answer.endswith(b"\r\n\r\n%d" % length)
        assert (b"trailer", b"1") not in server.scopes[0]["headers"]
        assert not server.table.bad_requests.total()


async def test_a_request_that_begins_in_the_same_piece_as_another_ends_is_whole() -> None:
    """What came before it in the piece does not count as its head."""
    before = HEAD.replace(b"GET", b"POST") + b"Content-Length: 250000\r\n\r\n" + b"x" * 250_000
    after = HEAD + b"Connection: close\r\nA: " + b"x" * 50_000 + b"\r\n\r\n"
    async with served() as server:
        answer = await exchange(server.port, before + after[:40_000], after[40_000:])
        assert answer.count(b"HTTP/1.1 200 ") == 2


def request(method: str, path: str, body: bytes = b"") -> bytes:
    return (
        f"{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body
    )


UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n"
INNER = b"POST /inner HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize("upgrade", [UPGRADE, UPGRADE.replace(b"h2c", b"websocket")])
@pytest.mark.parametrize("cut", [1, 40, 100_000])
@pytest.mark.parametrize(
    ("framing", "body", "length"),
    [
        (b"Content-Length: %d\r\n" % len(INNER), INNER, len(INNER)),
        (b"Content-Length: 300000\r\n", (INNER * 6_000)[:300_000], 300_000),
        (b"Content-Length: 0\r\n", b"", 0),
        (b"", b"", 0),
        (b"Transfer-Encoding: chunked\r\n",
         b"%x\r\n%s\r\n2;a=b\r\n\r\n\r\n0\r\nTrailer: 1\r\n\r\n" % (len(INNER), INNER),
         len(INNER) + 2),
    ],
)  # fmt: skip
async def test_the_body_of_a_request_for_another_protocol_is_its_body_and_no_request(
    upgrade: bytes, framing: bytes, body: bytes, length: int, cut: int
) -> None:
    """It was taken for the next request, without what a proxy had said of the one around it."""
    sent = b"POST /outer HTTP/1.1\r\nHost: a\r\n" + upgrade + framing + b"\r\n" + body
    last = b"POST /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n\r\nxx"
    pieces = [sent[begin : begin + cut] for begin in range(0, min(len(sent), 2000), cut)]
    async with served(SHORT) as server:
        answers = await exchange(server.port, *pieces, sent[len(b"".join(pieces)) :] + last)
        assert [scope["path"] for scope in server.scopes] == ["/outer", "/last"]
        assert answers.count(b"HTTP/1.1 200 ") == 2
        assert b"\r\n\r\n%dHTTP" % length in answers
        assert answers.endswith(b"\r\n\r\n2")
        assert server.table.bad_requests.total() == 0
        assert (b"trailer", b"1") not in server.scopes[1]["headers"]


@pytest.mark.parametrize(
    ("framing", "status"),
    [
        (b"Content-Length: 3\r\nContent-Length: 4\r\n", 400),
        (b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", 400),
        (b"Transfer-Encoding: chunked, gzip\r\n", 400),
        (b"Transfer-Encoding: gzip, chunked\r\n", 501),
        (b"Content-Length: x\r\n", 400),
    ],
)
async def test_a_request_for_another_protocol_has_the_rules_of_others_for_its_body(
    framing: bytes, status: int
) -> None:
    async with served() as server:
        sent = b"POST / HTTP/1.1\r\nHost: a\r\n" + UPGRADE + framing + b"\r\nxxxx" + INNER
        answer = await exchange(server.port, sent)
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert "/inner" not in [scope["path"] for scope in server.scopes]


async def test_of_many_requests_at_once_each_begins_when_the_one_before_was_answered() -> None:
    running: list[int] = []
    most: list[int] = []
    asked: list[str] = []

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        running.append(1)
        message = await receive()
        most.append(len(running))
        asked.append(scope["path"])
        await asyncio.sleep(0)
        body = b"<%s%d>" % (scope["path"].encode(), len(message["body"]))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        running.pop()
        await send({"type": "http.response.body", "body": body})

    bodies = [b"", b"x" * 30, b"\r\n\r\n" * 9, b"GET /no HTTP/1.1\r\n\r\n"]
    sent = b"".join(request("POST", f"/{n}", bodies[n % 4]) for n in range(500))
    end = b"GET /end HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    for cut in (0, 1, len(sent) // 2, len(sent) - 2):
        asked.clear()
        async with served(app=app) as server:
            got = await exchange(server.port, sent[:cut], sent[cut:] + end)
            assert asked == [*(f"/{n}" for n in range(500)), "/end"]
            assert set(most) == {1}
            assert got.count(b"HTTP/1.1 200 ") == 501
            assert b"</499%d>" % len(bodies[3]) in got


async def test_who_reads_no_answer_has_no_more_requests_taken() -> None:
    async with served() as server:
        client = socket.create_connection(("127.0.0.1", server.port))
        client.setblocking(False)
        sent = refused = 0
        while sent < 60_000_000 and refused < 200:  # others are served meanwhile
            try:
                sent += client.send(request("GET", "/a") * 20_000)
                refused = 0
            except BlockingIOError:
                refused += 1
                await exchange(server.port, HEAD + b"Connection: close\r\n\r\n")
        assert sent < 30_000_000
        client.close()


async def test_no_request_begins_while_the_answer_before_it_is_not_taken() -> None:
    async with served() as server:
        client = socket.create_connection(("127.0.0.1", server.port))
        client.sendall(request("GET", "/big") * 3)
        for _ in range(10):
            await exchange(server.port, HEAD + b"Connection: close\r\n\r\n")
        assert [scope["path"] for scope in server.scopes].count("/big") == 1
        client.close()


async def test_within_a_body_of_many_chunks_others_have_their_turn() -> None:
    """The app is one of them: it gets the body in parts."""
    parts: list[int] = []

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        more = True
        while more:
            message = await receive()
            parts.append(len(message["body"]))
            more = message.get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"all"})

    chunks = (b"20\r\n" + b"x" * 32 + b"\r\n") * 100_000 + b"0\r\n\r\n"
    async with served(app=app) as server:
        answer = await exchange(
            server.port, CHUNKED.replace(b"Host", b"Connection: close\r\nHost") + chunks
        )
    assert b" 200 " in answer
    assert sum(parts) == 3_200_000
    assert max(parts) < 150_000


async def test_the_trailers_of_one_request_do_not_count_as_the_head_of_the_next() -> None:
    before = CHUNKED + b"1\r\na\r\n0\r\nT: " + b"x" * 40_000 + b"\r\n\r\n"
    after = HEAD + b"Connection: close\r\nA: " + b"x" * 40_000 + b"\r\n\r\n"
    async with served() as server:
        assert (await exchange(server.port, before, after)).count(b"HTTP/1.1 200 ") == 2


@pytest.mark.parametrize(
    ("sent", "answer", "reason"),
    [
        (HEAD, b"HTTP/1.1 408 ", "slow_request"),
        (b"G", b"HTTP/1.1 408 ", "slow_request"),
        (CHUNKED + b"3\r\nabc\r\n", b"HTTP/1.1 408 ", "slow_request"),
        (HEAD.replace(b"GET", b"POST") + b"Content-Length: 9\r\n\r\nx", b"HTTP/1.1 408 ",
         "slow_request"),
        (b"", b"", "idle"),
        (b"\r\n", b"", "idle"),
        (HEAD + b"\r\n", b"HTTP/1.1 200 ", "idle"),
    ],
)  # fmt: skip
async def test_whoever_takes_too_long_is_let_go(sent: bytes, answer: bytes, reason: str) -> None:
    async with served(SHORT) as server:
        assert (await exchange(server.port, sent)).startswith(answer)
        assert server.table.closed == {**dict.fromkeys(server.table.closed, 0), reason: 1}
        await until(lambda: len(server.table) == 0)
        assert server.gone == ([] if not sent.startswith(b"POST") else ["/"])


async def test_a_head_that_comes_byte_by_byte_has_no_more_time() -> None:
    async def dribble(writer: asyncio.StreamWriter) -> None:
        for byte in b"A: " + b"x" * 1000:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.1)

    async with served(SHORT) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(HEAD)
        dribbling = asyncio.create_task(dribble(writer))
        assert (await asyncio.wait_for(reader.read(), 10)).startswith(b"HTTP/1.1 408 ")
        dribbling.cancel()
        writer.close()


async def test_who_reads_nothing_of_the_answer_is_let_go_and_the_memory_with_him() -> None:
    async with served(SHORT) as server:
        client = socket.create_connection(("127.0.0.1", server.port))
        client.setblocking(False)
        client.sendall(HEAD.replace(b"/ ", b"/big ") + b"\r\n")
        await until(lambda: len(server.table) == 1)
        await until(lambda: len(server.table) == 0)
        assert server.table.closed["slow_reader"] == 1
        client.close()


async def test_who_reads_slowly_gets_all_of_it() -> None:
    async with served(SHORT) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(HEAD.replace(b"/ ", b"/big ") + b"Connection: close\r\n\r\n")
        size = 0
        while piece := await reader.read(1 << 20):
            size += len(piece)
            await asyncio.sleep(0.02)
        writer.close()
        assert size > 16 << 20


async def test_who_reads_slowly_gets_all_of_it_on_a_connection_that_stays_open() -> None:
    """It was cut in the middle of the answer, as idle: the server had written the last of it."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
    async with served(SHORT) as server:
        client.connect(("127.0.0.1", server.port))
        reader, writer = await asyncio.open_connection(sock=client)
        writer.write(HEAD.replace(b"/ ", b"/big ") + b"\r\n")
        loop = asyncio.get_running_loop()
        began, size = loop.time(), 0
        while size < 16 << 20 and (piece := await reader.read(256 << 10)):
            size += len(piece)
            await asyncio.sleep(0.07 if loop.time() - began < 4 else 0)
        assert size >= 16 << 20
        assert loop.time() - began >= 4
        await until(lambda: server.table.closed["idle"] == 1)
        writer.close()


async def test_a_request_that_was_kept_back_is_answered_however_long_that_takes() -> None:
    """It was cut when the connection would have been idle, had it not been sent already."""
    async with served(SHORT) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(request("GET", "/first") + request("GET", "/slow"))
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        closed = asyncio.create_task(reader.read())
        await asyncio.wait([closed], timeout=4)
        assert not closed.done()
        writer.close()
        await closed


async def half_closed(port: int, sent: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    writer.write_eof()
    answer = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    return answer


async def test_who_ends_its_side_after_its_requests_gets_all_answers() -> None:
    """`nc -N` got nothing of what takes more than a turn of the loop."""

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        message = await receive()
        for _ in range(50):
            await asyncio.sleep(0.001)
        length = b"%d" % (2 << 20)
        headers = [(b"content-length", length), (b"at", scope["path"].encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"x" * (2 << 20)})
        assert message["type"] == "http.request"

    async with served(app=app) as server:
        answers = await half_closed(server.port, request("GET", "/a") + request("POST", "/b", b"x"))
        assert [answers.count(at) for at in (b"at: /a\r\n", b"at: /b\r\n")] == [1, 1]
        assert len(answers) > 4 << 20
        await until(lambda: len(server.table) == 0)


async def test_an_answer_that_has_begun_is_ended_for_who_ended_its_side() -> None:
    async def app(scope: Scope, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(2.5)
        await send({"type": "http.response.body", "body": b"late"})

    async with served(app=app) as server:
        assert b"late" in await half_closed(server.port, request("GET", "/"))


async def test_who_has_gone_is_not_worked_for_and_half_a_body_is_no_request() -> None:
    async with served() as server:
        loop = asyncio.get_running_loop()
        began = loop.time()
        slow = asyncio.create_task(half_closed(server.port, request("GET", "/slow")))
        await until(lambda: server.scopes)
        assert await half_closed(server.port, request("POST", "/half", b"x" * 9)[:-1]) == b""
        assert await slow == b""
        assert loop.time() - began >= 1.9
        await until(lambda: server.gone == ["/half", "/slow"])
        await until(lambda: len(server.table) == 0)


async def test_a_request_that_is_being_answered_has_no_deadline_here() -> None:
    async with served(SHORT) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(HEAD.replace(b"/ ", b"/slow ") + b"\r\n")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(), 4)
        writer.close()
        await until(lambda: server.gone == ["/slow"])


async def test_idle_connections_make_room_and_busy_ones_do_not() -> None:
    limits = ConnectionLimits(connections=8)
    async with served(limits) as server:
        idle = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(40)]
        await until(lambda: len(server.table) == 4 and server.table.closed["evicted"] == 36)
        assert b" 200 " in await exchange(server.port, HEAD + b"Connection: close\r\n\r\n")
        busy = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(4)]
        for _, writer in busy:
            writer.write(HEAD.replace(b"/ ", b"/slow ") + b"\r\n")
        await until(lambda: [s["path"] for s in server.scopes].count("/slow") == 4)
        busy.append(await asyncio.open_connection("127.0.0.1", server.port))
        busy[-1][1].write(HEAD + b"\r\n")
        assert (await busy[-1][0].readline()).startswith(b"HTTP/1.1 503 ")
        assert server.table.refused["address"] == 1
        health = HEAD.replace(b"/ ", b"/-/healthy ") + b"\r\n"
        assert (await exchange(server.port, health)).startswith(b"HTTP/1.1 200 ")
        assert server.table.bad_requests.total() == 0
        for _, writer in [*idle, *busy]:
            writer.close()


async def test_who_asks_for_our_health_is_not_closed_for_a_crowd_that_says_nothing() -> None:
    """The crowd comes between the connection and its request."""

    async def connect(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", server.port, local_addr=(address, 0))

    slow, health = (HEAD.replace(b"/ ", path) + b"\r\n" for path in (b"/slow ", b"/-/healthy "))
    async with served(ConnectionLimits(connections=4)) as server:
        open_ = [await connect(f"127.0.0.{2 + number % 2}") for number in range(4)]
        for _, writer in open_:
            writer.write(slow)
        await until(lambda: len(server.scopes) == 4)
        checker = await connect("127.0.0.1")
        open_ += [await connect("127.0.0.4") for _ in range(40)]
        await until(lambda: server.table.closed["evicted"] == 33)
        checker[1].write(health)
        assert (await checker[0].readline()).startswith(b"HTTP/1.1 200 ")
        for _, writer in [*open_, checker]:
            writer.close()


async def test_a_trusted_address_of_ipv6_may_have_all() -> None:
    limits = ConnectionLimits(connections=4, spare=0, exempt=[ip_network("::1")])
    listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    async with served(limits, listener) as server:
        open_ = [await asyncio.open_connection("::1", server.port) for _ in range(4)]
        for _, writer in open_:
            writer.write(HEAD.replace(b"/ ", b"/slow ") + b"\r\n")
        await until(lambda: len(server.scopes) == 4)
        assert server.table.refused == {"full": 0, "address": 0}
        for _, writer in open_:
            writer.close()


async def test_bodies_that_do_not_come_make_room_and_the_longest_wait_is_the_first() -> None:
    half = HEAD.replace(b"GET", b"POST") + b"Content-Length: 9\r\n\r\nx"
    async with served(ConnectionLimits(connections=8)) as server:
        open_ = []
        for number in range(4):
            open_.append(await asyncio.open_connection("127.0.0.1", server.port))
            open_[-1][1].write(half)
            await until(lambda count=number: len(server.scopes) > count)  # type: ignore[misc]
        assert b" 200 " in await exchange(server.port, HEAD + b"Connection: close\r\n\r\n")
        assert (await open_[0][0].read()).startswith(b"HTTP/1.1 408 ")
        assert server.table.closed["evicted"] == 1
        open_[1][1].write(b"x" * 8)
        assert await open_[1][0].readline() == b"HTTP/1.1 200 OK\r\n"
        for _, writer in open_:
            writer.close()


async def test_no_redirect_names_a_host() -> None:
    async with served() as server, httpx2.AsyncClient() as client:
        answer = await client.get(
            f"http://127.0.0.1:{server.port}/there/", headers={"host": "evil.example"}
        )
        assert (answer.status_code, answer.headers["location"]) == (307, "/there?a=b")


@pytest.mark.parametrize(
    ("location", "sent"),
    [
        ("?done=ack", "?done=ack"),
        ("http://evil.example?a", "/?a"),
        ("//evil.example", "/"),
        ("/a?b=c", "/a?b=c"),
        ("a?b", "/a?b"),
    ],
)
async def test_another_query_of_the_same_page_stays_below_the_path_of_a_proxy(
    location: str, sent: str
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await Response(status_code=303, headers={"location": location})(scope, receive, send)

    transport = httpx2.ASGITransport(RelativeRedirects(app))
    async with httpx2.AsyncClient(transport=transport) as client:
        answer = await client.get("http://a/")
    assert answer.headers["location"] == sent


async def test_a_request_by_a_unix_socket_is_known_as_such(tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "a"))
    async with served(listener=listener) as server:
        transport = httpx2.AsyncHTTPTransport(uds=str(tmp_path / "a"))
        async with httpx2.AsyncClient(transport=transport) as client:
            assert (await client.get("http://localhost/")).text == "0"
        assert by_unix_socket(server.scopes[0])
        assert server.scopes[0]["client"] is None
    async with served() as server:
        await exchange(server.port, HEAD + b"Connection: close\r\n\r\n")
        assert not by_unix_socket(server.scopes[0])


async def test_what_is_sent_to_a_client_that_has_just_gone_is_no_fault(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its connection is reset while the app answers, before the loop can hear of it."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    reached: list[str] = []

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        client.close()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(10):
            await send({"type": "http.response.body", "body": b"x" * 9, "more_body": True})
        reached.append("the end")

    async with served(app=app) as server:
        client.connect(("127.0.0.1", server.port))
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await until(lambda: reached)
    assert not [one for one in caplog.records if one.exc_info]


async def test_requests_that_are_open_at_the_end_are_told_so_and_are_no_faults(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Some still send their body, one is in the middle of its answer; one line is for all."""
    begun = list[str]()

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        begun.append(scope["path"])
        if scope["path"] == "/begun":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"half", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass

    async with served(app=app) as server:
        sending = [
            asyncio.create_task(exchange(server.port, CHUNKED + b"1\r\na\r\n")) for _ in "123"
        ]
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /begun HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await reader.readuntil(b"half")).startswith(b"HTTP/1.1 200")
        await until(lambda: len(begun) == 4)
    for answer in await asyncio.gather(*sending):
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert answer.endswith(PARTING)
    assert await reader.read() == b"\r\n"
    writer.close()
    assert [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING] == [
        "Cancel 4 running task(s), timeout graceful shutdown exceeded"
    ]
