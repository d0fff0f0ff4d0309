"""Sockets in use: /proc/net/sockstat and sockstat6.

/proc/net/tcp is not read: it takes 8 ms with two sockets, because the kernel walks its hash.
"""

import contextlib
import re
from collections.abc import Iterator
from resource import getpagesize

from tocsin_exporter.catalogue import NETWORK
from tocsin_exporter.catalogue.network import SOCKSTAT
from tocsin_exporter.collectors.collector import Unavailable
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.collectors.inline import FileCollector, LineParser, line_parser, number, text
from tocsin_exporter.snapshot import Sample

_USED = NETWORK["node_sockstat_sockets_used"]
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*")


def sockstat(host: Host) -> FileCollector:
    net = str(host.proc / "net")
    page_bytes = getpagesize()
    v4, v6 = line_parser(parse, page_bytes), line_parser(parse, page_bytes)

    def read(lines: LineParser) -> Iterator[Sample]:
        yield from lines.parse(text(f"{net}/sockstat"), v4)
        with contextlib.suppress(FileNotFoundError):  # where IPv6 is off
            yield from lines.parse(text(f"{net}/sockstat6"), v6)

    return FileCollector("sockstat", read, Unavailable)


def parse(page_bytes: int, line: str) -> Iterator[Sample]:
    """Lines such as `TCP: inuse 1 orphan 0 tw 1 alloc 1 mem 44`; `mem` is in pages."""
    protocol, first, *words = line.split()
    if not (_NAME.fullmatch(first) and _NAME.fullmatch(protocol.removesuffix(":")) and words):
        raise ValueError(f"{protocol} {first} is no count of sockets")
    fields = (first, *words)
    for field, value in zip(fields[::2], fields[1::2], strict=False):
        if not _NAME.fullmatch(field):
            return
        yield from _field(protocol.removesuffix(":"), field, number(value), page_bytes)


def _field(protocol: str, field: str, value: float, page_bytes: int) -> Iterator[Sample]:
    if protocol == "sockets":
        yield Sample(_USED, value)
        return
    yield Sample(SOCKSTAT.family(protocol, field), value)
    if field == "mem":
        yield Sample(SOCKSTAT.family(protocol, "mem_bytes", unit="bytes"), value * page_bytes)
