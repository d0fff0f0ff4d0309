"""The host's clock: its time, its zone and what the kernel counts it with."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from tocsin_exporter.catalogue import HOST
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.collectors.inline import InlineCollector, text
from tocsin_exporter.snapshot import Sample, labels

_NOW = HOST["node_time_seconds"]
_OFFSET = HOST["node_time_zone_offset_seconds"]
_AVAILABLE = HOST["node_time_clocksource_available_info"]
_CURRENT = HOST["node_time_clocksource_current_info"]
_PREFIX = "clocksource"


def time(host: Host) -> InlineCollector:
    sources = sorted((host.sys / "devices/system/clocksource").glob(f"{_PREFIX}*"))
    return InlineCollector("time", lambda: _read(host, sources))


def _read(host: Host, clocksources: list[Path]) -> Iterator[Sample]:
    now = host.now()
    local = datetime.fromtimestamp(now, UTC).astimezone()
    offset = local.utcoffset()
    yield Sample(_NOW, now)
    if offset is not None:
        yield Sample(_OFFSET, offset.total_seconds(), labels(time_zone=local.tzname() or ""))
    for directory in clocksources:
        yield from _clocksource(directory)


def _clocksource(directory: Path) -> Iterator[Sample]:
    device = directory.name.removeprefix(_PREFIX)
    for name in text(f"{directory}/available_clocksource").split():
        yield Sample(_AVAILABLE, 1, labels(device=device, clocksource=name))
    current = text(f"{directory}/current_clocksource").strip()
    yield Sample(_CURRENT, 1, labels(device=device, clocksource=current))
