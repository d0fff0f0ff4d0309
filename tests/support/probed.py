"""Servers for probes: HTTP with every kind of answer, TLS good and bad, lines, DNS, gRPC health."""

import asyncio
import gzip
import ssl
import struct
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cramjam
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import h2.config
import h2.connection
import h2.events
import trustme

BODY = b"it is well\n" * 50
LAST_MODIFIED = "Wed, 21 Oct 2015 07:28:00 GMT"


def _answer(status: str, body: bytes = b"", *headers: str, length: bool = True) -> bytes:
    lines = [f"HTTP/1.1 {status}", *headers]
    if length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def _raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def _redirects(path: str) -> bytes:
    left = int(path.rpartition("/")[2])
    return _answer("302 Found", b"", f"Location: /redirects/{left - 1}" if left else "X: y")


ANSWERS: dict[str, bytes] = {
    "/ok": _answer("200 OK", BODY, f"Last-Modified: {LAST_MODIFIED}", "X-State: fine"),
    "/chunked": _answer("200 OK", b"5\r\nhello\r\n0\r\n\r\n", "Transfer-Encoding: chunked",
                        length=False),
    "/until-close": _answer("200 OK", BODY, "Connection: close", length=False),
    "/created": _answer("201 Created", b"made"),
    "/empty": _answer("204 No Content", length=False),
    "/missing": _answer("404 Not Found", b"no such page"),
    "/broken": _answer("500 Internal Server Error", b"sorry"),
    "/moved": _answer("301 Moved Permanently", b"", "Location: /ok"),
    "/moved-words": _answer("301 Moved Permanently", b"go to /ok", "Location: /ok"),
    "/moved-308": _answer("308 Permanent Redirect", b"", "Location: /method"),
    "/moved-303": _answer("303 See Other", b"", "Location: /method"),
    "/nowhere": _answer("302 Found", b"no Location"),
    "/to-ftp": _answer("302 Found", b"", "Location: ftp://127.0.0.1/x"),
    "/gzip": _answer("200 OK", gzip.compress(BODY), "Content-Encoding: gzip"),
    "/deflate": _answer("200 OK", _raw_deflate(BODY), "Content-Encoding: deflate"),
    "/br": _answer("200 OK", bytes(cramjam.brotli.compress(BODY)), "Content-Encoding: br"),
    "/twice": _answer("200 OK", b"", "X-State: good", "X-State: bad"),
    "/old": b"HTTP/1.0 200 OK\r\n\r\nold",
    "/cut": b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nshort",
    "/garbage": b"\x00\x01\x02 this is no HTTP\r\n\r\n",
    "/cookie": _answer("302 Found", b"", "Set-Cookie: taste=sweet; Path=/", "Location: /tasted"),
}  # fmt: skip


async def _http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    method, path, _ = head.split("\r\n")[0].split(" ", 2)
    if path.startswith("/redirects/"):
        writer.write(_redirects(path))
    elif path == "/hang":
        await reader.read()
    elif path == "/method":
        writer.write(_answer("200 OK", f"asked with {method}".encode()))
    elif path == "/tasted":
        good = "cookie: taste=sweet" in head.lower()
        writer.write(_answer("200 OK" if good else "403 Forbidden"))
    elif path == "/secret":
        good = "authorization: basic dTpw".lower() in head.lower()
        writer.write(_answer("200 OK" if good else "401 Unauthorized"))
    elif path == "/host":
        good = "host: tocsin.test" in head.lower()
        writer.write(_answer("200 OK" if good else "421 Misdirected Request"))
    else:
        answer = ANSWERS.get(path, ANSWERS["/missing"])
        writer.write(answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if method == "HEAD" else answer)


async def _lines(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A mail server's manners: a greeting, an echo, and then TLS."""
    writer.write(b"220 mail.tocsin.test ready\r\n")
    await writer.drain()
    while line := await reader.readline():
        if line.startswith(b"QUIT"):
            return
        writer.write(b"250 you said " + line)
        await writer.drain()


def _starttls(context: ssl.SSLContext) -> "Serve":
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready\n")
        if (await reader.readline()).startswith(b"STARTTLS"):
            writer.write(b"220 go ahead\n")
            await writer.drain()
            await writer.start_tls(context)
            await _lines(reader, writer)

    return serve


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def _quietly(serve: Serve) -> Serve:
    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
            await writer.drain()
        except (OSError, EOFError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    return served


async def _health(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """grpc.health.v1: "" and good serve, bad does not, of others nothing is known."""
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    connection.initiate_connection()
    writer.write(connection.data_to_send())
    asked: dict[int, bytes] = {}
    while data := await reader.read(65536):
        for event in connection.receive_data(data):
            if isinstance(event, h2.events.DataReceived):
                asked[event.stream_id] = asked.get(event.stream_id, b"") + event.data
            if isinstance(event, h2.events.StreamEnded):
                _reply(connection, event.stream_id, asked.get(event.stream_id, b"")[7:].decode())
        writer.write(connection.data_to_send())


def _reply(connection: h2.connection.H2Connection, stream: int, service: str) -> None:
    head = [(":status", "200"), ("content-type", "application/grpc")]
    if service not in ("", "good", "bad"):
        connection.send_headers(stream, [*head, ("grpc-status", "5")], end_stream=True)
        return
    connection.send_headers(stream, head)
    message = b"\x08\x02" if service == "bad" else b"\x08\x01"
    connection.send_data(stream, b"\0" + struct.pack("!I", len(message)) + message)
    connection.send_headers(stream, [("grpc-status", "0")], end_stream=True)


async def _http2(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers each request of HTTP/2 with the same."""
    config = h2.config.H2Configuration(client_side=False)
    connection = h2.connection.H2Connection(config)
    connection.initiate_connection()
    writer.write(connection.data_to_send())
    while data := await reader.read(65536):
        for event in connection.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                path = dict(event.headers)[b":path"]
                head = [(":status", "404" if path == b"/missing" else "200"), ("x-state", "fine")]
                connection.send_headers(event.stream_id, head)
                connection.send_data(event.stream_id, BODY, end_stream=True)
        writer.write(connection.data_to_send())


class _Names(asyncio.DatagramProtocol):
    transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if (answer := dns_answer(data)) is not None:
            self.transport.sendto(answer, addr)


def dns_answer(wire: bytes) -> bytes | None:
    """tocsin.test has two addresses, a zone and a text; refused.test is refused, hang.test is not
    answered, and nothing else is known."""
    query = dns.message.from_wire(wire)
    name = query.question[0].name.to_text()
    answer = dns.message.make_response(query)
    kind = dns.rdatatype.to_text(query.question[0].rdtype)
    records = {
        "A": ["192.0.2.1", "192.0.2.2"],
        "SOA": ["ns.tocsin.test. root.tocsin.test. 2026113001 60 60 60 60"],
        "TXT": ['"is it well"'],
    }
    if name == "hang.test.":
        return None
    if name == "refused.test.":
        answer.set_rcode(dns.rcode.REFUSED)
    elif name == "garbage.test.":
        return wire[:2] + b"\xff"
    elif name != "tocsin.test.":
        answer.set_rcode(dns.rcode.NXDOMAIN)
    elif kind in records:
        answer.answer.append(dns.rrset.from_text(name, 300, "IN", kind, *records[kind]))
        answer.authority.append(dns.rrset.from_text(name, 300, "IN", "NS", "ns.tocsin.test."))
        answer.additional.append(
            dns.rrset.from_text("ns.tocsin.test.", 300, "IN", "A", "127.0.0.1")
        )
    return answer.to_wire()


async def _dns_over_tcp(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    (length,) = struct.unpack("!H", await reader.readexactly(2))
    answer = dns_answer(await reader.readexactly(length))
    if answer is not None:
        writer.write(struct.pack("!H", len(answer)) + answer)


@dataclass(frozen=True)
class Probed:
    """Ports on 127.0.0.1, and the file of the authority that signed the certificates."""

    http: int
    https: int
    http2: int
    expired: int
    wrong_host: int
    stranger: int
    cn_only: int
    lines: int
    starttls: int
    tls_lines: int
    grpc: int
    grpc_tls: int
    dns: int
    dot: int
    ca_file: Path


def _context(
    ca: trustme.CA,
    *names: str,
    days: float = 30.0,
    alpn: str = "",
    common_name: str | None = None,
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    now = datetime.now(UTC)
    ca.issue_cert(
        *names,
        common_name=common_name,
        not_before=now - timedelta(days=60),
        not_after=now + timedelta(days=days),
    ).configure_cert(context)
    if alpn:
        context.set_alpn_protocols([alpn])
    return context


@asynccontextmanager
async def probed_servers(directory: Path) -> AsyncIterator[Probed]:
    """All of them, until the block ends."""
    ca, stranger = trustme.CA(), trustme.CA()
    ca_file = directory / "ca.pem"
    ca.cert_pem.write_to_path(str(ca_file))
    good = _context(ca, "127.0.0.1", "localhost", "tocsin.test")
    servers: dict[str, tuple[Serve, ssl.SSLContext | None]] = {
        "http": (_http, None),
        "https": (_http, good),
        "http2": (_http2, _context(ca, "127.0.0.1", alpn="h2")),
        "expired": (_http, _context(ca, "127.0.0.1", days=-1)),
        "wrong_host": (_http, _context(ca, "elsewhere.test")),
        "stranger": (_http, _context(stranger, "127.0.0.1")),
        "cn_only": (_http, _context(ca, common_name="localhost")),
        "lines": (_lines, None),
        "starttls": (_starttls(good), None),
        "tls_lines": (_lines, good),
        "grpc": (_health, None),
        "grpc_tls": (_health, _context(ca, "127.0.0.1", alpn="h2")),
        "dns": (_dns_over_tcp, None),
        "dot": (_dns_over_tcp, good),
    }
    ports: dict[str, int] = {}
    begun = []
    for name, (serve, context) in servers.items():
        server = await asyncio.start_server(_quietly(serve), "127.0.0.1", 0, ssl=context)
        begun.append(server)
        ports[name] = server.sockets[0].getsockname()[1]
    loop = asyncio.get_running_loop()
    at = ("127.0.0.1", ports["dns"])
    datagrams, _ = await loop.create_datagram_endpoint(_Names, local_addr=at)
    try:
        yield Probed(**ports, ca_file=ca_file)
    finally:
        datagrams.close()
        for server in begun:
            server.close()
