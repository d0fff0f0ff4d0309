"""What a log says, done to a store: after it memory holds what it held when the log was written."""

from dataclasses import replace

import numpy as np

from tocsin_alerting.store.archive import Shift
from tocsin_alerting.store.cell import Ints, is_absent
from tocsin_alerting.store.held import LoosePairs, Restored
from tocsin_alerting.store.log import Bounds, Cells, Mark, Owners, Record
from tocsin_alerting.store.store import Store
from tocsin_exporter.snapshot import Labels, Renaming, Source


class Replay:
    """Rows of a log are not those of the store: series are found by their labels."""

    def __init__(self, store: Store, renaming: Renaming) -> None:
        self._store = store
        self._renaming = renaming
        self._owners: dict[Source | None, dict[int, Labels]] = {}
        self._labels: dict[Source | None, tuple[Ints, tuple[Labels, ...]]] = {}

    def apply(self, record: Record) -> None:
        """Raises KeyError for a row that nobody owns."""
        if isinstance(record, Owners):
            owned = zip(record.rows, map(self._renaming.labels, record.labels), strict=True)
            self._owners.setdefault(record.source, {}).update(owned)
            self._labels.pop(record.source, None)
        elif isinstance(record, Cells):
            self._cells(record)
        elif isinstance(record, Shift):
            self._store.move(record)
        elif isinstance(record, Mark):
            labels = self._of(record.source, record.placed)
            source = self._renaming.source(record.source)
            self._store.restore_end(source, labels, record.sealed_ms, record.moved_ms)
        elif isinstance(record, LoosePairs):
            owners = self._owners.get(None, {})
            rows, which = np.unique(record.rows, return_inverse=True)
            series = [owners[row] for row in rows.tolist()]
            self._store.restore_pairs(series, replace(record, rows=which))
        elif isinstance(record, Bounds):
            self._store.restore_bounds(record.begins_ms, record.floor_ms)

    def _cells(self, record: Cells) -> None:
        labels = self._of(record.source, record.rows)
        for at_ms, values in zip(record.times.tolist(), record.cells, strict=True):
            here = ~is_absent(values)
            if here.all():
                found = Restored(labels, values, record.whole)
            else:
                some = tuple(labels[at] for at in np.flatnonzero(here).tolist())
                found = Restored(some, values[here], record.whole)
            self._store.restore(self._renaming.source(record.source), at_ms, found)

    def _of(self, source: Source, rows: Ints) -> tuple[Labels, ...]:
        known = self._labels.get(source)
        if known is None or known[0] is not rows:
            owners = self._owners.get(source, {})
            known = rows, tuple(owners[row] for row in rows.tolist())
            self._labels[source] = known
        return known[1]
