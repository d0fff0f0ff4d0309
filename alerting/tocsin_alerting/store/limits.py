"""Which sources, and how many series, remote writers may bring."""

import logging
from collections.abc import Mapping

from tocsin_alerting.store.numbers import Numbers
from tocsin_alerting.store.table import Table
from tocsin_exporter.snapshot import Source

log = logging.getLogger(__name__)

SOURCES = 10_000


class Limits:
    """At most SOURCES sources with `max_series` series each. `strays` are the loose series of each
    source; `over_limit` and `over_sources` count the series that were not admitted."""

    def __init__(self, numbers: Numbers, strays: Mapping[Source, int], max_series: int) -> None:
        self.over_limit = self.over_sources = 0
        self._numbers, self._strays, self._max_series = numbers, strays, max_series
        self._refused: set[Source] = set()

    def admits(self, source: Source, table: Table | None) -> bool:
        """Whether there is room for one more series of this source, with these columns."""
        known = self._numbers
        if len(known.sources) >= SOURCES and not known.knows(source):
            if not self.over_sources:
                log.warning("remote writers send more than %d sources: others are refused", SOURCES)
            self.over_sources += 1
            return False
        kept = self._strays.get(source, 0) + known.waiting[source]
        if kept + (len(table.rows) if table else 0) >= self._max_series:
            self.over_limit += 1
            return False
        return True

    def refuse(self, source: Source) -> None:
        """Says it, once: the agent itself appends to this source."""
        if source not in self._refused:
            self._refused.add(source)
            log.warning(
                "a remote writer sends series of %s that are ours: they are refused", source
            )
