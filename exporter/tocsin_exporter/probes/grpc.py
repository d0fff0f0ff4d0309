"""gRPC: the health check of grpc.health.v1, over HTTP/2 by itself.

https://github.com/grpc/grpc/blob/master/doc/health-checking.md and PROTOCOL-HTTP2.md
"""

import asyncio
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from tocsin_exporter.lookup import Address
from tocsin_exporter.probes.addresses import Resolver, choose, connected
from tocsin_exporter.probes.findings import Findings, ProbeFailed
from tocsin_exporter.probes.modules import GrpcProbe
from tocsin_exporter.probes.tls_facts import client_context, record_tls

_DURATION = "probe_grpc_duration_seconds"
_PATH = "/grpc.health.v1.Health/Check"
STATUSES = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
_UNKNOWN, _DEADLINE, _UNIMPLEMENTED, _INTERNAL, _UNAVAILABLE = 2, 4, 12, 13, 14
_OF_HTTP = {400: _INTERNAL, 401: 16, 403: 7, 404: _UNIMPLEMENTED} | dict.fromkeys(
    (429, 502, 503, 504), _UNAVAILABLE
)
_MOST_ANSWER = 1 << 20


@dataclass(slots=True)
class _HealthAnswer:
    """What has come of the answer; `code` is the gRPC status, -1 as long as nobody said it."""

    http: int = 0
    code: int = -1
    words: str = ""
    data: bytearray = field(default_factory=bytearray)
    ended: bool = False


async def probe_grpc(target: str, probe: GrpcProbe, resolver: Resolver, found: Findings) -> None:
    """Raises ProbeFailed, OSError."""
    found.phases(_DURATION, "resolve")
    found.register("probe_grpc_ssl", "probe_grpc_status_code")
    host, port = _server(target, probe)
    address = await choose(host, probe.family, resolver, found)
    found.add(_DURATION, found.get("probe_dns_lookup_time_seconds"), "resolve")
    for status in STATUSES.values():
        found.set("probe_grpc_healthcheck_response", 0, serving_status=status)
    found.set("probe_grpc_status_code", _DEADLINE)
    started = found.monotonic()
    try:
        answer = await _check(address, host, port, probe, found)
    except (OSError, EOFError, ProbeFailed) as error:
        found.set("probe_grpc_status_code", _UNAVAILABLE)
        raise ProbeFailed(f"no health check: {error}") from None
    finally:
        found.add(_DURATION, found.monotonic() - started, "check")
    _judge(answer, found)


def _server(target: str, probe: GrpcProbe) -> tuple[str, int]:
    if not target.startswith(("http://", "https://")):
        target = f"http://{target}"
    try:
        parts = urlsplit(target)
        port = parts.port or (443 if probe.use_tls else 80)
    except ValueError as error:
        raise ProbeFailed(f"target is no HOST:PORT: {error}") from None
    return parts.hostname or "", port


async def _check(
    address: Address, host: str, port: int, probe: GrpcProbe, found: Findings
) -> _HealthAnswer:
    opened = await connected(address, port)
    context = client_context(probe.tls, "grpc") if probe.use_tls else None
    name = (probe.tls.server_name or host) if context else None
    reader, writer = await asyncio.open_connection(sock=opened, ssl=context, server_hostname=name)
    try:
        if context is not None:
            found.set("probe_grpc_ssl", 1)
            record_tls(writer.get_extra_info("ssl_object"), found, chain=False)
        return await _exchange(reader, writer, f"{host}:{port}", probe)
    finally:
        writer.transport.abort()


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, authority: str, probe: GrpcProbe
) -> _HealthAnswer:
    import h2.config
    import h2.connection
    import h2.exceptions

    connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    connection.initiate_connection()
    _send(connection, authority, probe)
    writer.write(connection.data_to_send())
    answer = _HealthAnswer()
    try:
        while not answer.ended:
            data = await reader.read(65536)
            if not data:
                raise EOFError("the server closed the connection")
            for event in connection.receive_data(data):
                _take(event, answer, connection)
            writer.write(connection.data_to_send())
    except h2.exceptions.H2Error as error:
        raise ProbeFailed(f"the server does not speak HTTP/2: {error}") from None
    return answer


def _send(connection: Any, authority: str, probe: GrpcProbe) -> None:
    headers = [
        (":method", "POST"),
        (":scheme", "https" if probe.use_tls else "http"),
        (":path", _PATH),
        (":authority", authority),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("user-agent", "tocsin"),
    ]
    service = probe.service.encode()
    message = b"\x0a" + _varint(len(service)) + service if service else b""
    connection.send_headers(1, headers)
    connection.send_data(1, b"\0" + len(message).to_bytes(4, "big") + message, end_stream=True)


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def _take(event: Any, answer: _HealthAnswer, connection: Any) -> None:
    import h2.events

    if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
        for name, value in event.headers or ():
            _header(str(name), str(value), answer)
    elif isinstance(event, h2.events.DataReceived):
        answer.data += event.data or b""
        if len(answer.data) > _MOST_ANSWER:
            raise ProbeFailed("the answer is too large")
        connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
    elif isinstance(event, h2.events.ConnectionTerminated | h2.events.StreamReset):
        raise ProbeFailed("the server refused the call")
    if isinstance(event, h2.events.StreamEnded):
        answer.ended = True


def _header(name: str, value: str, answer: _HealthAnswer) -> None:
    if name == ":status" and value.isdigit():
        answer.http = int(value)
    elif name == "grpc-status" and value.isdigit():
        answer.code = int(value[:4])
    elif name == "grpc-message":
        answer.words = unquote(value)[:200]


def _judge(answer: _HealthAnswer, found: Findings) -> None:
    code = answer.code
    if code < 0:
        code = _OF_HTTP.get(answer.http, _UNKNOWN)
    found.set("probe_grpc_status_code", code)
    if code:
        raise ProbeFailed(f"gRPC status {code} {answer.words}".rstrip())
    status = STATUSES.get(_status(bytes(answer.data)), "UNKNOWN")
    found.log(f"the service is {status}")
    found.set("probe_grpc_healthcheck_response", 1, serving_status=status)
    if status != "SERVING":
        raise ProbeFailed(f"the service is {status}")


def _status(data: bytes) -> int:
    """The field `status` of the first message; 0 where it has none."""
    message = data[5:]
    return message[1] if len(message) >= 2 and message[0] == 8 else 0
