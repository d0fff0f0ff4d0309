"""How the kernel's memory is cut up: free blocks, slabs, zones, NUMA nodes, merged pages.

Off unless switched on, as in node_exporter, for they are long tables. /proc/slabinfo is for root.
"""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tocsin_exporter.catalogue import KERNEL_TABLES
from tocsin_exporter.catalogue.kernel_tables import NUMA, NUMA_COUNTED, PROTECTION
from tocsin_exporter.collectors.attributes import AttributeCollector, entries, numbers
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.collectors.inline import LineParser, count, text
from tocsin_exporter.snapshot import Family, Labels, Sample, labels

_BLOCKS = KERNEL_TABLES["node_buddyinfo_blocks"]

_SLABS = tuple(
    KERNEL_TABLES[f"node_slabinfo_{name}"]
    for name in (
        "active_objects",
        "objects",
        "object_size_bytes",
        "objects_per_slab",
        "pages_per_slab",
    )
)

# The kernel's word in /proc/zoneinfo -> the rest of node_exporter's name, where it is another.
_ZONE_NAMES = {
    **{name: f"{name}_pages" for name in ("min", "low", "high", "scanned", "spanned", "present")},
    "managed": "managed_pages",
    "nr_anon_pages": "nr_anon_pages",
    "nr_anon_transparent_hugepages": "nr_anon_transparent_hugepages",
    "nr_dirtied": "nr_dirtied_total",
    "nr_file_pages": "nr_file_pages",
    "nr_free_pages": "nr_free_pages",
    "nr_kernel_stack": "nr_kernel_stacks",
    "nr_written": "nr_written_total",
    **{
        f"nr_{name}": f"nr_{name}_pages"
        for name in (
            *("active_anon", "active_file", "dirty", "inactive_anon", "inactive_file"),
            *("isolated_anon", "isolated_file", "mapped", "mlock_stack", "shmem"),
            *("slab_reclaimable", "slab_unreclaimable", "unevictable", "writeback"),
        )
    },
    **{
        f"numa_{name}": f"numa_{name}_total"
        for name in ("foreign", "hit", "interleave", "local", "miss", "other")
    },
}
_ZONES: dict[str, Family] = {
    word: KERNEL_TABLES[f"node_zoneinfo_{name}"] for word, name in _ZONE_NAMES.items()
}
_ZONE = re.compile(r"Node (\d+), zone +(\S+)")

_IN_BRACKETS = re.compile(r"\((.*)\)")
_KIB = 1024

_KSM = {
    name: (KERNEL_TABLES[f"node_ksmd_{name}"], 1.0)
    for name in (
        *("merge_across_nodes", "pages_shared", "pages_sharing", "pages_to_scan"),
        *("pages_unshared", "pages_volatile", "run"),
    )
} | {
    "full_scans": (KERNEL_TABLES["node_ksmd_full_scans_total"], 1.0),
    "sleep_millisecs": (KERNEL_TABLES["node_ksmd_sleep_seconds"], 1000.0),
}


def buddyinfo(host: Host) -> AttributeCollector:
    path = host.proc / "buddyinfo"
    return AttributeCollector("buddyinfo", path, lambda lines: lines.parse(text(path), free_blocks))


def free_blocks(line: str) -> Iterator[Sample]:
    """`Node 0, zone DMA 1 0 1 ...`: free blocks of 1, 2, 4, ... pages."""
    _node, node, _zone, zone, *blocks = line.split()
    for size, number in enumerate(blocks):
        of = labels(node=node.rstrip(","), zone=zone, size=str(size))
        yield Sample(_BLOCKS, count(number), of)


def slabinfo(host: Host) -> AttributeCollector:
    path = host.proc / "slabinfo"
    return AttributeCollector("slabinfo", path, lambda lines: lines.parse(text(path), slab))


def slab(line: str) -> Iterator[Sample]:
    """One cache of version 2.1; nothing for the headings."""
    if line.startswith(("slabinfo - version:", "#")):
        return
    name, *columns = line.split()
    for family, value in zip(_SLABS, columns[: len(_SLABS)], strict=True):
        yield Sample(family, count(value), (("slab", name),))


def zoneinfo(host: Host) -> AttributeCollector:
    path = host.proc / "zoneinfo"
    return AttributeCollector("zoneinfo", path, lambda lines: _zones(text(path), lines))


def _zones(content: str, lines: LineParser) -> Iterator[Sample]:
    """What stands below a `Node 0, zone DMA`. A word that comes twice in a zone counts with its
    last value: below the per-CPU page sets, `high` is another thing, but written `high:`."""
    of: Labels = ()
    for line in lines.split(content):
        if match := _ZONE.match(line):
            of = labels(node=match[1], zone=match[2])
        elif of:
            yield from lines.take(line, partial(zone_line, of))


def zone_line(of: Labels, line: str) -> Iterator[Sample]:
    """`nr_free_pages 3938`, or `protection: (0, 1871, 7686, 7686, 7686)`."""
    key, _, value = line.strip().partition(" ")
    if key == "protection:":
        for place, pages in enumerate(value.strip(" ()").split(", ")):
            yield Sample(PROTECTION.family(str(place)), count(pages), of)
    elif key == "pages" and value.startswith("free"):
        return
    elif (family := _ZONES.get(key)) is not None:
        yield Sample(family, count(value.split()[0]), of)


def meminfo_numa(host: Host) -> AttributeCollector:
    root = host.sys / "devices/system/node"
    return AttributeCollector("meminfo_numa", root, partial(_nodes, root))


def _nodes(root: Path, lines: LineParser) -> Iterator[Sample]:
    for node in entries(root, "node[0-9]*"):
        yield from lines.parse(text(node / "meminfo"), memory_of_node)
        of = labels(node=node.name.removeprefix("node"))
        yield from lines.parse(text(node / "numastat"), partial(allocations, of))


def memory_of_node(line: str) -> Iterator[Sample]:
    """`Node 0 Active(anon): 707684 kB`."""
    _node, node, name, value, *unit = line.split()
    factor = _KIB if unit[:1] == ["kB"] else 1
    family = NUMA.family(_IN_BRACKETS.sub(r"_\1", name.rstrip(":")))
    yield Sample(family, count(value) * factor, labels(node=node))


def allocations(of: Labels, line: str) -> Iterator[Sample]:
    name, value = line.split()[:2]
    yield Sample(NUMA_COUNTED.family(f"{name}_total"), count(value), of)


def ksmd(host: Host) -> AttributeCollector:
    root = host.sys / "kernel/mm/ksm"
    return AttributeCollector("ksmd", root, partial(_merged_pages, root))


def _merged_pages(root: Path, lines: LineParser) -> Iterator[Sample]:
    for file, (family, divisor) in _KSM.items():
        for value in numbers(root / file, lines):
            yield Sample(family, value / divisor)
