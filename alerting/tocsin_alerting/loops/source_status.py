"""What the rules may know of the sources: which a query touches, which of them are alive."""

from collections.abc import Callable, Collection

import numpy as np
import re2

from tocsin_alerting.promql.parser.ast import Expr, VectorSelector
from tocsin_alerting.rules.inputs import LOOK_BACK_MS, RangeWindow
from tocsin_alerting.rules.unknown_alerts import RULES_JOB, Reported, SourceStatus
from tocsin_alerting.tsdb.matchers import Matcher, MatchOp
from tocsin_alerting.tsdb.query.selection import has_samples
from tocsin_alerting.tsdb.series_index import MatcherSets
from tocsin_alerting.tsdb.source_health import LastSeen
from tocsin_alerting.tsdb.store import Store
from tocsin_exporter.snapshot import Labels, Source


class StoreSources:
    """`watched` gives the sources of the configuration, `ready` whether each was read once.

    A source that somebody else watches, and sends us, says nothing when it dies or its sender
    does: after `silence_ms` without a sample it counts as dead, however long that lasts. It is gone
    only when it was said to be: its `up` went stale.
    """

    def __init__(
        self,
        store: Store,
        watched: Callable[[], Collection[Source]],
        ready: Callable[[], bool],
        now_ms: Callable[[], int],
        silence_ms: int = LOOK_BACK_MS,
    ) -> None:
        self._store = store
        self._watched = watched
        self._ready = ready
        self._now_ms = now_ms
        self._silence_ms = silence_ms
        self._span = 0, 0
        self._spoke: dict[MatcherSets, frozenset[Labels]] = {}  # the series that did within `_span`

    def touched(self, selector: VectorSelector) -> frozenset[Source]:
        return self._store.matching_sources(selector.matcher_sets)

    def health(self, source: Source) -> SourceStatus:
        last = self._store.last_seen(source)
        if last is None:
            gone = not self._is_ours(source) and self._store.has_ended(source)
            return SourceStatus.GONE if gone else SourceStatus.DEAD
        alive = last.ok and not self._is_silent(source, last)
        return SourceStatus.ALIVE if alive else SourceStatus.DEAD

    def _is_ours(self, source: Source) -> bool:
        return source.job == RULES_JOB or source in self._watched()

    def _is_silent(self, source: Source, last: LastSeen) -> bool:
        """Whoever reads our own ones says so when that fails."""
        return self._now_ms() - last.at_ms >= self._silence_ms and not self._is_ours(source)

    def speaks(self, source: Source) -> bool:
        last = self._store.last_seen(source)
        return last is not None and last.reports and not self._is_silent(source, last)

    def fills(self, source: Source, window: RangeWindow, at_ms: int) -> bool:
        t1_ms = at_ms - window.offset_ms
        t0_ms = t1_ms - window.length_ms
        if window.steady or not window.length_ms:
            return self._store.is_steady(source, t0_ms, t1_ms)
        return self._store.covers(source, t0_ms, t1_ms, at_ms, window.two, window.whole)

    def ready(self, expr: Expr) -> bool:
        return self._ready()

    def said(self, source: Source, since_ms: int) -> Reported:
        last = self._store.last_seen(source)
        if last is None:
            return Reported.NOTHING
        if source in self._watched():
            return Reported.ALL  # a reading is all that it has
        return Reported.SOME if last.at_ms > since_ms else Reported.NOTHING

    def has(self, selector: VectorSelector, labels: Labels, t0_ms: int, t1_ms: int) -> bool:
        if self._store.reaches_disk(t0_ms):
            return False  # the loop does not wait for the disk; newer samples are in memory
        exact = tuple(sorted((*labels, ("__name__", selector.name))))
        if exact in self._speaking(selector.matcher_sets, (t0_ms, t1_ms)):
            return True  # as most do; to look for others takes as long for one as this for all
        own = tuple(Matcher(name, MatchOp.REGEX, f"{re2.escape(text)}|") for name, text in labels)
        chosen = tuple((*matchers, *own) for matchers in selector.matcher_sets)
        return len(self._store.series(chosen, t0_ms, t1_ms)) > 0

    def _speaking(self, matcher_sets: MatcherSets, span: tuple[int, int]) -> frozenset[Labels]:
        """The series with a sample in `span`; all alerts of a rule ask for the same."""
        if span != self._span:
            self._span, self._spoke = span, {}
        if matcher_sets not in self._spoke:
            selection = self._store.select(matcher_sets, *span)
            spoke = np.flatnonzero(has_samples(selection, *span)).tolist()
            self._spoke[matcher_sets] = frozenset(selection.series.labels[at] for at in spoke)
        return self._spoke[matcher_sets]
