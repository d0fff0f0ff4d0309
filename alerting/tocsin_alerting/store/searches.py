"""What selectors found among the series on the shelf, as long as these stay the same."""

from collections import OrderedDict
from dataclasses import dataclass
from itertools import starmap

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
    """Series with their rows in a `volume`, or -1: those that memory gave, `mine`, first."""

    volume: Rows
    generation: int
    mine: tuple[Labels, ...]
    labels: tuple[Labels, ...]
    rows: Ints

    def fresh(self, volume: Rows) -> bool:
        return self.volume is volume and self.generation == volume.generation

    def still(self, volume: Rows) -> Ints:
        """The rows that have the owners that they had then."""
        there = np.flatnonzero(self.rows >= 0)
        if self.volume is not volume:
            there = there[:0]
        elif not self.fresh(volume):
            owners = [self.labels[at] for at in there.tolist()]
            there = there[volume.kept(self.rows[there], owners)]
        return self.rows[there]


class Searches:
    """Answers, of which the one that was used longest ago goes first; whoever asks has a lock,
    except to `look`."""

    def __init__(self, most: int = _SERIES) -> None:
        self._most = most
        self._count = 0
        self._found: OrderedDict[_Key, Search] = OrderedDict()
        self._sets: OrderedDict[MatcherSets, SeriesSet] = OrderedDict()

    def look(
        self, source: Source | None, rows: Rows, matcher_sets: MatcherSets, verdicts: Verdicts
    ) -> Search:
        """What the selector finds among `rows`, or found lately: it may take long, so others use
        the shelf meanwhile."""
        before = self._found.get((source, matcher_sets))
        generation = rows.generation  # first: rows may change while they are looked for
        if before is not None and before.fresh(rows):
            return before
        there, labels = rows.search(matcher_sets, verdicts)
        return Search(rows, generation, (), labels, there)

    def find(
        self,
        source: Source,
        rows: Rows,
        matcher_sets: MatcherSets,
        mine: tuple[Labels, ...],
        looked: Search | None,
    ) -> Search:
        """The series of a source that memory chose, and of those that `look` found the ones that
        only the shelf has."""
        key = (source, matcher_sets)
        if looked is not None and looked.fresh(rows) and looked.mine == mine:
            if self._found.get(key) is looked:
                self._found.move_to_end(key)
            else:
                self._keep(key, looked)
            return looked
        own = np.fromiter((rows.known(one) for one in mine), np.int64, len(mine))
        there = looked.still(rows) if looked else own
        others = np.setdiff1d(there, own)
        labels = mine + rows.labels(others.tolist())
        generation = looked.generation if looked and looked.volume is rows else -1
        found = Search(rows, generation, mine, labels, np.concatenate([own, others]))
        self._keep(key, found)
        return found

    def series(self, matcher_sets: MatcherSets, labels: tuple[Labels, ...]) -> SeriesSet:
        """The set that the same selector had before, with what queries remembered on it, if that
        has the same series."""
        known = self._sets.pop(matcher_sets, None)
        if known is None or known.labels != labels:
            known = SeriesSet(labels)
        self._sets[matcher_sets] = known
        while sum(starmap(_weight, self._sets.items())) > self._most and len(self._sets) > 1:
            self._sets.popitem(last=False)
        return known

    def forget(self, source: Source | None) -> None:
        for key in [one for one in self._found if one[0] == source]:
            self._drop(key)

    def _keep(self, key: _Key, found: Search) -> None:
        if key in self._found:
            self._drop(key)
        self._found[key] = found
        self._count += _weight(key[1], found)
        while self._count > self._most and len(self._found) > 1:
            self._drop(next(iter(self._found)))

    def _drop(self, key: _Key) -> None:
        self._count -= _weight(key[1], self._found.pop(key))


def _weight(matcher_sets: MatcherSets, found: Search | SeriesSet) -> int:
    """What an answer counts for: one without series takes some room, too."""
    return len(found.labels) + 16 * max(1, sum(map(len, matcher_sets)))
