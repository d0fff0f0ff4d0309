"""The agent: every stage is made and joined here, in the way of the data, and nothing else."""

import asyncio
import random
import signal
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import uvicorn
from starlette.types import ASGIApp

from tocsin_alerting import agent_setup
from tocsin_alerting.agent_access import checked, new_access, token_file, with_roles
from tocsin_alerting.agent_elsewhere import Elsewhere
from tocsin_alerting.agent_engines import EngineSources
from tocsin_alerting.agent_logs import AgentLogs, Enrich
from tocsin_alerting.agent_meta import MetaAlerts
from tocsin_alerting.agent_reload import AgentReload
from tocsin_alerting.agent_scrapes import new_sampling
from tocsin_alerting.agent_setup import RunningConfig, Setup
from tocsin_alerting.api.alertmanager import routes as alertmanager
from tocsin_alerting.api.alertmanager.intake import AlertIntake
from tocsin_alerting.api.http import server
from tocsin_alerting.api.http.guard import new_guard
from tocsin_alerting.api.prometheus import otlp, query, rules, status, targets, write
from tocsin_alerting.api.prometheus.query_response import QueryLimits
from tocsin_alerting.api.tocsin import (
    answer_links,
    call_answers,
    drill,
    history,
    incident_actions,
    incidents,
    lifecycle,
    oncall,
    openapi,
    overview,
    receivers,
    runbooks,
    silences,
    tokens,
    why,
)
from tocsin_alerting.api.tocsin import channels as channels_api
from tocsin_alerting.api.tocsin import engines as engines_api
from tocsin_alerting.api.tocsin import heartbeats as heartbeats_api
from tocsin_alerting.banner import banner
from tocsin_alerting.bundled import bundled
from tocsin_alerting.config.load import external_url, host_names, incident_config
from tocsin_alerting.config.paging import unwatched
from tocsin_alerting.incidents.dispatcher import Dispatcher
from tocsin_alerting.incidents.journal.sqlite import SqliteJournal
from tocsin_alerting.local import engine_plan as plans
from tocsin_alerting.local import worker_process as workers
from tocsin_alerting.local.engine_supervisor import WORKER_GRACE_SECONDS, EngineSupervisor
from tocsin_alerting.loops import metrics
from tocsin_alerting.loops.calendar_refresh import CalendarRefresh, started_calendar
from tocsin_alerting.loops.channel_answers import ChannelAnswers
from tocsin_alerting.loops.evidence import EvidenceReader
from tocsin_alerting.loops.heartbeat_loop import HeartbeatLoop
from tocsin_alerting.loops.incident_loop import IncidentLoop
from tocsin_alerting.loops.incident_metrics import IncidentMetrics
from tocsin_alerting.loops.resume import (
    load_last_run,
    newest_reading_ms,
    resume_collectors,
    warn_of_lost_journal,
)
from tocsin_alerting.loops.rule_loop import DispatcherInstances, RuleLoop
from tocsin_alerting.loops.rule_queries import RuleQueries
from tocsin_alerting.loops.scrape_barrier import ScrapeBarrier
from tocsin_alerting.loops.self_health import SelfHealth
from tocsin_alerting.loops.source_status import StoreSources
from tocsin_alerting.loops.supervise import restart_on_error
from tocsin_alerting.notify.delivery import DeliveryLoop
from tocsin_alerting.otlp.receiver import new_receivers
from tocsin_alerting.promql.engine import QueryEngine
from tocsin_alerting.rules.evaluation import EvaluationDeps
from tocsin_alerting.rules.group_phase import GroupPhases
from tocsin_alerting.rules.groups import Groups
from tocsin_alerting.tsdb.block_store import BlockStore
from tocsin_alerting.tsdb.disk_persistence import DiskPersistence
from tocsin_alerting.tsdb.store import Store
from tocsin_exporter.allowed_hosts import own_hosts
from tocsin_exporter.catalogue import STAGES
from tocsin_exporter.clock import Clock
from tocsin_exporter.collectors.inline import InlineCollector
from tocsin_exporter.listen import joined
from tocsin_exporter.loop_watchdog import LoopWatchdog, own_request
from tocsin_exporter.server import MetricsPage
from tocsin_exporter.server import routes as metrics_routes
from tocsin_exporter.snapshot import Sample, Source, values_of
from tocsin_exporter.targets import ENGINE_AREA, OWN_AREA, local_targets, own_target
from tocsin_exporter.threads import Threads

RULE_THREADS = 2  # for the rules that take long, for those that need the disk, and for templates
_LINKS = {"Alerts": "/api/v1/alerts", "Incidents": "/api/v1/incidents", "Rules": "/api/v1/rules"}


class App:
    """One agent, stage by stage; `serve` runs it until a signal comes."""

    def __init__(self, setup: Setup) -> None:
        config = setup.config
        self.setup = setup
        self.running = RunningConfig(setup.read, setup.links)
        self.clock = clock = Clock()
        self.loop_watch = LoopWatchdog(own_request(setup.sockets, setup.web.tls), clock.monotonic)
        self.started_ms = self.clock.now_ms()
        self.areas = agent_setup.configured_scrapes(config)
        self.host = agent_setup.host(setup, self.clock.wall)
        self.scrapes = setup.scrapes
        # collectors -> Snapshot -> store
        folder = Path(config.storage.path)
        samples, path = folder / "samples", folder / "incidents.db"
        blocks = BlockStore(samples, config.storage.retention, config.storage.size)
        machine = agent_setup.machine_name(setup, self.areas)
        wall, hold = self.clock.wall, setup.hold
        self.disk = DiskPersistence(samples, blocks, machine=machine, wall=wall, claim=hold)
        self.store = store = Store(persistence=self.disk)
        self.agent, self.scrape_jobs = new_sampling(self._local(), clock, store, self.loop_watch)
        self.logs = AgentLogs(config, self.clock, lambda: self.dispatcher)
        # remote write -> store
        self.receiver, self.otlp = new_receivers(store)
        self.hosts = own_hosts(host_names(config))
        self.writes = Threads(1, "write").begin()
        # store -> PromQL -> rules
        self.engine = QueryEngine(store, config.promql.semantics, natives=self.receiver.natives)
        self.elsewhere = self._elsewhere()
        self.groups = self._make_groups()
        # alerts -> incidents -> outbox -> channels
        self.journal = SqliteJournal(path, machine=machine, wall=wall, hold=hold)
        self.dispatcher = Dispatcher(incident_config(config), self.journal, random.random)
        self.dispatcher.recovery.recall = self.groups.recall
        self.dispatcher.stores.watched = self.elsewhere.datasources.addresses
        known = heartbeats_api.heartbeat_principal(self.dispatcher)
        self.access = new_access(setup.credentials, config, self.clock.monotonic, known, setup.web)
        self.intake = AlertIntake(self.dispatcher, self.clock.now_ms, config.resolve_timeout)
        self.calendars = CalendarRefresh(config, self.dispatcher.working, self.clock.now_ms)
        self.instances = DispatcherInstances(self.dispatcher, self.clock.now_ms)
        sending = (self.clock.now_ms, self._evidence(), self.dispatcher.channels.gone)
        self.delivery_loop = DeliveryLoop(self.dispatcher, self.running.channels, *sending)
        self.rule_loop = self._make_rule_loop()
        self.paging = IncidentLoop(self.dispatcher, self.delivery_loop, self.clock)
        about = (self.dispatcher, self.clock.now_ms, config.language)
        self.answers = ChannelAnswers(self.running.channels, *about)
        # all of it -> who watches from outside
        stages = (self.dispatcher, self.rule_loop, self.paging)
        self.meta_alerts = MetaAlerts(
            setup, self.dispatcher, self.groups, self.elsewhere, store, self.agent, self.clock
        )
        self.health = SelfHealth(*stages, self.agent.unscraped, self.clock)
        self.heartbeats = HeartbeatLoop(setup.read.heartbeats, self.health.troubles)
        self.asides = (self.journal.asides, blocks.set_aside)
        self.clock.on_move(self._moved, *(stamps.move for stamps in self.asides))
        self.queries = Threads(QueryLimits().at_once, "query").begin()
        self.bodies = Threads(1, "bodies").begin()
        self.engines: EngineSupervisor | None = None
        self.engine_sources = self._engine_sources()
        self.reload = AgentReload(setup, self.running, self)

    async def serve(self) -> None:
        """Everything at work until SIGINT or SIGTERM; then everything ends, the child too."""
        plan = await self.start()
        calendar = started_calendar(
            self.setup.config.time_zone, self._expire, self._prune, self.calendars
        )
        web = server.server(self.application(), self.scrapes.connections, self.setup.web)
        try:
            await self._run(web, plan)
        finally:
            calendar.shutdown(wait=False)
            await self.close()

    async def start(self) -> plans.EnginePlan:
        """What the last run left is read, and which engines there are; no loop runs yet."""
        now_ms = self.clock.now_ms()
        await asyncio.to_thread(self.disk.start, self.store)
        moved_ms = await load_last_run(self.store, self.dispatcher, now_ms, self.asides)
        await asyncio.to_thread(
            resume_collectors, self.store, self.engine, self._collectors(), moved_ms
        )
        self.meta_alerts.resume()
        self.disk.run(self.clock.monotonic)
        plan = await agent_setup.planned_engines(self.setup, self.dispatcher.recovery)
        worker = workers.worker_from_config(self.setup.config.worker, self.setup.log_format)
        demo = worker if plan.start_worker else None
        self.engines = EngineSupervisor(plan, demo, self._worker_url, self.engine_sources.hooks())
        self._add_own()
        await self.scrape_jobs.start(self.setup.read)
        await self._load_rules(now_ms)
        return plan

    async def _run(self, web: uvicorn.Server, plan: plans.EnginePlan) -> None:
        """The loops, each for itself, while the server serves."""
        assert self.engines is not None
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            # The server takes them while it serves and raises them again when it has ended.
            loop.add_signal_handler(number, lambda: None)
        # SIGHUP is not the loop's: that is gone with it, and the signal would end us while we end.
        self.setup.hangup.listen(self.reload.reload.hang_up)
        self.loop_watch.start()
        async with asyncio.TaskGroup() as group:
            look_again = not self.setup.config.engines
            watching = partial(self.engines.run, look_again, self.setup.load_rps)
            alive = (lambda: web.started, self._state, self.health.stalled)
            tasks = [
                group.create_task(self.agent.run()),
                group.create_task(restart_on_error("clock", self.clock.follow)),
                group.create_task(restart_on_error("engines", watching)),
                group.create_task(restart_on_error("rules", self.rule_loop.run)),
                group.create_task(self.elsewhere.run()),
                group.create_task(restart_on_error("incidents", self.paging.run)),
                group.create_task(restart_on_error("meta-alerts", self.meta_alerts.loop.run)),
                group.create_task(restart_on_error("log lines", self.logs.run)),
                group.create_task(restart_on_error("answers", self.answers.run)),
                group.create_task(self.heartbeats.run()),
                group.create_task(restart_on_error("web config", self.setup.web.follow)),
                group.create_task(restart_on_error("reload", self.reload.reload.run)),
                group.create_task(self.scrape_jobs.run()),
                group.create_task(self._greet(plan)),
                group.create_task(self.setup.systemd.keep_alive(*alive)),
            ]
            await web.serve(self.setup.sockets)
            self.loop_watch.stop()
            self.setup.systemd.stopping()
            for task in tasks:
                task.cancel()

    def _state(self) -> str:
        """One line for `systemctl status`."""
        watched = len(self.engines.urls) if self.engines else 0
        return f"serving at {self._url}; {watched} engines; {self.health.unready() or 'healthy'}"

    async def close(self) -> None:
        if self.engines is not None and self.engines.worker is not None:
            await self.engines.worker.stop(WORKER_GRACE_SECONDS)
        await self.elsewhere.close()
        await self.delivery_loop.close()
        await self.dispatcher.close(self.clock.now_ms())
        await asyncio.to_thread(self.logs.sources.close)
        await asyncio.to_thread(self.disk.close)

    # collectors

    def _local(self) -> list[Any]:
        return local_targets(self.host, self.setup.instance, self.areas)

    def _collectors(self) -> list[tuple[Source, object]]:
        watches = [scraper.target for scraper in self.agent.scrapers]
        return [(watch.source, collector) for watch in watches for collector in watch.collectors]

    def _add_own(self) -> None:
        """What each stage says of itself comes in as a collector, and is stored like the rest."""
        now_ms, groups = self.clock.now_ms, partial(getattr, self.groups, "all")
        receivers = self.running.paging_receivers

        def stage(name: str, read: Callable[..., Iterator[Sample]], *about: Any) -> InlineCollector:
            return InlineCollector(name, partial(read, *about, STAGES))

        stages = [
            InlineCollector("agent", self.agent.samples),
            InlineCollector("loop", self.loop_watch.samples),
            InlineCollector("server", self.scrapes.samples),
            InlineCollector("files", self._set_aside),
            self.logs.collector(),
            stage("store", metrics.store_samples, self.store),
            stage("archive", metrics.disk_samples, self.disk),
            stage("write", metrics.write_samples, self.receiver.counters, "remote_write"),
            stage("otlp", metrics.write_samples, self.otlp.counters, "otlp"),
            stage("rules", metrics.rule_samples, self.groups),
            stage("elsewhere", self.elsewhere.samples),
            stage("incidents", metrics.incident_samples, self.dispatcher, now_ms),
            stage("tally", IncidentMetrics(self.dispatcher, groups, receivers, now_ms).samples),
            stage("delivery", metrics.delivery_samples, self.delivery_loop),
            stage("texts", metrics.text_samples, self.setup.read.templates.failures),
            stage("config", metrics.reload_samples, self.reload.reload),
            stage("health", metrics.health_samples, self.heartbeats),
        ]
        if self.engines is not None:
            stages.append(stage("engines", metrics.engines_samples, self.engines))
        self.agent.add(own_target(self.host, self.setup.instance, stages, self.areas[OWN_AREA]))

    def _set_aside(self) -> Iterator[Sample]:
        times = {"incidents.db": self.journal.set_aside_s, "samples": self.disk.set_aside_s}
        return metrics.set_aside_samples(times, STAGES)

    def _engine_sources(self) -> EngineSources:
        return EngineSources(
            self.agent,
            self.host,
            self.setup.instance,
            self.areas.get(ENGINE_AREA),
            self.store,
            self.disk,
            self.engine,
            self.dispatcher,
            self.clock.now_ms,
        )

    @property
    def _worker_url(self) -> str:
        own_one = self.setup.config.worker
        return f"http://{joined(own_one.host, own_one.port)}"

    # rules

    def _make_groups(self) -> Groups:
        config, deps = self.setup.config, self._evaluation_deps()
        own, touched = partial(getattr, self.agent, "sources"), deps.sources.touched
        phases = GroupPhases(own, config.promql.semantics, touched)
        made = (self.elsewhere.datasources.deps_of(deps), phases.of)
        return Groups(deps, config.evaluation_interval, *made)

    def _elsewhere(self) -> Elsewhere:
        times = (self.clock.now_ms, self.clock.monotonic)
        about = (lambda: self.dispatcher, lambda: self.groups.all)
        return Elsewhere(self.setup.config, self.store, *times, *about)

    def _make_rule_loop(self) -> RuleLoop:
        agent, store, clock = self.agent, self.store, self.clock
        touched = self.groups.deps.sources.touched
        watched = partial(getattr, agent, "sources")
        asks_store, last = self.elsewhere.datasources.asks_store, store.last_seen
        barrier = ScrapeBarrier(
            agent.awaited, agent.arrival, watched, touched, last, clock, asks_store
        )
        expects, evaluated = (
            bool(self.setup.config.rule_files),
            self.elsewhere.alertmanagers.evaluated,
        )
        joined = (self.groups, self.dispatcher, self.instances, clock, barrier)
        return RuleLoop(*joined, expects, evaluated)

    def _evaluation_deps(self) -> EvaluationDeps:
        config = self.setup.config
        watched, ready = (partial(getattr, self.agent, name) for name in ("sources", "ready"))
        threads = [Threads(RULE_THREADS, name).begin() for name in ("rules", "disk", "texts")]
        store, seconds = self.store, self.clock.monotonic
        return EvaluationDeps(
            engine=RuleQueries(self.engine, threads, store.reaches_disk, seconds, busy=store.busy),
            write=self.store.append_rule_samples,
            make_room=self.store.prepare.rule_series,
            sources=StoreSources(self.store, watched, ready, self.clock.now_ms),
            seconds=seconds,
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
        read = self.setup.read
        unread = [file.path for file in read.broken_rules if not file.replaced]
        removed = self.groups.load(read.rules, now_ms, unread)
        await self.dispatcher.handle(removed, now_ms)
        present = {progress.group.key for progress in self.groups.all}
        for file, group in {(row.file, row.group) for row in rows} - present:
            if file not in unread:
                await self.instances.save(file, group, ())
        await self.reload.keep_copies()

    def _moved(self, delta_ms: int) -> None:
        """The wall clock was set: whatever holds a time moves with it, before anyone looks."""
        now_ms = self.clock.now_ms()
        self.store.shift_clock(delta_ms, now_ms)
        self.groups.shift(delta_ms)
        self.elsewhere.remote_writers.shift(delta_ms)
        self.meta_alerts.loop.shift(delta_ms)
        self.dispatcher.clock_jumped(delta_ms, now_ms)

    async def _expire(self) -> None:
        self.store.expire(self.clock.now_ms())

    async def _prune(self) -> None:
        kept_ms = self.running.config.incidents.retention
        await self.dispatcher.prune(self.clock.now_ms(), kept_ms)

    def _evidence(self) -> Enrich:
        """Its thread is begun now: later there may be none."""
        threads, incident = Threads(1, "evidence").begin(), self.dispatcher.working.incidents.get
        groups, seconds = partial(getattr, self.groups, "all"), self.clock.monotonic
        reader = EvidenceReader(self.engine, incident, groups, threads, seconds)
        return self.logs.sending(reader.with_evidence)

    # the server

    def routes(self) -> list[Any]:
        now_ms, monotonic = self.clock.now_ms, self.clock.monotonic
        page = MetricsPage(self.agent, monotonic, self.scrapes, self.setup.max_requests)
        guarded, logged = new_guard(self.hosts), self.disk.logged
        intake = write.RemoteWriteEndpoint(self.receiver, self.writes, now_ms, logged=logged)
        assert self.engines is not None
        reached = self.setup.config.external_url.rstrip("/") or self._url
        base, unrecorded = external_url(self.setup.config), self.dispatcher.writer.unrecorded_engine
        health, groups = self.health, partial(getattr, self.groups, "all")
        answered = (self.setup, self.running, self.dispatcher, groups, self.engine)
        called = (self.setup, self.running, self.dispatcher, self.answers.answer)
        asked = (self.store, self.engine, self.queries, now_ms, monotonic, self.bodies)
        last_reload = partial(getattr, self.reload.reload, "status")
        running = (self._about, now_ms, self.started_ms, self.disk, last_reload)
        shown = agent_setup.running(self.setup, *running), self._seen()
        self.reload.shown = shown
        tried = (self.running.channels, guarded, now_ms, base, self.dispatcher)
        reloads = new_guard(self.hosts, lifecycle.RELOAD_BODIES)
        watched = partial(self.engine_sources.watched, self.engines)
        scraped = page, health.unready, self.setup.telemetry_path, _LINKS, health.stalled
        served = [
            *write.routes(intake, new_guard(self.hosts, write.BODIES)),
            *otlp.routes(self.otlp, intake, new_guard(self.hosts, otlp.BODIES)),
            *with_roles(metrics_routes(*scraped), self.setup.telemetry_path),
            *query.routes(*asked, external_labels=self.running.external_labels),
            *targets.routes(self._targets, self.elsewhere.alertmanagers.urls, self.scrape_jobs),
            self.scrape_jobs.probes.route(),
            *rules.routes(groups, base, monotonic, self.dispatcher.working.external),
            *why.routes(self.dispatcher, groups, base),
            *answer_links.routes(agent_setup.answering(*answered, self.clock)),
            *call_answers.routes(agent_setup.call_answering(*called, self.clock)),
            *history.routes(self.dispatcher, now_ms, ZoneInfo(self.setup.config.time_zone)),
            *incident_actions.routes(self.dispatcher, guarded, now_ms, base),
            *incidents.routes(self.dispatcher, base, self.delivery_loop.enrich),
            *oncall.routes(self.dispatcher, guarded, now_ms, self.running.emails),
            *alertmanager.routes(self.intake, groups, guarded, self.started_ms, base),
            *overview.routes(shown[1]),
            *silences.routes(self.dispatcher, guarded, now_ms),
            *engines_api.routes(watched, self.engines.forget, guarded, unrecorded),
            *receivers.routes(
                self.dispatcher, self.running.receiver_types, self.delivery_loop.gone_since
            ),
            *channels_api.routes(*tried, self.running.new_channel),
            *lifecycle.routes(self.reload.reload.reload, reloads),
            *drill.routes(self.dispatcher, guarded, now_ms),
            *heartbeats_api.routes(self.dispatcher, guarded, now_ms, reached),
            *tokens.routes(token_file(self.setup.config), guarded, now_ms, self._note),
            *status.routes(shown[0]),
            *runbooks.routes(lambda: bundled("docs/runbooks")),
        ]
        return [*served, *openapi.routes(served)]

    def _seen(self) -> overview.AgentState:
        return overview.AgentState(
            dispatcher=self.dispatcher,
            groups=lambda: self.groups.all,
            targets=self._targets,
            engines=lambda: [engine.up for engine in self.engine_sources.watched(self.engines)],
            receivers=self.running.paging_receivers,
            unwatched=unwatched(self.setup.config),
            now_ms=self.clock.now_ms,
            external_url=external_url(self.setup.config),
            expects_rules=bool(self.setup.config.rule_files),
            last_reload=partial(getattr, self.reload.reload, "status"),
        )

    def _note(self, event: str, actor: str, data: Mapping[str, str]) -> None:
        self.dispatcher.note(event, actor, data, self.clock.now_ms())

    def application(self) -> ASGIApp:
        app = server.application(self.routes())
        served = self.setup.web, self.clock.monotonic, self.setup.telemetry_path
        return checked(app, self.access, self.hosts, *served)

    def _targets(self) -> list[targets.ActiveTarget]:
        return [agent_setup.active_target(scraper, self._url) for scraper in self.agent.scrapers]

    def _about(self) -> Mapping[str, Any]:
        engines = self.engines
        return {
            "engines": engines.urls if engines else [],
            "worker": engines.worker.state if engines and engines.worker else "none",
            "receivers": list(self.running.channels),
            "rule_files": [file.path for file in self.running.read.rules],
            "reload": self.reload.as_json(),
            "storage": self.setup.config.storage.path,
            "journal": "down" if self.dispatcher.writer.down else "up",
        }

    @property
    def _url(self) -> str:
        return f"{'http' if self.setup.web.tls is None else 'https'}://{self.setup.address}"

    async def _greet(self, plan: plans.EnginePlan) -> None:
        """A few lines for whoever started us, once the GPUs were asked."""
        while not self.agent.ready:  # noqa: ASYNC110  (the agent has no event for it)
            await asyncio.sleep(0.1)
        counts = [n for last in self.agent.last.values() for n in values_of(last, "gpu_devices")]
        retention_ms = self.setup.config.storage.retention if self.disk.up else None
        about = (int(sum(counts)), self._worker_url, self._url, retention_ms)
        error = self.dispatcher.writer.last_error
        facts = await agent_setup.start_facts(self.setup, plan, *about, error)
        print(banner(facts), end="", flush=True)  # noqa: T201  (this is for the terminal)
