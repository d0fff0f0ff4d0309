"""What selectors chose lately, in memory and in blocks: each as long as the series stay the same.

An answer counts for its series and its matchers. The one that was used, or found, longest ago goes
first: dashboards ask for ever new selectors.
"""

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sized
from dataclasses import dataclass
from itertools import starmap

import numpy as np

from tocsin_alerting.tsdb.head.aligned import AlignedHead
from tocsin_alerting.tsdb.head.unaligned import UnalignedHead
from tocsin_alerting.tsdb.label_sets import LabelSets
from tocsin_alerting.tsdb.matchers import MatchMemo
from tocsin_alerting.tsdb.query.selection import ResolvedSelector, resolve
from tocsin_alerting.tsdb.series_index import MatcherSets, SeriesIndex
from tocsin_alerting.tsdb.values import Ints
from tocsin_exporter.snapshot import Labels, Source

_MIN_WEIGHT = 400_000
_MATCHER_WEIGHT = 16
_MAX_MATCHERS = 1000  # of a selector that is kept: to look for a long one takes time, too
_MAX_SEARCHES = 3  # before what changed meanwhile is left to the next query
_MAX_BLOCKS_WEIGHT = 200_000  # of 16 bytes each
_Key = tuple[Source | None, MatcherSets]


class HeadSelectorCache:
    """Each with the generation of the store that it holds for; whoever puts has the store's lock.

    One goes when they count for more than `least` and for more than 16 times the series of the
    store; a series costs some 90 bytes with what queries remember of it.
    """

    def __init__(self, least: int = _MIN_WEIGHT) -> None:
        self._min_weight = least
        self._count = 0
        self._resolved: OrderedDict[MatcherSets, tuple[int, ResolvedSelector]] = OrderedDict()

    def get(self, matcher_sets: MatcherSets) -> tuple[int, ResolvedSelector] | None:
        return self._resolved.get(matcher_sets)

    def put(
        self, matcher_sets: MatcherSets, entry: tuple[int, ResolvedSelector], stored_series: int
    ) -> None:
        self._drop(matcher_sets)
        self._resolved[matcher_sets] = entry
        self._count += _weight(matcher_sets, entry[1].series)
        most = max(self._min_weight, 16 * stored_series)
        while self._count > most and len(self._resolved) > 1:
            self._drop(next(iter(self._resolved)))

    def _drop(self, matcher_sets: MatcherSets) -> None:
        known = self._resolved.pop(matcher_sets, None)
        if known is not None:
            self._count -= _weight(matcher_sets, known[1].series)


def _weight(matcher_sets: MatcherSets, series: Sized) -> int:
    """What an answer counts for: one without series takes some room, too."""
    return len(series) + _MATCHER_WEIGHT * max(1, sum(map(len, matcher_sets)))


class HeadSelectors:
    """Resolves selectors against the heads and unaligned series of a store, whose `lock` it
    shares; `on_change` is called for each row that changes its owner."""

    def __init__(self, heads: Mapping[Source, AlignedHead], lock: threading.Lock) -> None:
        self._heads, self._lock = heads, lock
        self._cache = HeadSelectorCache()
        self._generation = 0

    def on_change(self) -> None:
        self._generation += 1

    def resolve(
        self, matcher_sets: MatcherSets, memo: MatchMemo, unaligned_head: UnalignedHead
    ) -> tuple[int, ResolvedSelector]:
        """What the selector chooses, and for which generation. A long search must hold up nobody:
        others use the store meanwhile, and `current` says what of it holds then."""
        entry = self._cache.get(matcher_sets)
        for _ in range(_MAX_SEARCHES):
            if entry is not None and entry[0] == self._generation:
                break
            with self._lock:
                generation, heads = self._generation, dict(self._heads)
            before = entry[1] if entry else None
            entry = generation, resolve(matcher_sets, heads, unaligned_head, before, memo)
            self._put(matcher_sets, entry)
        assert entry is not None
        return entry

    def current(self, entry: tuple[int, ResolvedSelector]) -> ResolvedSelector:
        """What was found, without the rows that have another owner by now; whoever asks has the
        lock. Series that came during the search may be missing."""
        generation, resolved = entry
        return resolved if generation == self._generation else resolved.still_owned()

    def _put(self, matcher_sets: MatcherSets, entry: tuple[int, ResolvedSelector]) -> None:
        if sum(map(len, matcher_sets)) > _MAX_MATCHERS:
            return
        with self._lock:
            series = sum(len(head.index) for head in self._heads.values())
            self._cache.put(matcher_sets, entry, series)


@dataclass(frozen=True, slots=True, eq=False)
class BlockMatch:
    """Series with their rows in `index`, or -1: those that memory gave, `head_series`, first."""

    index: SeriesIndex
    generation: int
    head_series: tuple[Labels, ...]
    labels: tuple[Labels, ...]
    rows: Ints

    def is_fresh(self, index: SeriesIndex) -> bool:
        return self.index is index and self.generation == index.generation

    def current_rows(self, index: SeriesIndex) -> Ints:
        """The rows that have the owners that they had then."""
        positions = np.flatnonzero(self.rows >= 0)
        if self.index is not index:
            positions = positions[:0]
        elif not self.is_fresh(index):
            owners = [self.labels[at] for at in positions.tolist()]
            positions = positions[index.still_owned(self.rows[positions], owners)]
        return self.rows[positions]


class BlockSelectorCache:
    """Whoever asks has the block store's lock, except to `match`."""

    def __init__(self, most: int = _MAX_BLOCKS_WEIGHT) -> None:
        self._max_weight = most
        self._weight = 0
        self._matches: OrderedDict[_Key, BlockMatch] = OrderedDict()
        self._label_sets: OrderedDict[MatcherSets, LabelSets] = OrderedDict()

    def match(
        self, source: Source | None, rows: SeriesIndex, matcher_sets: MatcherSets, memo: MatchMemo
    ) -> BlockMatch:
        """What the selector finds among `rows`, or found lately: it may take long, so others use
        the block store meanwhile."""
        before = self._matches.get((source, matcher_sets))
        generation = rows.generation  # first: rows may change while they are looked for
        if before is not None and before.is_fresh(rows):
            return before
        matched, labels = rows.select(matcher_sets, memo)
        return BlockMatch(rows, generation, (), labels, matched)

    def match_with_head(
        self,
        source: Source,
        rows: SeriesIndex,
        matcher_sets: MatcherSets,
        head_series: tuple[Labels, ...],
        block_match: BlockMatch | None,
    ) -> BlockMatch:
        """The series of a source that memory chose, and of those that `match` found the ones that
        only the block store has."""
        key = (source, matcher_sets)
        if (
            block_match is not None
            and block_match.is_fresh(rows)
            and block_match.head_series == head_series
        ):
            if self._matches.get(key) is block_match:
                self._matches.move_to_end(key)
            else:
                self._put(key, block_match)
            return block_match
        own = np.fromiter((rows.get(series) for series in head_series), np.int64, len(head_series))
        matched = block_match.current_rows(rows) if block_match else own
        others = np.setdiff1d(matched, own)
        labels = head_series + rows.labels_of(others.tolist())
        generation = block_match.generation if block_match and block_match.index is rows else -1
        match = BlockMatch(rows, generation, head_series, labels, np.concatenate([own, others]))
        self._put(key, match)
        return match

    def label_sets(self, matcher_sets: MatcherSets, labels: tuple[Labels, ...]) -> LabelSets:
        """The set that the same selector had before, with what queries remembered on it, if that
        has the same series."""
        known = self._label_sets.pop(matcher_sets, None)
        if known is None or known.labels != labels:
            known = LabelSets(labels)
        self._label_sets[matcher_sets] = known
        while (
            sum(starmap(_weight, self._label_sets.items())) > self._max_weight
            and len(self._label_sets) > 1
        ):
            self._label_sets.popitem(last=False)
        return known

    def forget(self, source: Source | None) -> None:
        for key in [cached for cached in self._matches if cached[0] == source]:
            self._drop(key)

    def _put(self, key: _Key, match: BlockMatch) -> None:
        if key in self._matches:
            self._drop(key)
        self._matches[key] = match
        self._weight += _weight(key[1], match.labels)
        while self._weight > self._max_weight and len(self._matches) > 1:
            self._drop(next(iter(self._matches)))

    def _drop(self, key: _Key) -> None:
        self._weight -= _weight(key[1], self._matches.pop(key).labels)
