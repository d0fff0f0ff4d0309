"""Counters of the network protocols: /proc/net/netstat, snmp and snmp6."""

import contextlib
import re
from collections.abc import Iterator
from functools import lru_cache

from tocsin_exporter.catalogue.network import NETSTAT
from tocsin_exporter.collectors.collector import Unavailable
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.collectors.inline import FileCollector, LineParser, line_parser, number, text
from tocsin_exporter.snapshot import Family, Sample

# node_exporter's default selection, of names that a metric may have.
_USUAL = re.compile(
    r"^([A-Za-z0-9]*_(InErrors|InErrs)|Ip_Forwarding|Ip(6|Ext)_(InOctets|OutOctets)|Icmp6?_(InMsgs|OutMsgs)"
    r"|TcpExt_(Listen[A-Za-z0-9]*|Syncookies[A-Za-z0-9]*|TCPSynRetrans|TCPTimeouts)"
    r"|Tcp_(ActiveOpens|InSegs|OutSegs|OutRsts|PassiveOpens|RetransSegs|CurrEstab)"
    r"|Udp6?_(InDatagrams|OutDatagrams|NoPorts|RcvbufErrors|SndbufErrors))$"
)
_NAME = re.compile(r"[A-Za-z0-9_]+")
_IN_ONE_WORD = re.compile(r"(Ip6|Icmp6|Udp6|UdpLite6)([A-Za-z0-9]*)")


def netstat(host: Host) -> FileCollector:
    net = str(host.proc / "net")
    given = host.settings.patterns.get("netstat.fields")
    wanted = _USUAL if given is None else re.compile(given)
    ext, basic = line_parser(parse_pair, wanted), line_parser(parse_pair, wanted)
    v6 = line_parser(parse6, wanted)

    def read(lines: LineParser) -> Iterator[Sample]:
        yield from lines.parse_each(pairs(text(f"{net}/netstat"), lines), ext)
        yield from lines.parse_each(pairs(text(f"{net}/snmp"), lines), basic)
        with contextlib.suppress(FileNotFoundError):  # where IPv6 is off
            yield from lines.parse(text(f"{net}/snmp6"), v6)

    return FileCollector("netstat", read, Unavailable)


def pairs(content: str, lines: LineParser) -> Iterator[str]:
    """Two lines together: `Tcp: ActiveOpens InSegs`, LF, `Tcp: 26 7808`.

    A line without its other half is skipped, and the pairs after it are read all the same.
    """
    heading = ""
    for line in lines.split(content):
        if heading.partition(":")[0] == line.partition(":")[0]:
            yield f"{heading}\n{line}"
            heading = ""
            continue
        if heading:
            lines.skip(heading)
        heading = line
    if heading:
        lines.skip(heading)


def parse_pair(wanted: re.Pattern[str], pair: str) -> Iterator[Sample]:
    heading, _, numbers = pair.partition("\n")
    names, fields = _columns(wanted, heading)
    _, *values = numbers.split()
    if len(values) < names:
        raise ValueError(f"{names} names, but {len(values)} numbers")
    for index, family in fields:
        yield Sample(family, number(values[index]))


def parse6(wanted: re.Pattern[str], line: str) -> Iterator[Sample]:
    """Lines such as `Udp6InDatagrams    12`; addresses in hexadecimal do not occur here."""
    name, value, *_ = line.split()
    if (family := _family6(wanted, name)) is not None:
        yield Sample(family, number(value))


@lru_cache(maxsize=64)  # the headings never change while a kernel runs
def _columns(wanted: re.Pattern[str], heading: str) -> tuple[int, tuple[tuple[int, Family], ...]]:
    protocol, *names = heading.split()
    of = protocol.removesuffix(":")
    return len(names), tuple(
        (index, NETSTAT.family(of, name))
        for index, name in enumerate(names)
        if wanted.search(f"{of}_{name}") and _NAME.fullmatch(name)
    )


@lru_cache(maxsize=512)
def _family6(wanted: re.Pattern[str], name: str) -> Family | None:
    parts = _IN_ONE_WORD.fullmatch(name)
    if parts is None or not wanted.search(f"{parts[1]}_{parts[2]}"):
        return None
    return NETSTAT.family(parts[1], parts[2])
