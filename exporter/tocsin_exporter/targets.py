"""Which sources there are on one machine, how often each is read, and under which job.

What is asked by HTTP is loaded with the first of it: its client takes 6 MB, and a machine without
engines has none.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tocsin_exporter.collectors import COLLECTORS
from tocsin_exporter.collectors.collector import Collector
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.scrape import ScrapeTarget
from tocsin_exporter.slices import Turns
from tocsin_exporter.snapshot import Source

if TYPE_CHECKING:
    from tocsin_exporter.engine_access import EngineAccess
    from tocsin_exporter.probes.loop import ProbeLoop
    from tocsin_exporter.probes.modules import ProbeModule
    from tocsin_exporter.scrape_job import JobTarget

OWN_AREA = "tocsin"
ENGINE_AREA = "llm"
PROBE_AREA = "probe"  # what `probes` names: kept, and not on our own page
JOB_AREA = "scrape"  # what `scrape_configs` names: kept, and not on our own page
_GRACE_SECONDS = 1.0
_SHARE_OF_DEADLINE = 0.9
# An engine that works answers late when every core is busy; to call it down must mean something.
SHORTEST_ENGINE_DEADLINE = 2.2


@dataclass(frozen=True, slots=True)
class ScrapeConfig:
    """`interval` and `deadline` in seconds, the deadline of each collector by itself."""

    job: str
    interval: float
    deadline: float


SCRAPE_CONFIGS: dict[str, ScrapeConfig] = {
    "host": ScrapeConfig("node", 5.0, 4.0),
    "gpu": ScrapeConfig("dcgm", 1.0, 0.9),
    "process": ScrapeConfig("process", 15.0, 10.0),
    ENGINE_AREA: ScrapeConfig("llm", 5.0, 4.5),
    OWN_AREA: ScrapeConfig("tocsin", 5.0, 4.0),
}


def scrape_configs(intervals: Mapping[str, float]) -> dict[str, ScrapeConfig]:
    """The defaults with other intervals (seconds) by area; deadlines keep their share."""
    return {
        area: _scrape_config(area, usual, intervals.get(area, usual.interval))
        for area, usual in SCRAPE_CONFIGS.items()
    }


def _scrape_config(area: str, usual: ScrapeConfig, interval: float) -> ScrapeConfig:
    deadline = interval * usual.deadline / usual.interval
    shortest = SHORTEST_ENGINE_DEADLINE if area == ENGINE_AREA else 0.0
    return ScrapeConfig(usual.job, interval, max(deadline, shortest))


def local_targets(
    host: Host,
    instance: str,
    chosen: Mapping[str, ScrapeConfig] = SCRAPE_CONFIGS,
    without: frozenset[str] = frozenset(),
) -> list[ScrapeTarget]:
    """The sources of this machine but the agent itself; `without` names collectors or areas."""
    off = {OWN_AREA, ENGINE_AREA, *without, *host.settings.areas_off}
    areas = [area for area in chosen if area not in off]
    targets = (_target(area, host, instance, chosen[area], without) for area in areas)
    return [target for target in targets if target.collectors]


def own_target(
    host: Host,
    instance: str,
    stages: Sequence[Collector],
    scrape_config: ScrapeConfig = SCRAPE_CONFIGS[OWN_AREA],
) -> ScrapeTarget:
    """The agent itself: its process, and what each stage says of itself, read anew at a scrape."""
    target = _target(OWN_AREA, host, instance, scrape_config, frozenset())
    return ScrapeTarget(
        area=OWN_AREA,
        source=target.source,
        collectors=(*target.collectors, *stages),
        interval=scrape_config.interval,
        deadline=scrape_config.deadline,
        cheap=target.cheap | {stage.name for stage in stages},
    )


def engine_target(
    host: Host, access: "EngineAccess", scrape_config: ScrapeConfig = SCRAPE_CONFIGS[ENGINE_AREA]
) -> ScrapeTarget:
    """One inference engine; its target is the instance of its source.

    The engine gets less time than the runner would give it, so that it can say that it is down.
    """
    from tocsin_exporter.collectors.engine import EngineCollector
    from tocsin_exporter.collectors.engine_page import OriginalPage

    original = OriginalPage(access.target, access.job) if access.keep_original else None
    patience = scrape_config.deadline * _SHARE_OF_DEADLINE
    access = replace(access, targets=access.targets or host.engine_targets)
    engine = EngineCollector(access, host.now, patience, original=original)
    return ScrapeTarget(
        area=ENGINE_AREA,
        source=Source(scrape_config.job, engine.target),
        collectors=(engine,),
        interval=scrape_config.interval,
        deadline=scrape_config.deadline,
        target=engine.target,
        silent=(engine.up(0.0),),
        original=original,
    )


def job_target(
    target: "JobTarget", turns: Turns | None = None, lag: Callable[[], float] = lambda: 0.0
) -> ScrapeTarget:
    """One page of a scrape job; it has its timeout to answer, and may wait for an interval to be
    read. Its offset spreads the targets over the interval, as Prometheus does: one server may have
    many."""
    from tocsin_exporter.collectors.scraped_page import ScrapedPage

    page = ScrapedPage(target, turns=turns, lag=lag)
    named = f"{target.source.job}/{target.source.instance}"
    return ScrapeTarget(
        area=JOB_AREA,
        source=target.source,
        collectors=(page,),
        interval=target.interval,
        deadline=target.timeout + target.interval,
        target=named,
        page=page,
        offset=_spread(f"{named}{target.url}") * target.interval,
    )


def _spread(text: str) -> float:
    """A share of 1 that is always that of `text`."""
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def probe_target(
    loop: "ProbeLoop",
    source: Source,
    target: str,
    module: "ProbeModule",
    interval: float,
    seconds: float,
) -> ScrapeTarget:
    """One probe each `interval`, which may take `seconds`; all are spread over the interval."""
    from tocsin_exporter.collectors.probe import ProbeCollector

    named = f"{source.job}/{source.instance}"
    return ScrapeTarget(
        area=PROBE_AREA,
        source=source,
        collectors=(ProbeCollector(loop, target, module, seconds),),
        interval=interval,
        deadline=seconds + _GRACE_SECONDS,
        target=named,
        offset=_spread(named) * interval,
    )


def _target(
    area: str, host: Host, instance: str, scrape_config: ScrapeConfig, without: frozenset[str]
) -> ScrapeTarget:
    entries = {
        name: entry
        for name, entry in COLLECTORS.items()
        if entry.area == area and name not in without and host.settings.enabled(name)
    }
    # A hung mount must be given up well before the collector of all mounts is.
    patient = replace(host, mount_seconds=min(host.mount_seconds, scrape_config.deadline / 2))
    return ScrapeTarget(
        area=area,
        source=Source(scrape_config.job, instance),
        collectors=tuple(entry.make(patient) for entry in entries.values()),
        interval=scrape_config.interval,
        deadline=scrape_config.deadline,
        cheap=frozenset(name for name, entry in entries.items() if entry.cheap),
    )
