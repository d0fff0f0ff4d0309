"""Open files of the whole machine: /proc/sys/fs/file-nr."""

from collections.abc import Iterator

from tocsin_exporter.catalogue import HOST
from tocsin_exporter.collectors.reading import Reading, text
from tocsin_exporter.collectors.site import Site
from tocsin_exporter.snapshot import Sample

_ALLOCATED = HOST["node_filefd_allocated"]
_MAXIMUM = HOST["node_filefd_maximum"]


def filefd(site: Site) -> Reading:
    path = str(site.proc / "sys/fs/file-nr")
    return Reading("filefd", lambda: parse(text(path)))


def parse(line: str) -> Iterator[Sample]:
    allocated, _, maximum = line.split()  # the second has been 0 since Linux 2.6
    yield Sample(_ALLOCATED, float(allocated))
    yield Sample(_MAXIMUM, float(maximum))
