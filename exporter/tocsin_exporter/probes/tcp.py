"""TCP: connect, speak a few lines, begin TLS."""

import asyncio
import ssl

from tocsin_exporter.probes.addresses import Resolver, choose, connected, split_port
from tocsin_exporter.probes.findings import Findings, ProbeFailed
from tocsin_exporter.probes.modules import TcpProbe, TcpStep, TlsClient
from tocsin_exporter.probes.tls_facts import client_context, record_tls
from tocsin_exporter.relabel import expand

_LONGEST_LINE = 64 << 10
_REGEX = "probe_failed_due_to_regex"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def probe_tcp(target: str, probe: TcpProbe, resolver: Resolver, found: Findings) -> None:
    """Raises ProbeFailed, OSError."""
    found.register(_REGEX)
    host, port = split_port(target)
    address = await choose(host, probe.family, resolver, found)
    opened = await connected(address, port, probe.source_ip_address)
    context = client_context(probe.tls, "tcp") if probe.use_tls else None
    reader, writer = await asyncio.open_connection(
        sock=opened,
        limit=_LONGEST_LINE,
        ssl=context,
        server_hostname=_name(probe.tls, host, context),
    )
    try:
        if probe.use_tls:
            record_tls(writer.get_extra_info("ssl_object"), found)
        for step in probe.query_response:
            await _step(step, probe.tls, host, (reader, writer), found)
    finally:
        writer.transport.abort()


def _name(tls: TlsClient, host: str, context: ssl.SSLContext | None) -> str | None:
    return (tls.server_name or host) if context is not None else None


async def _step(
    step: TcpStep, tls: TlsClient, host: str, streams: Streams, found: Findings
) -> None:
    reader, writer = streams
    send = step.send
    if step.expect is not None:
        match = await _expected(step, reader, found)
        send = expand(send, match)
    if send:
        found.log(f"sending {send}")
        writer.write(f"{send}\n".encode())
        await writer.drain()
    if step.starttls:
        context = client_context(tls, "tcp")
        await writer.start_tls(context, server_hostname=tls.server_name or host)
        record_tls(writer.get_extra_info("ssl_object"), found)


async def _expected(step: TcpStep, reader: asyncio.StreamReader, found: Findings) -> object:
    """The match of the first line that has one. Raises ProbeFailed."""
    assert step.expect is not None
    while line := await _line(reader):
        text = line.rstrip(b"\n").removesuffix(b"\r").decode("utf-8", "replace")
        found.log(f"read {text}")
        if (match := step.expect.search(text)) is not None:
            found.set(_REGEX, 0)
            return match
    found.set(_REGEX, 1)
    raise ProbeFailed(f"no line matches {step.expect.pattern}")


async def _line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readline()
    except ValueError:
        raise ProbeFailed(f"a line is longer than {_LONGEST_LINE} bytes") from None
