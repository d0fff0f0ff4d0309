"""From a target's name to the one address that is probed; what no probe may reach.

Only one address is tried, as in blackbox_exporter: a service that is half up is not up. The address
that was checked is the one that is connected to, so that no name can change in between.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Sequence
from typing import TypeAlias

from tocsin_exporter.http import own_shortage
from tocsin_exporter.lookup import Address, Lookup
from tocsin_exporter.probes.findings import Findings, ProbeFailed
from tocsin_exporter.probes.modules import IpChoice

IP: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
_FAMILIES = {"ip4": socket.AF_INET, "ip6": socket.AF_INET6}
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_6TO4 = ipaddress.ip_network("2002::/16")
# Where clouds hand out the keys of a machine, besides 169.254.169.254: AWS and Google on IPv6,
# Alibaba, Oracle, Azure's wire server.
METADATA = frozenset(
    map(
        ipaddress.ip_address,
        ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "192.0.0.192", "168.63.129.16"),
    )
)
_MOST_LOOKUPS = 256
_FNV_OFFSET, _FNV_PRIME = 0x811C9DC5, 0x01000193


def refused(address: IP) -> str:
    """Why no probe may reach `address`; "" where it may."""
    for meant in _meanings(address):
        if meant in METADATA:
            return f"{address} is an address of cloud metadata, which is never probed"
        if meant.is_link_local:
            return f"{address} is link-local, which is never probed"
        if meant.is_multicast or meant == ipaddress.ip_address("255.255.255.255"):
            return f"{address} is no address of one host"
    return ""


def _meanings(address: IP) -> list[IP]:
    """The address, and the IPv4 one that it stands for."""
    found: list[IP] = [address]
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            found.append(address.ipv4_mapped)
        if address in _NAT64 or int(address) >> 32 == 0:
            found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if address in _6TO4:
            found.append(ipaddress.IPv4Address(int(address) >> 80 & 0xFFFFFFFF))
        if address.teredo:
            found += address.teredo
    return found


def ip_hash(address: IP) -> int:
    """32-bit FNV-1a of the address's bytes."""
    digest = _FNV_OFFSET
    for byte in address.packed:
        digest = (digest ^ byte) * _FNV_PRIME & 0xFFFFFFFF
    return digest


class Resolver:
    """Names of targets: each host has a thread of its own, so that one that hangs holds up only
    itself; at most _MOST_LOOKUPS hosts are looked up at a time."""

    def __init__(self, lookup: Callable[[str], Lookup] = Lookup) -> None:
        self._new, self._running = lookup, dict[str, tuple[Lookup, int]]()

    async def addresses(self, host: str) -> Sequence[Address]:
        """Raises OSError."""
        lookup, waiting = self._running.get(host, (None, 0))
        if lookup is None and len(self._running) >= _MOST_LOOKUPS:
            raise OSError("too many names are being looked up")
        lookup = lookup or self._new(f"probe {host[:40]}")
        self._running[host] = lookup, waiting + 1
        asking = asyncio.ensure_future(lookup.addresses(host))
        asking.add_done_callback(lambda done: self._ended(host, done))
        return await asyncio.shield(asking)

    def _ended(self, host: str, done: "asyncio.Future[Sequence[Address]]") -> None:
        if not done.cancelled():
            done.exception()  # whoever asked has gone, and nobody else is told
        lookup, waiting = self._running.pop(host)
        if waiting > 1:
            self._running[host] = lookup, waiting - 1
        else:
            lookup.threads.close()


async def choose(host: str, family: IpChoice, resolver: Resolver, found: Findings) -> Address:
    """The one address of `host` that is probed, with its metrics. Raises ProbeFailed."""
    found.register("probe_ip_protocol", "probe_dns_lookup_time_seconds", "probe_ip_addr_hash")
    started = found.monotonic()
    try:
        address, ip = await _chosen(host, family, resolver)
    finally:
        seconds = found.monotonic() - started
        found.set("probe_dns_lookup_time_seconds", seconds)
    found.set("probe_ip_protocol", ip.version)
    found.set("probe_ip_addr_hash", ip_hash(ip))
    found.log(f"{host} is {ip}")
    return address


async def checked_address(host: str, family: IpChoice, resolver: Resolver) -> Address:
    """The same without metrics: where a redirect goes. Raises ProbeFailed."""
    return (await _chosen(host, family, resolver))[0]


async def _chosen(host: str, family: IpChoice, resolver: Resolver) -> tuple[Address, IP]:
    try:
        answers = await resolver.addresses(host)
    except OSError as error:
        if own_shortage(error):
            raise
        raise ProbeFailed(f"{host[:200]} has no address: {error.strerror or error}") from None
    wanted = [one for one in answers if one[0] == _FAMILIES[family.preferred]]
    others = [one for one in answers if one[0] != _FAMILIES[family.preferred]]
    usable = wanted or (others if family.fallback else [])
    if not usable:
        raise ProbeFailed(f"{host[:200]} has no address of {family.preferred}")
    ip = ipaddress.ip_address(str(usable[0][1][0]).partition("%")[0])
    if why := refused(ip):
        raise ProbeFailed(why)
    return usable[0], ip


async def connected(address: Address, port: int, source: str = "") -> socket.socket:
    """A TCP connection to exactly this address. Raises ProbeFailed for a bad `source`, OSError."""
    family, at = address
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setblocking(False)
        if source:
            opened.bind((source_address(source), 0))
        await asyncio.get_running_loop().sock_connect(opened, (at[0], port, *at[2:]))
    except BaseException:  # why: also when cancelled, the socket is not left open
        opened.close()
        raise
    return opened


def source_address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ProbeFailed(f"source_ip_address {text} is no address") from None


def split_port(target: str) -> tuple[str, int]:
    """`host:port`. Raises ProbeFailed."""
    host, colon, port = target.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ProbeFailed(f"target {target[:200]} is not HOST:PORT")
    if ":" in host and not bracketed:
        raise ProbeFailed(f"target {target[:200]}: an IPv6 address goes into brackets")
    return host.strip("[]"), int(port)
