"""Open files of the whole machine: /proc/sys/fs/file-nr."""

from collections.abc import Iterator

from tocsin_exporter.catalogue import HOST
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.collectors.inline import FileCollector, count, text
from tocsin_exporter.snapshot import Sample

_ALLOCATED = HOST["node_filefd_allocated"]
_MAXIMUM = HOST["node_filefd_maximum"]


def filefd(host: Host) -> FileCollector:
    path = str(host.proc / "sys/fs/file-nr")
    return FileCollector("filefd", lambda lines: lines.parse(text(path), parse))


def parse(line: str) -> Iterator[Sample]:
    allocated, _, maximum, *_ = line.split()  # the second has been 0 since Linux 2.6
    yield Sample(_ALLOCATED, count(allocated))
    yield Sample(_MAXIMUM, count(maximum))
