"""What selectors chose in memory lately."""

import threading
from collections import OrderedDict
from collections.abc import Mapping

from tocsin_alerting.tsdb.head.aligned import AlignedHead
from tocsin_alerting.tsdb.head.unaligned import UnalignedHead
from tocsin_alerting.tsdb.matchers import MatchMemo
from tocsin_alerting.tsdb.query.selection import ResolvedSelector, resolve
from tocsin_alerting.tsdb.series_index import MatcherSets
from tocsin_exporter.snapshot import Source

_MIN_WEIGHT = 400_000
_MATCHER_WEIGHT = 16
_MAX_MATCHERS = 1000  # of a selector that is kept: to look for a long one takes time, too
_MAX_SEARCHES = 3  # before what changed meanwhile is left to the next query


class HeadSelectorCache:
    """Each with the generation of the store that it holds for; whoever asks has a lock.

    They count for their series, some 90 bytes each with what queries remember of them, and for
    their matchers. What was chosen longest ago goes when they count for more than `least` and for
    more than 16 times the series of the store: dashboards ask for ever new selectors.
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
        self._count += _weight(matcher_sets, entry[1])
        most = max(self._min_weight, 16 * stored_series)
        while self._count > most and len(self._resolved) > 1:
            self._drop(next(iter(self._resolved)))

    def _drop(self, matcher_sets: MatcherSets) -> None:
        known = self._resolved.pop(matcher_sets, None)
        if known is not None:
            self._count -= _weight(matcher_sets, known[1])


def _weight(matcher_sets: MatcherSets, resolved: ResolvedSelector) -> int:
    return len(resolved.series) + _MATCHER_WEIGHT * sum(map(len, matcher_sets))


class HeadSelectors:
    """Resolves selectors against the tables and unaligned series of a store, whose `lock` it
    shares; it is told of each row that has `on_change` its owner."""

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
