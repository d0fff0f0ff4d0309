"""What selectors chose in memory lately."""

import threading
from collections import OrderedDict
from collections.abc import Mapping

from tocsin_alerting.store.loose import Loose
from tocsin_alerting.store.matchers import Verdicts, has_pattern
from tocsin_alerting.store.rows import MatcherSets
from tocsin_alerting.store.selection import Resolved, resolve
from tocsin_alerting.store.table import Table
from tocsin_exporter.snapshot import Source

_LEAST = 400_000
_MATCHER = 16


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

    def draft(
        self, matcher_sets: MatcherSets, verdicts: Verdicts, loose: Loose
    ) -> tuple[int, Resolved] | None:
        """What `resolve` will find if nothing changes, and what the patterns say at any rate: a
        slow one must hold up nobody, so they are asked while others may use the store."""
        cached = self._choices.get(matcher_sets)
        if (cached and cached[0] == self._generation) or not has_pattern(matcher_sets):
            return cached
        with self._lock:
            generation, tables = self._generation, dict(self._tables)
        before = cached[1] if cached else None
        draft = generation, resolve(matcher_sets, tables, loose, before, verdicts)
        with self._lock:
            if generation == self._generation:
                self._keep(matcher_sets, draft)
        return draft

    def resolve(
        self,
        matcher_sets: MatcherSets,
        verdicts: Verdicts,
        loose: Loose,
        draft: tuple[int, Resolved] | None,
    ) -> Resolved:
        """Whoever asks has the lock."""
        if draft is not None and draft[0] == self._generation:
            return draft[1]
        before = draft[1] if draft else None
        found = resolve(matcher_sets, self._tables, loose, before, verdicts)
        self._keep(matcher_sets, (self._generation, found))
        return found

    def _keep(self, matcher_sets: MatcherSets, found: tuple[int, Resolved]) -> None:
        series = sum(len(table.rows) for table in self._tables.values())
        self._choices.keep(matcher_sets, found, series)
