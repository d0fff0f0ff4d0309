"""What selectors found among the series on the shelf, as long as these stay the same."""

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from tocsin_alerting.store.cell import Ints
from tocsin_alerting.store.matchers import Verdicts
from tocsin_alerting.store.rows import MatcherSets, Rows
from tocsin_alerting.store.series import SeriesSet
from tocsin_exporter.snapshot import Labels, Source

_SERIES = 200_000  # that all answers may have together: 16 bytes each
_Key = tuple[Source | None, MatcherSets]


@dataclass(frozen=True, slots=True, eq=False)
class Search:
    """Series with their `rows`, or -1: those that memory gave, `mine`, first."""

    generation: int
    mine: tuple[Labels, ...]
    labels: tuple[Labels, ...]
    rows: Ints


class Searches:
    """Answers, of which the one that was used longest ago goes first; whoever asks has a lock."""

    def __init__(self, most: int = _SERIES) -> None:
        self._most = most
        self._count = 0
        self._found: OrderedDict[_Key, Search] = OrderedDict()
        self._sets: OrderedDict[MatcherSets, SeriesSet] = OrderedDict()

    def known(self, source: Source, rows: Rows, matcher_sets: MatcherSets) -> bool:
        """Whether `find` would not have to look; anybody may ask."""
        before = self._found.get((source, matcher_sets))
        return before is not None and before.generation == rows.generation

    def find(
        self,
        source: Source,
        rows: Rows,
        matcher_sets: MatcherSets,
        mine: tuple[Labels, ...],
        verdicts: Verdicts | None = None,
    ) -> Search:
        """The series of a source that memory chose, and those that only the shelf has."""
        key = (source, matcher_sets)
        before = self._found.get(key)
        if before is not None and before.generation == rows.generation and before.mine == mine:
            self._found.move_to_end(key)
            return before
        own = np.fromiter((rows.known(one) for one in mine), np.int64, len(mine))
        others = np.setdiff1d(rows.find(matcher_sets, verdicts), own)
        labels = mine + rows.labels(others.tolist())
        found = Search(rows.generation, mine, labels, np.concatenate([own, others]))
        self._keep(key, found)
        return found

    def series(self, matcher_sets: MatcherSets, labels: tuple[Labels, ...]) -> SeriesSet:
        """The set that the same selector had before, with what queries remembered on it, if that
        has the same series."""
        known = self._sets.pop(matcher_sets, None)
        if known is None or known.labels != labels:
            known = SeriesSet(labels)
        self._sets[matcher_sets] = known
        while sum(map(_weight, self._sets.values())) > self._most and len(self._sets) > 1:
            self._sets.popitem(last=False)
        return known

    def forget(self, source: Source | None) -> None:
        for key in [one for one in self._found if one[0] == source]:
            self._drop(key)

    def _keep(self, key: _Key, found: Search) -> None:
        if key in self._found:
            self._drop(key)
        self._found[key] = found
        self._count += _weight(found)
        while self._count > self._most and len(self._found) > 1:
            self._drop(next(iter(self._found)))

    def _drop(self, key: _Key) -> None:
        self._count -= _weight(self._found.pop(key))


def _weight(found: Search | SeriesSet) -> int:
    """What an answer counts for: one without series takes some room, too."""
    return len(found.labels) + 16
