"""ZFS: what its module counts below /proc/spl/kstat/zfs, of itself, of pools and of datasets."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tocsin_exporter.catalogue import STORAGE
from tocsin_exporter.catalogue.storage import ZFS
from tocsin_exporter.collectors.attributes import AttributeCollector
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.collectors.inline import LineParser, count, text
from tocsin_exporter.snapshot import Labels, Sample, labels

_STATE = STORAGE["node_zfs_zpool_state"]
_STATES = ("online", "degraded", "faulted", "offline", "removed", "unavail")
# The file -> what stands between node_zfs_ and the name of the field.
_FILES = {
    "abdstats": "abd",
    "arcstats": "arc",
    "dbuf_stats": "dbuf",
    "dmu_tx": "dmu_tx",
    "dnodestats": "dnode",
    "fm": "fm",
    "vdev_cache_stats": "vdev_cache",
    "vdev_mirror_stats": "vdev_mirror",
    "xuio_stats": "xuio",
    "zfetchstats": "zfetch",
    "zil": "zil",
}
_HEADING = ["name", "type", "data"]
_UNSIGNED = "4"  # KSTAT_DATA_UINT64; strings and signed numbers are not counted


def zfs(host: Host) -> AttributeCollector:
    root = host.proc / "spl/kstat/zfs"
    return AttributeCollector("zfs", root, partial(_zfs, root))


def _zfs(root: Path, lines: LineParser) -> Iterator[Sample]:
    for file, stem in _FILES.items():
        if (root / file).is_file():  # each came with another release of ZFS
            yield from _counted(text(root / file), stem, file, (), lines)
    for pool in sorted(path for path in root.iterdir() if path.is_dir()):
        yield from _pool(pool, lines)


def _pool(pool: Path, lines: LineParser) -> Iterator[Sample]:
    of_pool = labels(zpool=pool.name)
    if (pool / "io").is_file():
        yield from lines.take(text(pool / "io"), partial(transfers, of_pool))
    for file in sorted(pool.glob("objset-*")):
        content = text(file)
        of = labels(zpool=pool.name, dataset=dataset(content))
        yield from _counted(content, "zpool_dataset", "objset", of, lines)
    if (pool / "state").is_file():
        state = text(pool / "state").strip().lower()
        for each in _STATES:
            yield Sample(_STATE, float(each == state), labels(zpool=pool.name, state=each))


def _counted(content: str, stem: str, kind: str, of: Labels, lines: LineParser) -> Iterator[Sample]:
    rows = lines.split(content)
    for row in rows:
        if row.split() == _HEADING:
            break
    for row in rows:
        yield from lines.take(row, partial(field, stem, kind, of))


def field(stem: str, kind: str, of: Labels, line: str) -> Iterator[Sample]:
    """`hits 4 8772612`; a field of another type than a plain number says nothing."""
    name, type_, value = line.split()[:3]
    if type_ == _UNSIGNED:
        family = ZFS.family(f"{stem}_{name.replace('-', '_')}", f"{kind}.{name}")
        yield Sample(family, count(value), of)


def transfers(of: Labels, content: str) -> Iterator[Sample]:
    """The `io` of a pool: a line of names that begins with nread, and one of numbers."""
    rows = [line.split() for line in content.split("\n")]
    at = next((place for place, row in enumerate(rows) if row[:1] == ["nread"]), None)
    if at is None:
        return
    for name, value in zip(rows[at], rows[at + 1], strict=True):
        yield Sample(ZFS.family(f"zpool_{name}", f"io.{name}"), count(value), of)


def dataset(content: str) -> str:
    """Its name. Raises LookupError where none is said."""
    rows = (line.split(None, 2) for line in content.split("\n"))
    return next(row[2].strip() for row in rows if row[:1] == ["dataset_name"])
