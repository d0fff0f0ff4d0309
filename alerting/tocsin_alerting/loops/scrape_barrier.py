"""Holds an evaluation until what its rules read has come in, so that a fault is seen at once.

Sources are read at the multiples of their intervals and groups run at those of theirs: a reading
that begins with a slot is there some milliseconds later, and belongs to it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable

from tocsin_alerting.promql.parser.ast import VectorSelector
from tocsin_alerting.rules.state import GroupState
from tocsin_alerting.tsdb.source_health import LastSeen
from tocsin_exporter.clock import Clock
from tocsin_exporter.snapshot import Source

MAX_WAIT_MS = 2_000  # at most; a source that hangs must not hold up what is read of others
_SLICE_SELECTORS = 200  # selectors looked at before others may use the loop


def wait_ms(interval_ms: int) -> int:
    """How long after its slot a group waits for the readings of that slot."""
    return min(interval_ms // 2, MAX_WAIT_MS)


class ScrapeBarrier:
    """`awaited(at_ms, patience_ms)` names the sources whose reading for `at_ms` is still to come,
    `arrival` ends with the next reading of any; `last` is when a source was last read. A group
    that does not ask our store (`asks_store`) waits for nothing."""

    def __init__(
        self,
        awaited: Callable[[int, int], Collection[Source]],
        arrival: Callable[[], Awaitable[object]],
        watched: Callable[[], Iterable[Source]],
        touched: Callable[[VectorSelector], frozenset[Source]],
        last: Callable[[Source], LastSeen | None],
        clock: Clock,
        asks_store: Callable[[GroupState], bool] = lambda group: True,
    ) -> None:
        self._awaited = awaited
        self._arrival = arrival
        self._watched = watched
        self._touched = touched
        self._last = last
        self._clock = clock
        self._asks_store = asks_store

    async def wait(self, progress: GroupState) -> int:
        """Wait with the slot that `progress` has begun; until when samples belong to that slot."""
        patience = wait_ms(progress.interval_ms)
        slot_ms = progress.begun_ms or 0
        if not self._asks_store(progress):
            return slot_ms
        if self._awaited(slot_ms, patience):
            sources = await self._sources_of(progress)
            while sources & set(self._awaited(slot_ms, patience)):
                if not await self._await_scrape(slot_ms + patience):
                    break
                slot_ms = progress.begun_ms or 0  # moves with the clock
        return self._newest_scrape_ms(slot_ms, slot_ms + patience)

    async def _await_scrape(self, until_ms: int) -> bool:
        """Whether a reading came in, and it is not too late for one more."""
        try:
            async with asyncio.timeout(max(0.0, (until_ms - self._clock.now_ms()) / 1000)):
                await self._arrival()
        except TimeoutError:
            return False
        return True

    async def _sources_of(self, progress: GroupState) -> set[Source]:
        sources: set[Source] = set()
        selectors = {selector for rule in progress.rules for selector in rule.inputs}
        for number, selector in enumerate(selectors, start=1):
            sources |= self._touched(selector)
            if number % _SLICE_SELECTORS == 0:
                await asyncio.sleep(0)
        return sources

    def _newest_scrape_ms(self, slot_ms: int, until_ms: int) -> int:
        """A loop that was busy begins a reading late, and the reading says so."""
        lasts = map(self._last, self._watched())
        times = (seen.at_ms for seen in lasts if seen and slot_ms <= seen.at_ms <= until_ms)
        return max(times, default=slot_ms)
