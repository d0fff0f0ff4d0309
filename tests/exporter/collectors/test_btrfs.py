"""What btrfs is asked by ioctl; /sys is held by the trees of tests/exporter/test_machines.py."""

import struct
from uuid import UUID

import pytest

from support.site import only, table
from tocsin_exporter.collectors.btrfs import (
    BtrfsDevice,
    devices_of,
    parsed_device,
    parsed_filesystem,
    ratio,
)

FILESYSTEM = UUID("9f0c7a1e-6d2b-4b6a-9d6f-0d7f8a9b1c2d")
DISK = UUID("00112233-4455-6677-8899-aabbccddeeff")


@pytest.mark.parametrize(
    ("layout", "devices", "copies"),
    [
        *(("single", 1, 1), ("dup", 1, 2), ("raid10", 4, 2), ("raid5", 4, 4 / 3)),
        *(("raid6", 4, 2), ("raid6", 2, 0), ("raid1c4", 4, 0)),
    ],
)
def test_bytes_on_the_disks_for_each_of_data(layout: str, devices: int, copies: float) -> None:
    assert ratio(layout, devices) == copies


def test_the_kernels_structures_are_read_as_its_header_has_them() -> None:
    about = struct.pack("=QQ16s", 7, 2, FILESYSTEM.bytes).ljust(1024, b"\0")
    assert parsed_filesystem(about) == (str(FILESYSTEM), 7, 2)
    head = struct.pack("=Q16sQQ", 3, DISK.bytes, 40_000, 1_000_000)
    device = head.ljust(4096 - 1024, b"\0") + b"/dev/nvme2n1".ljust(1024, b"\0")
    stats = struct.pack("=3Q5Q", 3, 5, 0, 1, 2, 3, 4, 5).ljust(1032, b"\0")
    wanted = BtrfsDevice("/dev/nvme2n1", str(DISK), 1_000_000, 40_000, (1, 2, 3, 4, 5))
    assert parsed_device(device, stats) == wanted


def test_a_device_has_its_size_what_is_free_and_its_errors() -> None:
    device = BtrfsDevice("/dev/nvme2n1", "u", 1_000_000, 40_000, (1, 2, 3, 4, 5))
    rows = table(devices_of("f", [device]))
    named = {"uuid": "f", "device": "nvme2n1", "btrfs_dev_uuid": "u"}
    assert only(rows, "node_btrfs_device_size_bytes", **named) == 1_000_000
    assert only(rows, "node_btrfs_device_unused_bytes", **named) == 960_000
    assert only(rows, "node_btrfs_device_errors_total", type="corruption", **named) == 4
