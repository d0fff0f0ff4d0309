"""What a selector selects: a cached set of series, and where their numbers are right now."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

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
    """The rows that a selector chose in one table while it had this generation, and had released
    so many rows."""

    source: Source
    table: Table
    generation: int
    released: int
    rows: Ints
    labels: tuple[Labels, ...]

    @property
    def fresh(self) -> bool:
        return self.generation == self.table.rows.generation

    @property
    def whole(self) -> bool:
        """Whether no row of the table lost its owner since."""
        return self.released == self.table.rows.released

    def still(self) -> Ints:
        """The positions of those that have their row yet."""
        if self.whole:
            return np.arange(len(self.rows))
        return self.table.rows.kept(self.rows, self.labels)

    def only(self, positions: Ints) -> "Chosen":
        labels = tuple(self.labels[at] for at in positions.tolist())
        return replace(self, rows=self.rows[positions], labels=labels)


@dataclass(frozen=True, slots=True, eq=False)
class Strays:
    """The loose series that a selector chose, and what they have in columns: of each table some
    rows (ascending) and the positions of their series."""

    loose: Loose
    released: int
    rows: Ints
    labels: tuple[Labels, ...]
    sources: frozenset[Source]
    held: tuple[tuple[Chosen, Ints], ...]

    def now(self) -> Mixed:
        cells = tuple(Cells(part(one.table.columns, one.rows), who) for one, who in self.held)
        return Mixed(len(self.labels), self.loose.runs, self.rows, (), cells)

    @property
    def whole(self) -> bool:
        loose = self.released == self.loose.rows.released
        return loose and all(one.whole for one, _ in self.held)

    def still(self) -> "Strays":
        """Without the rows that have another owner by now."""
        kept = self.loose.rows.kept(self.rows, self.labels)
        places = np.full(len(self.labels), -1)
        places[kept] = np.arange(len(kept))
        held = tuple(_moved(one, places[who]) for one, who in self.held)
        labels = tuple(self.labels[at] for at in kept.tolist())
        return replace(self, rows=self.rows[kept], labels=labels, held=held)


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

    def still(self) -> "Resolved":
        """Without the rows that have another owner by now; whoever asks has the store's lock."""
        strays = self.strays
        if all(one.whole for one in self.chosen.values()) and (not strays or strays.whole):
            return self
        chosen = {source: one.only(one.still()) for source, one in self.chosen.items()}
        touched = tuple(one.only(one.still()) for one in self.touched)
        strays = strays.still() if strays else None
        return Resolved(SeriesSet(_labels(touched, strays)), chosen, touched, strays)


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
    labels = _labels(touched, strays)
    if before and before.series.labels == labels:
        return Resolved(before.series, chosen, touched, strays)
    return Resolved(SeriesSet(labels), chosen, touched, strays)


def _labels(touched: Iterable[Chosen], strays: Strays | None) -> tuple[Labels, ...]:
    labels = tuple(series for one in touched for series in one.labels)
    return labels + strays.labels if strays else labels


def _moved(one: Chosen, who: Ints) -> tuple[Chosen, Ints]:
    """What the series of Strays have in columns, by their places now; -1: they have none."""
    still = one.still()
    kept = still[who[still] >= 0]
    return one.only(kept), who[kept]


def _strays(
    matcher_sets: MatcherSets, tables: Mapping[Source, Table], loose: Loose, verdicts: Verdicts
) -> Strays | None:
    released = loose.rows.released  # first: rows may change while they are looked for
    rows, labels = loose.rows.search(matcher_sets, verdicts)
    if not len(rows):
        return None
    left = {source: table.rows.released for source, table in tables.items()}
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
        at, whose = ascending[:, 0].copy(), ascending[:, 1]
        owners = tuple(labels[who] for who in whose.tolist())
        columns.append((Chosen(source, tables[source], 0, left[source], at, owners), whose))
    return Strays(loose, released, rows, labels, frozenset(sources), tuple(columns))


def _aligned(chosen: Mapping[Source, Chosen], strays: Strays | None) -> Iterator[Chosen]:
    """What was chosen, without the rows of strays."""
    apart = {one.source: one.rows for one, _ in strays.held} if strays else {}
    for source, one in chosen.items():
        if strays is not None and source in strays.sources and not one.whole:
            known = set(strays.labels)  # of these one may have got its row back meanwhile
            yield one.only(np.flatnonzero([series not in known for series in one.labels]))
        elif source in apart:
            yield one.only(np.flatnonzero(~np.isin(one.rows, apart[source])))
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
    generation, released = table.rows.generation, table.rows.released  # first, as above
    rows, labels = table.rows.search(matcher_sets, verdicts)
    return Chosen(source, table, generation, released, rows, labels)
