"""What a WAL says, done to a store: after it memory holds what it held when the WAL was written."""

from dataclasses import replace

import numpy as np

from tocsin_alerting.tsdb.persistence import ClockShift, UnalignedRecord
from tocsin_alerting.tsdb.store import Store
from tocsin_alerting.tsdb.values import Ints, is_absent
from tocsin_alerting.tsdb.wal.codec import (
    ColumnsRecord,
    SeriesRecords,
    SourceStateRecord,
    UnalignedBoundsRecord,
    WalRecord,
)
from tocsin_exporter.snapshot import Labels, Renaming, Source


class WalReplay:
    """Rows of a WAL are not those of the store: series are found by their labels."""

    def __init__(self, store: Store, renaming: Renaming) -> None:
        self._store = store
        self._renaming = renaming
        self._series: dict[Source | None, dict[int, Labels]] = {}
        self._labels: dict[Source | None, tuple[Ints, tuple[Labels, ...]]] = {}

    def apply(self, record: WalRecord) -> None:
        """Raises KeyError for a row that nobody owns."""
        if isinstance(record, SeriesRecords):
            owned = zip(record.rows, map(self._renaming.labels, record.labels), strict=True)
            self._series.setdefault(record.source, {}).update(owned)
            self._labels.pop(record.source, None)
        elif isinstance(record, ColumnsRecord):
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

    def _columns(self, record: ColumnsRecord) -> None:
        labels = self._labels_of(record.source, record.rows)
        for at_ms, values in zip(record.times.tolist(), record.cells, strict=True):
            here = ~is_absent(values)
            if here.all():
                present = labels
            else:
                some = tuple(labels[at] for at in np.flatnonzero(here).tolist())
                present, values = some, values[here]
            source = self._renaming.source(record.source)
            self._store.restore_column(source, at_ms, present, values, record.whole)

    def _labels_of(self, source: Source, rows: Ints) -> tuple[Labels, ...]:
        known = self._labels.get(source)
        if known is None or known[0] is not rows:
            owners = self._series.get(source, {})
            known = rows, tuple(owners[row] for row in rows.tolist())
            self._labels[source] = known
        return known[1]
