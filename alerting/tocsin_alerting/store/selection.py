"""What a selector selects: a cached set of series, and where their numbers are right now."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from tocsin_alerting.store.cell import Ints
from tocsin_alerting.store.columns import Part, part
from tocsin_alerting.store.history import History
from tocsin_alerting.store.loose import Loose
from tocsin_alerting.store.matchers import Verdicts
from tocsin_alerting.store.pairs import Scattered
from tocsin_alerting.store.rows import MatcherSets
from tocsin_alerting.store.scattered import Cells, Mixed
from tocsin_alerting.store.series import SeriesSet
from tocsin_alerting.store.table import Table
from tocsin_alerting.store.target import source_of
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
class Strays:
    """The loose series that a selector chose, and what they have in columns: of each table some
    rows (ascending) and the positions of their series."""

    loose: Loose
    rows: Ints
    labels: tuple[Labels, ...]
    sources: frozenset[Source]
    held: tuple[tuple[Source, Table, Ints, Ints], ...]

    def now(self) -> Mixed:
        cells = tuple(Cells(part(table.columns, rows), who) for _, table, rows, who in self.held)
        return Mixed(len(self.labels), self.loose.runs, self.rows, (), cells)


@dataclass(frozen=True, slots=True, eq=False)
class Resolved:
    """A selector resolved against all tables; `generation` is the sum of theirs."""

    series: SeriesSet
    chosen: Mapping[Source, Chosen]
    touched: tuple[Chosen, ...]  # those with any row, without the rows of strays
    strays: Strays | None

    def now(self) -> Selection:
        parts = tuple(part(one.table.columns, one.rows) for one in self.touched)
        return Selection(self.series, parts, (self.strays.now(),) if self.strays else ())

    def sources(self) -> frozenset[Source]:
        here = frozenset(one.source for one in self.touched)
        return here | self.strays.sources if self.strays else here


def resolve(
    matcher_sets: MatcherSets,
    tables: Mapping[Source, Table],
    loose: Loose,
    before: Resolved | None,
    verdicts: Verdicts,
) -> Resolved:
    """Looks again only where rows changed; keeps the series set when that changed nothing.

    A series set that stays keeps all that queries remembered on it: an alert that begins to fire
    must not make every other query group its series anew.
    """
    old = before.chosen if before else {}
    chosen = {
        source: _choose(matcher_sets, source, table, old.get(source), verdicts)
        for source, table in tables.items()
    }
    strays = _strays(matcher_sets, tables, loose, verdicts)
    touched = tuple(one for one in _aligned(chosen, strays) if len(one.rows))
    labels = tuple(series for one in touched for series in one.labels)
    labels += strays.labels if strays else ()
    if before and before.series.labels == labels:
        return Resolved(before.series, chosen, touched, strays)
    return Resolved(SeriesSet(labels), chosen, touched, strays)


def _strays(
    matcher_sets: MatcherSets, tables: Mapping[Source, Table], loose: Loose, verdicts: Verdicts
) -> Strays | None:
    rows = loose.rows.find(matcher_sets, verdicts)
    if not len(rows):
        return None
    labels = loose.rows.labels(rows.tolist())
    held: dict[Source, list[tuple[int, int]]] = defaultdict(list)
    sources = [source_of(one) for one in labels]
    for who, (source, series) in enumerate(zip(sources, labels, strict=True)):
        table = tables.get(source)
        row = table.rows.known(series) if table else -1
        if row >= 0:
            held[source].append((row, who))
    columns = []
    for source, places in held.items():
        ascending = np.array(sorted(places), np.int64)
        columns.append((source, tables[source], ascending[:, 0].copy(), ascending[:, 1]))
    return Strays(loose, rows, labels, frozenset(sources), tuple(columns))


def _aligned(chosen: Mapping[Source, Chosen], strays: Strays | None) -> Iterator[Chosen]:
    """What was chosen, without the rows of strays."""
    apart = {source: rows for source, _, rows, _ in strays.held} if strays else {}
    for source, one in chosen.items():
        if source in apart:
            kept = np.flatnonzero(~np.isin(one.rows, apart[source]))
            labels = tuple(one.labels[at] for at in kept.tolist())
            yield Chosen(source, one.table, one.generation, one.rows[kept], labels)
        else:
            yield one


def _choose(
    matcher_sets: MatcherSets,
    source: Source,
    table: Table,
    before: Chosen | None,
    verdicts: Verdicts,
) -> Chosen:
    if before is not None and before.table is table and before.fresh:
        return before
    generation = table.rows.generation  # first: rows may change while they are looked for
    rows = table.rows.find(matcher_sets, verdicts)
    labels = table.rows.labels(rows.tolist())
    return Chosen(source, table, generation, np.ascontiguousarray(rows), labels)
