"""btrfs: space by kind of data and layout from /sys, devices and their errors by ioctl.

The layout of the ioctls' arguments is that of the kernel's include/uapi/linux/btrfs.h.
"""

import fcntl
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from errno import ENODEV
from functools import partial
from pathlib import Path
from uuid import UUID

from tocsin_exporter.catalogue import STORAGE
from tocsin_exporter.collectors.attributes import AttributeCollector, entries, sampled, word
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.collectors.inline import LineParser, text
from tocsin_exporter.collectors.mounts import parse
from tocsin_exporter.snapshot import Family, Labels, Sample, labels

_FAMILY = {
    name: STORAGE[f"node_btrfs_{name}"]
    for name in (
        *("info", "global_rsv_size_bytes", "reserved_bytes", "used_bytes", "size_bytes"),
        *("allocation_ratio", "device_size_bytes", "device_unused_bytes", "device_errors_total"),
    )
}
_KINDS = ("data", "metadata", "system")
_SECTOR = 512
_LAYOUT_FILES: dict[str, tuple[Family, float]] = {
    "used_bytes": (_FAMILY["used_bytes"], 1.0),
    "total_bytes": (_FAMILY["size_bytes"], 1.0),
}
_COPIES = {"single": 1.0, "raid0": 1.0, "dup": 2.0, "raid1": 2.0, "raid10": 2.0}
_PARITIES = {"raid5": 1, "raid6": 2}

_FS_INFO, _FS_INFO_BYTES = 0x8400941F, 1024
_DEV_INFO, _DEV_INFO_BYTES = 0xD000941E, 4096
_DEV_STATS, _DEV_STATS_BYTES = 0xC4089434, 1032
_PATH_AT = _DEV_INFO_BYTES - 1024
_ERRORS = ("write", "read", "flush", "corruption", "generation")


@dataclass(frozen=True, slots=True)
class BtrfsDevice:
    """What the filesystem says of one of its devices; sizes in bytes, errors by kind."""

    path: str
    uuid: str
    size: int
    used: int
    errors: tuple[int, ...]


def btrfs(host: Host) -> AttributeCollector:
    root = host.sys / "fs/btrfs"
    return AttributeCollector("btrfs", root, lambda lines: _btrfs(host, lines))


def _btrfs(host: Host, lines: LineParser) -> Iterator[Sample]:
    filesystems = entries(host.sys / "fs/btrfs", "*-*")
    asked = _asked(host) if filesystems else {}
    for filesystem in filesystems:
        uuid = word(filesystem / "metadata_uuid") or filesystem.name
        yield from _filesystem(filesystem, labels(uuid=uuid), lines)
        yield from _devices(filesystem, uuid, asked.get(uuid), lines)


def _filesystem(root: Path, of: Labels, lines: LineParser) -> Iterator[Sample]:
    devices = len(os.listdir(root / "devices"))
    yield Sample(_FAMILY["info"], 1, labels(**dict(of), label=word(root / "label") or ""))
    reserve = {"global_rsv_size": (_FAMILY["global_rsv_size_bytes"], 1.0)}
    yield from sampled(root / "allocation", reserve, of, lines)
    for kind in _KINDS:
        of_kind = labels(**dict(of), block_group_type=kind)
        reserved = {"bytes_reserved": (_FAMILY["reserved_bytes"], 1.0)}
        yield from sampled(root / "allocation" / kind, reserved, of_kind, lines)
        for layout in entries(root / "allocation" / kind):
            of_layout = labels(**dict(of_kind), mode=layout.name)
            yield from sampled(layout, _LAYOUT_FILES, of_layout, lines)
            yield Sample(_FAMILY["allocation_ratio"], ratio(layout.name, devices), of_layout)


def ratio(layout: str, devices: int) -> float:
    """Bytes on the disks for each of data; 0 for a layout that we do not know."""
    parity = _PARITIES.get(layout, 0)
    if parity and devices > parity:
        return devices / (devices - parity)
    return _COPIES.get(layout, 0.0)


def _devices(
    root: Path, uuid: str, asked: list[BtrfsDevice] | None, lines: LineParser
) -> Iterator[Sample]:
    """As the filesystem says it; where it could not be asked, the sizes of /sys."""
    if asked is not None:
        yield from devices_of(uuid, asked)
        return
    for device in entries(root / "devices"):
        size = {"size": (_FAMILY["device_size_bytes"], 1 / _SECTOR)}
        yield from sampled(device, size, labels(uuid=uuid, device=device.name), lines)


def devices_of(uuid: str, devices: Iterable[BtrfsDevice]) -> Iterator[Sample]:
    for each in devices:
        named = {"device": os.path.basename(each.path), "btrfs_dev_uuid": each.uuid}
        of = labels(uuid=uuid, **named)
        yield Sample(_FAMILY["device_size_bytes"], each.size, of)
        yield Sample(_FAMILY["device_unused_bytes"], each.size - each.used, of)
        for kind, number in zip(_ERRORS, each.errors, strict=True):
            of_kind = labels(uuid=uuid, type=kind, **named)
            yield Sample(_FAMILY["device_errors_total"], number, of_kind)


def _asked(host: Host) -> Mapping[str, list[BtrfsDevice]]:
    """The devices by the filesystem's UUID, asked of one mount point each. Whoever may not open
    that, or ask, knows nothing of it."""
    found: dict[str, list[BtrfsDevice]] = {}
    with suppress(OSError):
        table = text(host.proc / "1/mountinfo", "surrogateescape")
        mounts = LineParser("btrfs").parse(table, partial(parse, root=str(host.root)))
        points = {mount.device: mount.point for mount in mounts if mount.kind == "btrfs"}
        for point in points.values():
            with suppress(OSError):
                uuid, devices = ask(f"{host.root}/{point.lstrip('/')}")
                found[uuid] = devices
    return found


def ask(point: str) -> tuple[str, list[BtrfsDevice]]:
    """The UUID and the devices of the filesystem that is mounted there. Raises OSError."""
    directory = os.open(point, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        uuid, highest, number = parsed_filesystem(_ioctl(directory, _FS_INFO, _FS_INFO_BYTES))
        devices: list[BtrfsDevice] = []
        for device in range(highest + 1):
            if len(devices) < number:
                devices.extend(_device(directory, device))
        return uuid, devices
    finally:
        os.close(directory)


def parsed_filesystem(about: bytes) -> tuple[str, int, int]:
    """Its UUID, the highest number of a device, and how many there are."""
    highest, number, uuid = struct.unpack_from("=QQ16s", about)
    return str(UUID(bytes=uuid)), highest, number


def _device(directory: int, number: int) -> Iterator[BtrfsDevice]:
    """One, or none where no device has that number."""
    try:
        about = _ioctl(directory, _DEV_INFO, _DEV_INFO_BYTES, number)
    except OSError as error:
        if error.errno == ENODEV:
            return
        raise
    stats = _ioctl(directory, _DEV_STATS, _DEV_STATS_BYTES, number, len(_ERRORS))
    yield parsed_device(about, stats)


def parsed_device(about: bytes, stats: bytes) -> BtrfsDevice:
    uuid, used, size = struct.unpack_from("=16sQQ", about, 8)
    path = about[_PATH_AT:].split(b"\0", 1)[0].decode("utf-8", "replace")
    errors = struct.unpack_from("=5Q", stats, 24)
    return BtrfsDevice(path, str(UUID(bytes=uuid)), size, used, errors)


def _ioctl(directory: int, request: int, size: int, *given: int) -> bytes:
    argument = bytearray(size)
    struct.pack_into(f"={len(given)}Q", argument, 0, *given)
    fcntl.ioctl(directory, request, argument)
    return bytes(argument)
