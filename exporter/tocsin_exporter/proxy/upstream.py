"""Connections to the engine behind the proxy: kept open, one request at a time on each.

What comes is handed on as it comes, in the same turn of the loop: no task wakes for a chunk. The
parser (llhttp) reads along, because a connection may serve the next request only after an answer
that was framed well; a head is cut off by us, so that a body passes as it stands on the wire.
"""

import asyncio
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import httptools

from tocsin_exporter.tasks import Turnstile

_MOST_HEAD_BYTES = 64 << 10
_HEAD_END = b"\r\n\r\n"
# Engines close an idle connection after 5 s (uvicorn, cpp-httplib): who is quicker meets no race.
_IDLE_SECONDS = 2.5
_MOST_IDLE = 128
_BODILESS = frozenset((204, 304))

Headers = Sequence[tuple[bytes, bytes]]


class UpstreamFault(Exception):
    """The engine cannot be reached, went away in the middle, or does not speak HTTP."""


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """`delimited`: its end shows, by Content-Length or chunks; else only by the connection's."""

    status: int
    reason: bytes
    headers: Headers
    chunked: bool
    delimited: bool


class AnswerReceiver(Protocol):
    """Who asked. `passed` gets bytes as they came, and the contents in them."""

    def begin(self, head: ResponseHead) -> None: ...

    def passed(self, raw: bytes, contents: Sequence[bytes]) -> None: ...

    def ended(self) -> None: ...

    def failed(self, fault: UpstreamFault) -> None: ...


@dataclass
class _AnswerState:
    """What the parser has said of the answer that is being read."""

    head: bytes = b""
    begun: ResponseHead | None = None
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    reason: bytes = b""
    contents: list[bytes] = field(default_factory=list)
    complete: bool = False
    excess: bool = False  # more came than the answer
    keeps: bool = False  # the engine keeps the connection open after it


class UpstreamConnection(asyncio.Protocol):
    """One connection; `release` takes it back when an answer has ended and another may follow."""

    def __init__(
        self,
        release: Callable[["UpstreamConnection"], None],
        lost: Callable[["UpstreamConnection"], None],
    ) -> None:
        self.used = False  # by an earlier request
        self.idle_since = 0.0
        self._release, self._lost = release, lost
        self._transport: asyncio.Transport
        self._receiver: AnswerReceiver | None = None
        self._answer = _AnswerState()
        self._parser: httptools.HttpResponseParser
        self._no_body = self._sent = False
        self._gate = Turnstile()

    @property
    def closing(self) -> bool:
        return self._transport.is_closing()

    @property
    def answering(self) -> bool:
        """Whether anything of the answer has come."""
        return bool(self._answer.head) or self._answer.begun is not None

    def ask(self, head: bytes, receiver: AnswerReceiver, no_body: bool) -> None:
        """Send a request's head; `no_body`: it asks for a head alone."""
        self._receiver, self._no_body, self._sent = receiver, no_body, False
        self._expect()
        self._transport.write(head)

    async def send(self, data: bytes) -> None:
        """A piece of the request's body; waits while the engine takes none."""
        if data and not self._transport.is_closing():
            self._transport.write(data)
        await self._gate.passes()

    def sent(self) -> None:
        """The request is whole."""
        self._sent = True

    def pause(self) -> None:
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def abort(self) -> None:
        """End it now: an engine stops working for who has gone."""
        self._receiver = None
        self._transport.abort()

    # of asyncio

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def pause_writing(self) -> None:
        self._gate.shut()

    def resume_writing(self) -> None:
        self._gate.open()

    def connection_lost(self, exc: Exception | None) -> None:
        self._gate.open()
        self._lost(self)
        receiver, begun = self._receiver, self._answer.begun
        self._receiver = None
        if receiver is None:
            return
        if begun is not None and not begun.delimited and exc is None:
            receiver.ended()
        else:
            when = "in the middle of its answer" if begun else "before it answered"
            receiver.failed(UpstreamFault(f"the engine closed the connection {when}"))

    def data_received(self, data: bytes) -> None:
        if self._receiver is None:  # nobody has asked
            self._transport.abort()
            return
        try:
            self._read(data, self._receiver)
        except (httptools.HttpParserError, UpstreamFault) as error:
            self._fail(f"the engine's answer is not HTTP: {error}")

    def _read(self, data: bytes, receiver: AnswerReceiver) -> None:
        if self._answer.begun is None:
            data = self._read_head(data, receiver)
        answer = self._answer
        if data and answer.begun is not None:
            if not answer.complete:
                self._parser.feed_data(data)
            if answer.excess or self._bodiless(answer.begun):
                self._fail("the engine sent more than its answer")
                return
            contents, answer.contents = answer.contents, []
            receiver.passed(data, contents)
        if answer.complete:
            self._end(receiver)

    def _read_head(self, data: bytes, receiver: AnswerReceiver) -> bytes:
        """What follows the head in `data`; nothing while it is not whole. Interim answers (1xx) are
        skipped: the client was told to go on by us."""
        rest = self._answer.head + data
        while (end := rest.find(_HEAD_END)) >= 0:
            end += len(_HEAD_END)
            self._parser.feed_data(rest[:end])
            rest, status = rest[end:], self._parser.get_status_code()
            if status >= 200:
                self._begin(status, receiver)
                return rest
            if status == 101:
                raise UpstreamFault("it switches protocols, which nobody asked for")
            if status < 100:
                raise UpstreamFault(f"{status} is no status")
            self._expect()
        if len(rest) > _MOST_HEAD_BYTES:
            raise UpstreamFault(f"its head is longer than {_MOST_HEAD_BYTES:,} bytes")
        self._answer.head = rest
        return b""

    def _begin(self, status: int, receiver: AnswerReceiver) -> None:
        answer = self._answer
        named = {name.lower(): value.lower() for name, value in answer.headers}
        chunked = named.get(b"transfer-encoding", b"").endswith(b"chunked")
        delimited = chunked or b"content-length" in named or self._no_body or status in _BODILESS
        head = ResponseHead(status, answer.reason, answer.headers, chunked, delimited)
        answer.begun, answer.head = head, b""
        answer.complete = delimited and (answer.complete or self._bodiless(head))
        receiver.begin(head)

    def _bodiless(self, head: ResponseHead) -> bool:
        return self._no_body or head.status in _BODILESS

    def _end(self, receiver: AnswerReceiver) -> None:
        reusable = self._answer.keeps and self._sent
        self._receiver = None
        if reusable and not self._transport.is_closing():
            self._transport.resume_reading()
            self.used = True
            self._release(self)
        else:
            self._transport.abort()
        receiver.ended()

    def _fail(self, why: str) -> None:
        receiver, self._receiver = self._receiver, None
        self._transport.abort()
        if receiver is not None:
            receiver.failed(UpstreamFault(why))

    def _expect(self) -> None:
        self._answer = _AnswerState()
        self._parser = httptools.HttpResponseParser(self)

    # of the parser

    def on_message_begin(self) -> None:
        self._answer.excess = self._answer.begun is not None

    def on_status(self, reason: bytes) -> None:
        self._answer.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._answer.begun is None:  # what follows the body passes as it stands
            self._answer.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._answer.keeps = self._parser.should_keep_alive()

    def on_body(self, content: bytes) -> None:
        self._answer.contents.append(content)

    def on_message_complete(self) -> None:
        self._answer.complete = True


@dataclass(frozen=True, slots=True)
class UpstreamAddress:
    """Where the engine is. `base` is a path that goes before that of each request."""

    host: str
    port: int
    base: str = ""
    tls: ssl.SSLContext | None = None

    @property
    def target(self) -> str:
        """host:port and path, the label of its series, as the agent has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}{self.base}"

    @property
    def url(self) -> str:
        return f"{'http' if self.tls is None else 'https'}://{self.target}"


class Upstream:
    """The connections to one engine; `connect_seconds` bounds a new one."""

    def __init__(self, address: UpstreamAddress, connect_seconds: float = 5.0) -> None:
        self.address = address
        self.connect_seconds = connect_seconds
        self.open: set[UpstreamConnection] = set()
        self.connects = 0
        self._idle: list[UpstreamConnection] = []
        self._looking: asyncio.TimerHandle | None = None

    async def take(self, fresh: bool = False) -> UpstreamConnection:
        """An idle connection, or a new one. Raises UpstreamFault."""
        while self._idle and not fresh:
            connection = self._idle.pop()
            if not connection.closing:
                return connection
        loop, address = asyncio.get_running_loop(), self.address
        make = partial(UpstreamConnection, self._release, self._forget)
        try:
            async with asyncio.timeout(self.connect_seconds):
                _, connection = await loop.create_connection(
                    make, address.host, address.port, ssl=address.tls
                )
        except TimeoutError:
            raise UpstreamFault(f"no connection within {self.connect_seconds:g} s") from None
        except OSError as error:
            raise UpstreamFault(error.strerror or type(error).__name__) from error
        self.connects += 1
        self.open.add(connection)
        return connection

    def close(self) -> None:
        for connection in list(self.open):
            connection.abort()
        if self._looking is not None:
            self._looking.cancel()

    def _release(self, connection: UpstreamConnection) -> None:
        loop = asyncio.get_running_loop()
        connection.idle_since = loop.time()
        self._idle.append(connection)
        if len(self._idle) > _MOST_IDLE:
            self._idle.pop(0).abort()
        if self._looking is None:
            self._looking = loop.call_later(_IDLE_SECONDS / 2, self._look)

    def _look(self) -> None:
        """End those that were idle for too long, the oldest first."""
        loop = asyncio.get_running_loop()
        self._looking = None
        old = loop.time() - _IDLE_SECONDS
        while self._idle and self._idle[0].idle_since <= old:
            self._idle.pop(0).abort()
        if self._idle:
            self._looking = loop.call_later(_IDLE_SECONDS / 2, self._look)

    def _forget(self, connection: UpstreamConnection) -> None:
        self.open.discard(connection)
        with suppress(ValueError):
            self._idle.remove(connection)
