"""TLS between a client and the protocol that serves it: handshakes on a thread, and bounded.

A connection counts from its first byte on: who begins a handshake and does not end it takes a place
as who sends half a request does, for as long. The event loop makes no signature: those of many
handshakes would hold it up. How a handshake is made is asked for at each connection, so that a new
certificate holds from the next one on.

Nothing but the standard library and uvicorn is imported here.
"""

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, Protocol

from uvicorn.protocols.utils import get_remote_addr

from tocsin_exporter.connections import SLOW_REQUEST, UNIX, Connections, counted_address
from tocsin_exporter.threads import in_thread
from tocsin_exporter.tls import ServerTls

log = logging.getLogger(__name__)

_HANDSHAKE = 22  # the first byte of a record that begins one
_PLAIN = (
    b"HTTP/1.0 400 Bad Request\r\nconnection: close\r\n"
    b"content-type: text/plain; charset=utf-8\r\ncontent-length: 48\r\n\r\n"
    b"Client sent an HTTP request to an HTTPS server.\n"
)
_READ_BYTES = 64 << 10
_RECORDS_A_TURN = 500  # of one connection, until the others have their turn
_MOST_ARRIVED = 64 << 10  # bytes that wait for the next step of a handshake; then none is read
_LINGER_SECONDS = 5.0


class Served(Protocol):
    """The protocol behind TLS."""

    def connection_made(self, transport: asyncio.Transport) -> None: ...
    def connection_lost(self, exc: Exception | None) -> None: ...
    def data_received(self, data: bytes) -> None: ...
    def eof_received(self) -> bool | None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...


class Handshakes:
    """Steps of handshakes on one thread, those of each address by turns: a crowd at one does not
    keep others out."""

    def __init__(self, thread: Executor) -> None:
        self._thread = thread
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._busy = False

    async def step(self, address: str, work: Callable[[], bool]) -> bool:
        """The result of `work`, in its turn, on the thread."""
        if self._busy:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(address, deque()).append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if not turn.cancelled():  # it had its turn, and gives it on
                    self._next()
                raise
        self._busy = True
        try:
            return await in_thread(work, self._thread)
        finally:
            self._next()

    def _next(self) -> None:
        self._busy = False
        while self._waiting and not self._busy:
            address = next(iter(self._waiting))
            turns = self._waiting.pop(address)
            turn = turns.popleft()
            if turns:
                self._waiting[address] = turns  # behind the others
            if not turn.done():  # its connection has gone
                self._busy = True
                turn.set_result(None)


class TlsConnection(asyncio.Protocol):
    """One connection: the handshake, then what `served` is given and says. One of a Unix socket
    has no TLS."""

    def __init__(
        self,
        served: Served,
        tls: Callable[[], ServerTls],
        handshakes: Handshakes,
        table: Connections,
    ) -> None:
        self._served, self._tls, self._handshakes, self.table = served, tls, handshakes, table
        self.address, self.trusted = "", False
        self._loop = asyncio.get_running_loop()
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls_in_use: ServerTls | None = None
        self._object: ssl.SSLObject | None = None
        self._raw: asyncio.Transport
        self._began = self._loop.time()
        self._arrived = b""  # of the handshake, and not looked at yet
        self._shaking: asyncio.Task[None] | None = None
        self._more = asyncio.Event()
        self._established = self._over = self._reading_later = self._paused = False
        self._ended = False  # the client sends no more
        self._full = False  # and nothing is read
        self.client: str | None = None

    # of asyncio

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._raw = transport
        client = get_remote_addr(transport)
        self.trusted = self.table.limits.trusts(client)
        self.address = counted_address(client, self.trusted)
        if self.address == UNIX:
            transport.set_protocol(self._served)  # type: ignore[arg-type]
            self._served.connection_made(transport)
        elif reason := self.table.admit(self):
            extra = {"reason": reason, "client": self.address}
            log.warning("connection refused: too many connections", extra=extra)
            self._over = True
            transport.abort()
        else:
            self.table.watch(self._loop)

    def connection_lost(self, exc: Exception | None) -> None:
        self._over = True
        self.table.remove(self)
        if self._shaking is not None:
            self._shaking.cancel()
        if self._established:
            self._served.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._over:
            return
        if self._tls_in_use is None and data[0] != _HANDSHAKE:
            self._answer_plainly()
            return
        if self._established:
            self._incoming.write(data)
            self._read()
            return
        self._arrived += data  # a step of the handshake may be reading on the thread
        if len(self._arrived) > _MOST_ARRIVED and not self._full:
            self._full = True
            self._raw.pause_reading()
        if self._shaking is None:
            self._tls_in_use = self._tls()
            self._object = self._tls_in_use.context.wrap_bio(
                self._incoming, self._outgoing, server_side=True
            )
            self._shaking = self._loop.create_task(self._shake(self._object))
        else:
            self._more.set()

    def eof_received(self) -> bool:
        """Whether the connection stays, for what is still to be answered."""
        if not self._established:
            return False
        self._ended = True
        return self._tell_end()

    def pause_writing(self) -> None:
        if self._established:
            self._served.pause_writing()

    def resume_writing(self) -> None:
        if self._established:
            self._served.resume_writing()

    # of the table, until the handshake is done

    def can_go(self) -> bool:
        return True

    def stalled(self) -> bool:
        return True

    def drop(self) -> None:
        self._over = True
        self._raw.abort()

    def check(self, now: float) -> None:
        if now - self._began >= self.table.limits.head_seconds:
            self.table.closed[SLOW_REQUEST] += 1
            self.drop()

    # the handshake

    async def _shake(self, tls: ssl.SSLObject) -> None:
        done = False
        while not done and not self._over:
            self._more.clear()
            self._take_arrived()
            try:
                done = await self._handshakes.step(self.address, lambda: _stepped(tls))
            except (ssl.SSLError, ValueError) as error:
                self._flush()  # the alert that says so
                self._end(getattr(error, "reason", None) or str(error))
                return
            self._flush()
            if not done and not self._arrived:
                await self._more.wait()
        self._establish()

    def _take_arrived(self) -> None:
        self._incoming.write(self._arrived)
        self._arrived = b""
        if self._full:
            self._full = False
            if not self._paused:  # by the protocol that is served
                self._raw.resume_reading()

    def _establish(self) -> None:
        assert self._tls_in_use is not None and self._object is not None
        if self._over:
            return
        try:
            self.client = self._tls_in_use.client(self._object)
        except ValueError as error:
            self._end(str(error))
            return
        self.table.remove(self)  # whoever is served takes the place
        self._established = True
        self._served.connection_made(TlsTransport(self, self._raw, self._object))
        self._take_arrived()
        self._read()

    def _end(self, why: str) -> None:
        said = why.replace("_", " ").lower()
        log.warning("TLS handshake failed: %s", said, extra={"client": self.address})
        self._over = True
        self._raw.close()
        self._loop.call_later(_LINGER_SECONDS, self._raw.abort)

    def _answer_plainly(self) -> None:
        """In the words of Go's servers, for whoever wrote http:// instead of https://."""
        self.table.bad_requests[400] += 1
        self._over = True
        self._raw.write(_PLAIN)
        self._raw.write_eof()
        self._loop.call_later(_LINGER_SECONDS, self._raw.close)

    # what is served

    def _read(self) -> None:
        """Give on what has come, some records in each turn."""
        assert self._object is not None
        self._reading_later = False
        for _ in range(_RECORDS_A_TURN):
            if self._over or self._paused or self._raw.is_closing():
                return
            try:
                data = self._object.read(_READ_BYTES)
            except ssl.SSLWantReadError:
                self._flush()
                return
            except (ssl.SSLError, ValueError) as error:
                log.debug("TLS connection broken: %s", error, extra={"client": self.address})
                self._raw.abort()
                return
            if not data:  # it has said that it ends
                if not self._ended:
                    self._ended = True
                    if not self._tell_end():
                        self.close()
                return
            self._served.data_received(data)
        self._read_later()

    def _read_later(self) -> None:
        if not self._reading_later:
            self._reading_later = True
            self._loop.call_soon(self._read)

    def _tell_end(self) -> bool:
        return bool(self._served.eof_received())

    def write(self, data: bytes) -> None:
        assert self._object is not None
        if not data or self._over or self._raw.is_closing():
            return
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._object.write(rest) :]
        except ssl.SSLError as error:
            log.debug("TLS connection broken: %s", error, extra={"client": self.address})
            self._raw.abort()
            return
        self._flush()

    def close(self) -> None:
        """Say that this is the end: an answer without a length is whole then."""
        if self._raw.is_closing():
            return
        assert self._object is not None
        try:
            self._object.unwrap()
        except (ssl.SSLError, ValueError):  # the client has not said so yet, and need not
            pass
        self._flush()
        self._raw.close()

    def pause(self) -> None:
        self._paused = True
        self._raw.pause_reading()

    def resume(self) -> None:
        self._paused = False
        self._raw.resume_reading()
        self._read_later()

    def _flush(self) -> None:
        if data := self._outgoing.read():
            self._raw.write(data)


def _stepped(tls: ssl.SSLObject) -> bool:
    """Whether the handshake is done; else the client has to say more."""
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


class TlsTransport(asyncio.Transport):
    """What a protocol behind TLS has for a transport."""

    def __init__(
        self, connection: TlsConnection, raw: asyncio.Transport, tls: ssl.SSLObject
    ) -> None:
        super().__init__()
        self._connection, self._raw = connection, raw
        self._facts = {
            "sslcontext": tls.context,
            "ssl_object": tls,
            "client_certificate": connection.client,
        }

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._facts[name] if name in self._facts else self._raw.get_extra_info(name, default)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._connection.write(bytes(data))

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        self._connection.close()

    def abort(self) -> None:
        self._raw.abort()

    def is_closing(self) -> bool:
        return self._raw.is_closing()

    def pause_reading(self) -> None:
        self._connection.pause()

    def resume_reading(self) -> None:
        self._connection.resume()

    def is_reading(self) -> bool:
        return self._raw.is_reading()

    def get_write_buffer_size(self) -> int:
        return self._raw.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._raw.get_write_buffer_limits()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._raw.set_write_buffer_limits(high, low)
