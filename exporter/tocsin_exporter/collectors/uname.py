"""The system's names: /proc/sys/kernel."""

from collections.abc import Iterator

from tocsin_exporter.catalogue import HOST
from tocsin_exporter.collectors.reading import Reading, text
from tocsin_exporter.collectors.site import Site
from tocsin_exporter.snapshot import Sample, labels

_INFO = HOST["node_uname_info"]
_FILES = {
    "sysname": "ostype",
    "release": "osrelease",
    "version": "version",
    "nodename": "hostname",
    "domainname": "domainname",
}


def uname(site: Site) -> Reading:
    return Reading("uname", lambda: _read(site))


def _read(site: Site) -> Iterator[Sample]:
    names = {k: text(site.proc / "sys/kernel" / file).strip() for k, file in _FILES.items()}
    yield Sample(_INFO, 1, labels(machine=site.machine, **names))
