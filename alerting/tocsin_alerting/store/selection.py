"""What a selector selects: a cached set of series, and where their numbers are right now."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tocsin_alerting.store.cell import Ints
from tocsin_alerting.store.columns import Part, part
from tocsin_alerting.store.history import History
from tocsin_alerting.store.pairs import Scattered
from tocsin_alerting.store.rows import MatcherSets
from tocsin_alerting.store.series import SeriesSet
from tocsin_alerting.store.table import Table
from tocsin_exporter.snapshot import Labels, Source


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """`series` are those of the parts one after the other, then those of the scattered ones, whose
    samples have times of their own; equal queries give the same object."""

    series: SeriesSet
    parts: tuple[Part | History, ...]
    scattered: tuple[Scattered, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """The rows that a selector chose in one table while it had this generation."""

    source: Source
    table: Table
    generation: int
    rows: Ints
    labels: tuple[Labels, ...]

    @property
    def fresh(self) -> bool:
        return self.generation == self.table.rows.generation


@dataclass(frozen=True, slots=True, eq=False)
class Resolved:
    """A selector resolved against all tables; `generation` is the sum of theirs."""

    series: SeriesSet
    chosen: Mapping[Source, Chosen]
    touched: tuple[Chosen, ...]  # those with any row

    def now(self) -> Selection:
        parts = tuple(part(one.table.columns, one.rows) for one in self.touched)
        return Selection(self.series, parts)


def resolve(
    matcher_sets: MatcherSets, tables: Mapping[Source, Table], before: Resolved | None
) -> Resolved:
    """Looks again only where rows changed; keeps the series set when that changed nothing.

    A series set that stays keeps all that queries remembered on it: an alert that begins to fire
    must not make every other query group its series anew.
    """
    old = before.chosen if before else {}
    chosen = {
        source: _choose(matcher_sets, source, table, old.get(source))
        for source, table in tables.items()
    }
    touched = tuple(one for one in chosen.values() if len(one.rows))
    labels = tuple(series for one in touched for series in one.labels)
    if before and before.series.labels == labels:
        return Resolved(before.series, chosen, touched)
    return Resolved(SeriesSet(labels), chosen, touched)


def _choose(
    matcher_sets: MatcherSets, source: Source, table: Table, before: Chosen | None
) -> Chosen:
    if before is not None and before.table is table and before.fresh:
        return before
    rows = table.rows.find(matcher_sets)
    labels = table.rows.labels(rows.tolist())
    return Chosen(source, table, table.rows.generation, np.ascontiguousarray(rows), labels)
