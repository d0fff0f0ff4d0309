"""The system's names: /proc/sys/kernel."""

from collections.abc import Iterator

from tocsin_exporter.catalogue import HOST
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.collectors.inline import InlineCollector, text
from tocsin_exporter.snapshot import Sample, labels

_INFO = HOST["node_uname_info"]
_FILES = {
    "sysname": "ostype",
    "release": "osrelease",
    "version": "version",
    "nodename": "hostname",
    "domainname": "domainname",
}


def uname(host: Host) -> InlineCollector:
    return InlineCollector("uname", lambda: _read(host))


def _read(host: Host) -> Iterator[Sample]:
    names = {k: text(host.proc / "sys/kernel" / file).strip() for k, file in _FILES.items()}
    yield Sample(_INFO, 1, labels(machine=host.machine, **names))
