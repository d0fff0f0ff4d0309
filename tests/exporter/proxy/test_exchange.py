"""Many exchanges at once, slow ones, and ones that either side breaks off in an odd way."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from support.proxied import EngineRequest, chunked, exchange, proxied, proxied_to
from tocsin_exporter.proxy.server import AccessLogOptions, ProxyOptions
from tocsin_exporter.proxy.upstream import UpstreamAddress

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
GET = b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n"
BUFFER = 64 << 10  # of the sockets of the two ends, asked for: the proxy's own are the kernel's
WHOLE = 40 << 20  # more than two sockets of the kernel's own measure hold (10 MiB)
HELD = 20 << 20


def logging_to(path: Path) -> Callable[[UpstreamAddress], ProxyOptions]:
    return lambda address: ProxyOptions(address, access_log=AccessLogOptions(path))


def small_buffers(sock: socket.socket) -> None:
    for kind in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, kind, BUFFER)


@asynccontextmanager
async def slow_client(
    port: int,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    sock = socket.socket()
    small_buffers(sock)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=BUFFER)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


class Sender:
    """Writes a body of WHOLE bytes, and knows how much of it was `taken`."""

    def __init__(self) -> None:
        self.taken = 0
        self.moved = asyncio.Event()

    async def send(self, writer: asyncio.StreamWriter) -> None:
        piece = bytes(range(256)) * 256
        while self.taken < WHOLE:
            writer.write(piece)
            await writer.drain()
            self.taken += len(piece)
            self.moved.set()

    async def held(self) -> int:
        """What was taken when no more is: nothing moved for a moment, or all of it has gone."""
        while self.taken < WHOLE:
            self.moved.clear()
            try:
                await asyncio.wait_for(self.moved.wait(), 0.25)
            except TimeoutError:
                break
        return self.taken


async def test_a_slow_reader_holds_the_engine_back_and_gets_every_byte() -> None:
    sender = Sender()

    async def large(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
        small_buffers(writer.get_extra_info("socket"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % WHOLE)
        await sender.send(writer)

    async with proxied(large) as proxy, slow_client(proxy.port) as (reader, writer):
        writer.write(GET)
        await sender.moved.wait()
        assert await sender.held() < HELD
        await reader.readuntil(b"\r\n\r\n")
        got = await reader.readexactly(WHOLE)
        assert got == bytes(range(256)) * (WHOLE // 256)


async def test_an_engine_that_takes_no_body_holds_the_client_back_until_it_does() -> None:
    sender, takes, got = Sender(), asyncio.Event(), bytearray()

    async def engine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await takes.wait()
        got.extend(await reader.readexactly(WHOLE))
        writer.write(OK)
        await writer.drain()
        writer.transport.abort()

    listener = socket.create_server(("127.0.0.1", 0))
    small_buffers(listener)
    async with await asyncio.start_server(engine, sock=listener, limit=BUFFER):
        options = ProxyOptions(UpstreamAddress("127.0.0.1", listener.getsockname()[1]))
        async with proxied_to(options) as (_, port), slow_client(port) as (reader, writer):
            writer.write(b"PUT /file HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % WHOLE)
            sending = asyncio.create_task(sender.send(writer))
            await sender.moved.wait()
            assert await sender.held() < HELD
            takes.set()
            await sending
            assert (await reader.readexactly(len(OK))) == OK
    assert got == bytes(range(256)) * (WHOLE // 256)


def event(model: str, word: str) -> bytes:
    said = {"model": model, "choices": [{"delta": {"content": word}}]}
    return b"data: %s\n\n" % json.dumps(said).encode()


def wire_of(number: int) -> bytes:
    """A stream that no other number has: its own words, pieces and trailer."""
    pieces = [event("smol", f"{number}.{n} " * (number % 7 + 1)) for n in range(number % 5 + 2)]
    usage = {"usage": {"prompt_tokens": number, "completion_tokens": len(pieces)}}
    end = b"data: %s\n\ndata: [DONE]\n\n" % json.dumps({"model": "smol", **usage}).encode()
    head = b"HTTP/1.1 200 Yes %d\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked"
    return head % number + b"\r\n\r\n" + chunked([*pieces, end])[:-2] + b"X-N: %d\r\n\r\n" % number


async def test_64_streams_at_once_pass_unchanged_and_leave_nothing() -> None:
    """The engine answers none before all have come, and each in pieces of a size of its own."""
    count, all_here, arrived = 64, asyncio.Event(), 0

    async def answer(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
        nonlocal arrived
        arrived += 1
        if arrived == count:
            all_here.set()
        await all_here.wait()
        number = json.loads(request.body)["n"]
        wire = wire_of(number)
        for begin in range(0, len(wire), 31 + number):
            writer.write(wire[begin : begin + 31 + number])
            await asyncio.sleep(0)

    async def ask(port: int, number: int) -> bytes:
        body = b'{"model": "smol", "stream": true, "n": %d}' % number
        head = b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body)
        return await exchange(port, head, body, size=len(wire_of(number)))

    async with proxied(answer) as proxy:
        got = await asyncio.gather(*(ask(proxy.port, n) for n in range(count)))
        assert got == [wire_of(n) for n in range(count)]
        await proxy.until(lambda: proxy.ended("success") == count)
        values = proxy.values()
        assert values["llm_requests_started_total"] == count
        assert values["tocsin_proxy_requests_total{client=-,code=200}"] == count
        assert values["llm_prompt_tokens_total{model_name=smol}"] == sum(range(count))
        generated = sum(n % 5 + 2 for n in range(count))
        assert values["llm_generation_tokens_total{model_name=smol}"] == generated
        assert values["llm_time_to_first_token_seconds_count{model_name=smol}"] == count
        assert values["llm_num_requests_running"] == values["llm_num_requests_waiting"] == 0
        assert proxy.app.upstream.connects == count
        again = await asyncio.gather(*(ask(proxy.port, n) for n in range(count)))
        assert again == got  # on the connections of before, which were all given back
        assert proxy.app.upstream.connects == count


async def test_the_lines_of_ollama_are_read_as_they_come(tmp_path: Path) -> None:
    """https://github.com/ollama/ollama/blob/main/docs/api.md: /api/chat, streamed."""
    seconds = 0.05

    def line(text: str, **more: object) -> bytes:
        message = {"role": "assistant", "content": text}
        said = {"model": "smol:135m", "message": message, "done": False, **more}
        return json.dumps(said).encode() + b"\n"

    done = {"done_reason": "length", "eval_count": 23, "prompt_eval_count": 11}
    lines = line("one ") + line("two ") + line("", done=True, **done)

    async def answer(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n"
        writer.write(head + b"Content-Length: %d\r\n\r\n" % len(lines) + lines[:10])
        await writer.drain()
        await asyncio.sleep(seconds)  # a line that is not whole has no token
        writer.write(lines[10:])

    async with proxied(answer, logging_to(tmp_path / "log")) as proxy:
        got = await proxy.client.post("/api/chat", json={"model": "smol:135m"})
        assert got.content == lines
        await proxy.until(lambda: proxy.ended("success") == 1)
        values = proxy.values()
    name = "{model_name=smol:135m}"
    assert values["llm_prompt_tokens_total" + name] == 11
    assert values["llm_generation_tokens_total" + name] == 23
    assert values["llm_time_to_first_token_seconds_count" + name] == 1
    assert values["llm_time_to_first_token_seconds_sum" + name] >= seconds * 0.9
    assert values["llm_inter_token_latency_seconds_count" + name] == 1
    assert values["llm_request_success_total{finished_reason=length,model_name=smol:135m}"] == 1
    logged = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert (logged[0]["finish_reason"], logged[0]["generation_tokens"]) == ("length", 23)


@pytest.mark.parametrize("line", [b"520 ", b"299", b"999 "])
async def test_a_status_without_a_name_passes(line: bytes) -> None:
    async def answer(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 " + line + b"\r\nContent-Length: 2\r\n\r\n{}")

    wire = b"HTTP/1.1 " + line[:3] + b" \r\nContent-Length: 2\r\n\r\n{}"
    async with proxied(answer) as proxy:
        assert await exchange(proxy.port, GET, size=len(wire)) == wire


async def test_a_status_that_is_none_is_a_502() -> None:
    async def answer(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 000 None\r\nContent-Length: 2\r\n\r\n{}")

    async with proxied(answer) as proxy:
        assert (await proxy.client.get("/v1/models")).status_code == 502


async def test_a_body_that_breaks_its_framing_frees_the_engine_at_once() -> None:
    """The client gets one refusal, and no answer of an engine that has seen half of a request."""
    head = (
        b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"
    )
    came, left = asyncio.Event(), asyncio.Event()

    async def engine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}\r\n")
        came.set()
        await reader.read()
        left.set()
        writer.transport.abort()

    async with await asyncio.start_server(engine, "127.0.0.1", 0) as server:
        options = ProxyOptions(UpstreamAddress("127.0.0.1", server.sockets[0].getsockname()[1]))
        async with proxied_to(options) as (app, port), slow_client(port) as (reader, writer):
            writer.write(head)
            await came.wait()
            writer.write(b"ZZ\r\n")
            answer = await asyncio.wait_for(reader.read(), 4)  # before the client has to leave
            await asyncio.wait_for(left.wait(), 4)
            assert answer.startswith(b"HTTP/1.1 400 ")
            assert answer.count(b"HTTP/1.1") == 1
            assert app.slots.running == 0


async def test_each_of_several_requests_sent_at_once_has_its_own_seconds_in_the_log(
    tmp_path: Path,
) -> None:
    async def answer(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.02)
        writer.write(OK)

    async with proxied(answer, logging_to(tmp_path / "log")) as proxy:
        await exchange(proxy.port, GET * 3, size=len(OK) * 3)
    logged = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [line["seconds"] >= 0.015 for line in logged] == [True] * 3


async def test_a_client_that_ends_its_side_is_no_error_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def never(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with proxied(never) as proxy:
        _, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(GET)
        await proxy.until(lambda: len(proxy.engine.requests) == 1)
        writer.write_eof()
        await proxy.until(lambda: proxy.engine.cut_off == 1 and proxy.engine.open == 0)
        writer.close()
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []
