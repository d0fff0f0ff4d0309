"""What a selector selects: a cached set of series, and where their numbers are right now."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from heapq import merge
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from tocsin_alerting.tsdb.head.aligned import AlignedHead
from tocsin_alerting.tsdb.head.columns import AlignedPart, aligned_part
from tocsin_alerting.tsdb.head.sorted_run import SortedRuns
from tocsin_alerting.tsdb.head.unaligned import UnalignedHead
from tocsin_alerting.tsdb.label_sets import LabelSets
from tocsin_alerting.tsdb.matchers import MatchMemo
from tocsin_alerting.tsdb.query.aligned_parts import MergedPart
from tocsin_alerting.tsdb.query.unaligned_parts import AlignedTail, MergedUnaligned, UnalignedPart
from tocsin_alerting.tsdb.series_index import MatcherSets
from tocsin_alerting.tsdb.target_labels import METRIC_NAME, source_of
from tocsin_alerting.tsdb.values import Ints, Mask
from tocsin_exporter.snapshot import Labels, Source


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """`series` are those of the parts one after the other, then those of the unaligned ones, whose
    samples have times of their own; equal queries give the same object."""

    series: LabelSets
    parts: tuple[AlignedPart | MergedPart, ...]
    unaligned: tuple[UnalignedPart, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class AlignedMatch:
    """The rows that a selector chose in one head while it had this generation, and had released
    so many rows."""

    source: Source
    head: AlignedHead
    generation: int
    released: int
    rows: Ints
    labels: tuple[Labels, ...]

    @property
    def is_fresh(self) -> bool:
        return self.generation == self.head.index.generation

    @property
    def all_owned(self) -> bool:
        """Whether no row of the head lost its owner since."""
        return self.released == self.head.index.released

    def owned_positions(self) -> Ints:
        """The positions of those that have their row yet."""
        if self.all_owned:
            return np.arange(len(self.rows))
        return self.head.index.still_owned(self.rows, self.labels)

    def subset(self, positions: Ints) -> "AlignedMatch":
        labels = tuple(self.labels[at] for at in positions.tolist())
        return replace(self, rows=self.rows[positions], labels=labels)


@dataclass(frozen=True, slots=True, eq=False)
class UnalignedMatch:
    """The unaligned series that a selector chose, and what they have in columns: of each head some
    rows (ascending) and the positions of their series."""

    head: UnalignedHead
    released: int
    rows: Ints
    labels: tuple[Labels, ...]
    sources: frozenset[Source]
    aligned: tuple[tuple[AlignedMatch, Ints], ...]

    def current_part(self) -> MergedUnaligned:
        cells = tuple(
            AlignedTail(aligned_part(match.head.columns, match.rows), positions)
            for match, positions in self.aligned
        )
        return MergedUnaligned(len(self.labels), self.head.runs, self.rows, (), cells)

    @property
    def all_owned(self) -> bool:
        unaligned_owned = self.released == self.head.index.released
        return unaligned_owned and all(match.all_owned for match, _ in self.aligned)

    def still_owned(self) -> "UnalignedMatch":
        """Without the rows that have another owner by now."""
        owned = self.head.index.still_owned(self.rows, self.labels)
        now = np.full(len(self.labels), -1)
        now[owned] = np.arange(len(owned))
        aligned = tuple(_columns_now(match, now[positions]) for match, positions in self.aligned)
        labels = tuple(self.labels[at] for at in owned.tolist())
        return replace(self, rows=self.rows[owned], labels=labels, aligned=aligned)


@dataclass(frozen=True, slots=True, eq=False)
class HeadSlice:
    """What a selector chose of a source in memory; blocks have what is before `begins_ms`."""

    source: Source
    labels: tuple[Labels, ...]
    part: AlignedPart
    begins_ms: int


@dataclass(frozen=True, slots=True, eq=False)
class UnalignedSlice:
    """What a selector chose of the unaligned series in memory: `rows` (ascending) of `runs`."""

    labels: tuple[Labels, ...]
    rows: Ints
    runs: SortedRuns


@dataclass(frozen=True, slots=True, eq=False)
class ResolvedSelector:
    """A selector resolved against all tables; `generation` is the sum of theirs."""

    series: LabelSets
    aligned: Mapping[Source, AlignedMatch]
    with_rows: tuple[AlignedMatch, ...]  # those with any row, without the rows of unaligned series
    unaligned: UnalignedMatch | None

    def selection(self) -> Selection:
        parts = tuple(aligned_part(match.head.columns, match.rows) for match in self.with_rows)
        return Selection(
            self.series, parts, (self.unaligned.current_part(),) if self.unaligned else ()
        )

    def head_slices(self, begins_ms: Callable[[Source], int]) -> list[HeadSlice]:
        """What there is in columns; `begins_ms` says from when on memory has a source's."""
        return [
            HeadSlice(
                match.source,
                match.labels,
                aligned_part(match.head.columns, match.rows),
                begins_ms(match.source),
            )
            for match in self.aligned.values()
        ]

    def unaligned_slice(self) -> UnalignedSlice | None:
        match = self.unaligned
        return UnalignedSlice(match.labels, match.rows, match.head.runs) if match else None

    def sources(self) -> frozenset[Source]:
        aligned = frozenset(match.source for match in self.with_rows)
        return aligned | self.unaligned.sources if self.unaligned else aligned

    def still_owned(self) -> "ResolvedSelector":
        """Without the rows that have another owner by now; whoever asks has the store's lock."""
        unaligned = self.unaligned
        if all(match.all_owned for match in self.aligned.values()) and (
            not unaligned or unaligned.all_owned
        ):
            return self
        chosen = {
            source: match.subset(match.owned_positions()) for source, match in self.aligned.items()
        }
        touched = tuple(match.subset(match.owned_positions()) for match in self.with_rows)
        unaligned = unaligned.still_owned() if unaligned else None
        return ResolvedSelector(LabelSets(_labels(touched, unaligned)), chosen, touched, unaligned)


def resolve(
    matcher_sets: MatcherSets,
    heads: Mapping[Source, AlignedHead],
    unaligned_head: UnalignedHead,
    before: ResolvedSelector | None,
    memo: MatchMemo,
) -> ResolvedSelector:
    """Looks again only where rows changed; keeps the series set when that changed nothing.

    A series set that stays keeps all that queries remembered on it: an alert that begins to fire
    must not make every other query group its series anew.
    """
    old = before.aligned if before else {}
    chosen = {
        source: _match_aligned(matcher_sets, source, head, old.get(source), memo)
        for source, head in heads.items()
    }
    unaligned = _match_unaligned(matcher_sets, heads, unaligned_head, memo)
    touched = tuple(match for match in _without_unaligned(chosen, unaligned) if len(match.rows))
    labels = _labels(touched, unaligned)
    if before and before.series.labels == labels:
        return ResolvedSelector(before.series, chosen, touched, unaligned)
    return ResolvedSelector(LabelSets(labels), chosen, touched, unaligned)


def _labels(
    touched: Iterable[AlignedMatch], unaligned: UnalignedMatch | None
) -> tuple[Labels, ...]:
    labels = tuple(series for match in touched for series in match.labels)
    return labels + unaligned.labels if unaligned else labels


def _columns_now(match: AlignedMatch, positions: Ints) -> tuple[AlignedMatch, Ints]:
    """What the series of UnalignedMatch have in columns, by their positions now; -1: they have
    none."""
    owned = match.owned_positions()
    owned = owned[positions[owned] >= 0]
    return match.subset(owned), positions[owned]


def _match_unaligned(
    matcher_sets: MatcherSets,
    heads: Mapping[Source, AlignedHead],
    unaligned_head: UnalignedHead,
    memo: MatchMemo,
) -> UnalignedMatch | None:
    released = unaligned_head.index.released  # first: rows may change while they are looked for
    rows, labels = unaligned_head.index.select(matcher_sets, memo)
    if not len(rows):
        return None
    released_by = {source: head.index.released for source, head in heads.items()}
    in_columns: dict[Source, list[tuple[int, int]]] = defaultdict(list)
    sources = [source_of(series) for series in labels]
    for position, (source, series) in enumerate(zip(sources, labels, strict=True)):
        head = heads.get(source)
        row = head.index.get(series) if head else -1
        if row >= 0:
            in_columns[source].append((row, position))
    columns = []
    for source, places in in_columns.items():
        ascending = np.array(sorted(places), np.int64)
        aligned_rows, positions = ascending[:, 0].copy(), ascending[:, 1]
        owners = tuple(labels[position] for position in positions.tolist())
        head, was_released = heads[source], released_by[source]
        match = AlignedMatch(source, head, 0, was_released, aligned_rows, owners)
        columns.append((match, positions))
    return UnalignedMatch(
        unaligned_head, released, rows, labels, frozenset(sources), tuple(columns)
    )


def _without_unaligned(
    chosen: Mapping[Source, AlignedMatch], unaligned: UnalignedMatch | None
) -> Iterator[AlignedMatch]:
    """What was chosen, without the rows of unaligned series."""
    apart = {match.source: match.rows for match, _ in unaligned.aligned} if unaligned else {}
    for source, match in chosen.items():
        if unaligned is not None and source in unaligned.sources and not match.all_owned:
            known = set(unaligned.labels)  # of these one may have got its row back meanwhile
            yield match.subset(np.flatnonzero([series not in known for series in match.labels]))
        elif source in apart:
            yield match.subset(np.flatnonzero(~np.isin(match.rows, apart[source])))
        else:
            yield match


def _match_aligned(
    matcher_sets: MatcherSets,
    source: Source,
    head: AlignedHead,
    before: AlignedMatch | None,
    memo: MatchMemo,
) -> AlignedMatch:
    if before is not None and before.head is head and before.is_fresh:
        return before
    generation, released = head.index.generation, head.index.released  # first, as above
    rows, labels = head.index.select(matcher_sets, memo)
    return AlignedMatch(source, head, generation, released, rows, labels)


Texts = tuple[str, ...]
TextIndex = NDArray[np.int32]
_SORTED_AT_ONCE = 2_000  # series; sorting lets nobody else work, so it is done in short runs


def has_samples(selection: Selection, t0_ms: int, t1_ms: int) -> Mask:
    """Which series have a sample in the closed interval."""
    masks = [part.has_samples(t0_ms, t1_ms) for part in (*selection.parts, *selection.unaligned)]
    return np.concatenate([np.empty(0, np.bool_), *masks])


def label_sets_in(selection: Selection, t0_ms: int, t1_ms: int) -> list[Labels]:
    """The label sets that have a sample in the closed interval, by metric, and by labels within
    one: the order of a Prometheus."""
    flags, labels = has_samples(selection, t0_ms, t1_ms), selection.series.labels
    order = in_order(selection.series)
    return [labels[at] for at in order[flags[order]].tolist()]


def in_order(series: LabelSets) -> Ints:
    """The positions of these series in that order."""
    return series.memo("order", lambda: _order(series.labels))


def _order(labels: Sequence[Labels]) -> Ints:
    def in_order() -> Iterator[int]:
        metrics: dict[str, list[int]] = {}
        for at, series in enumerate(labels):
            metrics.setdefault(dict(series).get(METRIC_NAME, ""), []).append(at)
        for name in sorted(metrics):
            positions = metrics[name]
            starts = range(0, len(positions), _SORTED_AT_ONCE)
            runs = (
                sorted(positions[at : at + _SORTED_AT_ONCE], key=labels.__getitem__)
                for at in starts
            )
            yield from merge(*runs, key=labels.__getitem__)

    return np.fromiter(in_order(), np.int64, len(labels))


def label_texts_in(selection: Selection, t0_ms: int, t1_ms: int, name: str | None) -> Set[str]:
    """The values of a label of those series; None: the names of their labels."""
    series, flags = selection.series, has_samples(selection, t0_ms, t1_ms)
    texts, numbers = series.memo(("texts", name), lambda: _texts(series.labels, name))
    if not flags.all():
        texts = [texts[at] for at in np.flatnonzero(np.bincount(numbers[flags])).tolist()]
    return frozenset(chain.from_iterable(texts))


def _texts(series: Sequence[Labels], name: str | None) -> tuple[list[Texts], TextIndex]:
    """What the series say, each thing once, and which of these (series,) each of them says."""

    def texts_of(labels: Labels) -> Texts:
        return tuple(
            label if name is None else text for label, text in labels if name in (None, label)
        )

    known: dict[Texts, int] = {}
    numbers = (known.setdefault(texts_of(labels), len(known)) for labels in series)
    every = np.fromiter(numbers, np.int32, len(series))
    return list(known), every
