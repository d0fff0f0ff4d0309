"""`tocsin exporter`: the agent and its metrics page, without store, rules or alerts."""

import asyncio
import logging
import signal
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from tocsin_exporter import http_server
from tocsin_exporter.admission import Admission
from tocsin_exporter.allowed_hosts import HEALTH, HostCheck, own_hosts
from tocsin_exporter.basic_auth import PasswordCheck
from tocsin_exporter.clock import Clock
from tocsin_exporter.collector_settings import HostView
from tocsin_exporter.collectors.host import Host, host_of
from tocsin_exporter.collectors.inline import InlineCollector
from tocsin_exporter.connections import (
    MOST_CONNECTIONS,
    ConnectionLimits,
    Connections,
    most_connections,
)
from tocsin_exporter.duplicate_exporters import DuplicateExporters
from tocsin_exporter.listen import bind, joined
from tocsin_exporter.loop_watchdog import LoopWatchdog, own_request
from tocsin_exporter.scrape_manager import UNREAD, ScrapeManager
from tocsin_exporter.server import MOST_SCRAPES, MetricsPage, ScrapeCounters, routes
from tocsin_exporter.simulation.machine import Machine
from tocsin_exporter.targets import (
    engine_target,
    local_targets,
    own_target,
)
from tocsin_exporter.threads import Threads
from tocsin_exporter.web_config import LiveWebConfig, WebConfigured, front

if TYPE_CHECKING:
    from tocsin_exporter.engine_access import EngineAccess
    from tocsin_exporter.probes.modules import ProbeModule
    from tocsin_exporter.tailing.log_sources import LogSources
    from tocsin_exporter.tailing.settings import LogSource

log = logging.getLogger(__name__)

DEFAULT_ADDRESS = "127.0.0.1:4911"
_GOODBYE_SECONDS = 2
_PROBES_FOR_USERS = (
    "other machines may have targets probed only with a user or a certificate of"
    " --web.config.file\n"
)


@dataclass(frozen=True, slots=True)
class ExporterOptions:
    """The flags of exporter-toolkit and node_exporter, under their names.

    `without` names collectors or areas that are off. `max_requests` 0 sets no limit. In the
    directory `log_positions` is kept how far `logs` were read.
    """

    listen_addresses: Sequence[str] = (DEFAULT_ADDRESS,)
    instance: str = field(default_factory=socket.gethostname)
    telemetry_path: str = "/metrics"
    max_requests: int = MOST_SCRAPES
    max_connections: int = MOST_CONNECTIONS
    machine: HostView = HostView()
    without: frozenset[str] = frozenset()
    engines: Sequence["EngineAccess"] = ()
    web: LiveWebConfig = field(default_factory=LiveWebConfig)
    simulated_gpus: Machine | None = None
    gpu_hostname: Mapping[str, str] = field(default_factory=dict)
    logs: Sequence["LogSource"] = ()
    log_positions: Path | None = None
    probe_modules: "Mapping[str, ProbeModule]" = field(default_factory=dict)


def build(
    options: ExporterOptions,
    clock: Clock,
    loop_watch: LoopWatchdog,
    scrapes: ScrapeCounters | None = None,
    log_sources: "LogSources | None" = None,
    host: Host | None = None,
) -> tuple[ScrapeManager, ASGIApp]:
    """The agent and the web application over it, in the way of the data. `host` is the machine that
    is read, by default that of the options."""
    simulated = {
        "simulated_gpus": options.simulated_gpus,
        "gpu_hostname": options.gpu_hostname,
    }
    host = host or host_of(options.machine, clock.wall, **simulated)
    instance = options.instance
    scrapes = scrapes or ScrapeCounters()
    agent = ScrapeManager(local_targets(host, instance, without=options.without), clock)
    for access in options.engines:
        agent.add(engine_target(host, access))
    stages = [
        InlineCollector("agent", agent.samples),
        InlineCollector("loop", loop_watch.samples),
        InlineCollector("server", scrapes.samples),
    ]
    if log_sources is not None:
        stages.append(InlineCollector("logs", log_sources.samples))
    agent.add(own_target(host, instance, stages))
    page = MetricsPage(agent, clock.monotonic, scrapes, options.max_requests)

    def unready() -> str:
        return "" if agent.ready else UNREAD

    probe = [_probe_route(options, clock)] if options.probe_modules else []
    app = Starlette(routes=[*routes(page, unready, options.telemetry_path), *probe])
    auth = PasswordCheck(options.web.users, clock.monotonic, Threads(1, "bcrypt"))
    checked = HostCheck(app, own_hosts(), (options.telemetry_path, *HEALTH))
    return agent, WebConfigured(checked, options.web, clock.monotonic, auth)


def _probe_route(options: ExporterOptions, clock: Clock) -> Route:
    """For this machine, and for whoever has proven who he is; loaded where it is wanted alone."""
    from tocsin_exporter.local_client import is_from_this_machine
    from tocsin_exporter.probe_endpoint import ProbeEndpoint, ProbeTargets
    from tocsin_exporter.probes.loop import ProbeLoop

    def refusal(request: Request) -> Response | None:
        if options.web.current.guarded or is_from_this_machine(request):
            return None
        return PlainTextResponse(_PROBES_FOR_USERS, 403)

    targets = ProbeTargets(options.probe_modules)
    endpoint = ProbeEndpoint(ProbeLoop(clock.monotonic), lambda: targets, refusal)
    return Route("/probe", endpoint.answer, methods=["GET"])


async def serve(
    options: ExporterOptions,
    sockets: list[socket.socket],
    clock: Clock | None = None,
    host: Host | None = None,
) -> None:
    """Sample and answer until SIGINT or SIGTERM; `host` as in `build`."""
    clock = clock or Clock()
    loop_watch = LoopWatchdog(own_request(sockets, options.web.tls), clock.monotonic)
    limits = ConnectionLimits(connections=most_connections(options.max_connections))
    scrapes = ScrapeCounters(connections=Connections(limits))
    log_sources = _log_sources(options, clock)
    agent, app = build(options, clock, loop_watch, scrapes, log_sources, host)
    admitted = Admission(app)
    parting = PlainTextResponse("the exporter is shutting down\n", 503)
    connections, first = scrapes.connections, front(options.web, scrapes.connections)
    server = uvicorn.Server(
        http_server.ServerConfig(admitted, connections, _GOODBYE_SECONDS, parting, first)
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):  # uvicorn ends, and then raises what it caught
        loop.add_signal_handler(number, lambda: None)
    loop_watch.start()
    async with asyncio.TaskGroup() as group:
        others = DuplicateExporters(agent.collectors)
        beside = (agent.run(), clock.follow(), options.web.follow(), others.follow())
        sampling = [group.create_task(work) for work in beside]
        await server.serve(sockets)
        loop_watch.stop()
        for task in sampling:
            task.cancel()
    if log_sources is not None:
        log_sources.close()


def _log_sources(options: ExporterOptions, clock: Clock) -> "LogSources | None":
    """None where no log is to be read: what reads them takes memory."""
    if not options.logs:
        return None
    from tocsin_exporter.tailing.log_sources import LogSources

    sources = LogSources(options.log_positions, clock.wall, clock.monotonic)
    sources.configure(options.logs)
    return sources


def run_exporter(options: ExporterOptions, sockets: list[socket.socket] | None = None) -> None:
    """Serve in this thread, on `sockets` or on those of the options.

    Raises OSError when an address is taken, ValueError for a bad one.
    """
    sockets = sockets or [bind(address) for address in options.listen_addresses]
    for listener in sockets:
        log.info("Listening on", extra={"address": joined(*listener.getsockname()[:2])})
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(options, sockets))
