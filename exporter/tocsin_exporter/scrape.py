"""Runs the collectors of one source and makes its Snapshot.

Each collector has its own deadline, and its failure costs its own metrics and nothing else. No
reading is kept beyond the round that it belongs to: a collector that fails now is absent now.
"""

import asyncio
import logging
from collections.abc import Awaitable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING

from tocsin_exporter.catalogue import HOST
from tocsin_exporter.clock import Clock
from tocsin_exporter.collectors.collector import (
    Collector,
    CollectorError,
    CountsDroppedSeries,
    HasExemplars,
    Unavailable,
    Unread,
)
from tocsin_exporter.collectors.collector_health import CollectorHealth
from tocsin_exporter.collectors.inline import CountsSkippedLines, ReportsHealth
from tocsin_exporter.slices import in_slices
from tocsin_exporter.snapshot import (
    DuplicateSeries,
    Exemplar,
    Layout,
    LayoutCache,
    Sample,
    SeriesKey,
    Snapshot,
    Source,
    Values,
    labels,
    only,
)

if TYPE_CHECKING:  # they load an HTTP client
    from tocsin_exporter.collectors.engine_page import OriginalPage
    from tocsin_exporter.collectors.scraped_page import ScrapedPage

log = logging.getLogger(__name__)

_NODE_DURATION = HOST["node_scrape_collector_duration_seconds"]
_NODE_SUCCESS = HOST["node_scrape_collector_success"]
_NODE_BUILD = HOST["node_exporter_build_info"]
_BRANCH = "tocsin"  # who asks for versions of node_exporter sees that this is none


@dataclass(frozen=True, eq=False)
class ScrapeTarget:
    """One source and how it is read.

    `interval` and `deadline` are seconds; the deadline holds for each collector by itself.
    `cheap` names the collectors that are read anew at a scrape: they never wait. `target` tells
    sources of one job apart in `tocsin_collector_*`. `silent` is what is known of one whose
    collector missed its deadline; where we could not ask, nothing is. `original` is an engine's
    page in its own words, which its collector reads: a source of its own, out of the same round.
    `page` is all that there is of a target of a scrape job, and none of our own page. Rounds begin
    `offset` seconds after a multiple of the interval.
    """

    area: str
    source: Source
    collectors: tuple[Collector, ...]
    interval: float
    deadline: float
    cheap: frozenset[str] = frozenset()
    target: str = ""
    silent: tuple[Sample, ...] = ()
    original: "OriginalPage | None" = None
    page: "ScrapedPage | None" = None
    offset: float = 0.0


class Scraper:
    """Reads one ScrapeTarget; keeps the health of its collectors and the layout of its series."""

    def __init__(self, target: ScrapeTarget, clock: Clock) -> None:
        self.target = target
        self.read_at = -float("inf")  # monotonic; the last round or refresh
        self.snapshot: Snapshot | None = None
        self.original: Snapshot | None = None
        self.others: Sequence[Snapshot] = ()  # of a page whose series carry sources of their own
        self.duplicates = 0
        self._clock = clock
        self._layouts = LayoutCache()
        self._read: dict[str, Sequence[Sample]] = {}
        self._health = {c.name: _health(c, target.target) for c in target.collectors}
        # Asked once: what a collector is takes longer to find out than most take to be read.
        self._reporting = [c for c in target.collectors if isinstance(c, ReportsHealth)]
        self._exemplary = [c for c in target.collectors if isinstance(c, HasExemplars)]
        self._cheap = [c for c in target.collectors if c.name in target.cheap]
        self._refused: str = ""
        self._about = labels(version=version("tocsin"), branch=_BRANCH)
        self._unread = False  # for a reason of our own: its source is neither up nor down

    async def round(self, at_ms: int) -> Snapshot | None:
        """Read everything; None when there is nothing to read here, so that nothing is down."""
        started, self._unread = self._clock.monotonic(), False
        async with asyncio.TaskGroup() as group:
            for collector in self.target.collectors:
                group.create_task(self._note(collector, self._in_time(collector), at_ms))
        if self.target.original is not None:
            self.original = self.target.original.snapshot(at_ms, self._clock.monotonic() - started)
        if self.original is not None and self._unread:
            self.original = replace(self.original, report=False)
        return await self._assemble(at_ms, started)

    async def labelled(self) -> Snapshot | None:
        """The engine's own page of the last round, as our page may show it."""
        if self.target.original is None or self.original is None:
            return None
        return await in_slices(self.target.original.labelled(self.original, self.target.target))

    @property
    def sources(self) -> list[Source]:
        """What the snapshots of a round are about: the source, and an engine's own page."""
        pages = (*([self.original] if self.original else ()), *self.others)
        return [self.target.source, *(page.source for page in pages)]

    async def refresh(self, at_ms: int) -> Snapshot | None:
        """Read the cheap collectors anew; what the others said in the last round stays."""
        started = self._clock.monotonic()
        for collector in self._cheap:
            await self._note(collector, collector.collect(), at_ms)
        return await self._assemble(at_ms, started)

    def part(self, collectors: Collection[str]) -> Snapshot | None:
        """The last snapshot with the families of these collectors alone."""
        if self.snapshot is None:
            return None
        read = (sample for name in collectors for sample in self._read.get(name, ()))
        return only(self.snapshot, frozenset(sample.family.name for sample in read), frozenset())

    def health(self) -> Iterator[Sample]:
        now = self._clock.monotonic()
        for state in self._health.values():
            yield from state.samples(now)
        for collector in self._reporting:
            yield from collector.health()

    @property
    def absent(self) -> bool:
        """Whether it was read, and there was nothing to read here."""
        return self.read_at > -float("inf") and self.snapshot is None and self.original is None

    @property
    def error(self) -> str:
        """Why those collectors failed that did; nothing when none has."""
        failed = [state for state in self._health.values() if state.success is False]
        return "; ".join(f"{state.collector}: {state.error}" for state in failed)

    def close(self) -> None:
        for collector in self.target.collectors:
            collector.close()

    async def _in_time(self, collector: Collector) -> Sequence[Sample]:
        async with asyncio.timeout(self.target.deadline):
            return await collector.collect()

    async def _note(
        self, collector: Collector, reading: Awaitable[Sequence[Sample]], at_ms: int
    ) -> None:
        health = self._health[collector.name]
        started = self._clock.monotonic()
        try:
            self._read[collector.name] = await reading
        except Unavailable as error:
            self._absent(health, error)
        except Exception as error:  # why: one collector's fault, even a bug, costs only its own
            self._failed(health, error)
        else:
            if health.success is False:
                log.info("collector recovered", extra=_named(health))
            health.succeeded(at_ms, self._clock.monotonic())
        health.duration_seconds = self._clock.monotonic() - started

    def _absent(self, health: CollectorHealth, error: Unavailable) -> None:
        """What has answered before and is gone now is down; what never was there is not."""
        if health.last_success_ms is not None:
            self._failed(health, error)
            return
        if health.collector not in self._read:
            log.info("collector has nothing to read: %s", error, extra=_named(health))
        self._read[health.collector] = ()

    def _failed(self, health: CollectorHealth, error: Exception) -> None:
        late = isinstance(error, TimeoutError)
        known = error.samples if isinstance(error, CollectorError) else ()
        self._read[health.collector] = self.target.silent if late else known
        page = self.target.page is not None  # it gives up by itself, a moment before: we were busy
        self._unread = bool(self.target.target) and (_is_our_own(error) or (late and page))
        if health.success is not False or health.failure is not type(error):
            why = "missed its deadline" if late else str(error)
            bug = not isinstance(error, CollectorError | TimeoutError)
            log.warning("collector failed: %s", why, extra=_named(health), exc_info=bug)
        health.failed(error, down=page and not self._unread)

    async def _assemble(self, at_ms: int, started: float) -> Snapshot | None:
        self.read_at = self._clock.monotonic()
        if (page := self.target.page) is not None:
            seconds = self.read_at - started
            self.snapshot, *self.others = page.snapshots(at_ms, seconds, not self._unread)
            return self.snapshot
        states = [health.success for health in self._health.values()]
        if all(state is None for state in states):
            self.snapshot = None
            return None
        layout, values = await self._build(self._samples())
        self.snapshot = Snapshot(
            source=self.target.source,
            at_ms=at_ms,
            ok=any(states),
            layout=layout,
            values=values,
            duration_seconds=self.read_at - started,
            exemplars=self._exemplars(layout),
            report=self.original is None and not self._unread,
        )
        return self.snapshot

    def _exemplars(self, layout: Layout) -> Mapping[int, Exemplar]:
        """By row, those of the series that are there."""
        found: dict[SeriesKey, Exemplar] = {}
        for collector in self._exemplary:
            if self._health[collector.name].success:
                found |= collector.exemplars
        if not found:
            return {}
        rows = ((row, found.get((s.name, s.labels))) for row, s in enumerate(layout.series))
        return {row: exemplar for row, exemplar in rows if exemplar is not None}

    def _samples(self) -> list[Sample]:
        samples: list[Sample] = []
        for collector in self.target.collectors:
            samples += self._read.get(collector.name, ())
        if self.target.area == "host":
            samples += self._as_node_exporter()
        return samples

    def _as_node_exporter(self) -> Iterator[Sample]:
        """What is said of the exporter itself; the node mixin finds its machines by the first."""
        yield Sample(_NODE_BUILD, 1, self._about)
        for health in self._health.values():
            own = (("collector", health.collector),)
            yield Sample(_NODE_DURATION, health.duration_seconds, own)
            yield Sample(_NODE_SUCCESS, float(health.success is True), own)

    async def _build(self, samples: list[Sample]) -> tuple[Layout, Values]:
        try:
            return await in_slices(self._layouts.steps(samples))
        except DuplicateSeries as error:
            if str(error) != self._refused:  # the same in each round would fill the log
                log.error("series refused: %s", error, extra={"job": self.target.source.job})
            self._refused = str(error)
        unique = {(s.family.name, s.suffix, s.labels): s for s in reversed(samples)}
        self.duplicates += len(samples) - len(unique)
        return await in_slices(self._layouts.steps([*reversed(unique.values())]))


def _is_our_own(error: Exception) -> bool:
    """Whether we could not ask, or a bug of ours kept us from reading the answer."""
    return isinstance(error, Unread) or not isinstance(error, CollectorError | TimeoutError)


def _health(collector: Collector, target: str) -> CollectorHealth:
    if isinstance(collector, CountsSkippedLines):
        return CollectorHealth(collector.name, target, skipped=collector.lines.skipped)
    if isinstance(collector, CountsDroppedSeries):
        return CollectorHealth(collector.name, target, dropped=collector.dropped)
    return CollectorHealth(collector.name, target)


def _named(health: CollectorHealth) -> dict[str, str]:
    named = {"collector": health.collector, "target": health.target}
    return {key: value for key, value in named.items() if value}
