"""Where the series of a source that the agent itself appends to are kept."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from tocsin_alerting.store.cell import Ints
from tocsin_alerting.store.table import Table
from tocsin_alerting.store.target import stored_labels, synthetic_labels
from tocsin_exporter.slices import Work, parts
from tocsin_exporter.snapshot import Labels, Layout, Snapshot, Source

_FEW = 500  # series
_MOST_FOUND = 64


@dataclass(slots=True)
class Placed:
    """Where the series of a source's present layout go."""

    layout: Layout | None
    rows: Ints  # the synthetic series come last
    taken: Ints | None  # positions in the layout; None: all
    series: tuple[Labels, ...] | None = None  # instead of a layout, where rules wrote
    report: bool = True  # whether `up` and its like are among the rows


NOWHERE = Placed(None, np.empty(0, np.int64), None)


@dataclass(frozen=True, slots=True)
class Found:
    """The rows of a layout's series that have a place, and which these are; good while no row of
    the table changes hands."""

    layout: Layout
    table: Table
    released: int
    rows: Ints
    taken: Ints


class Preparation:
    """Finds rows for the series of a layout before it is appended: in slices, between which the
    store is free, because a source may bring tens of thousands of new ones.

    `lock` is the store's, and `table` gives the columns of a source to whoever has it; `placed`
    is where each source's series go at present.
    """

    def __init__(
        self,
        lock: threading.Lock,
        table: Callable[[Source], Table],
        placed: Mapping[Source, Placed],
    ) -> None:
        self._lock = lock
        self._table = table
        self._placed = placed
        self._found: dict[Source, Found] = {}

    def __call__(self, snapshot: Snapshot) -> Work[None]:
        source, layout = snapshot.source, snapshot.layout
        placed = self._placed.get(source)
        if len(layout.series) <= _FEW or (placed is not None and placed.layout is layout):
            return
        with self._lock:
            table = self._table(source)
            # First: a source of too many series must not lose the word on itself.
            table.rows.all_of(synthetic_labels(source) if snapshot.report else ())
            released = table.rows.released
        found: list[tuple[Ints, Ints]] = []
        for at, part in enumerate(parts(layout.series, _FEW)):
            with self._lock:
                rows, taken = table.rows.all_of(stored_labels(source, one) for one in part)
            found.append((rows, taken + at * _FEW))
            yield
        rows, taken = map(np.concatenate, zip(*found, strict=True))
        self._found[source] = Found(layout, table, released, rows, taken)
        if len(self._found) > _MOST_FOUND:  # of sources that were removed before they appended
            del self._found[next(iter(self._found))]

    def found(self, source: Source, layout: Layout, table: Table) -> Found | None:
        """What was found for this layout, once; None when it holds no longer."""
        found = self._found.pop(source, None)
        if found is None or found.layout is not layout or found.table is not table:
            return None
        return found if found.released == table.rows.released else None


def place(
    source: Source,
    layout: Layout,
    report: bool,
    table: Table,
    before: Placed,
    found: Found | None = None,
) -> tuple[Placed, Ints]:
    """Where the series of a layout go, and the rows of those that have ended with it."""
    if before.layout is layout and before.report is report:
        return before, NOWHERE.rows
    synthetic, _ = table.rows.all_of(synthetic_labels(source) if report else ())
    if found is not None:
        rows, taken = found.rows, found.taken
    else:
        rows, taken = table.rows.all_of(stored_labels(source, one) for one in layout.series)
    # The source's own word on `up` does not count.
    free = ~np.isin(rows, synthetic)
    rows, taken = np.concatenate([rows[free], synthetic]), taken[free]
    ended = np.setdiff1d(before.rows, rows)
    table.end(ended)
    everything = len(taken) == len(layout.series)
    return Placed(layout, rows, None if everything else taken, report=report), ended


def place_rules(series: tuple[Labels, ...], table: Table, before: Placed) -> tuple[Placed, Ints]:
    """As `place`; the same series as the last time, which is most times, stay where they are."""
    if before.series == series:
        return before, NOWHERE.rows
    rows, taken = table.rows.all_of(series)
    ended = np.setdiff1d(before.rows, rows)
    table.end(ended)
    everything = len(taken) == len(series)
    return Placed(None, rows, None if everything else taken, series), ended
