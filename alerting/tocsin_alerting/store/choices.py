"""What selectors chose in memory lately."""

import threading
from collections import OrderedDict
from collections.abc import Mapping

from tocsin_alerting.store.loose import Loose
from tocsin_alerting.store.matchers import Verdicts
from tocsin_alerting.store.rows import MatcherSets
from tocsin_alerting.store.selection import Resolved, resolve
from tocsin_alerting.store.table import Table
from tocsin_exporter.snapshot import Source

_LEAST = 400_000
_MATCHER = 16
_MOST_MATCHERS = 1000  # of a selector that is kept: to look for a long one takes time, too
_SEARCHES = 3  # before what changed meanwhile is left to the next query


class Choices:
    """Each with the generation of the store that it holds for; whoever asks has a lock.

    They count for their series, some 90 bytes each with what queries remember of them, and for
    their matchers. What was chosen longest ago goes when they count for more than `least` and for
    more than 16 times the series of the store: dashboards ask for ever new selectors.
    """

    def __init__(self, least: int = _LEAST) -> None:
        self._least = least
        self._count = 0
        self._chosen: OrderedDict[MatcherSets, tuple[int, Resolved]] = OrderedDict()

    def get(self, matcher_sets: MatcherSets) -> tuple[int, Resolved] | None:
        return self._chosen.get(matcher_sets)

    def keep(
        self, matcher_sets: MatcherSets, found: tuple[int, Resolved], stored_series: int
    ) -> None:
        self._drop(matcher_sets)
        self._chosen[matcher_sets] = found
        self._count += _weight(matcher_sets, found[1])
        most = max(self._least, 16 * stored_series)
        while self._count > most and len(self._chosen) > 1:
            self._drop(next(iter(self._chosen)))

    def _drop(self, matcher_sets: MatcherSets) -> None:
        known = self._chosen.pop(matcher_sets, None)
        if known is not None:
            self._count -= _weight(matcher_sets, known[1])


def _weight(matcher_sets: MatcherSets, resolved: Resolved) -> int:
    return len(resolved.series) + _MATCHER * sum(map(len, matcher_sets))


class Chooser:
    """Resolves selectors against the tables and loose series of a store, whose `lock` it shares;
    it is told of each row that has `changed` its owner."""

    def __init__(self, tables: Mapping[Source, Table], lock: threading.Lock) -> None:
        self._tables, self._lock = tables, lock
        self._choices = Choices()
        self._generation = 0

    def changed(self) -> None:
        self._generation += 1

    def search(
        self, matcher_sets: MatcherSets, verdicts: Verdicts, loose: Loose
    ) -> tuple[int, Resolved]:
        """What the selector chooses, and for which generation. A long search must hold up nobody:
        others use the store meanwhile, and `still` says what of it holds then."""
        found = self._choices.get(matcher_sets)
        for _ in range(_SEARCHES):
            if found is not None and found[0] == self._generation:
                break
            with self._lock:
                generation, tables = self._generation, dict(self._tables)
            before = found[1] if found else None
            found = generation, resolve(matcher_sets, tables, loose, before, verdicts)
            self._keep(matcher_sets, found)
        assert found is not None
        return found

    def still(self, found: tuple[int, Resolved]) -> Resolved:
        """What was found, without the rows that have another owner by now; whoever asks has the
        lock. Series that came during the search may be missing."""
        generation, resolved = found
        return resolved if generation == self._generation else resolved.still()

    def _keep(self, matcher_sets: MatcherSets, found: tuple[int, Resolved]) -> None:
        if sum(map(len, matcher_sets)) > _MOST_MATCHERS:
            return
        with self._lock:
            series = sum(len(table.rows) for table in self._tables.values())
            self._choices.keep(matcher_sets, found, series)
