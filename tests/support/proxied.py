"""A proxy before an engine whose every byte the test decides, on free ports of the loopback."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import httpx2

from tocsin_exporter.clock import Clock
from tocsin_exporter.connections import ConnectionLimits, Connections
from tocsin_exporter.proxy.application import ProxyApp
from tocsin_exporter.proxy.server import ProxyOptions, application, proxy_server
from tocsin_exporter.proxy.upstream import UpstreamAddress

Answer = Callable[["EngineRequest", asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True)
class EngineRequest:
    """A request as the engine got it: the head as it stands, and the content of the body."""

    head: bytes
    body: bytes

    @property
    def path(self) -> str:
        return self.head.split(b" ", 2)[1].decode()


@dataclass
class Engine:
    """Counts what it gets; `open` connections, and how many `ended` before their answer did."""

    answer: Answer
    requests: list[EngineRequest] = field(default_factory=list)
    open: int = 0
    cut_off: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            while True:
                request = await _read(reader)
                self.requests.append(request)
                gone = asyncio.create_task(reader.read(1))
                work = asyncio.ensure_future(self.answer(request, writer))
                await asyncio.wait((gone, work), return_when=asyncio.FIRST_COMPLETED)
                if not work.done():
                    self.cut_off += 1
                    work.cancel()
                for task in (gone, work):
                    task.cancel()
                    with suppress(asyncio.CancelledError, ConnectionError):
                        await task
                if work.cancelled():
                    return
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            self.open -= 1
            writer.transport.abort()


async def _read(reader: asyncio.StreamReader) -> EngineRequest:
    head = await reader.readuntil(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
    if b"transfer-encoding" in fields:
        return EngineRequest(head, await _chunks(reader))
    return EngineRequest(head, await reader.readexactly(int(fields.get(b"content-length", 0))))


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int(await reader.readline(), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    while (await reader.readline()).strip():
        pass
    return body


@dataclass(frozen=True)
class Proxied:
    """What a test talks to."""

    app: ProxyApp
    engine: Engine
    port: int
    client: httpx2.AsyncClient

    def values(self) -> dict[str, float]:
        """Samples by name, and with their labels beside target and engine: `name{k=v}`."""
        found: dict[str, float] = {}
        for sample in self.app.samples():
            own = [f"{k}={v}" for k, v in sample.labels if k not in ("target", "engine")]
            name = sample.family.name + sample.suffix
            found[name + ("{" + ",".join(own) + "}" if own else "")] = sample.value
        return found

    def ended(self, status: str) -> float:
        return sum(
            sample.value
            for sample in self.app.samples()
            if sample.family.name == "llm_requests_total" and ("status", status) in sample.labels
        )

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not holds():
                await asyncio.sleep(0.005)


@asynccontextmanager
async def proxied(
    answer: Answer, options: Callable[[UpstreamAddress], ProxyOptions] = ProxyOptions
) -> AsyncIterator[Proxied]:
    engine = Engine(answer)
    upstream = await asyncio.start_server(engine.serve, "127.0.0.1", 0)
    address = UpstreamAddress("127.0.0.1", upstream.sockets[0].getsockname()[1])
    async with proxied_to(options(address)) as (app, port), _client(port) as client:
        yield Proxied(app, engine, port, client)
    upstream.close()
    async with asyncio.timeout(10):
        while engine.open:
            await asyncio.sleep(0.005)


def _client(port: int) -> httpx2.AsyncClient:
    limits = httpx2.Limits(max_connections=None)
    return httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30, limits=limits)


@asynccontextmanager
async def proxied_to(options: ProxyOptions) -> AsyncIterator[tuple[ProxyApp, int]]:
    """The proxy alone, and its port."""
    app, log = application(options, Clock())
    connections = Connections(ConnectionLimits(connections=options.most_connections))
    web = proxy_server(app, connections, 1, time.perf_counter)
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    serving = asyncio.create_task(web._serve([listener]))
    try:
        yield app, listener.getsockname()[1]
    finally:
        web.should_exit = True
        await serving
        app.upstream.close()
        await asyncio.sleep(0)  # what was aborted is closed in the next turn
        if log is not None:
            log.close(5.0)


async def exchange(port: int, *pieces: bytes, size: int | None = None) -> bytes:
    """What comes back for these bytes, until the connection ends, or until it is so long; without a
    size until it is silent for a moment."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        with suppress(TimeoutError, ConnectionError):
            patience = 0.3 if size is None else 10
            while got := await asyncio.wait_for(reader.read(65536), patience):
                answer += got
                if size is not None and len(answer) >= size:
                    break
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)
    return answer


def chunked(pieces: Sequence[bytes]) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
