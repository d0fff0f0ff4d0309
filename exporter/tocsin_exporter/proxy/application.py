"""The proxy as an application: each request is let in, passed on, measured and logged."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tocsin_exporter.proxy.access_log import Fields
from tocsin_exporter.proxy.client import SCOPE_KEY, ClientConnection
from tocsin_exporter.proxy.content import Asked, Output, generates
from tocsin_exporter.proxy.exchange import Exchange, Refusal, request_head, trailer
from tocsin_exporter.proxy.keys import ANYBODY, KeyCheck
from tocsin_exporter.proxy.measurement import Measurement, outcome
from tocsin_exporter.proxy.metrics import CANCELLED, ERROR, REJECTED, SUCCESS, TIMEOUT, ProxyMetrics
from tocsin_exporter.proxy.slots import SlotLimits, Slots
from tocsin_exporter.proxy.upload import ReadAhead, Upload, next_piece
from tocsin_exporter.proxy.upstream import Headers, Upstream, UpstreamConnection, UpstreamFault
from tocsin_exporter.proxy_identity import IDENTITY_PATH, asked_here, identity_answer
from tocsin_exporter.relative_redirects import Receive, Scope, Send
from tocsin_exporter.snapshot import Sample

_REPEATABLE = frozenset(("GET", "HEAD", "OPTIONS"))
_HAS_BODY = frozenset((b"content-length", b"transfer-encoding"))


@dataclass(frozen=True, slots=True)
class ProxyLimits:
    """`body_bytes` of one request; `request_seconds` from its head to the end of its answer, 0 for
    no limit; `slots` are for requests that ask for tokens."""

    body_bytes: int = 64 << 20
    request_seconds: float = 600.0
    slots: SlotLimits = field(default_factory=SlotLimits)


@dataclass(slots=True)
class _Passage:
    """What is known of a request while it is served."""

    client: ClientConnection
    method: str
    path: str
    begun_at: float
    headers: Headers
    exchange: Exchange
    measurement: Measurement | None
    owner: str = ANYBODY
    has_slot: bool = False
    upload: Upload = field(default_factory=Upload)
    bytes_in: int = 0
    outcome: str = ""
    error: str = ""

    def header(self, name: bytes) -> bytes:
        return next((value for key, value in self.headers if key.lower() == name), b"")

    @property
    def chunked(self) -> bool:
        return any(name.lower() == b"transfer-encoding" for name, _ in self.headers)


class ProxyApp:
    """`wall` gives Unix seconds. `key` goes to the engine in place of the client's; `host` in place
    of its Host, "" for none. `log` gets a line a request. `judge` sees each answer
    that ended well, and says what is wrong with it."""

    def __init__(
        self,
        upstream: Upstream,
        metrics: ProxyMetrics,
        keys: KeyCheck,
        limits: ProxyLimits,
        wall: Callable[[], float],
        log: Callable[[Fields], None] = lambda line: None,
        key: Callable[[], str] = lambda: "",
        host: str = "",
        judge: Callable[[Asked, Output], Iterator[str]] | None = None,
    ) -> None:
        self.upstream, self.metrics = upstream, metrics
        self.slots = Slots(limits.slots)
        self.ahead = ReadAhead()
        self._keys, self._limits, self._wall, self._log = keys, limits, wall, log
        self._key, self._host, self._judge = key, host, judge
        self.metrics_url = ""  # where its own metrics are

    def samples(self) -> Iterator[Sample]:
        metrics = self.metrics
        metrics.running, metrics.waiting = self.slots.running, self.slots.waiting
        metrics.engine_connects = self.upstream.connects
        metrics.engine_connections = len(self.upstream.open)
        yield from metrics.samples()

    async def __call__(self, scope: Scope, receive: Receive, _send: Send) -> None:
        client: ClientConnection = scope[SCOPE_KEY]
        if client.transport.is_closing():  # it has gone before its turn came
            return
        if scope["path"] == IDENTITY_PATH and asked_here(client.address, client.raw_headers):
            client.write(identity_answer(self.upstream.address.url, self.metrics_url, client.keeps))
            client.answered(client.keeps)
            return
        task = asyncio.current_task()
        assert task is not None
        request = self._request(scope, client, task)
        client.exchange = request.exchange
        try:
            async with asyncio.timeout(self._limits.request_seconds or None):
                await self._serve(request, scope, receive)
        except asyncio.CancelledError:
            request.outcome = CANCELLED
            request.exchange.abort()
            if not request.exchange.left:  # the proxy ends
                raise
            task.uncancel()
        except (Refusal, UpstreamFault, TimeoutError) as error:
            self._refuse(request, error)
        finally:
            client.exchange = None if client.exchange is request.exchange else client.exchange
            self._account(request)

    def _request(
        self, scope: Scope, client: ClientConnection, task: "asyncio.Task[object]"
    ) -> _Passage:
        method, path, headers = scope["method"], scope["path"], client.raw_headers
        measured = generates(method, path)
        measurement = Measurement(self.metrics, client.begun_at) if measured else None
        exchange = Exchange(client, measurement, task)
        return _Passage(client, method, path, client.begun_at, headers, exchange, measurement)

    async def _serve(self, request: _Passage, scope: Scope, receive: Receive) -> None:
        """Raises Refusal, UpstreamFault or TimeoutError."""
        if request.header(b"upgrade").lower() == b"websocket":
            raise Refusal(501, "not_supported", "WebSockets are not passed; use HTTP")
        authorization = request.header(b"authorization").decode("latin-1")
        request.owner = await self._keys.client(authorization, request.client.address)
        length = request.header(b"content-length")
        self._check_size(int(length or 0))
        has_body = any(name.lower() in _HAS_BODY for name, _ in request.headers)
        if has_body:
            request.upload.read, request.upload.more = await next_piece(receive)
        if request.measurement is not None:
            self.metrics.started += 1
            if self._limits.slots.running:
                await self.ahead.whole(request.upload, receive, self._check_size)
            await self.slots.enter(request.owner)
            request.has_slot = True
        await self._ask(request, scope, receive)

    async def _ask(self, request: _Passage, scope: Scope, receive: Receive) -> None:
        begin, more = self._beginning(request, scope), request.upload.more
        connection = await self._begin(request, begin)
        self.ahead.release(request.upload)
        pump = None
        if more:
            pump = asyncio.create_task(self._pump(request, connection, receive))
        else:
            connection.sent()
            if request.measurement is not None:
                request.measurement.asks()
        if more or request.method not in _REPEATABLE:
            begin = b""  # a large body is not kept for as long as its answer takes
        try:
            await self._answer(request, connection, begin)
        finally:
            if pump is not None:
                pump.cancel()

    def _beginning(self, request: _Passage, scope: Scope) -> bytes:
        """The head, and the body as far as it was read. Raises Refusal."""
        first = request.upload.take()
        if request.measurement is not None:
            request.measurement.sent(first)
        return self._head(request, scope) + self._framed(request, first, request.upload.more)

    async def _begin(
        self, request: _Passage, begin: bytes, fresh: bool = False
    ) -> UpstreamConnection:
        connection = await self.upstream.take(fresh)
        request.exchange.connection = connection
        connection.ask(begin, request.exchange, request.method == "HEAD")
        return connection

    async def _answer(
        self, request: _Passage, connection: UpstreamConnection, begin: bytes
    ) -> None:
        """An engine may close a connection just as we use it again: what changes nothing is asked
        a second time, with `begin`."""
        exchange = request.exchange
        try:
            await exchange.done
        except UpstreamFault:
            again = connection.used and bool(begin)
            if not again or exchange.begun or connection.answering:
                raise
            exchange.done = exchange.loop.create_future()
            (await self._begin(request, begin, fresh=True)).sent()
            await exchange.done

    def _head(self, request: _Passage, scope: Scope) -> bytes:
        query = request.client.url.partition(b"?")[1] + scope["query_string"]
        target = self.upstream.address.base.encode() + (scope["raw_path"] or b"/") + query
        without, more = set[bytes](), list[tuple[bytes, bytes]]()
        if self._keys.keys():
            without.add(b"authorization")  # it is ours, and none of the engine's
        if key := self._key():
            without.add(b"authorization")
            more.append((b"Authorization", b"Bearer " + key.encode("latin-1")))
        if self._host:
            without.add(b"host")
            more.append((b"Host", self._host.encode("ascii")))
        return request_head(request.method, target, request.headers, frozenset(without), more)

    def _framed(self, request: _Passage, piece: bytes, more: bool) -> bytes:
        """A piece of the body as it goes to the engine: its chunks are framed anew, so that the
        engine cannot read another end of it than we did. Raises Refusal."""
        request.bytes_in += len(piece)
        self._check_size(request.bytes_in)
        if not request.chunked:
            return piece
        chunk = b"%x\r\n%s\r\n" % (len(piece), piece) if piece else b""
        return chunk if more else chunk + trailer(request.client.trailers)

    async def _pump(
        self, request: _Passage, connection: UpstreamConnection, receive: Receive
    ) -> None:
        """The rest of the body, no faster than the engine takes it."""
        measurement, more = request.measurement, True
        try:
            while more:
                piece, more = await next_piece(receive)
                await connection.send(self._framed(request, piece, more))
                if measurement is not None:
                    measurement.sent(piece)
        except Refusal as refusal:
            if not request.exchange.done.done():
                request.exchange.done.set_exception(refusal)
            return
        connection.sent()
        if measurement is not None:
            measurement.asks()

    def _check_size(self, size: int) -> None:
        most = self._limits.body_bytes
        if most and size > most:
            words = f"the body is larger than {most:,} bytes, the most of this proxy"
            raise Refusal(413, "request_too_large", words)

    def _refuse(self, request: _Passage, error: Refusal | UpstreamFault | TimeoutError) -> None:
        exchange = request.exchange
        if isinstance(error, Refusal):
            request.outcome, request.error, refusal = REJECTED, error.kind, error
        elif isinstance(error, UpstreamFault):
            request.outcome, request.error = ERROR, "upstream_error"
            refusal = Refusal(502, "upstream_error", f"the engine behind the proxy: {error}")
        else:
            request.outcome, request.error = TIMEOUT, "timeout"
            words = f"no whole answer within {self._limits.request_seconds:g} s"
            refusal = Refusal(504, "timeout", words)
        exchange.refuse(refusal)

    def _account(self, request: _Passage) -> None:
        """Into metrics and log, after the client has its answer."""
        exchange, measurement = request.exchange, request.measurement
        now = exchange.ended_at or request.client.monotonic()
        status = exchange.status or 499  # nginx's number for a client that left before
        self.metrics.requests[request.owner, status] += 1
        self.ahead.release(request.upload)
        if request.has_slot:
            self.slots.leave(request.owner)
        counted = measurement is not None and request.error != "invalid_api_key"
        if measurement is not None and counted:
            measurement.status = exchange.status
            measurement.read_rest()
            request.outcome = request.outcome or outcome(status, measurement.output.error)
            given = request.header(b"x-request-id").decode("latin-1")
            example = measurement.example(given, int(self._wall() * 1000))
            model = measurement.count(request.outcome, request.error, now, example)
            if self._judge is not None and request.outcome == SUCCESS:
                model.anomalies.update(self._judge(measurement.asked, measurement.output))
            self._count_client(request.owner, measurement)
        self._log(self._line(request, now - request.begun_at, status))

    def _count_client(self, owner: str, measurement: Measurement) -> None:
        tokens = self.metrics.client_tokens
        tokens[owner, "input"] += measurement.output.prompt_tokens or 0
        tokens[owner, "output"] += measurement.generated

    def _line(self, request: _Passage, seconds: float, status: int) -> Fields:
        line: dict[str, str | int | float | None] = {
            "time": datetime.fromtimestamp(self._wall(), UTC).isoformat(timespec="milliseconds"),
            "client": request.owner,
            "address": request.client.address,
            "method": request.method,
            "path": request.path,
            "code": status,
            "seconds": round(seconds, 6),
            "bytes_in": request.bytes_in,
            "bytes_out": request.exchange.bytes_out,
        }
        if request.error:
            line["error"] = request.error
        measurement = request.measurement
        if measurement is not None:
            first = measurement.first
            line |= {
                "status": request.outcome,
                "model": measurement.output.model or measurement.asked.model,
                "finish_reason": measurement.output.finish,
                "prompt_tokens": measurement.output.prompt_tokens,
                "generation_tokens": measurement.generated,
                "first_token_seconds": first and round(first - measurement.begun, 6),
            }
        return line
