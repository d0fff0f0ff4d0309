"""Disks mirrored over the network (DRBD) and SCSI tapes."""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tocsin_exporter.catalogue import STORAGE
from tocsin_exporter.collectors.attributes import AttributeCollector, entries, sampled
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.collectors.inline import LineParser, number, text
from tocsin_exporter.snapshot import Sample, labels

_KIB = 1024.0
# The kernel's letters -> node_exporter's name, and what the number is multiplied by.
_NUMBERS = {
    "ns": ("network_sent_bytes_total", _KIB),
    "nr": ("network_received_bytes_total", 1.0),
    "dw": ("disk_written_bytes_total", _KIB),
    "dr": ("disk_read_bytes_total", _KIB),
    "al": ("activitylog_writes_total", 1.0),
    "bm": ("bitmap_writes_total", 1.0),
    "lo": ("local_pending", 1.0),
    "pe": ("remote_pending", 1.0),
    "ua": ("remote_unacknowledged", 1.0),
    "ap": ("application_pending", 1.0),
    "ep": ("epochs", 1.0),
    "oos": ("out_of_sync_bytes", _KIB),
}
_PAIRS = {
    "ro": (STORAGE["node_drbd_node_role_is_primary"], "Primary"),
    "ds": (STORAGE["node_drbd_disk_state_is_up_to_date"], "UpToDate"),
}
_CONNECTED = STORAGE["node_drbd_connected"]

_NANOSECONDS = 1e9
_TAPE = {
    "in_flight": (STORAGE["node_tape_io_now"], 1.0),
    "io_ns": (STORAGE["node_tape_io_time_seconds_total"], _NANOSECONDS),
    "other_cnt": (STORAGE["node_tape_io_others_total"], 1.0),
    "read_byte_cnt": (STORAGE["node_tape_read_bytes_total"], 1.0),
    "read_cnt": (STORAGE["node_tape_reads_completed_total"], 1.0),
    "read_ns": (STORAGE["node_tape_read_time_seconds_total"], _NANOSECONDS),
    "resid_cnt": (STORAGE["node_tape_residual_total"], 1.0),
    "write_byte_cnt": (STORAGE["node_tape_written_bytes_total"], 1.0),
    "write_cnt": (STORAGE["node_tape_writes_completed_total"], 1.0),
    "write_ns": (STORAGE["node_tape_write_time_seconds_total"], _NANOSECONDS),
}
_TAPE_NAME = re.compile(r"st[0-9]+")  # the others are the same tape in other modes


def drbd(host: Host) -> AttributeCollector:
    path = host.proc / "drbd"
    return AttributeCollector("drbd", path, lambda lines: mirrors(text(path), lines))


def mirrors(content: str, lines: LineParser) -> Iterator[Sample]:
    """Words such as `1:`, which begins a device, `cs:Connected`, `ds:UpToDate/Diskless`, `ns:4`."""
    device = "unknown"
    for said in content.split():
        key, _, value = said.partition(":")
        if key.isdecimal() and said == f"{key}:":
            device = f"drbd{int(key)}"
        elif ":" not in value:
            yield from lines.take(value, partial(word_of_mirror, device, key))


def word_of_mirror(device: str, key: str, value: str) -> Iterator[Sample]:
    if key in _NUMBERS:
        name, factor = _NUMBERS[key]
        yield Sample(STORAGE[f"node_drbd_{name}"], number(value) * factor, labels(device=device))
    elif key in _PAIRS:
        family, good = _PAIRS[key]
        for node, state in zip(("local", "remote"), value.split("/"), strict=True):
            yield Sample(family, float(state == good), labels(device=device, node=node))
    elif key == "cs":
        yield Sample(_CONNECTED, float(value == "Connected"), labels(device=device))


def tapestats(host: Host) -> AttributeCollector:
    root = host.sys / "class/scsi_tape"
    ignored = host.settings.pattern("tapestats.ignored-devices")

    def read(lines: LineParser) -> Iterator[Sample]:
        for tape in _tapes(root):
            if not ignored.search(tape.name):
                yield from sampled(tape / "stats", _TAPE, labels(device=tape.name), lines)

    return AttributeCollector("tapestats", root, read)


def _tapes(root: Path) -> list[Path]:
    return [path for path in entries(root) if _TAPE_NAME.fullmatch(path.name)]
