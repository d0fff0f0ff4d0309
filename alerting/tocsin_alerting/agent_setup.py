"""What a start of the agent is given, read and checked."""

import logging
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from tocsin_alerting.api.http.access import Credentials
from tocsin_alerting.api.prometheus.status import LastReload, RuntimeInfo
from tocsin_alerting.api.prometheus.targets import ActiveTarget
from tocsin_alerting.api.tocsin.answer_chart import AnswerChart
from tocsin_alerting.api.tocsin.answer_links import Answering
from tocsin_alerting.api.tocsin.answer_words import PageWords
from tocsin_alerting.api.tocsin.call_answers import CallAnswering
from tocsin_alerting.banner import DEMO, StartFacts
from tocsin_alerting.bundled import bundled
from tocsin_alerting.config.config import Config
from tocsin_alerting.config.effective import effective
from tocsin_alerting.config.link_reach import resolves_in_time, unreachable_links
from tocsin_alerting.config.load import build_channel, emails, external_url, phones
from tocsin_alerting.config.paging import nobody_paged, unwatched
from tocsin_alerting.config.policies import ContactSection
from tocsin_alerting.config.reading import ConfigReader, ReadConfig
from tocsin_alerting.gpu_options import GpuOptions
from tocsin_alerting.incidents.dispatcher import Dispatcher
from tocsin_alerting.incidents.recovery import JournalRecovery
from tocsin_alerting.local.discovery import USUAL_PORTS
from tocsin_alerting.local.engine_plan import EnginePlan, make_plan
from tocsin_alerting.local.systemd import HangupSignal, SystemdNotifier
from tocsin_alerting.loops.rule_loop import targets_in_trouble
from tocsin_alerting.notify.channel import AnswerIncident, Channel
from tocsin_alerting.notify.registry import RECORDS
from tocsin_alerting.notify.signed_links import SignedLinks
from tocsin_alerting.promql.engine import QueryEngine
from tocsin_alerting.rules.state import GroupState
from tocsin_alerting.settings import size_text
from tocsin_alerting.time_format import format_duration
from tocsin_alerting.tsdb.disk_persistence import DiskPersistence
from tocsin_exporter import targets
from tocsin_exporter.clock import Clock
from tocsin_exporter.collector_settings import HostView
from tocsin_exporter.collectors.engine import EngineCollector
from tocsin_exporter.collectors.host import Host, host_of
from tocsin_exporter.collectors.probe import ProbeCollector
from tocsin_exporter.collectors.program import matcher
from tocsin_exporter.collectors.scraped_page import ScrapedPage
from tocsin_exporter.scrape import Scraper
from tocsin_exporter.server import ScrapeCounters
from tocsin_exporter.simulation.machine import Machine
from tocsin_exporter.snapshot import MachineName
from tocsin_exporter.targets import ENGINE_AREA, OWN_AREA, SCRAPE_CONFIGS, ScrapeConfig
from tocsin_exporter.threads import Threads, in_thread
from tocsin_exporter.web_config import LiveWebConfig

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Setup:
    """All that a start needs, read and checked: nothing here can be wrong any more. `reader` reads
    it again for a reload."""

    read: ReadConfig
    reader: ConfigReader
    credentials: Callable[[], Credentials]
    sockets: list[socket.socket]
    address: str
    instance: str
    load_rps: float | None = None
    engine_ports: Sequence[int] = USUAL_PORTS
    engine_owners: frozenset[int] | None = None
    machine: HostView = HostView()
    max_requests: int = 40
    telemetry_path: str = "/metrics"
    scrapes: ScrapeCounters = field(default_factory=ScrapeCounters)
    log_format: str = "logfmt"
    flags: Mapping[str, str] = field(default_factory=dict)
    systemd: SystemdNotifier = field(default_factory=lambda: SystemdNotifier({}))
    hangup: HangupSignal = field(default_factory=HangupSignal)
    hold: Callable[[], None] = lambda: None
    exposure: str = ""
    web: LiveWebConfig = field(default_factory=LiveWebConfig)
    gpus: GpuOptions = GpuOptions()
    simulated_gpus: Machine | None = None

    @property
    def config(self) -> Config:
        """With which it is started; what of it holds now is in `RunningConfig`."""
        return self.read.config

    @property
    def links(self) -> SignedLinks:
        return self.reader.links

    def begin(self) -> None:
        """Take the threads that sending needs, before anything else does, and the key of the links
        in messages. Raises RuntimeError."""
        for built in self.read.channels.values():
            built.channel.begin()
        for problem in self.read.templates.problems:
            log.error("template failed, the bundled text is sent: %s", problem)
        for ping in self.read.heartbeats:
            ping.begin()
        self.links.begin(Path(self.config.storage.path))


class RunningConfig:
    """What is in force. Who is given one of these objects sees in it what a reload has brought:
    they stay the same, and what is in them changes."""

    def __init__(self, read: ReadConfig, links: SignedLinks) -> None:
        self._links = links
        self.channels: dict[str, Channel] = {}
        self.receiver_types: dict[str, str] = {}
        self.paging_receivers: list[str] = []
        self.contacts: dict[str, ContactSection] = {}
        self.emails: dict[str, str] = {}
        self.phones: dict[str, str] = {}
        self.external_labels: dict[str, str] = {}
        self.take(read)

    @property
    def config(self) -> Config:
        return self.read.config

    def take(self, read: ReadConfig) -> None:
        self.read, config = read, read.config
        _become(self.channels, {name: one.channel for name, one in read.channels.items()})
        _become(self.receiver_types, {name: one.type for name, one in config.receivers.items()})
        _become(self.contacts, config.contacts)
        _become(self.emails, emails(config))
        _become(self.phones, phones(config))
        _become(self.external_labels, config.external_labels)
        self.paging_receivers[:] = paging_receivers(config)

    def new_channel(self, name: str, language: str) -> Channel:
        """As `build_channel`."""
        return build_channel(self.config, os.environ, self._links, name, language)


def _become(known: dict[str, Any], now: Mapping[str, Any]) -> None:
    known.clear()
    known.update(now)


def configured_scrapes(config: Config) -> dict[str, ScrapeConfig]:
    """By area; `0s` turns an area off, only what the agent says of itself is always read."""
    collect = config.collect
    intervals = {
        "host": collect.host / 1000,
        "gpu": collect.gpu / 1000,
        "process": collect.processes / 1000,
        ENGINE_AREA: collect.engines / 1000,
        OWN_AREA: collect.host / 1000 or SCRAPE_CONFIGS[OWN_AREA].interval,
    }
    scrapes = targets.scrape_configs(intervals)
    return {area: scrape for area, scrape in scrapes.items() if scrape.interval > 0}


def machine_name(setup: Setup, areas: Mapping[str, ScrapeConfig]) -> MachineName:
    """Earlier versions took the listen address for the name of the machine."""
    jobs = {scrape.job for area, scrape in areas.items() if area != ENGINE_AREA}
    return MachineName(frozenset(jobs), setup.instance, setup.address)


def running(
    setup: Setup,
    about: Callable[[], Mapping[str, Any]],
    now_ms: Callable[[], int],
    started_ms: int,
    disk: DiskPersistence,
    last_reload: Callable[[], LastReload],
) -> RuntimeInfo:
    """What `/api/v1/status` tells."""
    config = setup.config
    return RuntimeInfo(
        about=about,
        now_ms=now_ms,
        started_ms=started_ms,
        flags=setup.flags,
        config=effective(config),
        last_reload=last_reload,
        retention=retention_words(config),
        broken=lambda: disk.status.broken,
    )


def retention_words(config: Config) -> str:
    return f"{format_duration(config.storage.retention)} or {size_text(config.storage.size)}"


async def planned_engines(setup: Setup, recovery: JournalRecovery) -> EnginePlan:
    """Those that are named, found, or known from the last run."""
    config = setup.config
    named = [engine.access for engine in config.engines]
    own_one = config.worker
    troubled = targets_in_trouble(recovery.saved_instances, recovery.saved_forgotten)
    where = (own_one.enabled, own_one.host, own_one.port, setup.engine_ports)
    saved, owners = recovery.saved_engines, setup.engine_owners
    return await make_plan(named, *where, troubled, saved, owners)


def active_target(scraper: Scraper, own_url: str) -> ActiveTarget:
    """A source of this machine is what a scrape of its area shows; an engine has a page itself,
    and is listed once, by the source that has its `up`."""
    watch, last = scraper.target, scraper.original or scraper.snapshot
    page = watch.page.target if watch.page else None
    pages = [item.metrics_url for item in watch.collectors if isinstance(item, EngineCollector)]
    pages += [own_url + item.path for item in watch.collectors if isinstance(item, ProbeCollector)]
    return ActiveTarget(
        source=last.source if last else watch.source,
        url=page.url
        if page
        else pages[0]
        if pages
        else f"{own_url}/metrics?collect[]={watch.area}",
        interval=watch.interval,
        deadline=page.timeout if page else watch.deadline,
        last_ms=last.at_ms if last else None,
        seconds=last.duration_seconds if last else 0.0,
        ok=last.ok if last and last.report else None,
        error=scraper.error.removeprefix(f"{ScrapedPage.name}: "),
        absent=scraper.absent,
        job_name=page.job.name if page else "",
        labels=page.labels if page else (),
        discovered=page.discovered if page else (),
    )


def host(setup: Setup, now: Callable[[], float]) -> Host:
    """This machine as its collectors are to see it; `now` gives Unix seconds."""
    config = setup.config
    groups = {one.name: matcher(one.comm, one.exe, one.cmdline) for one in config.processes}
    wanted = config.targets.of_an_engine
    return host_of(
        setup.machine,
        now,
        process_groups=groups,
        gpus=config.gpus,
        gpu_hostname=setup.gpus.hostname(setup.instance),
        simulated_gpus=setup.simulated_gpus,
        engine_targets=wanted,
    )


async def links_trouble(setup: Setup) -> str:
    """Why people cannot follow the links in messages, "" where nothing is known to keep them; the
    name is looked up off the loop, and its trouble logged here: at the start nobody waited."""
    config = setup.config
    if nobody_paged(config):
        return ""
    given = setup.flags.get("web.listen-address", "")
    asked = partial(unreachable_links, config, given.split(",") if given else ())
    found = await in_thread(lambda: asked(resolves_in_time), Threads(1, "own address"))
    if found and not asked():
        log.warning("%s", found)
    return found


def answering(
    setup: Setup,
    running: RunningConfig,
    dispatcher: Dispatcher,
    groups: Callable[[], Sequence[GroupState]],
    engine: QueryEngine,
    clock: Clock,
) -> Answering:
    """What the page behind the links in messages is made of."""
    config = setup.config
    return Answering(
        dispatcher=dispatcher,
        links=setup.links,
        groups=groups,
        chart=AnswerChart(engine, Threads(1, "charts"), clock.monotonic),
        now_ms=clock.now_ms,
        monotonic=clock.monotonic,
        zone=ZoneInfo(config.time_zone),
        language=config.language,
        contacts=running.contacts.keys(),
        receivers=running.receiver_types.keys(),
        external_url=external_url(config),
        runbooks=lambda: bundled("docs/runbooks"),
    )


def call_answering(
    setup: Setup,
    running: RunningConfig,
    dispatcher: Dispatcher,
    answer: AnswerIncident,
    clock: Clock,
) -> CallAnswering:
    """What the keys that are pressed in calls are taken with."""
    config = setup.config
    return CallAnswering(
        channels=running.channels,
        links=setup.links,
        dispatcher=dispatcher,
        answer=answer,
        over=PageWords(config.language)["failed_over"],
        phones=running.phones,
        contacts=running.contacts.keys(),
        external_url=external_url(config),
        monotonic=clock.monotonic,
    )


def paging_receivers(config: Config) -> list[str]:
    """Those that reach a person: all that do more than keep a record."""
    receivers = config.receivers.items()
    return [name for name, settings in receivers if not isinstance(settings, RECORDS)]


async def start_facts(
    setup: Setup,
    plan: EnginePlan,
    gpus: int,
    worker_url: str,
    url: str,
    retention_ms: int | None,
    journal_error: str,
) -> StartFacts:
    """What a start says; `url` is where it is served."""
    config = setup.config
    return StartFacts(
        gpus=gpus,
        engines=[f"{engine.kind} at {engine.url}" for engine in plan.engines],
        worker=DEMO.format(worker_url) if plan.start_worker else plan.why_not,
        silent=plan.silent,
        strangers=[(stranger.url, stranger.user) for stranger in plan.untrusted],
        rules=setup.read.rules,
        receivers=list(setup.read.channels),
        directory=config.storage.path,
        retention_ms=retention_ms,
        url=url,
        journal_error=journal_error,
        nobody=nobody_paged(config),
        unwatched=unwatched(config),
        links=await links_trouble(setup),
        load_rps=setup.load_rps,
        exposure=setup.exposure,
        simulated=setup.gpus.simulate,
    )
