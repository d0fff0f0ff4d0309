"""Counters of the network protocols: /proc/net/netstat, snmp and snmp6."""

import contextlib
import re
from collections.abc import Iterator
from functools import lru_cache, partial

from tocsin_exporter.catalogue.network import NETSTAT
from tocsin_exporter.collectors.collector import Unavailable
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.collectors.inline import FileCollector, LineParser, number, text
from tocsin_exporter.snapshot import Family, Sample

# node_exporter's default selection.
_WANTED = re.compile(
    r"^([A-Za-z0-9]*_(InErrors|InErrs)|Ip_Forwarding|Ip(6|Ext)_(InOctets|OutOctets)|Icmp6?_(InMsgs|OutMsgs)"
    r"|TcpExt_(Listen[A-Za-z0-9]*|Syncookies[A-Za-z0-9]*|TCPSynRetrans|TCPTimeouts)"
    r"|Tcp_(ActiveOpens|InSegs|OutSegs|OutRsts|PassiveOpens|RetransSegs|CurrEstab)"
    r"|Udp6?_(InDatagrams|OutDatagrams|NoPorts|RcvbufErrors|SndbufErrors))$"
)
_IN_ONE_WORD = re.compile(r"(Ip6|Icmp6|Udp6|UdpLite6)([A-Za-z0-9]*)")


def netstat(host: Host) -> FileCollector:
    net = str(host.proc / "net")
    return FileCollector("netstat", partial(_read, net), Unavailable)


def _read(net: str, lines: LineParser) -> Iterator[Sample]:
    yield from parse(text(f"{net}/netstat"), lines)
    yield from parse(text(f"{net}/snmp"), lines)
    with contextlib.suppress(FileNotFoundError):  # where IPv6 is off
        yield from lines.parse(text(f"{net}/snmp6"), parse6)


def parse(content: str, lines: LineParser) -> Iterator[Sample]:
    """Pairs of lines: `Tcp: ActiveOpens InSegs`, then `Tcp: 26 7808`.

    A line without its other half is skipped, and the pairs after it are read all the same.
    """
    heading = ""
    for line in lines.split(content):
        if heading.partition(":")[0] == line.partition(":")[0]:
            yield from lines.take(line, partial(parse_pair, heading))
            heading = ""
            continue
        if heading:
            lines.skip(heading)
        heading = line
    if heading:
        lines.skip(heading)


def parse_pair(heading: str, numbers: str) -> Iterator[Sample]:
    names, fields = _columns(heading)
    _, *values = numbers.split()
    if len(values) < names:
        raise ValueError(f"{names} names, but {len(values)} numbers")
    for index, family in fields:
        yield Sample(family, number(values[index]))


def parse6(line: str) -> Iterator[Sample]:
    """Lines such as `Udp6InDatagrams    12`; addresses in hexadecimal do not occur here."""
    name, value, *_ = line.split()
    if (family := _family6(name)) is not None:
        yield Sample(family, number(value))


@lru_cache(maxsize=64)  # the headings never change while a kernel runs
def _columns(heading: str) -> tuple[int, tuple[tuple[int, Family], ...]]:
    protocol, *names = heading.split()
    of = protocol.removesuffix(":")
    return len(names), tuple(
        (index, NETSTAT.family(of, name))
        for index, name in enumerate(names)
        if _WANTED.match(f"{of}_{name}")
    )


@lru_cache(maxsize=512)
def _family6(name: str) -> Family | None:
    parts = _IN_ONE_WORD.fullmatch(name)
    if parts is None or not _WANTED.match(f"{parts[1]}_{parts[2]}"):
        return None
    return NETSTAT.family(parts[1], parts[2])
