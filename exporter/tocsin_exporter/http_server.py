"""The HTTP server of the agent, the exporter and the worker: uvicorn, with bounds on its clients.

uvicorn reads a request's head without end, waits for it without end, keeps for ever what a client
does not read, and takes any number of requests on one connection before it has answered the first.
Nothing but the standard library, uvicorn and httptools is imported here.
"""

import asyncio
import http
import logging
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import httptools
import uvicorn
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from tocsin_exporter.connections import (
    BACKLOG,
    IDLE,
    SLOW_READER,
    SLOW_REQUEST,
    UNIX,
    Connections,
    counted_address,
)
from tocsin_exporter.relative_redirects import App, Receive, RelativeRedirects, Scope, Send
from tocsin_exporter.socket_owner import peer_uid

log = logging.getLogger(__name__)

_PIECE_BYTES = 16 << 10
_HEAD_END = b"\r\n\r\n"
_STEPS_A_TURN = 1000  # pieces and chunks of one connection, until the others have their turn
_FREE_CHUNKS, _CHUNK_BYTES = 4096, 16  # beyond so many, those of a body are on average as long
_LINGER_SECONDS = 5.0
_STALLED_SECONDS = 5.0
_ENDED_SECONDS = 2.0  # until the answer begins, where the client has ended its side
_FRAMING = frozenset((b"content-length", b"transfer-encoding"))
_HEALTH = frozenset((b"/-/healthy", b"/-/ready", b"/health"))
_NO_HOST = re.compile(rb"[^]A-Za-z0-9!$%&'()*+,.:;=[_~-]")  # what no host has, by RFC 3986
_WORDS = {
    400: "not an HTTP request, or its Host is missing, repeated or no host",
    408: "request not received in time",
    413: "the body has too many small chunks",
    414: "the URL is too long; send a query as a form in a POST",
    431: "the headers are too long or too many",
    501: "unsupported transfer coding; only chunked is supported",
    503: "too many connections, try again later",
    505: "this version of HTTP is not spoken here; use 1.1",
}


class ServerConfig(uvicorn.Config):
    """How all our servers serve `app`; `goodbye_seconds` is what open answers get at the end, and
    `parting` answers the requests that have none by then."""

    def __init__(
        self,
        app: App,
        connections: Connections,
        goodbye_seconds: int,
        parting: App,
        front: Callable[..., Any] | None = None,
    ) -> None:
        super().__init__(
            RelativeRedirects(app),
            http=front or HttpProtocol,  # type: ignore[arg-type]  # it is called, no more
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # who connected is who asked, whatever the headers say
            backlog=min(BACKLOG, connections.limits.connections),
            timeout_graceful_shutdown=goodbye_seconds,
        )
        self.connections = connections
        self.parting = parting


def by_unix_socket(scope: Scope) -> bool:
    """Whether a request came by a Unix socket: its server has a path and no port."""
    server = scope.get("server")
    return server is not None and server[1] is None


def _peer(transport: asyncio.Transport, address: str) -> dict[str, Any]:
    if address == UNIX:
        return {"peer_uid": peer_uid(transport.get_extra_info("socket"))}
    name = transport.get_extra_info("client_certificate")
    return {} if name is None else {"client_certificate": name}


class _Flow(FlowControl):
    """Reading goes on for nobody while `full`: uvicorn resumes it whenever an app asks for more."""

    full = False

    def resume_reading(self) -> None:
        if not self.full:
            super().resume_reading()


class HttpProtocol(HttpToolsProtocol):
    """One connection: a request's head and body are bounded in size and time, its answer by how
    long nobody reads it. The next request is parsed when this one is answered and the client takes
    the answer; until then what was read of it is kept, and nothing more is read."""

    config: ServerConfig

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        assert isinstance(config, ServerConfig)
        super().__init__(config, server_state, app_state, _loop)
        self.table, self.limits = config.connections, config.connections.limits
        self.address, self.trusted = "", False
        self._peer: dict[str, Any] = {}  # what the connection says of who it is
        self._idle_since = self._head_since = self._body_since = self._read_at = 0.0
        self._served = False
        self._head_bytes = 0  # of the request that is being read; then those of its trailers
        self._unparsed = 0  # bytes that the parser has taken and said nothing of
        self._status = 400  # of the refusal, should the parser fail
        self._buffered = 0
        self._over = False  # what still comes is thrown away
        self._ended = False  # nothing more comes
        self._kept = b""  # read and not yet parsed
        self._between = True  # one request is whole, and no other has begun
        self._parsing_later = False
        self._steps = 0  # in this turn of the loop
        self._body_left = 0  # bytes, where the head says how long the body is
        self._body_bytes = self._chunks = 0
        self._rest_of_head = b""  # what a request for another protocol says of its body

    # of asyncio

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = self._flow = _Flow(transport)
        self.trusted = self.limits.trusts(self.client)
        self.address = counted_address(self.client, self.trusted)
        self._idle_since = self._read_at = self.loop.time()
        self._peer = _peer(transport, self.address)
        if reason := self.table.admit(self):
            extra = {"reason": reason, "client": self.address}
            log.warning("connection refused: too many connections", extra=extra)
            self._over = True
            transport.write(_answer(503))
            transport.close()
        else:
            self.table.watch(self.loop)

    def connection_lost(self, exc: Exception | None) -> None:
        self.table.remove(self)
        self._over, self._kept = True, b""
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self._over or self.transport.is_closing():
            return
        self._kept = self._kept + data if self._kept else data
        if not self._parsing_later:
            self._parse_kept()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._parse_later()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Whether the connection stays: a client may end its side and read the answer to what it
        has sent (`nc -N`). One that has gone looks the same, and no work is done for it for long.
        """
        if self._over or not self._between or self.cycle is None or self.cycle.response_complete:
            return False
        self._ended = True
        self.loop.call_later(_ENDED_SECONDS, self._give_up)
        return True

    def _give_up(self) -> None:
        if not self.cycle.response_started:
            self.transport.abort()

    def _parse_later(self) -> None:
        """The others' turn is between two requests of one connection."""
        if self._kept and not self._parsing_later:
            self._parsing_later = True
            self.loop.call_soon(self._parse_kept)

    def _parse_kept(self) -> None:
        self._parsing_later, self._steps = False, 0
        data, begin = self._kept, 0
        while begin < len(data) and not self._over and not self._must_wait():
            if self.transport.is_closing():
                return
            if self._steps >= _STEPS_A_TURN:
                self._parsing_later = True
                self.loop.call_soon(self._parse_kept)
                break
            end = self._piece_end(data, begin)
            self._parse(data[begin:end])
            begin, self._steps = end, self._steps + 1
        if not self._over:
            self._keep(data[begin:])

    def _must_wait(self) -> bool:
        """Whether the next request must wait: for the answer to this one, or for who reads none."""
        if self.pipeline:
            return True
        if self.cycle is None or not self._between:
            return False
        return not self.cycle.response_complete or self.flow.write_paused

    def _piece_end(self, data: bytes, begin: int) -> int:
        """Where a request may end, its piece ends: what follows is the next one's."""
        if self._body_left:
            return begin + min(_PIECE_BYTES, self._body_left)
        end = data.find(_HEAD_END, begin, begin + _PIECE_BYTES)
        return begin + _PIECE_BYTES if end < 0 else end + len(_HEAD_END)

    def _keep(self, rest: bytes) -> None:
        self._kept, self._flow.full = rest, bool(rest)
        if rest:
            self._unset_keepalive_if_required()
            self.flow.pause_reading()
        elif (
            self.cycle is None
            or self.cycle.response_complete
            or len(self.cycle.body) <= HIGH_WATER_LIMIT
        ):
            self.flow.resume_reading()

    def _parse(self, piece: bytes) -> None:
        self._unparsed += len(piece)
        try:
            self._feed(piece)
        except httptools.HttpParserError:
            self._refuse(self._status)
            return
        if self._unparsed > self.limits.head_bytes:  # in one header, or in what is none
            self._refuse(414 if self._head_since and not self.url else 431)

    def _feed(self, piece: bytes) -> None:
        """A request for another protocol is answered in this one, as if it asked for none."""
        while piece:
            try:
                return self.parser.feed_data(piece)
            except httptools.HttpParserUpgrade as upgrade:
                piece = piece[upgrade.args[0] :]
                if self._rest_of_head:
                    self._read_body()

    def _read_body(self) -> None:
        """With a new parser, which is told of the body alone: the last one took what follows the
        head for another protocol, and would take it for the next request."""
        self.parser = httptools.HttpRequestParser(self)
        self.parser.feed_data(b"POST / HTTP/1.1\r\n" + self._rest_of_head + b"\r\n")

    # of the parser

    def on_message_begin(self) -> None:
        if self._rest_of_head:
            return
        super().on_message_begin()
        self.scope.update(self._peer)  # type: ignore[typeddict-item]
        self._between = False
        self._unparsed = self._head_bytes = 0
        self._body_left = self._body_bytes = self._chunks = 0
        self._head_since = self.loop.time()

    def on_url(self, url: bytes) -> None:
        if self._rest_of_head:
            return
        super().on_url(url)
        self._unparsed = 0
        if len(self.url) > self.limits.url_bytes:
            self._fail(414)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._rest_of_head:
            return
        self._unparsed = 0
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes + len(self.url) > self.limits.head_bytes:
            self._fail(431)
        if self._head_since:  # what follows the body is none of the headers
            super().on_header(name, value)
            if len(self.headers) > self.limits.headers:
                self._fail(431)

    def on_headers_complete(self) -> None:
        if self._rest_of_head:
            self._rest_of_head = b""
            return
        self._unparsed = self._head_bytes = 0
        self._head_since, self._body_since = 0.0, self.loop.time()
        self._check_head()
        self.table.reads(self)
        spare = self.table.is_spare(self)
        if spare and self.address != UNIX and self.url.partition(b"?")[0] not in _HEALTH:
            self._fail(503)
        lengths = [value for name, value in self.headers if name == b"content-length"]
        self._body_left = int(lengths[0]) if lengths else 0  # the parser has seen that it is one
        super().on_headers_complete()
        if spare:
            self.cycle.keep_alive = False
        if self.parser.should_upgrade():
            lines = (b"%s: %s\r\n" % header for header in self.headers if header[0] in _FRAMING)
            self._rest_of_head = b"".join(lines)

    def _check_head(self) -> None:
        version = self.parser.get_http_version()
        if version not in ("1.0", "1.1"):
            self._fail(505)
        hosts = [value for name, value in self.headers if name == b"host"]
        if len(hosts) > 1 or not hosts and version == "1.1" or any(map(_NO_HOST.search, hosts)):
            self._fail(400)
        codings = [value.lower() for name, value in self.headers if name == b"transfer-encoding"]
        if codings not in ([], [b"chunked"]):  # the parser would skip the others
            self._fail(501)

    def on_chunk_header(self) -> None:
        self._unparsed = 0
        self._steps += 1
        self._chunks += 1
        if self._chunks > max(_FREE_CHUNKS, self._body_bytes // _CHUNK_BYTES):
            self._fail(413)

    def on_body(self, body: bytes) -> None:
        self._unparsed = 0
        self._body_bytes += len(body)
        self._body_left = max(0, self._body_left - len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._rest_of_head:
            return
        self._between = True
        self._unparsed, self._body_left, self._body_since = 0, 0, 0.0
        if not self.cycle.response_complete:
            self.table.busy(self)
        super().on_message_complete()

    def _fail(self, status: int) -> None:
        self._status = status
        raise ValueError(_WORDS[status])

    # of uvicorn

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._parse_later()
        if self.cycle.response_complete:
            self._served, self._idle_since = True, self.loop.time()
            self.table.waits(self)
            if self._ended:
                self.transport.close()

    def timeout_keep_alive_handler(self) -> None:
        """`check` ends what is idle: a request may have been kept back when this timer began, and
        the last of an answer may not have been taken."""

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        answered: Any = partial(self._answered, cycle, app)  # uvicorn's types of ASGI are its own
        super()._start_asgi_task(cycle, answered)

    async def _answered(
        self, cycle: RequestResponseCycle, app: App, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Only the server's end cancels a request: no fault, and no traceback in the log."""
        try:
            await app(scope, receive, send)
        except asyncio.CancelledError:
            if not cycle.response_started:
                await self.config.parting(scope, receive, send)
            elif not cycle.response_complete:
                cycle.disconnected = True
                self.transport.close()

    # of the table

    def can_go(self) -> bool:
        return self.transport.get_write_buffer_size() == 0 and not self.flow.read_paused

    def stalled(self) -> bool:
        now = self.loop.time()
        return now - self._read(now) >= _STALLED_SECONDS

    def drop(self) -> None:
        """At once: who lingers has a descriptor that another needs."""
        refused, self._over = self._over, True
        if refused or self.transport.get_write_buffer_size():
            self.transport.abort()
            return
        if self._body_since and not (self.cycle.response_started or self.pipeline):
            self.transport.write(_answer(408))
        self.transport.close()

    def check(self, now: float) -> None:
        limits = self.limits
        read_at = self._read(now)
        if self._buffered:  # it still takes its answer
            self._idle_since = now
        if now - read_at >= limits.read_seconds:
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
        if status == 503:
            self.table.refuse_spare(self)
        else:
            self.table.bad_requests[status] += 1
        if status == 408:
            self.table.closed[SLOW_REQUEST] += 1
        log.warning("bad request: %s", _WORDS[status], extra={"client": self.address})
        self._over = True
        if self.cycle is not None and not self.cycle.response_complete:
            begun = self.cycle.response_started or bool(self.pipeline)
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if begun:  # nothing may be put into the answer that is under way
                self.transport.abort()
                return
        self.transport.write(_answer(status))
        self.linger()

    def linger(self) -> None:
        """The last answer is written: what still comes is thrown away, for a moment."""
        self._over = True
        if self.transport.can_write_eof():  # not over TLS
            self.transport.write_eof()
        self._kept, self._flow.full = b"", False
        self.flow.resume_reading()
        self.loop.call_later(_LINGER_SECONDS, self.transport.close)


def _answer(status: int) -> bytes:
    body = f"{_WORDS[status]}\n"
    return (
        f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}\r\n"
        "content-type: text/plain; charset=utf-8\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n{body}"
    ).encode("ascii")
