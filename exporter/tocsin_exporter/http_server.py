"""The HTTP server of the agent, the exporter and the worker: uvicorn, with bounds on its clients.

uvicorn reads a request's head without end, waits for it without end, and keeps for ever what a
client does not read. Nothing but the standard library, uvicorn and httptools is imported here.
"""

import asyncio
import http
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from tocsin_exporter.connections import (
    BACKLOG,
    IDLE,
    SLOW_READER,
    SLOW_REQUEST,
    Connections,
    counted_address,
)

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_PIECE_BYTES = 16 << 10
_LINGER_SECONDS = 5.0
_GONE = "the handler is closed"  # uvloop's words until the protocol hears of the connection's end
_WORDS = {
    400: "this is no HTTP request",
    408: "the request did not come in time",
    414: "the URL is too long; send a query as a form in a POST",
    431: "the headers are too long or too many",
    503: "too many connections, try again later",
}


class Config(uvicorn.Config):
    """How all our servers serve `app`; `goodbye_seconds` is what open answers get at the end."""

    def __init__(self, app: App, connections: Connections, goodbye_seconds: int) -> None:
        super().__init__(
            RelativeRedirects(app),
            http=HttpProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # who connected is who asked, whatever the headers say
            backlog=min(BACKLOG, connections.limits.connections),
            timeout_keep_alive=int(connections.limits.idle_seconds),
            timeout_graceful_shutdown=goodbye_seconds,
        )
        self.connections = connections


def by_unix_socket(scope: Scope) -> bool:
    """Whether a request came by a Unix socket: its server has a path and no port."""
    server = scope.get("server")
    return server is not None and server[1] is None


class HttpProtocol(HttpToolsProtocol):
    """One connection: a request's head and body are bounded in size and time, its answer by how
    long nobody reads it."""

    config: Config

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        assert isinstance(config, Config)
        super().__init__(config, server_state, app_state, _loop)
        self.table, self.limits = config.connections, config.connections.limits
        self.address = ""
        self._idle_since = self._head_since = self._body_since = self._read_at = 0.0
        self._served = False
        self._head_bytes = 0  # of the request that is being read; then those of its trailers
        self._unparsed = 0  # bytes that the parser has taken and said nothing of
        self._status = 400  # of the refusal, should the parser fail
        self._buffered = 0
        self._over = False  # what still comes is thrown away

    # of asyncio

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.address = counted_address(self.client)
        self._idle_since = self._read_at = self.loop.time()
        if reason := self.table.admit(self):
            extra = {"reason": reason, "client": self.address}
            log.warning("a connection was refused: there are too many", extra=extra)
            self._over = True
            transport.write(_answer(503))
            transport.close()
        else:
            self.table.watch(self.loop)

    def connection_lost(self, exc: Exception | None) -> None:
        self.table.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        for begin in range(0, len(data), _PIECE_BYTES):
            if self._over or self.transport.is_closing():
                return
            self._parse(data[begin : begin + _PIECE_BYTES])

    def eof_received(self) -> None:
        if self._over:
            self.transport.close()

    def _parse(self, piece: bytes) -> None:
        self._unparsed += len(piece)
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            log.debug("a request for another protocol is answered in this one")
        except httptools.HttpParserError:
            self._refuse(self._status)
            return
        if self._unparsed > self.limits.head_bytes:  # in one header, or in what is none
            self._refuse(414 if self._head_since and not self.url else 431)

    # of the parser

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._unparsed = self._head_bytes = 0
        self._head_since = self.loop.time()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._unparsed = 0
        if len(self.url) > self.limits.url_bytes:
            self._fail(414)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._unparsed = 0
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes + len(self.url) > self.limits.head_bytes:
            self._fail(431)
        if self._head_since:  # what follows the body is none of the headers
            super().on_header(name, value)
            if len(self.headers) > self.limits.headers:
                self._fail(431)

    def on_headers_complete(self) -> None:
        self._unparsed = self._head_bytes = 0
        self._head_since, self._body_since = 0.0, self.loop.time()
        self.table.busy(self)
        super().on_headers_complete()

    def on_chunk_header(self) -> None:
        self._unparsed = 0

    def on_body(self, body: bytes) -> None:
        self._unparsed = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unparsed, self._body_since = 0, 0.0
        super().on_message_complete()

    def _fail(self, status: int) -> None:
        self._status = status
        raise ValueError(_WORDS[status])

    # of uvicorn

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.response_complete:
            self._served, self._idle_since = True, self.loop.time()
            self.table.waits(self)

    def timeout_keep_alive_handler(self) -> None:
        self._close(IDLE)

    # of the table

    def can_go(self) -> bool:
        return self.transport.get_write_buffer_size() == 0

    def drop(self) -> None:
        self.transport.close()

    def check(self, now: float) -> None:
        limits = self.limits
        if now - self._read(now) >= limits.read_seconds:
            self._close(SLOW_READER)
        elif self._over:
            return
        elif self._body_since:
            if self.flow.read_paused:  # it is the app that takes its time
                self._body_since = now
            if now - self._body_since >= limits.body_seconds:
                self._refuse(408)
        elif self.cycle is not None and not self.cycle.response_complete:
            return
        elif self._head_since:
            if now - max(self._head_since, self._idle_since) >= limits.head_seconds:
                self._refuse(408)
        elif now - self._idle_since >= (
            limits.idle_seconds if self._served else limits.head_seconds
        ):
            self._close(IDLE)

    def _read(self, now: float) -> float:
        """When the client last took something, or there was nothing to take."""
        size = self.transport.get_write_buffer_size()
        if size == 0 or size != self._buffered:
            self._buffered, self._read_at = size, now
        return self._read_at

    def _close(self, reason: str) -> None:
        """Now: a close would wait for whoever does not read."""
        if not self.transport.is_closing() or reason == SLOW_READER:
            self.table.closed[reason] += 1
            self._over = True
            self.transport.abort()

    def _refuse(self, status: int) -> None:
        """Answer and end the connection, with a moment for the client to read it: a close at once
        would take it from one that still sends."""
        self._over = True
        self.table.bad_requests[status] += 1
        if status == 408:
            self.table.closed[SLOW_REQUEST] += 1
        log.warning("a bad request: %s", _WORDS[status], extra={"client": self.address})
        if self.cycle is not None and not self.cycle.response_complete:
            begun = self.cycle.response_started or bool(self.pipeline)
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if begun:  # nothing may be put into the answer that is under way
                self.transport.abort()
                return
        self.transport.write(_answer(status))
        if self.transport.can_write_eof():  # not over TLS
            self.transport.write_eof()
        self.flow.resume_reading()
        self.loop.call_later(_LINGER_SECONDS, self.transport.close)


class RelativeRedirects:
    """An app that sends nobody to the Host that a request was made to: anybody can name one.

    What it sends to a client that has just gone is nothing, as it is a moment later."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def relative(message: Message) -> None:
            if message["type"] == "http.response.start" and 300 <= message["status"] < 400:
                message["headers"] = [
                    (name, _relative(value) if name.lower() == b"location" else value)
                    for name, value in message.get("headers", ())
                ]
            try:
                await send(message)
            except RuntimeError as error:
                if _GONE not in str(error):
                    raise

        await self._app(scope, receive, relative)


def _relative(location: bytes) -> bytes:
    parts = urlsplit(location.decode("latin-1"))
    path = "/" + parts.path.lstrip("/")  # two of them would begin a host
    return (f"{path}?{parts.query}" if parts.query else path).encode("latin-1")


def _answer(status: int) -> bytes:
    body = f"{_WORDS[status]}\n"
    return (
        f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}\r\n"
        "content-type: text/plain; charset=utf-8\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n{body}"
    ).encode("ascii")
