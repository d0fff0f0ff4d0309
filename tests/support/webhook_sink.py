"""A real HTTP receiver on a free port of the loopback, which answers as it is told."""

import asyncio
import json
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass(frozen=True)
class Received:
    """`at` is the wall clock's time of arrival in seconds; header names are in lower case."""

    at: float
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b"ok"

    def encoded(self) -> bytes:
        headers = {"Content-Length": str(len(self.body)), "Connection": "close", **self.headers}
        lines = [f"HTTP/1.1 {self.status} said", *(f"{k}: {v}" for k, v in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode() + self.body


Misbehaviour = Callable[[asyncio.StreamWriter], Awaitable[None]]

_TURNS = 5  # from an accepted connection to its first turn in `_serve`; one is to spare


async def stop_accepting(server: asyncio.Server) -> None:
    """What the server has accepted has its handler after this. `Server.close` alone loses such a
    connection: its transport fails in `Server._attach`, and nobody closes it any more."""
    for listening in server.sockets:
        asyncio.get_running_loop().remove_reader(listening)
    for _ in range(_TURNS):
        await asyncio.sleep(0)


class WebhookSink:
    """`answers` are given in turn, then `usual` for ever; a coroutine function may misbehave."""

    def __init__(
        self,
        *answers: Answer | Misbehaviour,
        usual: Answer | Misbehaviour | None = None,
        tls: ssl.SSLContext | None = None,
        port: int = 0,
    ) -> None:
        self.requests: list[Received] = []
        self.answers = list(answers)
        self.usual: Answer | Misbehaviour = usual or Answer()
        self.port = port
        self._tls = tls
        self._arrived = asyncio.Condition()
        self._open: set[asyncio.Task[Any]] = set()

    @property
    def url(self) -> str:
        return f"http{'s' if self._tls else ''}://localhost:{self.port}/hook"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", self.port, ssl=self._tls
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await stop_accepting(self._server)
        self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await asyncio.sleep(0)  # their transports close

    async def wait_for(self, count: int, within: float = 5.0) -> list[Received]:
        """The requests once there are `count`; raises TimeoutError."""
        async with asyncio.timeout(within), self._arrived:
            await self._arrived.wait_for(lambda: len(self.requests) >= count)
        return list(self.requests)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                await self._answer(await _request(reader), writer)
        except asyncio.CancelledError:  # the sink closes; the connection goes with it
            pass
        finally:
            self._open.discard(task)
            writer.close()

    async def _answer(self, request: Received, writer: asyncio.StreamWriter) -> None:
        self.requests.append(request)
        async with self._arrived:
            self._arrived.notify_all()
        answer = self.answers.pop(0) if self.answers else self.usual
        if isinstance(answer, Answer):
            writer.write(answer.encoded())
            await writer.drain()
        else:
            await answer(writer)


async def _request(reader: asyncio.StreamReader) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = head[0].split(" ", 2)
    pairs = (line.split(":", 1) for line in head[1:] if line)
    headers = {name.strip().lower(): value.strip() for name, value in pairs}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Received(time.time(), method, path, headers, body)
