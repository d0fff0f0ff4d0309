"""Connections for the HTTP client: names by a Lookup, and answers that leave the loop to others."""

import asyncio
import errno
import re
import select
import socket
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpcore2
from anyio.abc import ByteStream, SocketAttribute, SocketStream
from anyio.streams.tls import TLSAttribute, TLSStream

from tocsin_exporter.lookup import Lookup

MOST_INTERIMS = 5  # answers with 1xx before the one that counts, as Go's client allows
MOST_LINES = 1000  # of headers: each costs 3 us, in which nobody else has a turn
_READS_A_TURN = 16
_INTERIM = re.compile(rb"HTTP/\d\.\d 1")
_STATUS_BYTES = len("HTTP/1.1 100")

SocketOptions = Iterable[tuple[Any, ...]]
_GONE = (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)


class Network(httpcore2.AsyncNetworkBackend):
    """Connects with one Lookup. Raises httpcore2's errors, whose causes are what happened."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109
        local_address: str | None = None,
        socket_options: SocketOptions | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        async with _limited(timeout, httpcore2.ConnectTimeout, httpcore2.ConnectError):
            connected = await self._lookup.connect(host, port)
            try:
                for option in socket_options or ():
                    connected.setsockopt(*option)
                stream = await SocketStream.from_socket(connected)
                # As anyio's own connections: else all that comes is taken, however much it is.
                stream._transport.pause_reading()  # type: ignore[attr-defined]
                return _Stream(stream)
            except ValueError as error:  # what anyio calls a socket that was reset meanwhile
                connected.close()
                raise OSError(errno.ECONNRESET, "the connection was reset at once") from error
            except BaseException:  # why: also when cancelled, the socket is not left open
                connected.close()
                raise

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _Stream(httpcore2.AsyncNetworkStream):
    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._reads = 0
        self._head: _Head | None = None

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        self._reads += 1
        if self._reads % _READS_A_TURN == 0:  # records of TLS are read without a pause
            await asyncio.sleep(0)
        async with _limited(timeout, httpcore2.ReadTimeout, httpcore2.ReadError):
            try:
                data = await self._stream.receive(max_bytes)
            except anyio.EndOfStream:
                return b""
        if self._head is not None and self._head.over(data):
            self._head = None
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        self._head = _Head()  # what comes next begins an answer
        if buffer:
            async with _limited(timeout, httpcore2.WriteTimeout, httpcore2.WriteError):
                await self._stream.send(buffer)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore2.AsyncNetworkStream:
        try:
            async with _limited(timeout, httpcore2.ConnectTimeout, httpcore2.ConnectError):
                wrapped = await TLSStream.wrap(
                    self._stream,
                    ssl_context=ssl_context,
                    hostname=server_hostname,
                    standard_compatible=False,
                    server_side=False,
                )
        except BaseException:  # why: also when cancelled, the connection is not left open
            await self.aclose()
            raise
        return _Stream(wrapped)

    def get_extra_info(self, info: str) -> Any:
        if info == "ssl_object":
            return self._stream.extra(TLSAttribute.ssl_object, None)
        if info not in ("socket", "is_readable"):
            return None
        raw = self._stream.extra(SocketAttribute.raw_socket, None)
        return raw if info == "socket" else _readable(raw)


class _Head:
    """The lines before the body of an answer, and those of the answers with 1xx before it."""

    def __init__(self) -> None:
        self._lines = self._interims = 0
        self._begins, self._interim = True, True
        self._held = b""

    def over(self, data: bytes) -> bool:
        """Whether the body has begun. Raises RemoteProtocolError for too many answers or lines."""
        data, start = self._held + data, 0
        while (end := data.find(b"\n", start)) >= 0:
            if self._ends_with(data[start:end]):
                return True
            start = end + 1
        self._held = data[start : start + _STATUS_BYTES]
        return False

    def _ends_with(self, line: bytes) -> bool:
        self._lines += 1
        if self._lines > MOST_LINES:
            raise httpcore2.RemoteProtocolError(f"more than {MOST_LINES} lines of headers")
        if line in (b"", b"\r"):
            self._begins = True
            return not self._interim
        if self._begins:
            self._begins, self._interim = False, _INTERIM.match(line) is not None
            self._interims += self._interim
            if self._interims > MOST_INTERIMS:
                raise httpcore2.RemoteProtocolError(
                    f"more than {MOST_INTERIMS} answers with 1xx, and none after them"
                )
        return False


def _readable(raw: socket.socket | None) -> bool:
    """Whether an idle connection has something to say, which can only be its end."""
    if raw is None or raw.fileno() < 0:
        return True
    asked = select.poll()
    asked.register(raw, select.POLLIN)
    return bool(asked.poll(0))


@asynccontextmanager
async def _limited(
    seconds: float | None, late: type[Exception], gone: type[Exception]
) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise (late if seconds is not None else gone)(str(error)) from error
    except anyio.EndOfStream as error:
        raise gone("the other side closed the connection") from error
    except _GONE as error:
        raise gone(str(error)) from error
