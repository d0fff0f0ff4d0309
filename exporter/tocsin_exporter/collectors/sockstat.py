"""Sockets in use: /proc/net/sockstat and sockstat6.

/proc/net/tcp is not read: it takes 8 ms with two sockets, because the kernel walks its hash.
"""

import contextlib
from collections.abc import Iterator
from resource import getpagesize

from tocsin_exporter.catalogue import NETWORK
from tocsin_exporter.catalogue.network import SOCKSTAT
from tocsin_exporter.collectors.reading import Reading, text
from tocsin_exporter.collectors.site import Site
from tocsin_exporter.snapshot import Sample

_USED = NETWORK["node_sockstat_sockets_used"]


def sockstat(site: Site) -> Reading:
    net = str(site.proc / "net")
    return Reading("sockstat", lambda: _read(net))


def _read(net: str) -> Iterator[Sample]:
    yield from parse(text(f"{net}/sockstat"), getpagesize())
    with contextlib.suppress(FileNotFoundError):  # where IPv6 is off
        yield from parse(text(f"{net}/sockstat6"), getpagesize())


def parse(sockstat: str, page_bytes: int) -> Iterator[Sample]:
    """Lines such as `TCP: inuse 1 orphan 0 tw 1 alloc 1 mem 44`; `mem` is in pages."""
    for line in sockstat.splitlines():
        protocol, *words = line.split()
        for field, value in zip(words[::2], words[1::2], strict=True):
            yield from _field(protocol.removesuffix(":"), field, float(value), page_bytes)


def _field(protocol: str, field: str, value: float, page_bytes: int) -> Iterator[Sample]:
    if protocol == "sockets":
        yield Sample(_USED, value)
        return
    yield Sample(SOCKSTAT.family(protocol, field), value)
    if field == "mem":
        yield Sample(SOCKSTAT.family(protocol, "mem_bytes", unit="bytes"), value * page_bytes)
