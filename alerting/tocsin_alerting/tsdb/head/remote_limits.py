"""How many sources and series remote writers may bring, in all, of a source and of a sender."""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from tocsin_alerting.tsdb.head.aligned import AlignedHead
from tocsin_alerting.tsdb.head.series_refs import SeriesRefs
from tocsin_alerting.tsdb.senders import UNKNOWN, Sender, SenderUsage
from tocsin_alerting.tsdb.series_index import RowListener, SeriesIndex, series_cost
from tocsin_alerting.tsdb.source_health import SourceHealth
from tocsin_alerting.tsdb.values import NEVER_MS
from tocsin_exporter.snapshot import Labels, Source

log = logging.getLogger(__name__)

PER_SOURCE, PER_SENDER, OVER_SERIES, OVER_SOURCES = range(-1, -5, -1)
REASONS = {
    PER_SOURCE: "per_source",
    PER_SENDER: "per_sender",
    OVER_SERIES: "over_series",
    OVER_SOURCES: "over_sources",
}
SILENT_MS = 3_600_000
MAX_AHEAD_MS = 600_000
_EVICTION_INTERVAL_MS = 60_000
_WARNING_INTERVAL_MS = 3_600_000
_MAX_WARNED = 1_000


class TimeLimits(NamedTuple):
    """The times that samples may have, in Unix ms, both included."""

    first_ms: int
    last_ms: int


@dataclass(frozen=True, slots=True)
class SeriesLimits:
    """`series` are those of 1 KiB of labels; a longer one counts as several. `per_source` is what
    one source may have, `sources` and `series` are for all."""

    per_source: int = 100_000
    sources: int = 20_000
    series: int = 1_000_000


@dataclass(frozen=True, slots=True)
class _AdmittedSource:
    """Who brought a source, and when, in Unix ms."""

    sender: Sender
    since_ms: int


class RemoteLimits:
    """Our own sources and series need no place: they are never refused for want of one.

    A source has a place while memory has series of it, and longer than SILENT_MS without a sample
    only while nobody else needs it. `unaligned_counts` are the unaligned series of each source.
    `refused` counts series by reason, `evicted` the sources that lost their places.
    """

    def __init__(
        self,
        refs: SeriesRefs,
        heads: Mapping[Source, AlignedHead],
        unaligned_index: SeriesIndex,
        unaligned_counts: Mapping[Source, int],
        own: Collection[Source],
        health: SourceHealth,
        settings: SeriesLimits,
    ) -> None:
        self.settings = settings
        self.refused: Counter[str] = Counter(dict.fromkeys(REASONS.values(), 0))
        self.evicted = 0
        self._refs = refs
        self._heads = heads
        self._unaligned_index = unaligned_index
        self._unaligned_counts = unaligned_counts
        self._own, self._health = own, health
        self._admitted: dict[Source, _AdmittedSource] = {}
        self._sources_by_sender = SenderUsage()
        self._series = 0  # at the last count, and those admitted since
        self._evicted_ms = NEVER_MS
        self._warned: dict[tuple[int, Sender], int] = {}
        self._warned_own: set[Source] = set()

    @property
    def sources(self) -> int:
        """How many have a place."""
        return len(self._admitted)

    def admit(self, source: Source, labels: Labels, sender: Sender, kept: bool, now_ms: int) -> int:
        """0, and the series has its place; or why not, a key of REASONS. `kept`: memory has it."""
        refusal = self._refusal(source, sender, kept)
        if refusal and refusal != PER_SOURCE and self._make_room(now_ms):
            refusal = self._refusal(source, sender, kept)
        if refusal:
            self.refused[REASONS[refusal]] += 1
            self._warn(refusal, sender, now_ms)
            return refusal
        self._series += 0 if kept else series_cost(labels)
        admitted = self._admitted.get(source)
        if admitted is None or (admitted.sender == UNKNOWN and sender != UNKNOWN):
            self._add_source(source, _AdmittedSource(sender, now_ms))
            if admitted is not None and source in self._heads:
                self._heads[source].index.assign_sender(sender)
        if kept and (row := self._unaligned_index.get(labels)) >= 0:
            self._unaligned_index.assign_sender(sender, [row])
        return 0

    def new_index(
        self, changed: Callable[[], None], on_added: RowListener, on_removed: RowListener
    ) -> SeriesIndex:
        """The rows of a source."""
        return SeriesIndex(
            self.settings.per_source, changed, on_added, on_removed, self._refs.usage
        )

    def restore(self) -> None:
        """Sources of before a restart have their places; whoever sends them again brought them."""
        for source in [*self._heads, *self._unaligned_counts]:
            self._add_source(source, _AdmittedSource(UNKNOWN, NEVER_MS))
        self.recount()

    def recount(self) -> None:
        """Gives up the places of sources of which nothing is left."""
        waiting = self._refs.waiting
        gone = [
            source for source in self._admitted if not (self.is_live(source) or waiting[source])
        ]
        for source in [*gone, *(own for own in self._own if own in self._admitted)]:
            self._remove_source(source)
        rows = [head.index for head in self._heads.values()]
        in_use = sum(index.cost for index in (*rows, self._unaligned_index)) + waiting.total()
        self._series = max(in_use, self._refs.usage.total)  # there each long one counts for itself

    def on_adopted(self, head: AlignedHead | None) -> None:
        """Series that remote writers sent of a source take no room from the agent's own of it."""
        if head is not None:
            head.index.clear_senders()
            head.index.limit = self.settings.per_source + head.index.cost

    def warn_own_source(self, source: Source) -> None:
        """Logs it, once: the agent itself appends to this source."""
        if source not in self._warned_own:
            self._warned_own.add(source)
            log.warning(
                "remote write for %s rejected: this agent scrapes it",
                source,
            )

    def _refusal(self, source: Source, sender: Sender, kept: bool) -> int:
        settings, series, admitted = self.settings, self._series, self._admitted.get(source)
        if not kept:
            stranger = admitted is not None and admitted.sender not in (UNKNOWN, sender)
            if self._series_count(source) >= settings.per_source // (2 if stranger else 1):
                return PER_SOURCE
            if series >= settings.series:
                return OVER_SERIES
            if self._refs.usage.over_share(sender, series, settings.series):
                return PER_SENDER
        if admitted is not None or source in self._own:
            return 0
        if len(self._admitted) >= settings.sources:
            return OVER_SOURCES
        over = self._sources_by_sender.over_share(sender, len(self._admitted), settings.sources)
        return PER_SENDER if over else 0

    def _series_count(self, source: Source) -> int:
        head = self._heads.get(source)
        unaligned = self._unaligned_counts.get(source, 0)
        return unaligned + self._refs.waiting[source] + (len(head.index) if head else 0)

    def _make_room(self, now_ms: int) -> bool:
        """Evicts the sources that were silent for long; looks for them once a minute."""
        if 0 <= now_ms - self._evicted_ms < _EVICTION_INTERVAL_MS:
            return False
        self._evicted_ms = now_ms
        self.recount()
        silent = [
            source for source in self._admitted if now_ms - self._last_seen_ms(source) > SILENT_MS
        ]
        for source in silent:
            self._remove_source(source)
        self._refs.drop_sources(silent)
        self.evicted += len(silent)
        if silent:
            log.warning(
                "remote write: dropped %d sources that were silent for an hour", len(silent)
            )
        return True

    def _last_seen_ms(self, source: Source) -> int:
        last = self._health.get(source)
        return max(self._admitted[source].since_ms, last.at_ms if last else NEVER_MS)

    def is_live(self, source: Source) -> bool:
        return source in self._heads or source in self._unaligned_counts

    def _add_source(self, source: Source, admitted: _AdmittedSource) -> None:
        self._remove_source(source)
        if source not in self._own:
            self._admitted[source] = admitted
            self._sources_by_sender.add(admitted.sender, 1)

    def _remove_source(self, source: Source) -> None:
        admitted = self._admitted.pop(source, None)
        if admitted is not None:
            self._sources_by_sender.add(admitted.sender, -1)

    def _warn(self, refusal: int, sender: Sender, now_ms: int) -> None:
        """Once an hour for a sender."""
        key = refusal, sender
        if 0 <= now_ms - self._warned.get(key, NEVER_MS) < _WARNING_INTERVAL_MS:
            return
        if len(self._warned) >= _MAX_WARNED:
            self._warned.clear()
        self._warned[key] = now_ms
        reason = REASONS[refusal]
        log.warning("remote write: new series of sender %s rejected: %s", sender, reason)
