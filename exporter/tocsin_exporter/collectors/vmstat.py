"""Paging, swapping and OOM kills: some lines of /proc/vmstat."""

import re
from collections.abc import Iterator

from tocsin_exporter.catalogue.host import VMSTAT
from tocsin_exporter.collectors.collector import Unavailable
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.collectors.inline import FileCollector, line_parser, number, text
from tocsin_exporter.snapshot import Sample

_NAME = re.compile(r"[A-Za-z0-9_]+")


def vmstat(host: Host) -> FileCollector:
    path = str(host.proc / "vmstat")
    read = line_parser(parse, host.settings.pattern("vmstat.fields"))
    return FileCollector("vmstat", lambda lines: lines.parse(text(path), read), Unavailable)


def parse(wanted: re.Pattern[str], line: str) -> Iterator[Sample]:
    """Lines such as `pgfault 2456586`."""
    field, value, *_ = line.split()
    if wanted.search(field):
        if not _NAME.fullmatch(field):
            raise ValueError(f"{field} is no field of vmstat")
        yield Sample(VMSTAT.family(field), number(value))
    elif not value.lstrip("-").isdigit():
        raise ValueError(f"{field} has no count")
