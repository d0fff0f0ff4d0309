"""How many sources and series remote writers may bring, in all, of a source and of a sender."""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from tocsin_alerting.store.cell import NEVER_MS
from tocsin_alerting.store.last import Lasts
from tocsin_alerting.store.numbers import Numbers
from tocsin_alerting.store.rows import Rows, Told, cost_of
from tocsin_alerting.store.senders import UNKNOWN, Sender, Tally
from tocsin_alerting.store.table import Table
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
_LOOK_MS = 60_000
_WARN_MS = 3_600_000
_MOST_WARNED = 1_000


@dataclass(frozen=True, slots=True)
class Most:
    """`series` are those of 1 KiB of labels; a longer one counts as several. `of_source` is what
    one source may have, `sources` and `series` are for all."""

    of_source: int = 100_000
    sources: int = 20_000
    series: int = 1_000_000


@dataclass(frozen=True, slots=True)
class _Place:
    """Who brought a source, and when, in Unix ms."""

    sender: Sender
    since_ms: int


class Limits:
    """Our own sources and series need no place: they are never refused for want of one.

    A source has a place while memory has series of it, and longer than SILENT_MS without a sample
    only while nobody else needs it. `strays` are the loose series of each source. `refused` counts
    series by reason, `evicted` the sources that lost their places.
    """

    def __init__(
        self,
        numbers: Numbers,
        tables: Mapping[Source, Table],
        loose: Rows,
        strays: Mapping[Source, int],
        own: Collection[Source],
        lasts: Lasts,
        most: Most,
    ) -> None:
        self.most = most
        self.refused: Counter[str] = Counter(dict.fromkeys(REASONS.values(), 0))
        self.evicted = 0
        self._numbers, self._tables, self._loose, self._strays = numbers, tables, loose, strays
        self._own, self._lasts = own, lasts
        self._places: dict[Source, _Place] = {}
        self._brought = Tally()
        self._series = 0  # at the last count, and those admitted since
        self._looked_ms = NEVER_MS
        self._warned: dict[tuple[int, Sender], int] = {}
        self._claimed: set[Source] = set()

    @property
    def sources(self) -> int:
        """How many have a place."""
        return len(self._places)

    def admit(self, source: Source, labels: Labels, sender: Sender, kept: bool, now_ms: int) -> int:
        """0, and the series has its place; or why not, a key of REASONS. `kept`: memory has it."""
        refusal = self._refusal(source, sender, kept)
        if refusal and refusal != PER_SOURCE and self._make_room(now_ms):
            refusal = self._refusal(source, sender, kept)
        if refusal:
            self.refused[REASONS[refusal]] += 1
            self._warn(refusal, sender, now_ms)
            return refusal
        self._series += 0 if kept else cost_of(labels)
        place = self._places.get(source)
        if place is None or (place.sender == UNKNOWN and sender != UNKNOWN):
            self._enter(source, _Place(sender, now_ms))
            if place is not None and source in self._tables:
                self._tables[source].rows.give(sender)
        if kept and (row := self._loose.known(labels)) >= 0:
            self._loose.give(sender, [row])
        return 0

    def rows(self, changed: Callable[[], None], taken: Told, left: Told) -> Rows:
        """The rows of a source."""
        return Rows(self.most.of_source, changed, taken, left, self._numbers.held)

    def restored(self) -> None:
        """Sources of before a restart have their places; whoever sends them again brought them."""
        for source in [*self._tables, *self._strays]:
            self._enter(source, _Place(UNKNOWN, NEVER_MS))
        self.recount()

    def recount(self) -> None:
        """Gives up the places of sources of which nothing is left."""
        waiting = self._numbers.waiting
        gone = [one for one in self._places if not (self.is_live(one) or waiting[one])]
        for source in [*gone, *(one for one in self._own if one in self._places)]:
            self._leave(source)
        rows = [table.rows for table in self._tables.values()]
        in_use = sum(one.cost for one in (*rows, self._loose)) + waiting.total()
        self._series = max(
            in_use, self._numbers.held.total
        )  # there each long one counts for itself

    def adopted(self, table: Table | None) -> None:
        """Series that remote writers sent of a source take no room from the agent's own of it."""
        if table is not None:
            table.rows.disown()
            table.rows.limit = self.most.of_source + table.rows.cost

    def refuse(self, source: Source) -> None:
        """Says it, once: the agent itself appends to this source."""
        if source not in self._claimed:
            self._claimed.add(source)
            log.warning(
                "a remote writer sends series of %s, which are the agent's own: they are refused",
                source,
            )

    def _refusal(self, source: Source, sender: Sender, kept: bool) -> int:
        most, series, place = self.most, self._series, self._places.get(source)
        if not kept:
            stranger = place is not None and place.sender not in (UNKNOWN, sender)
            if self._series_of(source) >= most.of_source // (2 if stranger else 1):
                return PER_SOURCE
            if series >= most.series:
                return OVER_SERIES
            if self._numbers.held.over_share(sender, series, most.series):
                return PER_SENDER
        if place is not None or source in self._own:
            return 0
        if len(self._places) >= most.sources:
            return OVER_SOURCES
        over = self._brought.over_share(sender, len(self._places), most.sources)
        return PER_SENDER if over else 0

    def _series_of(self, source: Source) -> int:
        table = self._tables.get(source)
        kept = self._strays.get(source, 0) + self._numbers.waiting[source]
        return kept + (len(table.rows) if table else 0)

    def _make_room(self, now_ms: int) -> bool:
        """Evicts the sources that were silent for long; looks for them once a minute."""
        if 0 <= now_ms - self._looked_ms < _LOOK_MS:
            return False
        self._looked_ms = now_ms
        self.recount()
        silent = [one for one in self._places if now_ms - self._heard_ms(one) > SILENT_MS]
        for source in silent:
            self._leave(source)
        self._numbers.drop(silent)
        self.evicted += len(silent)
        if silent:
            log.warning(
                "%d sources of remote writers that were silent for an hour make room", len(silent)
            )
        return True

    def _heard_ms(self, source: Source) -> int:
        last = self._lasts.get(source)
        return max(self._places[source].since_ms, last.at_ms if last else NEVER_MS)

    def is_live(self, source: Source) -> bool:
        return source in self._tables or source in self._strays

    def _enter(self, source: Source, place: _Place) -> None:
        self._leave(source)
        if source not in self._own:
            self._places[source] = place
            self._brought.add(place.sender, 1)

    def _leave(self, source: Source) -> None:
        place = self._places.pop(source, None)
        if place is not None:
            self._brought.add(place.sender, -1)

    def _warn(self, refusal: int, sender: Sender, now_ms: int) -> None:
        """Once an hour for a sender."""
        key = refusal, sender
        if 0 <= now_ms - self._warned.get(key, NEVER_MS) < _WARN_MS:
            return
        if len(self._warned) >= _MOST_WARNED:
            self._warned.clear()
        self._warned[key] = now_ms
        reason = REASONS[refusal]
        log.warning("new series of the remote writer %s are refused: %s", sender, reason)
