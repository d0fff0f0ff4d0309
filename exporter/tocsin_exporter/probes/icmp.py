"""ICMP: a ping without root where the kernel permits it, else by a raw socket."""

import asyncio
import contextlib
import errno
import ipaddress
import random
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tocsin_exporter.lookup import Address
from tocsin_exporter.probes.addresses import Resolver, choose, source_address
from tocsin_exporter.probes.findings import Findings, ProbeFailed
from tocsin_exporter.probes.modules import IcmpProbe

_DURATION = "probe_icmp_duration_seconds"
_PAYLOAD = b"tocsin: is anybody there, please"
_ECHO = {socket.AF_INET: (8, 0), socket.AF_INET6: (128, 129)}
_PROTOCOL = {socket.AF_INET: socket.IPPROTO_ICMP, socket.AF_INET6: socket.IPPROTO_ICMPV6}
_IP_HOPLIMIT, _IP_RECVTTL = 52, 12  # of linux/in6.h and linux/in.h, which Python does not name
_SO_TIMESTAMPNS = 35
_IP_MTU_DISCOVER, _PMTUDISC_DO = 10, 2
_REFUSED = (errno.EACCES, errno.EPERM, errno.EPROTONOSUPPORT)
NOT_PERMITTED = (
    "ICMP is not permitted here: let the agent's group send it (sysctl net.ipv4.ping_group_range="
    '"0 2147483647"), or give the agent CAP_NET_RAW'
)
_MOST_BYTES = 65535


@dataclass(frozen=True, slots=True)
class PingReply:
    """`seconds` from sending to its arrival at the kernel; `hops` is None where it is not told."""

    seconds: float
    hops: int | None


@dataclass(slots=True)
class Pinger:
    """A socket for pings to one address; several may be under way. `raw` sees those of others."""

    opened: socket.socket
    address: Address
    raw: bool
    identifier: int
    payload: bytes = _PAYLOAD

    def packet(self, sequence: int) -> bytes:
        kind, _ = _ECHO[socket.AddressFamily(self.opened.family)]
        head = struct.pack("!BBHHH", kind, 0, 0, self.identifier, sequence)
        total = _checksum(head + self.payload)
        return struct.pack("!BBHHH", kind, 0, total, self.identifier, sequence) + self.payload

    def send(self, sequence: int) -> None:
        """Raises OSError."""
        host, *rest = self.address[1]
        self.opened.sendto(self.packet(sequence), (host, 0, *rest[1:]))

    def replies(self) -> Iterator[tuple[int, float, int | None]]:
        """What has come: the sequence number, how many seconds ago, the hop limit."""
        while True:
            try:
                data, ancillary, _, peer = self.opened.recvmsg(_MOST_BYTES, 256)
            except BlockingIOError:
                return
            except OSError:  # an answer of ICMP that says why not: it is no reply
                continue
            sequence = self.sequence_of(data, str(peer[0]))
            if sequence is not None:
                hops, age = _told(ancillary)
                yield sequence, age, hops if hops is not None else self._ttl(data)

    def sequence_of(self, data: bytes, peer: str) -> int | None:
        """Of a reply to a ping of ours, None for anything else."""
        if not _same(peer, str(self.address[1][0])):
            return None
        body = data[(data[0] & 15) * 4 :] if self._has_header and data else data
        if len(body) < 8 or body[8:] != self.payload:
            return None
        kind, _, _, identifier, sequence = struct.unpack("!BBHHH", body[:8])
        if kind != _ECHO[socket.AddressFamily(self.opened.family)][1]:
            return None
        # The kernel has an identifier of its own for sockets without root, and keeps to it.
        return sequence if not self.raw or identifier == self.identifier else None

    @property
    def _has_header(self) -> bool:
        return self.raw and self.opened.family == socket.AF_INET

    def _ttl(self, data: bytes) -> int | None:
        return data[8] if self._has_header else None

    def close(self) -> None:
        self.opened.close()


def open_pinger(address: Address, probe: IcmpProbe) -> Pinger:
    """Raises ProbeFailed where nothing permits pings, or the source address is none; OSError."""
    family = socket.AddressFamily(address[0])
    kinds = [socket.SOCK_DGRAM, socket.SOCK_RAW]
    for kind in kinds:
        try:
            opened = socket.socket(family, kind, _PROTOCOL[family])
        except OSError as error:
            if error.errno not in _REFUSED:
                raise
            continue
        try:
            _configure(opened, probe)
        except BaseException:  # why: whatever happens, the descriptor is not left open
            opened.close()
            raise
        payload = _PAYLOAD.ljust(probe.payload_size, b"\0")[: probe.payload_size or None]
        return Pinger(opened, address, kind == socket.SOCK_RAW, random.getrandbits(16), payload)
    raise ProbeFailed(NOT_PERMITTED)


def _configure(opened: socket.socket, probe: IcmpProbe) -> None:
    opened.setblocking(False)
    opened.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    if opened.family == socket.AF_INET6:
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
        if probe.ttl:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, probe.ttl)
    else:
        opened.setsockopt(socket.IPPROTO_IP, _IP_RECVTTL, 1)
        if probe.ttl:
            opened.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, probe.ttl)
        if probe.dont_fragment:
            opened.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_DO)
    if probe.source_ip_address:
        opened.bind((source_address(probe.source_ip_address), 0))


async def probe_icmp(target: str, probe: IcmpProbe, resolver: Resolver, found: Findings) -> None:
    """Raises ProbeFailed, OSError."""
    found.phases(_DURATION, "resolve", "setup", "rtt")
    address = await choose(target.strip("[]"), probe.family, resolver, found)
    found.add(_DURATION, found.get("probe_dns_lookup_time_seconds"), "resolve")
    started = found.monotonic()
    pinger = open_pinger(address, probe)
    try:
        sent = found.monotonic()
        found.add(_DURATION, sent - started, "setup")
        reply = await _ping(pinger, random.getrandbits(16), found.monotonic)
    finally:
        pinger.close()
    found.add(_DURATION, reply.seconds, "rtt")
    if reply.hops is not None:
        found.set("probe_icmp_reply_hop_limit", reply.hops)


async def _ping(pinger: Pinger, sequence: int, monotonic: Callable[[], float]) -> PingReply:
    """Waits for ever, or until it is cancelled."""
    sent = monotonic()
    pinger.send(sequence)
    while True:
        await readable(pinger.opened)
        for number, age, hops in pinger.replies():
            if number == sequence:
                waited = monotonic() - sent
                return PingReply(max(0.0, waited - min(age, waited)), hops)


async def readable(opened: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(opened, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(opened)


def _told(ancillary: list[tuple[int, int, bytes]]) -> tuple[int | None, float]:
    """The hop limit, and how long ago the packet came, 0 where that is not told."""
    hops, age = None, 0.0
    for level, kind, data in ancillary:
        if (level, kind) in ((socket.IPPROTO_IP, socket.IP_TTL),
                             (socket.IPPROTO_IPV6, _IP_HOPLIMIT)):  # fmt: skip
            (hops,) = struct.unpack("i", data[:4])
        elif (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS) and len(data) >= 16:
            seconds, nanos = struct.unpack("qq", data[:16])
            age = max(0.0, time.clock_gettime(time.CLOCK_REALTIME) - seconds - nanos / 1e9)
    return hops, age


def _same(one: str, other: str) -> bool:
    with contextlib.suppress(ValueError):
        first, second = one.partition("%")[0], other.partition("%")[0]
        return ipaddress.ip_address(first) == ipaddress.ip_address(second)
    return False


def _checksum(data: bytes) -> int:
    """RFC 1071; of ICMPv6 the kernel makes it."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
