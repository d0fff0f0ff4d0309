"""The probes of this agent: those on its own schedule, and those that are asked for."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from tocsin_alerting.api.http.envelope import ApiError
from tocsin_alerting.api.http.roles import Role, RoleRoute, plainly, principal_of, require
from tocsin_alerting.config.probing import ProbesSection
from tocsin_alerting.tsdb.store import Store
from tocsin_exporter.clock import Clock
from tocsin_exporter.probe_endpoint import ProbeEndpoint, ProbeTargets, probe_seconds
from tocsin_exporter.probes.loop import ProbeLoop
from tocsin_exporter.probes.modules import ProbeModule
from tocsin_exporter.scrape_manager import ScrapeManager
from tocsin_exporter.snapshot import Source
from tocsin_exporter.targets import probe_target

log = logging.getLogger(__name__)

Modules = Mapping[str, ProbeModule]


@dataclass(frozen=True, slots=True)
class _Scheduled:
    """One probe on the schedule; times in seconds."""

    target: str
    module: ProbeModule
    interval: float
    seconds: float


class AgentProbes:
    """Hands scheduled probes to the `manager`. One that is as it was goes on; the series of one
    that goes end at once."""

    def __init__(self, manager: ScrapeManager, store: Store, clock: Clock) -> None:
        self._manager, self._store, self._clock = manager, store, clock
        self._loop = ProbeLoop(clock.monotonic)
        self._running: dict[Source, _Scheduled] = {}
        self._asked = ProbeTargets({})
        self._endpoint = ProbeEndpoint(self._loop, lambda: self._asked, _refusal)

    def configure(self, section: ProbesSection, modules: Modules) -> None:
        """Probe this from now on."""
        wanted = _scheduled(section, modules)
        pairs = {(one.target, one.module.name) for one in wanted.values()}
        self._asked = ProbeTargets(modules, pairs)
        for source, one in list(self._running.items()):
            if wanted.get(source) != one:
                self._remove(source, ends=source not in wanted)
        for source, one in wanted.items():
            if source not in self._running:
                self._add(source, one)

    def route(self) -> RoleRoute:
        """Whoever may scrape may ask for what is configured."""
        return RoleRoute("/probe", self._endpoint.answer, Role.METRICS, ["GET"])

    def close(self, wait: float = 0.0) -> None:
        """As `ProbeLoop.close`."""
        self._loop.close(wait)

    def _add(self, source: Source, one: _Scheduled) -> None:
        about = (one.target, one.module, one.interval, one.seconds)
        try:
            self._manager.add(probe_target(self._loop, source, *about))
        except ValueError as error:  # a scrape job has the same
            log.error("probe refused: %s", error, extra={"target": one.target})
            return
        self._running[source] = one

    def _remove(self, source: Source, ends: bool) -> None:
        del self._running[source]
        self._manager.remove(source)
        if ends:
            self._store.end_source(source, self._clock.now_ms())


def _scheduled(section: ProbesSection, modules: Modules) -> dict[Source, _Scheduled]:
    found = {}
    for group in section.targets:
        interval = (group.interval or section.interval) / 1000
        module = modules[group.module]
        seconds = probe_seconds(min(10.0, interval), module.timeout)
        for target in group.targets:
            source = Source(group.job or section.job, target)
            found[source] = _Scheduled(target, module, interval, seconds)
    return found


def _refusal(request: Request) -> Response | None:
    """Any target may be chosen by the role respond."""
    try:
        require(principal_of(request), Role.RESPOND)
    except ApiError as error:
        return plainly(error)
    return None
