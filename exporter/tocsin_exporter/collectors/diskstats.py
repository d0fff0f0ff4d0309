"""Disks: /proc/diskstats, and what udev knows of each."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from tocsin_exporter.catalogue import HOST
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.collectors.inline import FileCollector, count, number, text
from tocsin_exporter.snapshot import Sample, labels

_SECTOR = 512  # bytes, in /proc/diskstats whatever the disk's own sector is
_MILLISECOND = 0.001

# The columns after the device's name, in the kernel's order, with the factor to our unit.
_COLUMNS = tuple(
    (HOST[f"node_disk_{name}"], factor)
    for name, factor in (
        ("reads_completed_total", 1),
        ("reads_merged_total", 1),
        ("read_bytes_total", _SECTOR),
        ("read_time_seconds_total", _MILLISECOND),
        ("writes_completed_total", 1),
        ("writes_merged_total", 1),
        ("written_bytes_total", _SECTOR),
        ("write_time_seconds_total", _MILLISECOND),
        ("io_now", 1),
        ("io_time_seconds_total", _MILLISECOND),
        ("io_time_weighted_seconds_total", _MILLISECOND),
        ("discards_completed_total", 1),
        ("discards_merged_total", 1),
        ("discarded_sectors_total", 1),
        ("discard_time_seconds_total", _MILLISECOND),
        ("flush_requests_total", 1),
        ("flush_requests_time_seconds_total", _MILLISECOND),
    )
)
_FEWEST = 11  # columns, in the oldest kernels
_INFO = HOST["node_disk_info"]
_FROM_UDEV = {
    "path": "ID_PATH",
    "wwn": "ID_WWN",
    "model": "ID_MODEL",
    "serial": "ID_SERIAL_SHORT",
    "revision": "ID_REVISION",
}
_MAPPER = HOST["node_disk_device_mapper_info"]
_OF_MAPPER = {
    "name": "DM_NAME",
    "uuid": "DM_UUID",
    "vg_name": "DM_VG_NAME",
    "lv_name": "DM_LV_NAME",
    "lv_layer": "DM_LV_LAYER",
}
_CONTENT = HOST["node_disk_filesystem_info"]
_OF_CONTENT = {
    "type": "ID_FS_TYPE",
    "usage": "ID_FS_USAGE",
    "uuid": "ID_FS_UUID",
    "version": "ID_FS_VERSION",
}
_ATA = {
    "ID_ATA_WRITE_CACHE": HOST["node_disk_ata_write_cache"],
    "ID_ATA_WRITE_CACHE_ENABLED": HOST["node_disk_ata_write_cache_enabled"],
    "ID_ATA_ROTATION_RATE_RPM": HOST["node_disk_ata_rotation_rate_rpm"],
}


def diskstats(host: Host) -> FileCollector:
    wanted, path = host.settings.wanted("diskstats.device"), str(host.proc / "diskstats")
    read = partial(_read, wanted=wanted, udev=str(host.udev))
    return FileCollector("diskstats", lambda lines: lines.parse(text(path), read), if_nothing=None)


def _read(line: str, wanted: Callable[[str], bool], udev: str) -> Iterator[Sample]:
    major, minor, device, *columns = line.split()
    if wanted(device):
        yield from parse(device, columns)
        known = _properties(f"{udev}/b{major}:{minor}")
        about = _labels(known, _FROM_UDEV)
        yield Sample(_INFO, 1, labels(device=device, major=major, minor=minor, **about))
        yield from _more(device, known)


def parse(device: str, columns: list[str]) -> Iterator[Sample]:
    """The counters of one device; a kernel before 4.18 has no discards, one before 5.5 no flushes.

    One of before 2.6.25 has four for a partition: skipped, they mean something else.
    Multiplied in the order of node_exporter, so that the last digit agrees.
    """
    if len(columns) < _FEWEST:
        raise ValueError(f"{device} has {len(columns)} columns")
    of_device = (("device", device),)
    for (family, factor), value in zip(_COLUMNS, columns, strict=False):
        yield Sample(family, count(value) * factor, of_device)


def _more(device: str, known: Mapping[str, str]) -> Iterator[Sample]:
    """What is known of some disks: the filesystem on it, what LVM calls it, its write cache."""
    if known.get("ID_FS_TYPE"):
        yield Sample(_CONTENT, 1, labels(device=device, **_labels(known, _OF_CONTENT)))
    if known.get("DM_NAME"):
        yield Sample(_MAPPER, 1, labels(device=device, **_labels(known, _OF_MAPPER)))
    if known.get("ID_ATA"):
        for name, family in _ATA.items():
            if name in known:
                yield Sample(family, number(known[name]), labels(device=device))


def _labels(known: Mapping[str, str], names: Mapping[str, str]) -> dict[str, str]:
    return {label: known.get(name, "") for label, name in names.items()}


def _properties(path: str) -> dict[str, str]:
    """udev's properties of a device: lines such as `E:ID_MODEL=Samsung`; none without udev."""
    try:
        content = text(path)
    except OSError:
        return {}
    pairs = (line[2:].partition("=") for line in content.split("\n") if line.startswith("E:"))
    return {key: value for key, _, value in pairs}
