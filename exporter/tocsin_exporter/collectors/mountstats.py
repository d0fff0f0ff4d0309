"""NFS by mount: bytes, calls, waiting and events, from /proc/self/mountstats."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tocsin_exporter.catalogue import NFS
from tocsin_exporter.collectors.attributes import AttributeCollector
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.collectors.inline import LineParser, count, text
from tocsin_exporter.snapshot import Labels, Sample, labels

_STEM = "node_mountstats_nfs_"
# Columns in the order of the kernel, by node_exporter's names, "-" for none.
_COLUMNS = {
    "age:": ["age_seconds_total"],
    "bytes:": (
        "read_bytes_total write_bytes_total direct_read_bytes_total direct_write_bytes_total "
        "total_read_bytes_total total_write_bytes_total read_pages_total write_pages_total"
    ).split(),
    "events:": [
        name if name == "-" else f"event_{name}_total"
        for name in (
            "inode_revalidate dnode_revalidate data_invalidate attribute_invalidate vfs_open "
            "vfs_lookup vfs_access vfs_update_page vfs_read_page vfs_read_pages vfs_write_page "
            "vfs_write_pages vfs_getdents vfs_setattr vfs_flush vfs_fsync vfs_lock "
            "vfs_file_release - truncation write_extension silly_rename short_read short_write "
            "jukebox_delay pnfs_read pnfs_write"
        ).split()
    ],
}
_TRANSPORT = [
    name if name == "-" else f"transport_{name}"
    for name in (
        "- bind_total connect_total - idle_time_seconds sends_total receives_total "
        "bad_transaction_ids_total - backlog_queue_total maximum_rpc_slots sending_queue_total "
        "pending_queue_total"
    ).split()
]
_TCP_ALONE = slice(2, 5)  # columns that a line of UDP does not have
_OPERATION = [
    (name, 1000.0 if name.endswith("_seconds_total") else 1.0)
    for name in (
        *("requests_total", "transmissions_total", "major_timeouts_total", "sent_bytes_total"),
        *("received_bytes_total", "queue_time_seconds_total", "response_time_seconds_total"),
        "request_time_seconds_total",
    )
]
_MANTISSA = 1 << 53  # the kernel's sums wrap round; what a float cannot hold is cut off there
_STATED = 8  # words of a `device` line; one with statistics has more
_WITH_OPERATIONS = "per-op"


@dataclass(slots=True)
class NfsMount:
    """One mount as both tables have it: its lines, and the address of its server."""

    device: str
    address: str
    protocol: str = ""
    rows: list[list[str]] = field(default_factory=list)

    @property
    def labels(self) -> Labels:
        named = {"protocol": self.protocol, "mountaddr": self.address}
        return labels(export=self.device, **named)


def mountstats(host: Host) -> AttributeCollector:
    own = host.proc / "self"
    return AttributeCollector("mountstats", own / "mountstats", lambda lines: _read(own, lines))


def _read(own: Path, lines: LineParser) -> Iterator[Sample]:
    seen: set[Labels] = set()
    addresses = [_address(line) for line in text(own / "mountinfo").split("\n") if line]
    for mount in mounts(text(own / "mountstats"), addresses):
        if mount.labels not in seen:  # one filesystem that is mounted twice counts once
            seen.add(mount.labels)
            for row in mount.rows:
                yield from lines.take(" ".join(row), partial(_row, mount))


def _address(line: str) -> str:
    """The option `addr=` of the filesystem, the last field of a line of mountinfo."""
    options = line.split()[-1].split(",")
    return next((o.removeprefix("addr=") for o in options if o.startswith("addr=")), "")


def mounts(content: str, addresses: Sequence[str]) -> Iterator[NfsMount]:
    """Those with statistics. `addresses` are of all mounts, in the same order."""
    found: list[NfsMount] = []
    place = 0
    current: NfsMount | None = None
    for words in (line.split() for line in content.split("\n")):
        if words[:1] == ["device"]:
            address = addresses[place] if place < len(addresses) else ""
            place += 1
            current = NfsMount(words[1], address) if len(words) > _STATED else None
            found += [current] if current else []
        elif current and words:
            current.rows.append(words)
            if words[0] == "xprt:":
                current.protocol = words[1]
    yield from found


def _row(mount: NfsMount, line: str) -> Iterator[Sample]:
    key, *words = line.split()
    if key in _COLUMNS:
        yield from _columns(_COLUMNS[key], words, mount.labels)
    elif key == "xprt:":
        columns = list(_TRANSPORT)
        counts = words[1:]
        if mount.protocol == "udp":
            counts[_TCP_ALONE.start : _TCP_ALONE.start] = ["0"] * 3
        yield from _columns(columns, counts, mount.labels)
    elif key.endswith(":") and key.rstrip(":").isupper() and len(words) >= len(_OPERATION):
        of = labels(**dict(mount.labels), operation=key.rstrip(":"))
        for (name, divisor), value in zip(_OPERATION, words, strict=False):
            total = int(count(value)) if divisor == 1 else int(value) % _MANTISSA
            yield Sample(NFS[f"{_STEM}operations_{name}"], total / divisor, of)


def _columns(names: Sequence[str], values: Sequence[str], of: Labels) -> Iterator[Sample]:
    for name, value in zip(names, values, strict=False):
        if name != "-":
            yield Sample(NFS[f"{_STEM}{name}"], count(value), of)
