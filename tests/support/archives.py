"""A store with its persistence in a directory, which tests stop, kill and start again."""

from collections.abc import Callable, Container
from itertools import pairwise
from pathlib import Path

import numpy as np

from tocsin_alerting.tsdb.block_store import BlockStore
from tocsin_alerting.tsdb.disk_persistence import DiskPersistence, WriterIntervals
from tocsin_alerting.tsdb.head.columns import AlignedPart
from tocsin_alerting.tsdb.head.remote_limits import SeriesLimits
from tocsin_alerting.tsdb.query.aligned_parts import MergedPart
from tocsin_alerting.tsdb.query.selection import Selection
from tocsin_alerting.tsdb.store import Store
from tocsin_exporter.snapshot import MachineName, Source

DAY_MS = 86_400_000
FOR_EVER_MS = 2**60


class Kept:
    """`store` as it is after a start. Nothing else runs: who calls `tick` is the writer."""

    def __init__(
        self,
        directory: Path,
        memory_ms: int = 3_600_000,
        retention_ms: int = 15 * DAY_MS,
        max_bytes: int = 2**31,
        machine: MachineName | None = None,
        early: int = 1_000_000,
        most_backlog: int = 8_000_000,
        most: SeriesLimits | None = None,
        hold: Callable[[], None] = lambda: None,
    ) -> None:
        self.directory = directory
        self._memory_ms, self._max_bytes, self._most = memory_ms, max_bytes, most
        self.blocks = BlockStore(directory, retention_ms, max_bytes)
        pace = WriterIntervals(early_seal_samples=early)
        self.disk = DiskPersistence(directory, self.blocks, pace, machine=machine, claim=hold)
        self.store = Store(
            memory_ms, persistence=self.disk, max_late_samples=most_backlog, limits=self._most
        )
        self.disk.start(self.store)

    def again(self, machine: MachineName | None = None) -> "Kept":
        """Another process on the same directory, after this one was killed."""
        self.disk.abandon_wal()
        retention_ms = self.blocks.retention_ms
        sizes = self._memory_ms, retention_ms, self._max_bytes
        return Kept(self.directory, *sizes, machine, most=self._most)

    @property
    def wal(self) -> Path:
        (path,) = self.directory.glob("*.log")
        return path

    @property
    def block_files(self) -> list[Path]:
        return sorted(self.directory.glob("*.seg"))


def cells_of(selection: Selection) -> dict[str, tuple[list[int], list[int]]]:
    """The times and bits of every cell or sample of each series, by its label `s`."""
    names = iter([dict(one)["s"] for one in selection.series.labels])
    found: dict[str, tuple[list[int], list[int]]] = {}
    for part in selection.parts:
        cells = np.ascontiguousarray(whole(part).T).view(np.int64)
        for bits in cells.tolist():
            found[_new(next(names), found)] = (part.times.tolist(), bits)
    for scattered in selection.unaligned:
        pairs = scattered.between(-FOR_EVER_MS, FOR_EVER_MS)
        bits = pairs.values.view(np.int64).tolist()
        for start, stop in pairwise(pairs.offsets.tolist()):
            found[_new(next(names), found)] = (pairs.times[start:stop].tolist(), bits[start:stop])
    assert next(names, None) is None
    return found


def _new(name: str, found: Container[str]) -> str:
    assert name not in found
    return name


def whole(part: AlignedPart | MergedPart) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return part.cells_in(0, len(part.times))


def newest_ms(store: Store, source: Source) -> int | None:
    """The time of the newest column of a source that memory holds."""
    axes = [one.columns.times for one in store.snapshot().sources if one.source == source]
    return max((int(times[-1]) for times in axes if times.size), default=None)
