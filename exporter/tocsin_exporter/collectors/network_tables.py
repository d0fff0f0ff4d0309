"""Tables of the network stack: neighbours, tracked connections, packets by CPU, queues of UDP."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from tocsin_exporter.catalogue import KERNEL
from tocsin_exporter.catalogue.kernel_tables import LNSTAT
from tocsin_exporter.collectors.attributes import AttributeCollector
from tocsin_exporter.collectors.collector import Unavailable
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.collectors.inline import FileCollector, LineParser, count, text
from tocsin_exporter.snapshot import Sample, labels

_NEIGHBOURS = KERNEL["node_arp_entries"]
_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+")

_TRACKED = KERNEL["node_nf_conntrack_entries"]
_MOST_TRACKED = KERNEL["node_nf_conntrack_entries_limit"]
# node_exporter's name -> the column of /proc/net/stat/nf_conntrack.
_TRACKING = {
    "found": 2,
    "invalid": 4,
    "ignore": 5,
    "insert": 8,
    "insert_failed": 9,
    "drop": 10,
    "early_drop": 11,
    "search_restart": 16,
}

_PACKETS = tuple(
    KERNEL[f"node_softnet_{name}_total"] for name in ("processed", "dropped", "times_squeezed")
)
_HEXADECIMAL = re.compile(r"[0-9a-f]{1,16}")

_QUEUES = KERNEL["node_udp_queues"]
_QUEUED = re.compile(r"([0-9A-F]{8}):([0-9A-F]{8})")


def arp(host: Host) -> FileCollector:
    path = str(host.proc / "net/arp")
    wanted = host.settings.wanted("arp.device")

    def read(lines: LineParser) -> Iterator[Sample]:
        devices = Counter(lines.parse(text(path), neighbour))
        for device, entries in devices.items():
            if wanted(device):
                yield Sample(_NEIGHBOURS, entries, labels(device=device))

    return FileCollector("arp", read, if_nothing=None)


def neighbour(line: str) -> Iterator[str]:
    """The device of one neighbour; nothing for the headings."""
    if line.startswith("IP address"):
        return
    address, kind, _flags, _hardware, _mask, device, *_ = line.split()
    if not (_ADDRESS.fullmatch(address) and kind.startswith("0x")):
        raise ValueError(f"{address!r} is no neighbour")
    yield device


def conntrack(host: Host) -> FileCollector:
    return FileCollector("conntrack", partial(_tracking, str(host.proc)))


def _tracking(proc: str, lines: LineParser) -> Iterator[Sample]:
    netfilter = f"{proc}/sys/net/netfilter"
    yield Sample(_TRACKED, count(text(f"{netfilter}/nf_conntrack_count").strip()))
    yield Sample(_MOST_TRACKED, count(text(f"{netfilter}/nf_conntrack_max").strip()))
    cpus = list(lines.parse(text(f"{proc}/net/stat/nf_conntrack"), tracked))
    for place, name in enumerate(_TRACKING):
        total = sum(cpu[place] for cpu in cpus)
        yield Sample(KERNEL[f"node_nf_conntrack_stat_{name}"], total)


def tracked(line: str) -> Iterator[Sequence[int]]:
    """What one CPU counted, in the order of the names; nothing for the headings."""
    if not line.startswith("entries"):
        words = line.split()
        yield [_hexadecimal(words[column]) for column in _TRACKING.values()]


def softnet(host: Host) -> FileCollector:
    path = str(host.proc / "net/softnet_stat")

    def read(lines: LineParser) -> Iterator[Sample]:
        for cpu, packets in enumerate(lines.parse(text(path), packets_of_cpu)):
            of_cpu = (("cpu", str(cpu)),)
            for family, value in zip(_PACKETS, packets, strict=True):
                yield Sample(family, value, of_cpu)

    return FileCollector("softnet", read)


def packets_of_cpu(line: str) -> Iterator[Sequence[int]]:
    processed, dropped, squeezed, *_ = line.split()
    yield [_hexadecimal(word) for word in (processed, dropped, squeezed)]


def udp_queues(host: Host) -> FileCollector:
    return FileCollector("udp_queues", partial(_queues, host.proc / "net"), Unavailable)


def _queues(net: Path, lines: LineParser) -> Iterator[Sample]:
    for file, version in (("udp", "v4"), ("udp6", "v6")):
        try:
            table = text(net / file)
        except FileNotFoundError:  # IPv6 is off
            continue
        sockets = list(lines.parse(table, queued))
        for place, queue in enumerate(("tx", "rx")):
            total = sum(socket[place] for socket in sockets)
            yield Sample(_QUEUES, total, labels(queue=queue, ip=version))


def queued(line: str) -> Iterator[tuple[int, int]]:
    """Bytes to send and bytes received of one socket; nothing for the headings."""
    slot, _local, _remote, _state, queues, *_ = line.split()
    if slot == "sl":
        return
    if not (match := _QUEUED.fullmatch(queues)):
        raise ValueError(f"{queues!r} is no pair of queues")
    yield int(match[1], 16), int(match[2], 16)


def lnstat(host: Host) -> AttributeCollector:
    root = host.proc / "net/stat"
    return AttributeCollector("lnstat", root, partial(_caches, root))


def _caches(root: Path, lines: LineParser) -> Iterator[Sample]:
    """A file a cache: a line of names, and one a CPU."""
    for path in sorted(root.iterdir()):
        heading, *rows = lines.split(text(path))
        parse = partial(_counts_of_cpu, heading.split())
        for cpu, row in enumerate(rows):
            of = labels(subsystem=path.name, cpu=str(cpu))
            for name, value in lines.take(row, parse):
                yield Sample(LNSTAT.family(name), value, of)


def _counts_of_cpu(names: Sequence[str], line: str) -> Iterator[tuple[str, int]]:
    for name, word in zip(names, line.split(), strict=False):
        yield name, _hexadecimal(word)


def _hexadecimal(word: str) -> int:
    if not _HEXADECIMAL.fullmatch(word):
        raise ValueError(f"{word!r} is no hexadecimal number of 64 bits")
    return int(word, 16)
