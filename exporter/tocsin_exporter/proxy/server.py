"""`tocsin proxy`: one address for the engine's clients, and one for the proxy's own metrics."""

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp

from tocsin_exporter import http_server
from tocsin_exporter.admission import Admission
from tocsin_exporter.allowed_hosts import HEALTH, HostCheck, own_hosts
from tocsin_exporter.basic_auth import PasswordCheck
from tocsin_exporter.clock import Clock
from tocsin_exporter.collectors.collector import Collector
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.collectors.inline import InlineCollector
from tocsin_exporter.connections import ConnectionLimits, Connections, most_connections
from tocsin_exporter.listen import joined
from tocsin_exporter.live_file import LiveFile
from tocsin_exporter.proxy.access_log import AccessLog
from tocsin_exporter.proxy.anomalies import anomalies
from tocsin_exporter.proxy.application import ProxyApp, ProxyLimits
from tocsin_exporter.proxy.client import ClientConnection
from tocsin_exporter.proxy.golden import GoldenPrompts, GoldenSet
from tocsin_exporter.proxy.keys import ClientKeys, KeyCheck
from tocsin_exporter.proxy.metrics import ProxyMetrics
from tocsin_exporter.proxy.upstream import Upstream, UpstreamAddress
from tocsin_exporter.proxy_identity import metrics_url
from tocsin_exporter.scrape import ScrapeTarget
from tocsin_exporter.scrape_manager import UNREAD, ScrapeManager
from tocsin_exporter.server import MetricsPage, ScrapeCounters, routes
from tocsin_exporter.snapshot import Exemplar, SeriesKey, Source
from tocsin_exporter.targets import own_target
from tocsin_exporter.threads import Threads
from tocsin_exporter.tls_connection import Handshakes, TlsConnection
from tocsin_exporter.web_config import LiveWebConfig

log = logging.getLogger(__name__)

_INTERVAL, _DEADLINE = 5.0, 4.0
_LOG_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class AccessLogOptions:
    """Where it is, at how many bytes a new one begins, and how many old ones stay."""

    path: Path
    most_bytes: int = 64 << 20
    keep: int = 5


@dataclass(frozen=True, slots=True)
class ProxyOptions:
    """`drain_seconds` is what requests under way get at the end. `web` has the TLS of the clients'
    address. `upstream_key` gives the key that the engine wants, "" for none. `live` are the files
    behind these that are read again when they change, and at SIGHUP."""

    upstream: UpstreamAddress
    limits: ProxyLimits = field(default_factory=ProxyLimits)
    most_connections: int = 2048
    drain_seconds: int = 30
    connect_seconds: float = 5.0
    keys: Callable[[], ClientKeys] = ClientKeys
    access_log: AccessLogOptions | None = None
    upstream_key: Callable[[], str] = lambda: ""
    upstream_host: str = ""
    judges_answers: bool = False
    golden: GoldenSet | None = None
    web: LiveWebConfig = field(default_factory=LiveWebConfig)
    live: Sequence[LiveFile[Any]] = ()
    instance: str = field(default_factory=socket.gethostname)


def application(options: ProxyOptions, clock: Clock) -> tuple[ProxyApp, AccessLog | None]:
    """The proxy itself. Raises OSError for an access log that cannot be opened."""
    metrics = ProxyMetrics(options.upstream.target)
    keys = KeyCheck(
        options.keys,
        PasswordCheck(lambda: options.keys().hashed, clock.monotonic, Threads(1, "bcrypt")),
    )

    def lost() -> None:
        metrics.log_lost += 1

    named = options.access_log
    access = AccessLog(named.path, named.most_bytes, named.keep, lost) if named else None
    app = ProxyApp(
        Upstream(options.upstream, options.connect_seconds),
        metrics,
        keys,
        options.limits,
        clock.wall,
        access.add if access else lambda line: None,
        options.upstream_key,
        options.upstream_host,
        anomalies if options.judges_answers else None,
    )
    return app, access


def golden_prompts(options: ProxyOptions, upstream: Upstream, clock: Clock) -> GoldenPrompts | None:
    """None where none are set."""
    if options.golden is None:
        return None
    host = options.upstream_host or joined(options.upstream.host, options.upstream.port)

    def headers() -> list[tuple[bytes, bytes]]:
        key = options.upstream_key()
        bearer = [(b"Authorization", b"Bearer " + key.encode("latin-1"))] if key else []
        return [(b"Host", host.encode("ascii")), *bearer]

    return GoldenPrompts(options.golden, upstream, headers, clock.monotonic)


def metrics_page(
    app: ProxyApp,
    golden: GoldenPrompts | None,
    connections: Connections,
    options: ProxyOptions,
    clock: Clock,
) -> tuple[ScrapeManager, ASGIApp]:
    """`/metrics` of the proxy: what it measured, under the engine's target, and itself."""
    host = Host(now=clock.wall)
    scrapes = ScrapeCounters(connections=connections)
    agent = ScrapeManager([], clock)
    measured: list[Collector] = [_Measured("proxy", app)]
    if golden is not None:
        measured.append(InlineCollector("golden", golden.samples))
    source, cheap = Source("llm", options.upstream.target), frozenset(c.name for c in measured)
    agent.add(ScrapeTarget("llm", source, tuple(measured), _INTERVAL, _DEADLINE, cheap))
    agent.add(own_target(host, options.instance, (InlineCollector("server", scrapes.samples),)))
    page = MetricsPage(agent, clock.monotonic, scrapes)
    web = Starlette(routes=routes(page, lambda: "" if agent.ready else UNREAD))
    return agent, HostCheck(web, own_hosts(), ("/metrics", *HEALTH))


class _Measured(InlineCollector):
    """What the proxy has measured, with requests as examples."""

    def __init__(self, name: str, app: ProxyApp) -> None:
        super().__init__(name, app.samples)
        self._metrics = app.metrics

    @property
    def exemplars(self) -> Mapping[SeriesKey, Exemplar]:
        return self._metrics.exemplars()


def proxy_server(
    app: ProxyApp,
    connections: Connections,
    drain_seconds: int,
    monotonic: Callable[[], float],
    web: LiveWebConfig | None = None,
) -> uvicorn.Server:
    """What listens to the engine's clients."""
    parting = PlainTextResponse("the proxy is shutting down\n", 503)
    first: Callable[..., Any] = partial(ClientConnection, monotonic)
    if web is not None and web.tls is not None:
        first = _behind_tls(first, web, connections)
    config = http_server.ServerConfig(app, connections, drain_seconds, parting, first)
    config.app = app  # redirects are the engine's, and pass as they are
    config.date_header = False
    return uvicorn.Server(config)


def _behind_tls(
    first: Callable[..., Any], web: LiveWebConfig, connections: Connections
) -> Callable[..., Any]:
    handshakes = Handshakes(Threads(1, "tls").begin())

    def connection(**of_uvicorn: Any) -> TlsConnection:
        return TlsConnection(first(**of_uvicorn), web.server_tls, handshakes, connections)

    return connection


async def serve(
    options: ProxyOptions, clients: list[socket.socket], metrics: list[socket.socket]
) -> None:
    """Pass requests until SIGINT or SIGTERM; those under way then have their time to end."""
    clock = Clock()
    limits = ConnectionLimits(connections=most_connections(options.most_connections))
    connections = Connections(limits)
    app, access = application(options, clock)
    app.metrics_url = metrics_url(*metrics[0].getsockname()[:2])
    golden = golden_prompts(options, app.upstream, clock)
    agent, page = metrics_page(app, golden, connections, options, clock)
    parting = PlainTextResponse("the proxy is shutting down\n", 503)
    front = proxy_server(app, connections, options.drain_seconds, clock.monotonic, options.web)
    back = uvicorn.Server(
        http_server.ServerConfig(Admission(page), Connections(limits), 1, parting)
    )
    for what, sockets in (("requests", clients), ("metrics", metrics)):
        for taken in sockets:
            extra = {"for": what, "address": joined(*taken.getsockname()[:2])}
            log.info("Listening on", extra=extra)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):  # uvicorn ends, and then raises what it caught
        loop.add_signal_handler(number, lambda: None)
    loop.add_signal_handler(signal.SIGHUP, _read_again, options.live)
    async with asyncio.TaskGroup() as group:
        asked = [golden.run()] if golden is not None else []
        files = [options.web.follow(), *(live.follow() for live in options.live)]
        beside = [agent.run(), clock.follow(), *files, *asked, back._serve(metrics)]
        tasks = [group.create_task(work) for work in beside]
        await front.serve(clients)
        back.should_exit = True
        await tasks.pop()
        for task in tasks:
            task.cancel()
    app.upstream.close()
    if access is not None:
        access.close(_LOG_SECONDS)


def _read_again(files: Sequence[LiveFile[Any]]) -> None:
    for file in files:
        file.read_again()


def run_proxy(
    options: ProxyOptions, clients: list[socket.socket], metrics: list[socket.socket]
) -> None:
    """Serve in this thread. Raises OSError for an access log that cannot be opened."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(options, clients, metrics))
