"""Load averages: /proc/loadavg."""

from collections.abc import Iterator

from tocsin_exporter.catalogue import HOST
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.collectors.inline import FileCollector, count, text
from tocsin_exporter.snapshot import Sample

_FAMILIES = (HOST["node_load1"], HOST["node_load5"], HOST["node_load15"])


def loadavg(host: Host) -> FileCollector:
    path = str(host.proc / "loadavg")
    return FileCollector("loadavg", lambda lines: lines.parse(text(path), parse))


def parse(line: str) -> Iterator[Sample]:
    one, five, fifteen, *_ = line.split()
    for family, value in zip(_FAMILIES, (one, five, fifteen), strict=True):
        yield Sample(family, count(value))
