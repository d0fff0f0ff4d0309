"""The agent: every stage is made and joined here, in the way of the data, and nothing else."""

import asyncio
import random
import signal
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from starlette.requests import Request
from starlette.types import ASGIApp

from tocsin_alerting.agent_setup import Setup
from tocsin_alerting.api.http import server
from tocsin_alerting.api.http.guard import bears_token, forbidden_response, new_guard
from tocsin_alerting.api.prometheus import query, rules, status, targets, write
from tocsin_alerting.api.prometheus.query_response import QueryLimits
from tocsin_alerting.api.tocsin import channels as channels_api
from tocsin_alerting.api.tocsin import engines as engines_api
from tocsin_alerting.api.tocsin import incidents, runbooks
from tocsin_alerting.banner import StartFacts, banner
from tocsin_alerting.bundled import bundled
from tocsin_alerting.config.config import Config
from tocsin_alerting.config.effective import effective
from tocsin_alerting.config.load import external_url, host_names, incident_config
from tocsin_alerting.config.paging import nobody_paged
from tocsin_alerting.incidents.dispatcher import Dispatcher
from tocsin_alerting.incidents.journal.sqlite import SqliteJournal
from tocsin_alerting.local import engine_plan as plans
from tocsin_alerting.local import worker_process as workers
from tocsin_alerting.local.discovery import as_read, is_up
from tocsin_alerting.local.engine_supervisor import (
    WORKER_GRACE_SECONDS,
    EngineHooks,
    EngineSupervisor,
)
from tocsin_alerting.local.scrape_intervals import configured_scrapes
from tocsin_alerting.loops import metrics
from tocsin_alerting.loops.incident_loop import IncidentLoop
from tocsin_alerting.loops.resume import (
    answered_seconds,
    load_last_run,
    newest_reading_ms,
    resume_collectors,
    warn_of_lost_journal,
)
from tocsin_alerting.loops.rule_loop import DispatcherInstances, RuleLoop, targets_in_trouble
from tocsin_alerting.loops.rule_queries import RuleQueries
from tocsin_alerting.loops.scrape_barrier import ScrapeBarrier
from tocsin_alerting.loops.source_status import StoreSources
from tocsin_alerting.loops.supervise import restart_on_error
from tocsin_alerting.notify.delivery import DeliveryLoop
from tocsin_alerting.promql.engine import QueryEngine
from tocsin_alerting.promql.parser.durations import format_duration
from tocsin_alerting.remote_write.receiver import Receiver
from tocsin_alerting.rules.evaluation import EvaluationDeps
from tocsin_alerting.rules.groups import Groups
from tocsin_alerting.settings import size_text
from tocsin_alerting.tsdb.block_store import BlockStore
from tocsin_alerting.tsdb.disk_persistence import DiskPersistence
from tocsin_alerting.tsdb.store import Store
from tocsin_exporter.allowed_hosts import HEALTH, HostCheck, own_hosts
from tocsin_exporter.catalogue import STAGES
from tocsin_exporter.clock import Clock
from tocsin_exporter.collectors.engine import EngineCollector
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.collectors.inline import InlineCollector
from tocsin_exporter.collectors.program import Matcher, matcher
from tocsin_exporter.engine_access import EngineAccess
from tocsin_exporter.listen import joined
from tocsin_exporter.loop_watchdog import LoopWatchdog, own_request
from tocsin_exporter.scrape import Scraper
from tocsin_exporter.scrape_manager import ScrapeManager
from tocsin_exporter.server import UNREAD, MetricsPage
from tocsin_exporter.server import routes as metrics_routes
from tocsin_exporter.snapshot import MachineName, Sample, Snapshot, Source, values_of
from tocsin_exporter.targets import ENGINE_AREA, OWN_AREA, engine_target, local_targets, own_target
from tocsin_exporter.threads import Threads, result_of

CLOSED_FOR_MS = 90 * 86_400_000  # how long a closed incident is remembered
RULE_THREADS = 2  # for the rules that take long, for those that need the disk, and for templates
DEMO = (
    "a demo with a small model, starting at {}; it ends when an engine is here, on a usual port or "
    "named with --engine.url http://HOST:PORT"
)
_LOGGED_SECONDS = 2.0  # for a disk to take what it was given
_LINKS = {"Alerts": "/api/v1/alerts", "Incidents": "/api/v1/incidents", "Rules": "/api/v1/rules"}


class App:
    """One agent, stage by stage; `serve` runs it until a signal comes."""

    def __init__(self, setup: Setup) -> None:
        config = setup.config
        self.setup = setup
        self.clock = Clock()
        self.loop_watch = LoopWatchdog(own_request(setup.sockets), self.clock.monotonic)
        self.started_ms = self.clock.now_ms()
        self.rhythms = configured_scrapes(config)
        self.site = Host(
            now=self.clock.wall, process_groups=_process_groups(config), gpus=config.gpus
        )
        self.scrapes = setup.scrapes
        # collectors -> Snapshot -> store
        samples = Path(config.storage.path) / "samples"
        shelf = BlockStore(samples, config.storage.retention, config.storage.size)
        machine = self._machine()
        wall, hold = self.clock.wall, setup.hold
        self.archive = DiskPersistence(samples, shelf, machine=machine, wall=wall, claim=hold)
        self.store = Store(persistence=self.archive)
        self.agent = ScrapeManager(
            self._local(), self.clock, [self.store.append], self.store.prepare
        )
        # remote write -> store
        self.receiver = Receiver(self.store)
        self.hosts = own_hosts(host_names(config))
        self.writes = Threads(1, "write").begin()
        # store -> PromQL -> rules
        self.engine = QueryEngine(self.store, config.promql.semantics)
        self.groups = Groups(self._evaluation_deps(), config.evaluation_interval)
        # alerts -> incidents -> outbox -> channels
        path = Path(config.storage.path) / "incidents.db"
        self.journal = SqliteJournal(path, machine=machine, wall=wall, hold=hold)
        self.dispatcher = Dispatcher(incident_config(config), self.journal, random.random)
        self.dispatcher.recall = self.groups.recall
        self.instances = DispatcherInstances(self.dispatcher, self.clock.now_ms)
        self.delivery_loop = DeliveryLoop(self.dispatcher, setup.channels, self.clock.now_ms)
        self.rule_loop = self._make_rule_loop()
        self.asides = (self.journal.asides, shelf.set_aside)
        self.clock.on_move(self._moved, *(stamps.move for stamps in self.asides))
        self.queries = Threads(QueryLimits().at_once, "query").begin()
        self.bodies = Threads(1, "bodies").begin()
        self.engines: EngineSupervisor | None = None

    async def serve(self) -> None:
        """Everything at work until SIGINT or SIGTERM; then everything ends, the child too."""
        now_ms = self.clock.now_ms()
        await asyncio.to_thread(self.archive.start, self.store)
        moved_ms = await load_last_run(self.store, self.dispatcher, now_ms, self.asides)
        await asyncio.to_thread(
            resume_collectors, self.store, self.engine, self._collectors(), moved_ms
        )
        self.archive.run(self.clock.monotonic)
        plan = await self._plan()
        worker = workers.worker_from_config(self.setup.config.worker, self.setup.log_format)
        demo = worker if plan.start_worker else None
        self.engines = EngineSupervisor(plan, demo, self._worker_url, self._hooks())
        self._add_own()
        await self._load_rules(now_ms)
        calendar = self._calendar()
        app = self._checked(server.application(self._routes()))
        web = server.server(app, self.scrapes.connections)
        try:
            await self._run(web, plan)
        finally:
            calendar.shutdown(wait=False)
            await self._close()

    async def _run(self, web: uvicorn.Server, plan: plans.EnginePlan) -> None:
        """The loops, each for itself, while the server serves."""
        assert self.engines is not None
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            # The server takes them while it serves and raises them again when it has ended.
            loop.add_signal_handler(number, lambda: None)
        # Not the loop's: that is gone with the loop, and the signal would end us while we end.
        signal.signal(signal.SIGHUP, lambda *_: self.setup.systemd.reloading())
        self.loop_watch.start()
        async with asyncio.TaskGroup() as group:
            look_again = not self.setup.config.engines
            watching = partial(self.engines.run, look_again, self.setup.load_rps)
            paging = IncidentLoop(self.dispatcher, self.delivery_loop, self.clock)
            tasks = [
                group.create_task(self.agent.run()),
                group.create_task(restart_on_error("clock", self.clock.follow)),
                group.create_task(restart_on_error("engines", watching)),
                group.create_task(restart_on_error("rules", self.rule_loop.run)),
                group.create_task(restart_on_error("incidents", paging.run)),
                group.create_task(self._greet(plan)),
                group.create_task(self.setup.systemd.keep_alive(lambda: web.started, self._state)),
            ]
            await web.serve(self.setup.sockets)
            self.loop_watch.stop()
            self.setup.systemd.stopping()
            for task in tasks:
                task.cancel()

    def _state(self) -> str:
        """One line for `systemctl status`."""
        journal = "down" if self.dispatcher.writer.down else "up"
        watched = len(self.engines.urls) if self.engines else 0
        return f"serving at {self._url}; {watched} engines; journal {journal}"

    async def _close(self) -> None:
        if self.engines is not None and self.engines.worker is not None:
            await self.engines.worker.stop(WORKER_GRACE_SECONDS)
        await self.delivery_loop.close()
        await self.dispatcher.close(self.clock.now_ms())
        await asyncio.to_thread(self.archive.close)

    # collectors

    def _local(self) -> list[Any]:
        return local_targets(self.site, self.setup.instance, self.rhythms)

    def _machine(self) -> MachineName:
        """Earlier versions took the listen address for the name of the machine."""
        jobs = {one.job for area, one in self.rhythms.items() if area != ENGINE_AREA}
        return MachineName(frozenset(jobs), self.setup.instance, self.setup.address)

    def _collectors(self) -> list[tuple[Source, object]]:
        watches = [scraper.target for scraper in self.agent.scrapers]
        return [(watch.source, collector) for watch in watches for collector in watch.collectors]

    def _add_own(self) -> None:
        """What each stage says of itself comes in as a collector, and is stored like the rest."""
        now_ms = self.clock.now_ms
        stages = [
            InlineCollector("agent", self.agent.samples),
            InlineCollector("loop", self.loop_watch.samples),
            InlineCollector("server", self.scrapes.samples),
            InlineCollector("store", partial(metrics.store_samples, self.store, STAGES)),
            InlineCollector("archive", partial(metrics.disk_samples, self.archive, STAGES)),
            InlineCollector(
                "write", partial(metrics.write_samples, self.receiver.counters, STAGES)
            ),
            InlineCollector("files", self._set_aside),
            InlineCollector("rules", partial(metrics.rule_samples, self.groups, STAGES)),
            InlineCollector(
                "incidents", partial(metrics.incident_samples, self.dispatcher, now_ms, STAGES)
            ),
            InlineCollector(
                "delivery", partial(metrics.delivery_samples, self.delivery_loop, STAGES)
            ),
        ]
        if self.engines is not None:
            stages.append(
                InlineCollector("engines", partial(metrics.engines_samples, self.engines, STAGES))
            )
        self.agent.add(own_target(self.site, self.setup.instance, stages, self.rhythms[OWN_AREA]))

    def _set_aside(self) -> Iterator[Sample]:
        times = {"incidents.db": self.journal.set_aside_s, "samples": self.archive.set_aside_s}
        return metrics.set_aside_samples(times, STAGES)

    def _watch_engine(self, access: EngineAccess) -> None:
        self.dispatcher.working.watch_engine(access.target)
        if ENGINE_AREA in self.rhythms:
            watch = engine_target(self.site, access, self.rhythms[ENGINE_AREA])
            if watch.original is not None:
                watch.original.resume(self.store.newest_ms)
            self.agent.add(watch)

    def _unwatch_engine(self, target: str) -> None:
        """What was said of it ends now: nobody is to take it for the present."""
        source = self._engine_source(target)
        ended = {source}
        for scraper in self.agent.scrapers:
            if scraper.target.source == source:
                ended.update(scraper.sources)
                self.agent.remove(source)
        for one in ended:
            self.store.end_source(one, self.clock.now_ms())

    def _engine_source(self, target: str) -> Source:
        return Source(self.rhythms[ENGINE_AREA].job if ENGINE_AREA in self.rhythms else "", target)

    def _engine_read(self, target: str) -> Snapshot | None:
        return self.agent.last.get(self._engine_source(target))

    def _hooks(self) -> EngineHooks:
        now_ms = self.clock.now_ms
        return EngineHooks(
            watch=self._watch_engine,
            unwatch=self._unwatch_engine,
            answers=lambda target: bool(is_up(self._engine_read(target))),
            remember=lambda row: self.dispatcher.remember_engine(row, now_ms()),
            forget=self._forget_engine,
            now_ms=now_ms,
            answered=self._answered,
        )

    async def _answered(self, target: str) -> float:
        interval = self.rhythms[ENGINE_AREA].interval if ENGINE_AREA in self.rhythms else 0.0
        asked = (self._engine_source(target), interval, self.clock.now_ms())
        return await asyncio.to_thread(answered_seconds, self.engine, *asked)

    def _watched_engines(self) -> list[engines_api.WatchedEngine]:
        engines = self.engines.watched.values() if self.engines else ()
        read = [(one, self._engine_read(one.target)) for one in engines]
        known = [(as_read(one, last), is_up(last)) for one, last in read]
        return [
            engines_api.WatchedEngine(one.target, one.url, one.kind, one.model, one.origin, up)
            for one, up in known
        ]

    async def _forget_engine(self, target: str) -> None:
        """With the end of its series on the disk too, if that answers: else they would go on."""
        await self.dispatcher.forget_engine(target, self.clock.now_ms())
        logged = asyncio.create_task(result_of(self.archive.logged()))
        await asyncio.wait([logged], timeout=_LOGGED_SECONDS)

    async def _plan(self) -> plans.EnginePlan:
        config = self.setup.config
        named = [engine.access for engine in config.engines]
        own_one = config.worker
        usual = self.setup.engine_ports
        troubled = targets_in_trouble(
            self.dispatcher.saved_instances, self.dispatcher.saved_forgotten
        )
        where = (own_one.enabled, own_one.host, own_one.port, usual)
        owners = self.setup.engine_owners
        return await plans.make_plan(named, *where, troubled, self.dispatcher.saved_engines, owners)

    @property
    def _worker_url(self) -> str:
        own_one = self.setup.config.worker
        return f"http://{joined(own_one.host, own_one.port)}"

    # rules

    def _make_rule_loop(self) -> RuleLoop:
        agent, store, clock = self.agent, self.store, self.clock
        touched = self.groups.deps.sources.touched
        watched = partial(getattr, agent, "sources")
        barrier = ScrapeBarrier(
            agent.awaited, agent.arrival, watched, touched, store.last_seen, clock
        )
        return RuleLoop(self.groups, self.dispatcher, self.instances, clock, barrier)

    def _evaluation_deps(self) -> EvaluationDeps:
        config = self.setup.config
        watched, ready = (partial(getattr, self.agent, name) for name in ("sources", "ready"))
        threads = [Threads(RULE_THREADS, name).begin() for name in ("rules", "disk", "texts")]
        return EvaluationDeps(
            engine=RuleQueries(self.engine, threads, self.store.reaches_disk, self.clock.monotonic),
            write=self.store.append_rule_samples,
            sources=StoreSources(self.store, watched, ready, self.clock.now_ms),
            seconds=self.clock.monotonic,
            external_labels=config.external_labels,
            external_url=external_url(config),
            unknown_max_ms=config.unknown_max,
        )

    async def _load_rules(self, now_ms: int) -> None:
        """What the last run remembers of groups that are gone is told once, and forgotten."""
        rows = await self.instances.load()
        history_ms = newest_reading_ms(self.engine, now_ms)
        warn_of_lost_journal(self.dispatcher, self.store, self._collectors(), now_ms)
        self.groups.remember(
            rows, history_ms, self.store.newest_ms, self.dispatcher.working.active_events(now_ms)
        )
        removed = self.groups.load(self.setup.rules, now_ms)
        await self.dispatcher.handle(removed, now_ms)
        present = {progress.group.key for progress in self.groups.all}
        for file, group in {(row.file, row.group) for row in rows} - present:
            await self.instances.save(file, group, ())

    def _unready(self) -> str:
        """What keeps pages from going out yet; "" when nothing does."""
        if not self.agent.ready:
            return UNREAD
        return self.rule_loop.unready(self.clock.now_ms())

    def _moved(self, delta_ms: int) -> None:
        """The wall clock was set: whatever holds a time moves with it, before anyone looks."""
        now_ms = self.clock.now_ms()
        self.store.shift_clock(delta_ms, now_ms)
        self.groups.shift(delta_ms)
        self.dispatcher.clock_jumped(delta_ms, now_ms)

    def _calendar(self) -> AsyncIOScheduler:
        calendar = AsyncIOScheduler(
            timezone=self.setup.config.time_zone,
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )
        calendar.add_job(self._expire, "cron", minute="*")
        calendar.add_job(self._prune, "cron", hour=4, minute=11)
        calendar.start()
        return calendar

    async def _expire(self) -> None:
        self.store.expire(self.clock.now_ms())

    async def _prune(self) -> None:
        await self.dispatcher.prune(self.clock.now_ms() - CLOSED_FOR_MS)

    # the server

    def _routes(self) -> list[Any]:
        now_ms, monotonic = self.clock.now_ms, self.clock.monotonic
        page = MetricsPage(self.agent, monotonic, self.scrapes, self.setup.max_requests)
        guarded = new_guard(self.setup.token, self.hosts)
        intake = write.RemoteWriteEndpoint(
            self.receiver, self.writes, now_ms, logged=self.archive.logged
        )
        assert self.engines is not None
        base, unrecorded = external_url(self.setup.config), self.dispatcher.writer.unrecorded_engine
        return [
            *write.routes(intake, new_guard(self.setup.token, self.hosts, write.BODIES)),
            *metrics_routes(page, self._unready, links=_LINKS),
            *query.routes(self.store, self.engine, self.queries, now_ms, monotonic, self.bodies),
            *targets.routes(self._targets),
            *rules.routes(lambda: self.groups.all, base, monotonic),
            *incidents.routes(self.dispatcher, guarded, now_ms, base),
            *engines_api.routes(self._watched_engines, self.engines.forget, guarded, unrecorded),
            *channels_api.routes(self.setup.channels, guarded, now_ms, base),
            *status.routes(self._running()),
            *runbooks.routes(lambda: bundled("docs/runbooks")),
        ]

    def _checked(self, app: ASGIApp) -> ASGIApp:
        def passes(request: Request) -> bool:
            return bears_token(request, self.setup.token())

        return HostCheck(app, self.hosts, ("/metrics", *HEALTH), passes, forbidden_response)

    def _targets(self) -> list[targets.ActiveTarget]:
        return [_target(scraper, self._url) for scraper in self.agent.scrapers]

    def _running(self) -> status.RuntimeInfo:
        config = self.setup.config
        return status.RuntimeInfo(
            about=self._about,
            now_ms=self.clock.now_ms,
            started_ms=self.started_ms,
            flags=self.setup.flags,
            config=effective(config),
            retention=f"{format_duration(config.storage.retention)} or"
            f" {size_text(config.storage.size)}",
            broken=lambda: self.archive.status.broken,
        )

    def _about(self) -> Mapping[str, Any]:
        engines = self.engines
        return {
            "engines": engines.urls if engines else [],
            "worker": engines.worker.state if engines and engines.worker else "none",
            "receivers": list(self.setup.channels),
            "rule_files": [file.path for file in self.setup.rules],
            "storage": self.setup.config.storage.path,
            "journal": "down" if self.dispatcher.writer.down else "up",
        }

    @property
    def _url(self) -> str:
        return f"http://{self.setup.address}"

    async def _greet(self, plan: plans.EnginePlan) -> None:
        """A few lines for whoever started us, once the GPUs were asked."""
        while not self.agent.ready:  # noqa: ASYNC110  (the agent has no event for it)
            await asyncio.sleep(0.1)
        counts = [n for one in self.agent.last.values() for n in values_of(one, "gpu_devices")]
        storage = self.setup.config.storage
        facts = StartFacts(
            gpus=int(sum(counts)),
            engines=[f"{engine.kind} at {engine.url}" for engine in plan.engines],
            worker=DEMO.format(self._worker_url) if plan.start_worker else plan.why_not,
            silent=plan.silent,
            strangers=[(one.url, one.user) for one in plan.untrusted],
            rules=self.setup.rules,
            receivers=list(self.setup.channels),
            directory=storage.path,
            retention_ms=storage.retention if self.archive.up else None,
            url=self._url,
            recorded=not self.dispatcher.writer.down,
            nobody=nobody_paged(self.setup.config),
            load_rps=self.setup.load_rps,
        )
        print(banner(facts), end="", flush=True)  # noqa: T201  (this is for the terminal)


def _target(scraper: Scraper, own_url: str) -> targets.ActiveTarget:
    """A source of this machine is what a scrape of its area shows; an engine has a page itself,
    and is listed once, by the source that has its `up`."""
    watch, last = scraper.target, scraper.original or scraper.snapshot
    pages = [item.metrics_url for item in watch.collectors if isinstance(item, EngineCollector)]
    return targets.ActiveTarget(
        source=last.source if last else watch.source,
        url=pages[0] if pages else f"{own_url}/metrics?collect[]={watch.area}",
        interval=watch.interval,
        deadline=watch.deadline,
        last_ms=last.at_ms if last else None,
        seconds=last.duration_seconds if last else 0.0,
        ok=last.ok if last and last.report else None,
        error=scraper.error,
    )


def _process_groups(config: Config) -> Mapping[str, Matcher]:
    return {group.name: matcher(group.comm, group.exe, group.cmdline) for group in config.processes}
