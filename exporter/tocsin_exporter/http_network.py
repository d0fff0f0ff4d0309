"""Connections for the HTTP client: names by a Lookup, and answers that leave the loop to others."""

import asyncio
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

MOST_INTERIM = 5  # answers with 1xx before the one that counts, as Go's client allows
_READS_A_TURN = 16
_STATUS_LINE = re.compile(rb"^HTTP/\d\.\d ([1-9])", re.MULTILINE)
_LONGEST_START = len("HTTP/1.1 1")

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
                return _Stream(await SocketStream.from_socket(connected))
            except BaseException:
                connected.close()
                raise

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _Stream(httpcore2.AsyncNetworkStream):
    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._reads = 0
        self._interim: _Interim | None = None

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        self._reads += 1
        if self._reads % _READS_A_TURN == 0:  # records of TLS are read without a pause
            await asyncio.sleep(0)
        async with _limited(timeout, httpcore2.ReadTimeout, httpcore2.ReadError):
            try:
                data = await self._stream.receive(max_bytes)
            except anyio.EndOfStream:
                return b""
        if self._interim is not None and self._interim.over(data):
            self._interim = None
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        self._interim = _Interim()  # what comes next begins an answer
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
        except BaseException:
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


class _Interim:
    """Counts the answers with 1xx that come before the one that counts."""

    def __init__(self) -> None:
        self._count = 0
        self._held = b""

    def over(self, data: bytes) -> bool:
        """Whether the answer that counts has begun. Raises RemoteProtocolError for too many."""
        data = self._held + data
        for begun in _STATUS_LINE.finditer(data):
            if begun[1] != b"1":
                return True
            self._count += 1
            if self._count > MOST_INTERIM:
                raise httpcore2.RemoteProtocolError(
                    f"more than {MOST_INTERIM} interim answers (1xx), and none that counts"
                )
        # The beginning of a line that is not whole; what was counted is not held.
        self._held = data[data.rfind(b"\n") + 1 :][:_LONGEST_START]
        if _STATUS_LINE.match(self._held):
            self._held = b"-"
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
