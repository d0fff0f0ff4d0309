"""InfiniBand, RoCE and Fibre Channel ports, and what XFS counts: many counters each, of /sys."""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tocsin_exporter.catalogue import FABRICS
from tocsin_exporter.collectors.attributes import AttributeCollector, entries, sampled, word, words
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.collectors.inline import LineParser, count, text
from tocsin_exporter.snapshot import Family, Labels, Sample, labels

_INFO = FABRICS["node_infiniband_info"]
_ABOUT = {"board_id": "board_id", "fw_ver": "firmware_version", "hca_type": "hca_type"}
_STATE = FABRICS["node_infiniband_state_id"]
_PHYSICAL = FABRICS["node_infiniband_physical_state_id"]
_RATE = FABRICS["node_infiniband_rate_bytes_per_second"]
_NUMBERED = re.compile(r"(\d+):")
_GIGABITS = re.compile(r"(\d+(?:\.\d+)?) Gb/sec")
_BYTES_PER_GIGABIT = 125e6
_WORD = 0.25  # the data counters are in words of four bytes: divided by this, they are bytes

# Counters of a port by file: node_exporter's name, and what the number is divided by.
_PORT = {
    "excessive_buffer_overrun_errors": ("excessive_buffer_overrun_errors", 1.0),
    "link_downed": ("link_downed", 1.0),
    "link_error_recovery": ("link_error_recovery", 1.0),
    "local_link_integrity_errors": ("local_link_integrity_errors", 1.0),
    "multicast_rcv_packets": ("multicast_packets_received", 1.0),
    "multicast_xmit_packets": ("multicast_packets_transmitted", 1.0),
    "port_rcv_constraint_errors": ("port_constraint_errors_received", 1.0),
    "port_rcv_data": ("port_data_received_bytes", _WORD),
    "port_rcv_discards": ("port_discards_received", 1.0),
    "port_rcv_errors": ("port_errors_received", 1.0),
    "port_rcv_packets": ("port_packets_received", 1.0),
    "port_rcv_remote_physical_errors": ("port_receive_remote_physical_errors", 1.0),
    "port_rcv_switch_relay_errors": ("port_receive_switch_relay_errors", 1.0),
    "port_xmit_constraint_errors": ("port_constraint_errors_transmitted", 1.0),
    "port_xmit_data": ("port_data_transmitted_bytes", _WORD),
    "port_xmit_discards": ("port_discards_transmitted", 1.0),
    "port_xmit_packets": ("port_packets_transmitted", 1.0),
    "port_xmit_wait": ("port_transmit_wait", 1.0),
    "symbol_error": ("symbol_error", 1.0),
    "unicast_rcv_packets": ("unicast_packets_received", 1.0),
    "unicast_xmit_packets": ("unicast_packets_transmitted", 1.0),
    "VL15_dropped": ("vl15_dropped", 1.0),
}
_PORT_OF_OLD_DRIVERS = {
    "port_multicast_rcv_packets": ("legacy_multicast_packets_received", 1.0),
    "port_multicast_xmit_packets": ("legacy_multicast_packets_transmitted", 1.0),
    "port_rcv_data_64": ("legacy_data_received_bytes", _WORD),
    "port_rcv_packets_64": ("legacy_packets_received", 1.0),
    "port_unicast_rcv_packets": ("legacy_unicast_packets_received", 1.0),
    "port_unicast_xmit_packets": ("legacy_unicast_packets_transmitted", 1.0),
    "port_xmit_data_64": ("legacy_data_transmitted_bytes", _WORD),
    "port_xmit_packets_64": ("legacy_packets_transmitted", 1.0),
}


def _counters(files: dict[str, tuple[str, float]]) -> dict[str, tuple[Family, float]]:
    return {
        file: (FABRICS[f"node_infiniband_{name}_total"], divisor)
        for file, (name, divisor) in files.items()
    }


_DIRECTORIES = {"counters": _counters(_PORT), "counters_ext": _counters(_PORT_OF_OLD_DRIVERS)}

# A line of XFS's statistics by its first word: node_exporter's names of its columns, "" for none.
_XFS = {
    "extent_alloc": "extents_allocated blocks_allocated extents_freed blocks_freed",
    "abt": "lookups compares records_inserted records_deleted",
    "blk_map": "reads writes unmaps extent_list_insertions extent_list_deletions "
    "extent_list_lookups extent_list_compares",
    "bmbt": "lookups compares records_inserted records_deleted",
    "dir": "lookup create remove getdents",
    "ig": "attempts found recycled missed duplicates reclaims attribute_changes",
    "rw": "write_calls read_calls",
    "vnodes": "active allocate get hold release reclaim remove",
}
_XFS_STEMS = {
    "extent_alloc": "extent_allocation_",
    "abt": "allocation_btree_",
    "blk_map": "block_mapping_",
    "bmbt": "block_map_btree_",
    "dir": "directory_operation_",
    "ig": "inode_operation_",
    "rw": "",
    "vnodes": "vnode_",
}
_XFS_COLUMNS = {
    key: [FABRICS[f"node_xfs_{_XFS_STEMS[key]}{name}_total"] for name in names.split()]
    for key, names in _XFS.items()
}

_FIBRE_CHANNEL = FABRICS["node_fibrechannel_info"]
_WITHOUT_0X = ("port_id", "port_name", "fabric_name")
_FRAMES = {
    "dumped_frames": "dumped_frames",
    "error_frames": "error_frames",
    "fcp_packet_aborts": "fcp_packet_aborts",
    "invalid_crc_count": "invalid_crc",
    "invalid_tx_word_count": "invalid_tx_words",
    "link_failure_count": "link_failure",
    "loss_of_signal_count": "loss_of_signal",
    "loss_of_sync_count": "loss_of_sync",
    "nos_count": "nos",
    "rx_frames": "rx_frames",
    "rx_words": "rx_words",
    "seconds_since_last_reset": "seconds_since_last_reset",
    "tx_frames": "tx_frames",
    "tx_words": "tx_words",
}
_NOT_COUNTED = 2**64 - 1  # what firmware says that does not count this


def infiniband(host: Host) -> AttributeCollector:
    root = host.sys / "class/infiniband"
    return AttributeCollector("infiniband", root, partial(_infiniband, root))


def _infiniband(root: Path, lines: LineParser) -> Iterator[Sample]:
    for device in entries(root):
        said = words(device, _ABOUT)
        about = {_ABOUT[file]: content for file, content in said.items()}
        yield Sample(_INFO, 1, labels(device=device.name, **about))
        for port in entries(device / "ports"):
            of_port = labels(device=device.name, port=port.name)
            yield from _port(port, of_port)
            for directory, files in _DIRECTORIES.items():
                yield from sampled(port / directory, files, of_port, lines)


def _port(port: Path, of: Labels) -> Iterator[Sample]:
    """`4: ACTIVE`, `5: LinkUp` and `40 Gb/sec (4X QDR)`."""
    for family, file in ((_STATE, "state"), (_PHYSICAL, "phys_state")):
        if match := _NUMBERED.match(word(port / file) or ""):
            yield Sample(family, float(match[1]), of)
    if match := _GIGABITS.match(word(port / "rate") or ""):
        yield Sample(_RATE, float(match[1]) * _BYTES_PER_GIGABIT, of)


def xfs(host: Host) -> AttributeCollector:
    root = host.sys / "fs/xfs"
    return AttributeCollector("xfs", root, partial(_filesystems, root))


def _filesystems(root: Path, lines: LineParser) -> Iterator[Sample]:
    for directory in entries(root):
        path = directory / "stats/stats"
        if path.is_file():  # `stats` beside the filesystems is the sum of all
            of = labels(device=directory.name)
            yield from lines.parse(text(path), partial(_statistics, of))


def _statistics(of: Labels, line: str) -> Iterator[Sample]:
    key, *columns = line.split()
    for family, value in zip(_XFS_COLUMNS.get(key, ()), columns, strict=False):
        yield Sample(family, count(value), of)


def fibrechannel(host: Host) -> AttributeCollector:
    root = host.sys / "class/fc_host"
    return AttributeCollector("fibrechannel", root, partial(_fibrechannel, root))


def _fibrechannel(root: Path, lines: LineParser) -> Iterator[Sample]:
    described = [name for name in FABRICS.labels[_FIBRE_CHANNEL.name] if name != "fc_host"]
    for port in entries(root):
        said = words(port, described)
        said |= {name: said[name].removeprefix("0x") for name in _WITHOUT_0X if name in said}
        of = labels(fc_host=port.name)
        yield Sample(_FIBRE_CHANNEL, 1, labels(fc_host=port.name, **said))
        for file, name in _FRAMES.items():
            family = FABRICS[f"node_fibrechannel_{name}_total"]
            if content := word(port / "statistics" / file):
                yield from lines.take(content, partial(_frames, family, of))


def _frames(family: Family, of: Labels, said: str) -> Iterator[Sample]:
    """The kernel writes these as hexadecimal numbers."""
    if (number := int(said, 16)) != _NOT_COUNTED:
        yield Sample(family, number, of)
