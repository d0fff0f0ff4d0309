"""The engines as sources of this agent: who reads them, and what ends when one is forgotten."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from tocsin_alerting.api.tocsin.engines import WatchedEngine
from tocsin_alerting.config.config import Config
from tocsin_alerting.incidents.dispatcher import Dispatcher
from tocsin_alerting.local.discovery import as_read, is_up
from tocsin_alerting.local.engine_supervisor import EngineHooks, EngineSupervisor
from tocsin_alerting.loops.resume import answered_seconds
from tocsin_alerting.promql.engine import QueryEngine
from tocsin_alerting.tsdb.disk_persistence import DiskPersistence
from tocsin_alerting.tsdb.store import Store
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.engine_access import EngineAccess
from tocsin_exporter.scrape_manager import ScrapeManager
from tocsin_exporter.snapshot import Snapshot, Source
from tocsin_exporter.targets import ScrapeConfig, engine_target
from tocsin_exporter.threads import result_of

_LOGGED_SECONDS = 2.0  # for a disk to take what it was given


@dataclass(slots=True)
class EngineSources:
    """`scrape` is how engines are read, None where the configuration turns that off; `host` has the
    targets of those that have none of their own."""

    agent: ScrapeManager
    host: Host
    instance: str
    scrape: ScrapeConfig | None
    store: Store
    disk: DiskPersistence
    queries: QueryEngine
    dispatcher: Dispatcher
    now_ms: Callable[[], int]

    def hooks(self) -> EngineHooks:
        return EngineHooks(
            watch=self._watch,
            rewatch=self._rewatch,
            unwatch=self._unwatch,
            answers=lambda target: bool(is_up(self._read(target))),
            remember=lambda row: self.dispatcher.remember_engine(row, self.now_ms()),
            forget=self._forget,
            now_ms=self.now_ms,
            answered=self._answered,
        )

    def watched(self, supervisor: EngineSupervisor | None) -> list[WatchedEngine]:
        engines = supervisor.watched.values() if supervisor else ()
        reads = [(engine, self._read(engine.target)) for engine in engines]
        return [
            WatchedEngine(e.target, e.url, e.kind, e.model, e.origin, is_up(last))
            for e, last in ((as_read(engine, last), last) for engine, last in reads)
        ]

    async def reconfigure(self, supervisor: EngineSupervisor, config: Config) -> None:
        """Watch the engines that the configuration names now, by the targets that it has now."""
        await supervisor.configure([engine.access for engine in config.engines])
        wanted = config.targets.of_an_engine
        if wanted != self.host.engine_targets:
            self.host = replace(self.host, engine_targets=wanted)
            for engine in supervisor.watched.values():
                if engine.access.targets is None:
                    self._rewatch(engine.access)

    def _watch(self, access: EngineAccess) -> None:
        self.dispatcher.working.watch_engine(access.target)
        self._scrape(access)

    def _rewatch(self, access: EngineAccess) -> None:
        """Its series go on: it is the same engine."""
        source = self._source(access.target)
        if source in {scraper.target.source for scraper in self.agent.scrapers}:
            self.agent.remove(source)
        self._scrape(access)

    def _scrape(self, access: EngineAccess) -> None:
        if self.scrape is not None:
            watch = engine_target(self.host, access, self.scrape)
            if watch.original is not None:
                watch.original.resume(self.store.newest_ms)
            self.agent.add(watch)

    def _unwatch(self, target: str) -> None:
        """What was said of it ends now: nobody is to take it for the present."""
        source = self._source(target)
        ended = {source}
        for scraper in self.agent.scrapers:
            if scraper.target.source == source:
                ended.update(scraper.sources)
                self.agent.remove(source)
        for ended_source in ended:
            self.store.end_source(ended_source, self.now_ms())

    def _source(self, target: str) -> Source:
        return Source(self.scrape.job if self.scrape else "", target)

    def _read(self, target: str) -> Snapshot | None:
        return self.agent.last.get(self._source(target))

    async def _answered(self, target: str) -> float:
        interval = self.scrape.interval if self.scrape else 0.0
        asked = (self._source(target), interval, self.now_ms())
        return await asyncio.to_thread(answered_seconds, self.queries, *asked)

    async def _forget(self, target: str) -> None:
        """With the end of its series on the disk too, if that answers: else they would go on."""
        await self.dispatcher.forget_engine(target, self.now_ms())
        logged = asyncio.create_task(result_of(self.disk.logged()))
        await asyncio.wait([logged], timeout=_LOGGED_SECONDS)
