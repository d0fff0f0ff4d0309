"""One connection of an HTTP probe: to a given address, timed by phase."""

import ssl
from types import TracebackType
from typing import Any, Self

import httpcore2

from tocsin_exporter.http_network import Network
from tocsin_exporter.lookup import Address, Lookup
from tocsin_exporter.probes.findings import Findings

_DURATION = "probe_http_duration_seconds"


class ProbeConnection:
    """`tls` is what its handshake has made, None without TLS. With `http2` that is offered."""

    def __init__(
        self, address: Address, context: ssl.SSLContext | None, http2: bool, found: Findings
    ) -> None:
        self.tls: Any = None
        self._found = found
        self._network = _TimedNetwork(address, found)
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=context,
            max_connections=1,
            max_keepalive_connections=0,
            http1=True,
            http2=http2 and context is not None,
            network_backend=self._network,
        )
        self._answered = 0.0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._network.stream is not None:
            await self._network.stream.aclose()

    async def request(self, request: httpcore2.Request) -> httpcore2.Response:
        response = await self._pool.handle_async_request(request)
        self._answered = self._found.monotonic()
        self._found.add(_DURATION, self._answered - self._network.ready_at, "processing")
        stream = response.extensions.get("network_stream")
        self.tls = stream.get_extra_info("ssl_object") if stream is not None else None
        return response

    def ended(self) -> None:
        """The body has been read."""
        self._found.add(_DURATION, self._found.monotonic() - self._answered, "transfer")


class _TimedNetwork(Network):
    """Connects to `address`, whatever is asked for, once."""

    def __init__(self, address: Address, found: Findings) -> None:
        super().__init__(Lookup("probe", lambda _: [address]))
        self.stream: httpcore2.AsyncNetworkStream | None = None
        self.ready_at = 0.0
        self._address, self._found = address, found

    async def connect_tcp(self, *args: Any, **options: Any) -> httpcore2.AsyncNetworkStream:
        started = self._found.monotonic()
        host, _, *zone = self._address[1]
        literal = f"{host}%{zone[1]}" if zone and zone[1] else str(host)
        port = options.pop("port", None) or args[1]
        options.pop("host", None)
        self.stream = _TimedStream(
            await super().connect_tcp(literal, port, *args[2:], **options), self
        )
        self.took("connect", started)
        return self.stream

    def took(self, phase: str, started: float) -> None:
        self.ready_at = self._found.monotonic()
        self._found.add(_DURATION, self.ready_at - started, phase)

    def now(self) -> float:
        return self._found.monotonic()


class _TimedStream(httpcore2.AsyncNetworkStream):
    def __init__(self, inner: httpcore2.AsyncNetworkStream, network: _TimedNetwork) -> None:
        self._inner, self._network = inner, network

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        return await self._inner.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        await self._inner.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore2.AsyncNetworkStream:
        started = self._network.now()
        self._inner = await self._inner.start_tls(ssl_context, server_hostname, timeout)
        self._network.took("tls", started)
        return self

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
