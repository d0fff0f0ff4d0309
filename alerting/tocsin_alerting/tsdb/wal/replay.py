"""What a WAL says, done to a store: after it memory holds what it held when the WAL was written."""

import logging
import os
from dataclasses import replace
from enum import Enum
from pathlib import Path

import numpy as np

from tocsin_alerting.tsdb.files import PutAside, numbered_files
from tocsin_alerting.tsdb.persistence import (
    AlignedRecord,
    ClockShift,
    SeriesRecord,
    UnalignedRecord,
)
from tocsin_alerting.tsdb.store import Store
from tocsin_alerting.tsdb.values import Ints, is_absent
from tocsin_alerting.tsdb.wal.codec import (
    HEAD,
    WAL_SUFFIX,
    CorruptWal,
    SourceStateRecord,
    UnalignedBoundsRecord,
    WalReader,
    WalRecord,
)
from tocsin_exporter.files import open_file
from tocsin_exporter.snapshot import Labels, Renaming, Source

log = logging.getLogger(__name__)


class WalReplay:
    """Rows of a WAL are not those of the store: series are found by their labels."""

    def __init__(self, store: Store, renaming: Renaming) -> None:
        self._store = store
        self._renaming = renaming
        self._series: dict[Source | None, dict[int, Labels]] = {}
        self._labels: dict[Source | None, tuple[Ints, tuple[Labels, ...]]] = {}

    def apply(self, record: WalRecord) -> None:
        """Raises KeyError for a row that nobody owns."""
        if isinstance(record, SeriesRecord):
            owned = zip(record.rows, map(self._renaming.labels, record.labels), strict=True)
            self._series.setdefault(record.source, {}).update(owned)
            self._labels.pop(record.source, None)
        elif isinstance(record, AlignedRecord):
            self._columns(record)
        elif isinstance(record, ClockShift):
            self._store.shift_clock(record.delta_ms, record.until_ms + record.delta_ms)
        elif isinstance(record, SourceStateRecord):
            labels = self._labels_of(record.source, record.present_rows)
            source = self._renaming.source(record.source)
            self._store.restore_source_state(source, labels, record.sealed_ms, record.moved_ms)
        elif isinstance(record, UnalignedRecord):
            owners = self._series.get(None, {})
            rows, which = np.unique(record.rows, return_inverse=True)
            series = [owners[row] for row in rows.tolist()]
            self._store.restore_unaligned(series, replace(record, rows=which))
        elif isinstance(record, UnalignedBoundsRecord):
            self._store.restore_unaligned_bounds(record.begins_ms, record.floor_ms)

    def _columns(self, record: AlignedRecord) -> None:
        labels = self._labels_of(record.source, record.rows)
        for at_ms, values in zip(record.times.tolist(), record.cells, strict=True):
            present_cells = ~is_absent(values)
            if present_cells.all():
                present = labels
            else:
                present = tuple(labels[at] for at in np.flatnonzero(present_cells).tolist())
                values = values[present_cells]
            source = self._renaming.source(record.source)
            self._store.restore_column(source, at_ms, present, values, record.whole)

    def _labels_of(self, source: Source, rows: Ints) -> tuple[Labels, ...]:
        known = self._labels.get(source)
        if known is None or known[0] is not rows:
            owners = self._series.get(source, {})
            known = rows, tuple(owners[row] for row in rows.tolist())
            self._labels[source] = known
        return known[1]


class Replayed(Enum):
    """How much of a WAL was read: with no more than a part, memory lacks some of it."""

    NOTHING = 1
    PART = 2
    WHOLE = 3


def replay_newest(
    directory: Path, store: Store, renaming: Renaming, put_aside: PutAside
) -> tuple[list[tuple[Path, os.stat_result]], int]:
    """Reads the newest WAL that can be read into `store`: the WALs whose content memory has then,
    and how many are damaged. Raises OSError when the directory cannot be listed."""
    obsolete: list[tuple[Path, os.stat_result]] = []
    broken, wals = 0, numbered_files(directory, WAL_SUFFIX)
    while wals:
        replayed = _replay(wals[-1], store, renaming, put_aside)
        if replayed is Replayed.WHOLE:  # it has what those before it had
            obsolete += [(path, path.stat()) for path in wals if path.is_file()]
        else:
            broken += 1
        if replayed is not Replayed.NOTHING:
            break
        wals.pop()
    return obsolete, broken


def _replay(path: Path, store: Store, renaming: Renaming, put_aside: PutAside) -> Replayed:
    """As much as is whole; what was torn off by a kill is logged, what is none of ours set aside.
    A WAL that is damaged keeps its name until a new one has what was read of it."""
    replay = None
    try:
        if not path.is_file():
            raise CorruptWal("not a regular file")
        with open_file(path) as file:
            if file.read(len(HEAD)) != HEAD:
                raise CorruptWal("not a WAL: wrong header")
            reader, replay = WalReader(file), WalReplay(store, renaming)
            for record in reader.records():
                replay.apply(record)
    except (CorruptWal, KeyError, OSError, MemoryError) as error:
        if replay is None and isinstance(error, CorruptWal):
            put_aside(path, error, "replaying the WAL before it")
        else:
            log.error("WAL corrupt, replayed up to there: %s: %r", path, error)
    else:
        if reader.whole_bytes < reader.size:
            torn = reader.size - reader.whole_bytes
            log.warning("WAL truncated: %s: %d incomplete bytes at the end dropped", path, torn)
        return Replayed.WHOLE
    return Replayed.NOTHING if replay is None else Replayed.PART
