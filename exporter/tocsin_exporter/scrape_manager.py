"""Samples every source on its own interval, aligned to wall time, and hands each Snapshot on.

The rounds sleep on the monotonic clock and are planned anew when the wall clock is stepped, so
that a clock set an hour either way loses none of them.
"""

import asyncio
import logging
import platform
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version

from tocsin_exporter import output
from tocsin_exporter.catalogue import OWN
from tocsin_exporter.clock import Clock
from tocsin_exporter.scrape import Scraper, ScrapeTarget
from tocsin_exporter.slices import Turns, Work, in_slices
from tocsin_exporter.snapshot import ClockShifted, Sample, Snapshot, Source, labels, unread

log = logging.getLogger(__name__)

Sink = Callable[[Snapshot], object]
Prepare = Callable[[Snapshot], Work[None]]

REFRESH_SECONDS = 0.2  # at a scrape, cheap readings are at most this old
OLDEST_ROUNDS = 3  # a snapshot that is older is not shown: nothing stale passes for news
_EARLY_MS = 100  # the clock follows drifts, so a sleeper may wake this much before its time
UNREAD = "a source has not been read yet"
_FIRST_MS = 1_000  # in which those with an offset are first read
_FIRST_ROUNDS = 3
_TOO_MUCH = (
    "scrape_configs ask for more than this agent can read: a page failed to be read within its"
    " interval, it took %.0f s of %.0f s; raise scrape_interval, or scrape fewer targets"
)
_LATE_MS = 120_000  # a round that has not ended for so long does not end
_ON_TIME_MS = 20  # a round that starts this close to its due time carries the due time


def next_due(now_ms: int, interval_ms: int, offset_ms: int = 0) -> int:
    """The next multiple of the interval, and the offset, after `now_ms`, in Unix milliseconds."""
    return ((now_ms - offset_ms) // interval_ms + 1) * interval_ms + offset_ms


class ScrapeManager:
    """Owns the loops. `page()` is what a scrape shows, `samples()` what the agent says of itself.

    A sink is called in the loop with every Snapshot of a round; it must not wait. `prepare` does,
    before that and in slices, what takes long. Pages of scrape jobs share `turns`, so that their
    number holds up nobody else; `lag` is how long a turn of the loop took lately, in seconds.
    """

    def __init__(
        self,
        targets: Iterable[ScrapeTarget],
        clock: Clock,
        sinks: Iterable[Sink] = (),
        prepare: Prepare | None = None,
        lag: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.turns, self.lag = Turns(clock.monotonic), lag
        self._clock = clock
        self._sinks = list(sinks)
        self._prepare = prepare
        self._scrapers: dict[Source, Scraper] = {}
        self._loops: dict[Source, asyncio.Task[None]] = {}
        self._rounds: dict[Source, int] = {}
        self._missed: dict[Source, int] = {}
        self._due: dict[Source, int] = {}  # of the next round, or of the one under way
        self._arrived = asyncio.Event()
        self._was_ready = False
        self._steps, self._last_step_ms = 0, 0
        self._moved_ms = 0
        self._about = labels(version=version("tocsin"), python_version=platform.python_version())
        self._group: asyncio.TaskGroup | None = None
        clock.on_move(self._stepped)
        for target in targets:
            self.add(target)

    def add(self, target: ScrapeTarget) -> None:
        """Scrape one source more from now on. Raises ValueError for one that is scraped already."""
        if target.source in self._scrapers:
            source = target.source
            raise ValueError(f"{source.job} {source.instance} is watched already")
        self._scrapers[target.source] = Scraper(target, self._clock)
        self._rounds[target.source] = self._missed[target.source] = 0
        if self._group is not None:
            self._start(target.source)

    def remove(self, source: Source) -> None:
        """Stop watching, and let go of what its collectors hold."""
        if (loop := self._loops.pop(source, None)) is not None:
            loop.cancel()
        self._scrapers.pop(source).close()
        del self._rounds[source], self._missed[source]
        self._due.pop(source, None)

    @property
    def sources(self) -> list[Source]:
        return [source for scraper in self._scrapers.values() for source in scraper.sources]

    @property
    def scrapers(self) -> list[Scraper]:
        """One for each source."""
        return list(self._scrapers.values())

    @property
    def last(self) -> dict[Source, Snapshot]:
        """The last snapshot of each source that has one."""
        return {
            source: scraper.snapshot
            for source, scraper in self._scrapers.items()
            if scraper.snapshot is not None
        }

    @property
    def ready(self) -> bool:
        """Whether every source was read once, or missed its deadline."""
        return all(self._rounds.values())

    def unscraped(self, now_ms: int) -> str:
        """What of this machine is not read, "" for nothing: not yet, or not any more. One that
        comes later, by a reload, is waited for no longer than others: it takes nothing away."""
        if not self._was_ready:
            return UNREAD
        late = [
            source.job
            for source, due_ms in self._due.items()
            if now_ms - due_ms > max(_LATE_MS, 3000 * self._scrapers[source].target.interval)
        ]
        return f"sources are not read any more: {', '.join(late[:5])}" if late else ""

    def awaited(self, at_ms: int, patience_ms: int) -> set[Source]:
        """The sources whose reading of `at_ms`, or of an earlier time, has not come in yet; an
        engine's own page comes in with the engine.

        One that is late by more than `patience_ms`, now or the last time, is not waited for.
        """
        since_ms = self._clock.now_ms() - patience_ms
        return {
            source
            for scraped, due_ms in self._due.items()
            if since_ms < due_ms <= at_ms and self._is_quick(self._scrapers[scraped], patience_ms)
            for source in self._scrapers[scraped].sources
        }

    async def arrival(self) -> None:
        """Until the next reading of any source has been handed on."""
        await self._arrived.wait()

    async def run(self) -> None:
        """Sample for ever; on cancellation every collector is closed, and nobody waited for."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for source in self._scrapers:
                    self._start(source)
        finally:
            self._group = None
            for scraper in self._scrapers.values():
                scraper.close()

    @property
    def collectors(self) -> Mapping[str, Collection[str]]:
        """The names of the collectors by area."""
        names: dict[str, dict[str, None]] = {}
        for scraper in self._scrapers.values():
            area = names.setdefault(scraper.target.area, {})
            area.update({collector.name: None for collector in scraper.target.collectors})
        return names

    async def page(
        self, parts: Collection[str] | None = None, original: bool = False
    ) -> list[Snapshot]:
        """What a scrape shows; `parts` are areas and collectors, None is everything.

        Cheap sources are read anew first. With `original` the engines' own pages come last, each
        series with the `target`.
        """
        chosen = [s for s in self._scrapers.values() if parts is None or _has_part(s, parts)]
        for scraper in chosen:
            if scraper.target.cheap and self._age(scraper) > REFRESH_SECONDS:
                await scraper.refresh(self._clock.now_ms())
        news = [scraper for scraper in chosen if self._is_news(scraper)]
        shown = [_part(scraper, parts) for scraper in news]
        pages = [await scraper.labelled() for scraper in news] if original else []
        return [snapshot for snapshot in (*shown, *pages) if snapshot is not None]

    def samples(self) -> Iterator[Sample]:
        """The agent's own metrics: its collectors, its rounds."""
        yield Sample(OWN["tocsin_build_info"], 1, self._about)
        yield Sample(OWN["tocsin_clock_steps_total"], self._steps)
        yield Sample(OWN["tocsin_clock_last_step_seconds"], self._last_step_ms / 1000)
        for reason, lines in output.dropped().items():
            yield Sample(OWN["tocsin_log_lines_dropped_total"], lines, labels(reason=reason))
        if any(scraper.target.page is not None for scraper in self._scrapers.values()):
            yield Sample(OWN["tocsin_scrape_pages_waiting"], self.turns.waiting)
            yield Sample(OWN["tocsin_scrape_page_seconds_total"], self.turns.busy_seconds)
        for source, scraper in self._scrapers.items():
            own = labels(job=source.job, target=scraper.target.target)
            yield Sample(OWN["tocsin_sampling_rounds_total"], self._rounds[source], own)
            yield Sample(OWN["tocsin_sampling_rounds_missed_total"], self._missed[source], own)
            yield from scraper.health()

    @property
    def duplicates(self) -> int:
        """Series refused since the start because a source said them twice."""
        return sum(scraper.duplicates for scraper in self._scrapers.values())

    def _start(self, source: Source) -> None:
        assert self._group is not None
        self._loops[source] = self._group.create_task(self._sample(self._scrapers[source]))

    async def _sample(self, scraper: Scraper) -> None:
        """The first round at once, then one at each multiple of the interval; with an offset both
        come later, the first by a part of a second."""
        interval_ms = round(scraper.target.interval * 1000)
        offset_ms = round(scraper.target.offset * 1000)
        due = self._plan(scraper, self._clock.now_ms() + offset_ms % _FIRST_MS)
        if offset_ms:
            due = await self._wait(scraper, due, interval_ms)
        while True:
            started = self._clock.monotonic()
            await self._round(scraper, due)
            late_ms = round((self._clock.monotonic() - started) * 1000)
            self._missed[scraper.target.source] += late_ms // interval_ms
            lasts = self._rounds[scraper.target.source] > _FIRST_ROUNDS  # after a start all is new
            if late_ms >= interval_ms and lasts and scraper.target.page is not None:
                log.error(_TOO_MUCH, late_ms / 1000, scraper.target.interval)
            due = self._plan(scraper, self._next(due, interval_ms, offset_ms))
            self._arrived.set()
            self._arrived = asyncio.Event()
            due = await self._wait(scraper, due, interval_ms)

    def _plan(self, scraper: Scraper, due: int) -> int:
        self._due[scraper.target.source] = due
        return due

    def _next(self, due: int, interval_ms: int, offset_ms: int) -> int:
        """The due time after `due`, also when the clock woke us a few milliseconds early."""
        now = self._clock.now_ms()
        begin = due if now < due < now + _EARLY_MS else now
        return next_due(begin, interval_ms, offset_ms)

    async def _wait(self, scraper: Scraper, due: int, interval_ms: int) -> int:
        """Sleep to the due time, which is returned; a stepped clock gives another one.

        That one is never later than the round would have been: an hour is stepped over, and the
        time that the round had still to wait is kept as an upper bound.
        """
        while True:
            left_at, left = self._clock.monotonic(), due - self._clock.now_ms()
            if await self._clock.sleep_until(due):
                return due
            passed = round((self._clock.monotonic() - left_at) * 1000)
            now = self._clock.now_ms()
            due = min(next_due(now, interval_ms), now + max(0, left - passed))
            self._plan(scraper, due)

    async def _round(self, scraper: Scraper, due: int) -> None:
        now = self._clock.now_ms()
        at_ms = due if 0 <= now - due <= _ON_TIME_MS else now
        moved_ms = self._moved_ms
        try:
            read = [await scraper.round(at_ms), scraper.original, *scraper.others]
        except Exception:  # why: a fault with one source must end no other, nor the pager
            named = {"job": scraper.target.source.job, "target": scraper.target.target}
            log.exception("scrape failed", extra=named)
            # Of another program we know nothing then, not that it is down.
            missed = unread(scraper.target.source, at_ms)
            read = [replace(missed, report=not scraper.target.target)]
        self._rounds[scraper.target.source] += 1
        self._was_ready = self._was_ready or self.ready
        take = in_slices if scraper.target.page is None else self.turns.run
        await take(self._taken(scraper.target, read, at_ms, moved_ms))

    def _taken(
        self,
        target: ScrapeTarget,
        read: Sequence[Snapshot | None],
        at_ms: int,
        moved_ms: int,
    ) -> Work[None]:
        """Handed on, all of a round in one turn."""
        for snapshot in read:
            yield from self._prepared(target, snapshot)
        # The clock was set meanwhile: an hour ahead, it would shut out the rounds to come.
        set_ms = at_ms + self._moved_ms - moved_ms
        for snapshot in read:
            if snapshot is not None:
                self._hand_on(replace(snapshot, at_ms=set_ms))

    def _prepared(self, target: ScrapeTarget, snapshot: Snapshot | None) -> Work[None]:
        try:
            if self._prepare is not None and snapshot is not None:
                yield from self._prepare(snapshot)
        except Exception:  # why: it is appended all the same, only slower
            log.exception("failed to prepare a snapshot", extra={"job": target.source.job})

    def _hand_on(self, snapshot: Snapshot) -> None:
        for sink in self._sinks:
            try:
                sink(snapshot)
            except Exception:  # why: what a reader cannot take must not stop the sampling
                log.exception("sink rejected a snapshot", extra={"job": snapshot.source.job})

    def _stepped(self, delta_ms: int) -> None:
        self._steps, self._last_step_ms = self._steps + 1, delta_ms
        self._moved_ms += delta_ms
        for scraper in self._scrapers.values():
            for collector in scraper.target.collectors:
                if isinstance(collector, ClockShifted):
                    collector.move(delta_ms / 1000)

    def _is_quick(self, scraper: Scraper, patience_ms: int) -> bool:
        last = scraper.snapshot
        return last is None or last.duration_seconds * 1000 <= patience_ms

    def _age(self, scraper: Scraper) -> float:
        return self._clock.monotonic() - scraper.read_at

    def _is_news(self, scraper: Scraper) -> bool:
        return self._age(scraper) <= OLDEST_ROUNDS * scraper.target.interval


def _has_part(scraper: Scraper, parts: Collection[str]) -> bool:
    names = (scraper.target.area, *(collector.name for collector in scraper.target.collectors))
    return any(name in parts for name in names)


def _part(scraper: Scraper, parts: Collection[str] | None) -> Snapshot | None:
    if parts is None or scraper.target.area in parts:
        return scraper.snapshot
    return scraper.part(
        [collector.name for collector in scraper.target.collectors if collector.name in parts]
    )
