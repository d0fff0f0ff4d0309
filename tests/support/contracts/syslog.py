"""A syslog server on TCP, as RFC 6587 frames and RFC 5424 writes: what is neither is not heard."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from support.authority import Authority
from support.broken_server import broken_server, reset
from support.channel_contract import ChannelContract, at, send_once
from support.webhook_sink import WebhookSink
from tocsin_alerting.incidents.outbox_message import Outcome

# Section 6 of RFC 5424, written from the document.
_VALUE = rb'(?:[^"\\\]]|\\["\\\]])*'
_PARAMETER = rb' ([!#-<>-\\^-~]{1,32})="(' + _VALUE + rb')"'
_NAME = rb"[!#-<>-\\^-~]{1,32}"
RFC5424 = re.compile(
    rb"<(\d{1,3})>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?Z) ([!-~]{1,255}) ([!-~]{1,48})"
    rb" ([!-~]{1,128}) ([!-~]{1,32})"
    rb" ((?:\[" + _NAME + rb"(?: " + _NAME + rb'="' + _VALUE + rb'")*\])+) \xef\xbb\xbf(.*)',
    re.DOTALL,
)
_ESCAPE = re.compile(r"\\(?:[nrt]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")


@dataclass
class SyslogDouble:
    port: int
    faults: list[bytes] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    def hear(self, stream: bytes) -> None:
        while stream:
            length, _, rest = stream.partition(b" ")
            if not length.isdigit() or length.startswith(b"0"):
                self.faults.append(stream)
                return
            message, stream = rest[: int(length)], rest[int(length) :]
            parsed = RFC5424.fullmatch(message)
            if parsed is None or len(message) > 2048 or re.search(rb"[\x00-\x1f\x7f]", message):
                self.faults.append(message)
                return
            quoted = [value for _, value in re.findall(_PARAMETER, parsed[7])]
            values = [re.sub(rb'\\(["\\\]])', rb"\1", value) for value in quoted]
            shown = "\n".join(part.decode() for part in (*values, parsed[8]))
            # as it is written, and as who knows the escapes reads it
            read = _ESCAPE.sub(lambda e: e[0].encode().decode("unicode_escape"), shown)
            self.messages.append(f"{shown}\n{read}")


@asynccontextmanager
async def _server() -> AsyncIterator[SyslogDouble]:
    async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        double.hear(await reader.read())
        writer.close()

    double = SyslogDouble(0)
    async with broken_server(read) as double.port:
        yield double


async def _unheard(contract: ChannelContract, _: Authority) -> list[Outcome]:
    async with broken_server(reset) as port:
        broken = await send_once(contract.build(at(port)))
    names = [f"{scheme}://127.0.0.1:{port}" for scheme in ("tcp", "udp", "tls")]
    names += ["unix:///no/such/socket", "udp://no-such-host.invalid"]
    return [broken, *[await send_once(contract.build(name)) for name in names]]


async def _heard(contract: ChannelContract, _: Authority) -> list[Outcome]:
    async with _server() as double:
        return [await send_once(contract.build(at(double.port)))]


async def _untrusted(contract: ChannelContract, authority: Authority) -> list[Outcome]:
    async with WebhookSink(tls=authority.server()) as sink:
        return [await send_once(contract.build(at(sink.port, "tls")))]


CONTRACT = ChannelContract(
    kind="syslog",
    section=lambda address: {"address": address.replace("http:", "tcp:"), "timeout": "5s"},
    double=_server,
    heard=lambda double: double.messages[-1],
    mentioned=lambda double: list(map(str, double.faults)),
    http=False,
    has_link=False,
    behaviours={"reset": reset},
    answers={
        "sent": _heard,
        "connection refused or broken, name not found": _unheard,
        "a certificate that is not trusted": _untrusted,
    },
)
