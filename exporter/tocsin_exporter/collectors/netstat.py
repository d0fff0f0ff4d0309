"""Counters of the network protocols: /proc/net/netstat, snmp and snmp6."""

import contextlib
import re
from collections.abc import Iterator
from functools import lru_cache

from tocsin_exporter.catalogue.network import NETSTAT
from tocsin_exporter.collectors.collector import Unavailable
from tocsin_exporter.collectors.reading import Reading, text
from tocsin_exporter.collectors.site import Site
from tocsin_exporter.snapshot import Family, Sample

# node_exporter's default selection.
_WANTED = re.compile(
    r"^(.*_(InErrors|InErrs)|Ip_Forwarding|Ip(6|Ext)_(InOctets|OutOctets)|Icmp6?_(InMsgs|OutMsgs)"
    r"|TcpExt_(Listen.*|Syncookies.*|TCPSynRetrans|TCPTimeouts)"
    r"|Tcp_(ActiveOpens|InSegs|OutSegs|OutRsts|PassiveOpens|RetransSegs|CurrEstab)"
    r"|Udp6?_(InDatagrams|OutDatagrams|NoPorts|RcvbufErrors|SndbufErrors))$"
)
_IN_ONE_WORD = re.compile(r"(Ip6|Icmp6|Udp6|UdpLite6)(.*)")


def netstat(site: Site) -> Reading:
    net = str(site.proc / "net")
    return Reading("netstat", lambda: _read(net))


def _read(net: str) -> list[Sample]:
    samples = [*parse(text(f"{net}/netstat")), *parse(text(f"{net}/snmp"))]
    with contextlib.suppress(FileNotFoundError):  # where IPv6 is off
        samples += parse6(text(f"{net}/snmp6"))
    if not samples:
        raise Unavailable("the kernel counts no protocol that is wanted")
    return samples


def parse(said: str) -> Iterator[Sample]:
    """Pairs of lines: `Tcp: ActiveOpens InSegs`, then `Tcp: 26 7808`."""
    lines = said.splitlines()
    for heading, numbers in zip(lines[::2], lines[1::2], strict=True):
        protocol, fields = _columns(heading)
        values = numbers.split()
        for index, family in fields:
            if values[0] != protocol:
                raise ValueError(f"{values[0]} follows {protocol} in a pair of lines")
            yield Sample(family, float(values[index]))


def parse6(said: str) -> Iterator[Sample]:
    """Lines such as `Udp6InDatagrams    12`; addresses in hexadecimal do not occur here."""
    for line in said.splitlines():
        name, value = line.split()
        if (family := _family6(name)) is not None:
            yield Sample(family, float(value))


@lru_cache(maxsize=64)  # the headings never change while a kernel runs
def _columns(heading: str) -> tuple[str, tuple[tuple[int, Family], ...]]:
    protocol, *names = heading.split()
    of = protocol.removesuffix(":")
    return protocol, tuple(
        (index, NETSTAT.family(of, name))
        for index, name in enumerate(names, start=1)
        if _WANTED.match(f"{of}_{name}")
    )


@lru_cache(maxsize=512)
def _family6(name: str) -> Family | None:
    parts = _IN_ONE_WORD.fullmatch(name)
    if parts is None or not _WANTED.match(f"{parts[1]}_{parts[2]}"):
        return None
    return NETSTAT.family(parts[1], parts[2])
