"""Syslog: RFC 5424 by UDP, TCP and TLS, and the local form to this machine's own socket.

Sources: RFC 5424 (message, structured data, sizes), RFC 5426 (UDP), RFC 6587 section 3.4 (framing
on TCP), RFC 5425 (TLS). It writes a record; nobody is woken by it.
"""

import asyncio
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Annotated, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, Field, model_validator

from tocsin_alerting.http import Lookup, certificate_refused, error_text, tls_context
from tocsin_alerting.incidents.incident import Reason
from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import Delivered, Outcome, Permanent, RetryAt
from tocsin_alerting.notify.channel import ChannelDeps, describe_outcome
from tocsin_alerting.notify.receiver_section import ReceiverSection
from tocsin_alerting.notify.rehearsal import Rehearsed, rehearsed
from tocsin_alerting.settings import FilePath, Interval
from tocsin_alerting.time_format import rfc3339

_PORTS = {"udp": 514, "tcp": 514, "tls": 6514}
_FACILITIES = "kern user mail daemon auth syslog lpr news uucp cron authpriv ftp".split()
FACILITIES = {
    **{name: number for number, name in enumerate(_FACILITIES)},
    **{f"local{number}": 16 + number for number in range(8)},
}
# Not emergency: that is written onto every terminal of many machines.
SEVERITIES = {"P0": 1, "P1": 2, "P2": 3, "P3": 4, "P4": 5}
_INFORMATIONAL = 6
_BOM = "\ufeff"  # RFC 5424 section 6.4: what follows is UTF-8
_MIN_BYTES, _MIN_TEXT_BYTES = 480, 160
_MAX_VALUE_BYTES, _MAX_TITLE_BYTES = 160, 96
_JOINERS = "\u200c\u200d"  # of scripts and of emoji
_REFUSED_WITHIN_S = 0.05  # in which this machine, or a near one, says that nobody listens
_CLOSED_WITHIN_S = 1.0
_MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()


def _usable_address(text: str) -> str:
    try:
        parts = urlsplit(text)
        more = parts.path or parts.query or parts.fragment or parts.username is not None
        usable = parts.scheme in _PORTS and parts.hostname and parts.port != 0 and not more
    except ValueError:
        usable, parts = False, SplitResult("", "", "", "", "")
    if parts.scheme == "unix":
        usable = parts.path.startswith("/") and not parts.netloc
    if not usable or not text.isprintable() or " " in text:
        raise ValueError("not one of udp://host:514, tcp://host:514, tls://host:6514, unix:///path")
    return text


class SyslogSettings(ReceiverSection):
    """`format: local` is what programs write to /dev/log, without host name and structured data."""

    type: Literal["syslog"]
    address: Annotated[str, AfterValidator(_usable_address)] = "unix:///dev/log"
    format: Literal["rfc5424", "local"] | None = None
    framing: Literal["octet_counting", "newline"] = "octet_counting"
    facility: str = "daemon"
    app_name: Annotated[str, Field(pattern=r"^[!-~]{1,48}$")] = "tocsin"
    hostname: Annotated[str, Field(pattern=r"^[!-~]{1,255}$")] | None = None
    enterprise_id: Annotated[int, Field(gt=0, lt=2**32)] = 32473
    max_bytes: Annotated[int, Field(ge=_MIN_BYTES, le=65_000)] = 2048
    timeout: Interval = 10_000
    send_resolved: bool = True
    ca_file: FilePath | None = None
    cert_file: FilePath | None = None
    key_file: FilePath | None = None
    insecure_skip_verify: bool = False

    @model_validator(mode="after")
    def _whole(self) -> "SyslogSettings":
        if self.facility not in FACILITIES:
            raise ValueError(f"facility is one of {', '.join(FACILITIES)}")
        if self.key_file is not None and self.cert_file is None:
            raise ValueError("key_file needs cert_file, the certificate that belongs to the key")
        tls_alone = (self.ca_file, self.cert_file, self.insecure_skip_verify or None)
        if not self.address.startswith("tls:") and any(key is not None for key in tls_alone):
            raise ValueError("certificates need an address of tls://")
        return self


class Syslog:
    """One message a connection or a datagram. No answer of a syslog server says that it was kept:
    it counts as delivered when nothing speaks against it."""

    def __init__(self, name: str, settings: SyslogSettings, deps: ChannelDeps) -> None:
        self.name = name
        self.at_once = 16
        self.send_resolved = settings.send_resolved
        self._settings, self._templates = settings, deps.templates
        self._hostname = settings.hostname or deps.hostname
        self._address = urlsplit(settings.address)
        self._is_local = (settings.format or self._default_format) == "local"
        self.lookup = Lookup(name)
        self._tls = None
        if self._address.scheme == "tls":
            ca_file = str(settings.ca_file) if settings.ca_file else None
            self._tls = tls_context(ca_file, verify=not settings.insecure_skip_verify)
            if settings.cert_file:
                self._tls.load_cert_chain(settings.cert_file, settings.key_file)

    @property
    def _default_format(self) -> str:
        return "local" if self._address.scheme == "unix" else "rfc5424"

    def __repr__(self) -> str:
        return f"Syslog({self.name}, {self._settings.address})"

    async def send(
        self, notification: Notification, now_ms: int, transcript: list[str] | None = None
    ) -> Outcome:
        dialogue = transcript if transcript is not None else []
        title = escaped(notification.title, _MAX_TITLE_BYTES)
        line = self._templates.line(replace(notification, title=title))  # its number follows it
        if self._is_local:
            message = local_message(notification, line, now_ms, self._settings)
        else:
            message = rfc5424_message(notification, line, now_ms, self._settings, self._hostname)
        dialogue.append(f"> {message.decode(errors='replace').replace(_BOM, '')}")
        if rehearsed(lambda: Rehearsed(self._settings.address, dialogue[-1].removeprefix("> "))):
            return Delivered()
        result = await self._attempt(message)
        dialogue.append(describe_outcome(result))
        return result

    async def _attempt(self, message: bytes) -> Outcome:
        limit_s = self._settings.timeout / 1000
        try:
            async with asyncio.timeout(limit_s):
                if self._address.scheme in ("udp", "unix"):
                    await self._send_datagram(message)
                    return Delivered(detail="sent, not confirmed")
                await self._send_stream(message)
                return Delivered(detail="sent, and the connection was not reset")
        except TimeoutError:
            return RetryAt(f"{self._settings.address}: not sent within {limit_s:g} s")
        except OSError as error:
            text = f"{self._settings.address}: {error_text(error)}"
            if certificate_refused(error):
                return Permanent(f"{text}; set ca_file to the certificate authority")
            return RetryAt(text)

    def begin(self) -> None:
        if self._address.hostname is not None:
            self.lookup.begin(self._address.hostname)

    async def close(self) -> None:
        """Nothing stays open between messages."""

    @property
    def _host_and_port(self) -> tuple[str, int]:
        address = self._address
        return address.hostname or "", address.port or _PORTS[address.scheme]

    async def _send_datagram(self, message: bytes) -> None:
        family, target = await self._target()
        with socket.socket(family, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.connect(target)
            await _send_whole(sender, message)
            if family != socket.AF_UNIX:  # where nobody listens, ICMP says so at once
                await asyncio.sleep(_REFUSED_WITHIN_S)
                if number := sender.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    raise OSError(number, os.strerror(number))

    async def _target(self) -> tuple[socket.AddressFamily, str | tuple[object, ...]]:
        if self._address.scheme == "unix":
            return socket.AF_UNIX, self._address.path
        host, port = self._host_and_port
        family, at = (await self.lookup.addresses(host))[0]
        return family, (at[0], port, *at[2:])

    async def _send_stream(self, message: bytes) -> None:
        if self._settings.framing == "octet_counting" or self._tls is not None:
            framed = f"{len(message)} ".encode() + message
        else:
            framed = message + b"\n"
        host, port = self._host_and_port
        connection = await self.lookup.connect(host, port)
        name = host if self._tls else None
        reader, writer = await asyncio.open_connection(
            sock=connection, ssl=self._tls, server_hostname=name
        )
        try:
            writer.write(framed)
            await writer.drain()
            if self._tls is None:
                writer.write_eof()
                with suppress(TimeoutError):  # a server may keep its side open
                    async with asyncio.timeout(_CLOSED_WITHIN_S):
                        await reader.read()
        finally:
            writer.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSED_WITHIN_S):
                await writer.wait_closed()


async def _send_whole(sender: socket.socket, message: bytes) -> None:
    """A datagram, once there is room for it. Raises OSError."""
    loop, writable = asyncio.get_running_loop(), asyncio.Event()
    loop.add_writer(sender, writable.set)
    try:
        while True:
            await writable.wait()
            with suppress(BlockingIOError):
                sender.send(message)
                return
            writable.clear()
    finally:
        loop.remove_writer(sender)


def rfc5424_message(
    notification: Notification, line: str, now_ms: int, settings: SyslogSettings, hostname: str
) -> bytes:
    """The message in at most `max_bytes`: the text is cut first, then the data that may be long."""
    words = (
        f"<{_priority(notification, settings)}>1",
        rfc3339(now_ms),
        _ascii(hostname, 255),
        settings.app_name,
        str(os.getpid()),
        notification.reason.value[:32],
    )
    header = " ".join(words).encode()
    room = settings.max_bytes - len(header) - 2
    data = _structured_data(notification, settings.enterprise_id, room - _MIN_TEXT_BYTES)
    return header + b" " + data + b" " + _text(line, room - len(data))


def _text(line: str, room: int) -> bytes:
    return (_BOM + escaped(line, room - len(_BOM.encode()))).encode()


def local_message(
    notification: Notification, line: str, now_ms: int, settings: SyslogSettings
) -> bytes:
    """As the C library's syslog() writes to /dev/log."""
    at = time.localtime(now_ms / 1000)
    clock = f"{_MONTHS[at.tm_mon - 1]} {at.tm_mday:2d} {time.strftime('%H:%M:%S', at)}"
    head = f"<{_priority(notification, settings)}>{clock} {settings.app_name}[{os.getpid()}]: "
    return head.encode() + escaped(line, settings.max_bytes - len(head)).encode()


def _priority(notification: Notification, settings: SyslogSettings) -> int:
    calm = notification.status == "resolved" or notification.reason is Reason.ACKED
    severity = SEVERITIES.get(notification.severity, _INFORMATIONAL)
    return FACILITIES[settings.facility] * 8 + (_INFORMATIONAL if calm else severity)


def _structured_data(notification: Notification, enterprise_id: int, room: int) -> bytes:
    """What is short always, what people and rules chose as long as there is room."""
    text = f"[tocsin@{enterprise_id}"
    for name, value in _parameters(notification):
        shown = escaped(value, _MAX_VALUE_BYTES)
        quoted = re.sub(r'(["\\\]])', r"\\\1", shown)  # RFC 5424 section 6.3.3
        more = f' {name}="{quoted}"'
        if len((text + more).encode()) < room:
            text += more
    return f"{text}]".encode()


def _parameters(notification: Notification) -> Iterator[tuple[str, str]]:
    numbers = (notification.incident,) if notification.incident else notification.incidents
    yield "incident", ",".join(map(str, numbers[:10]))
    yield "severity", notification.severity
    yield "status", notification.status
    yield "state", notification.state
    yield "title", notification.title
    if notification.alerts:
        labels = notification.alerts[0].labels
        for name in ("alertname", "instance"):
            yield name, labels.get(name, "")
    yield "actor", notification.actor


def escaped(text: str, most: int) -> str:
    """On one line, and nothing in it that a terminal obeys: `\\n`, `\\x1b`. At most `most`
    bytes of UTF-8, cut between characters, with an ellipsis where it was."""
    kept, length, room = list[str](), 0, most - len("…".encode())
    fits = 0  # as many of `kept` leave room for the ellipsis
    for char in text:
        is_kept = char.isprintable() or char in _JOINERS
        piece = char if is_kept else char.encode("unicode_escape").decode()
        length += len(piece.encode())
        if length > most:
            return "".join(kept[:fits]) + "…"
        kept.append(piece)
        fits += length <= room
    return "".join(kept)


def _ascii(text: str, longest: int) -> str:
    """What a header field may hold; `-` where nothing is left."""
    return "".join(c for c in text if "!" <= c <= "~")[:longest] or "-"
