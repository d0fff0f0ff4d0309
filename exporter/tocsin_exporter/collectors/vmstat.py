"""Paging, swapping and OOM kills: some lines of /proc/vmstat."""

import re
from collections.abc import Iterator

from tocsin_exporter.catalogue.host import VMSTAT
from tocsin_exporter.collectors.reading import Reading, text
from tocsin_exporter.collectors.site import Site
from tocsin_exporter.snapshot import Sample

# node_exporter's default selection, here with the value, so that one search does for the file.
_LINE = re.compile(r"^((?:oom_kill|pgpg|pswp|pg.*fault)\S*) (\d+)$", re.MULTILINE)


def vmstat(site: Site) -> Reading:
    path = str(site.proc / "vmstat")
    return Reading("vmstat", lambda: parse(text(path)))


def parse(vmstat: str) -> Iterator[Sample]:
    for field, value in _LINE.findall(vmstat):
        yield Sample(VMSTAT.family(field), float(value))
