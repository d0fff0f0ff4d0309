"""bcache: caches before disks, from /sys/fs/bcache."""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tocsin_exporter.catalogue import STORAGE
from tocsin_exporter.collectors.attributes import AttributeCollector, entries, word
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.collectors.inline import LineParser
from tocsin_exporter.snapshot import Family, Labels, Sample, labels


def _families(names: str, files: str = "") -> dict[str, Family]:
    """By file; where files are called otherwise, in the order of the names."""
    named = [STORAGE[f"node_bcache_{name}"] for name in names.split()]
    return dict(zip((files or names).split(), named, strict=True))


_CACHE_SET = _families(
    "average_key_size_sectors btree_cache_size_bytes cache_available_percent congested "
    "root_usage_percent tree_depth",
    "average_key_size btree_cache_size cache_available_percent congested root_usage_percent "
    "tree_depth",
)
_INTERNAL = _families(
    "active_journal_entries btree_nodes cache_read_races_total",
    "active_journal_entries btree_nodes cache_read_races",
)
_READ_TIME = STORAGE["node_bcache_btree_read_average_duration_seconds"]
_DIRTY = _families("dirty_data_bytes", "dirty_data")
_TOTAL = _families(
    "bypassed_bytes_total cache_hits_total cache_misses_total cache_bypass_hits_total "
    "cache_bypass_misses_total cache_miss_collisions_total cache_readaheads_total",
    "bypassed cache_hits cache_misses cache_bypass_hits cache_bypass_misses "
    "cache_miss_collisions cache_readaheads",
)
_WRITEBACK = _families(
    "dirty_target_bytes writeback_rate writeback_rate_proportional_term "
    "writeback_rate_integral_term writeback_change",
    "target rate proportional integral change",
)
_CACHE = _families(
    "io_errors metadata_written_bytes_total written_bytes_total",
    "io_errors metadata_written written",
)
_PRIORITY = _families("priority_stats_unused_percent priority_stats_metadata_percent",
                      "Unused Metadata")  # fmt: skip

_HUMAN = re.compile(r"(-?)(\d+)(?:\.(\d+))?([kMGTPEZY]?)")
_POWERS = "kMGTPEZY"
_NANO = 1e-9


def bcache(host: Host) -> AttributeCollector:
    root = host.sys / "fs/bcache"
    priority = "bcache.priorityStats" in host.settings.switches
    return AttributeCollector("bcache", root, partial(_bcache, root, priority))


def _bcache(root: Path, priority: bool, lines: LineParser) -> Iterator[Sample]:
    for cache_set in entries(root, "*-*"):
        of = labels(uuid=cache_set.name)
        yield from _files(cache_set, _CACHE_SET, of, lines)
        yield from _files(cache_set / "internal", _INTERNAL, of, lines)
        for value in _read(cache_set / "internal/btree_read_average_duration_us", lines):
            yield Sample(_READ_TIME, value * _NANO, of)  # node_exporter takes it for nanoseconds
        for disk in entries(cache_set, "bdev[0-9]*"):
            yield from _disk(disk, labels(uuid=cache_set.name, backing_device=disk.name), lines)
        for cache in entries(cache_set, "cache[0-9]*"):
            of_cache = labels(uuid=cache_set.name, cache_device=cache.name)
            yield from _files(cache, _CACHE, of_cache, lines)
            if priority:
                yield from _words(cache / "priority_stats", _PRIORITY, of_cache, lines)


def _disk(disk: Path, of: Labels, lines: LineParser) -> Iterator[Sample]:
    yield from _files(disk, _DIRTY, of, lines)
    yield from _words(disk / "writeback_rate_debug", _WRITEBACK, of, lines)
    yield from _files(disk / "stats_total", _TOTAL, of, lines)


def _files(root: Path, files: dict[str, Family], of: Labels, lines: LineParser) -> Iterator[Sample]:
    for file, family in files.items():
        for value in _read(root / file, lines):
            yield Sample(family, value, of)


def _read(path: Path, lines: LineParser) -> Iterator[float]:
    if content := word(path):
        yield from lines.take(content, lambda said: [dehumanized(said)])


def _words(
    path: Path, families: dict[str, Family], of: Labels, lines: LineParser
) -> Iterator[Sample]:
    """Lines such as `rate: 1.1M/sec` and `Unused: 99%`."""
    for line in (word(path) or "").split("\n"):
        name, colon, value = line.partition(":")
        if colon and (family := families.get(name)) is not None:
            yield from lines.take(value.strip(), partial(_sample, family, of))


def _sample(family: Family, of: Labels, said: str) -> Iterator[Sample]:
    yield Sample(family, dehumanized(said.removesuffix("/sec").removesuffix("%")), of)


def dehumanized(said: str) -> float:
    """What bch_hprint of the kernel means: after the point stand 1024ths, divided by 100.

    Raises ValueError for anything else.
    """
    if not (match := _HUMAN.fullmatch(said)):
        raise ValueError(f"{said!r} is no number of bcache")
    sign, whole, fraction, power = match.groups()
    mantissa = float(whole) + (float(fraction) / 10.24 if fraction else 0.0)
    value = float(int(mantissa * 1024 ** (_POWERS.index(power) + 1 if power else 0)))
    return -value if sign else value
