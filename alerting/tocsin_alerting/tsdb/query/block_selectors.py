"""What selectors found among the series on the block store, as long as these stay the same."""

from collections import OrderedDict
from dataclasses import dataclass
from itertools import starmap

import numpy as np

from tocsin_alerting.tsdb.label_sets import LabelSets
from tocsin_alerting.tsdb.matchers import MatchMemo
from tocsin_alerting.tsdb.series_index import MatcherSets, SeriesIndex
from tocsin_alerting.tsdb.values import Ints
from tocsin_exporter.snapshot import Labels, Source

_MAX_WEIGHT = 200_000  # that all answers may have together: 16 bytes each
_Key = tuple[Source | None, MatcherSets]


@dataclass(frozen=True, slots=True, eq=False)
class BlockMatch:
    """Series with their rows in a `index`, or -1: those that memory gave, `head_series`, first."""

    index: SeriesIndex
    generation: int
    head_series: tuple[Labels, ...]
    labels: tuple[Labels, ...]
    rows: Ints

    def is_fresh(self, index: SeriesIndex) -> bool:
        return self.index is index and self.generation == index.generation

    def current_rows(self, index: SeriesIndex) -> Ints:
        """The rows that have the owners that they had then."""
        there = np.flatnonzero(self.rows >= 0)
        if self.index is not index:
            there = there[:0]
        elif not self.is_fresh(index):
            owners = [self.labels[at] for at in there.tolist()]
            there = there[index.still_owned(self.rows[there], owners)]
        return self.rows[there]


class BlockSelectorCache:
    """Answers, of which the one that was used longest ago goes first; whoever asks has a lock,
    except to `match`."""

    def __init__(self, most: int = _MAX_WEIGHT) -> None:
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
        there, labels = rows.select(matcher_sets, memo)
        return BlockMatch(rows, generation, (), labels, there)

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
        there = block_match.current_rows(rows) if block_match else own
        others = np.setdiff1d(there, own)
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
        self._weight += _weight(key[1], match)
        while self._weight > self._max_weight and len(self._matches) > 1:
            self._drop(next(iter(self._matches)))

    def _drop(self, key: _Key) -> None:
        self._weight -= _weight(key[1], self._matches.pop(key))


def _weight(matcher_sets: MatcherSets, result: BlockMatch | LabelSets) -> int:
    """What an answer counts for: one without series takes some room, too."""
    return len(result.labels) + 16 * max(1, sum(map(len, matcher_sets)))
