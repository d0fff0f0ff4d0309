"""Which sources there are on one machine, how often each is read, and under which job."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tocsin_exporter.collectors import COLLECTORS
from tocsin_exporter.collectors.collector import Collector
from tocsin_exporter.collectors.engine import Engine
from tocsin_exporter.collectors.engine_page import OriginalPage
from tocsin_exporter.collectors.site import Site
from tocsin_exporter.engine_access import EngineAccess
from tocsin_exporter.scrape import Watch
from tocsin_exporter.snapshot import Source

OWN_AREA = "tocsin"
ENGINE_AREA = "llm"
_SHARE_OF_DEADLINE = 0.9
# An engine that works answers late when every core is busy; to call it down must mean something.
SHORTEST_ENGINE_DEADLINE = 2.2


@dataclass(frozen=True, slots=True)
class Rhythm:
    """`interval` and `deadline` in seconds, the deadline of each collector by itself."""

    job: str
    interval: float
    deadline: float


RHYTHMS: dict[str, Rhythm] = {
    "host": Rhythm("node", 5.0, 4.0),
    "gpu": Rhythm("dcgm", 1.0, 0.9),
    "process": Rhythm("process", 15.0, 10.0),
    ENGINE_AREA: Rhythm("llm", 5.0, 4.5),
    OWN_AREA: Rhythm("tocsin", 5.0, 4.0),
}


def rhythms(intervals: Mapping[str, float], jobs: Mapping[str, str]) -> dict[str, Rhythm]:
    """The defaults with other intervals (seconds) and jobs by area; deadlines keep their share."""
    return {
        area: _rhythm(area, usual, intervals.get(area, usual.interval), jobs.get(area, usual.job))
        for area, usual in RHYTHMS.items()
    }


def _rhythm(area: str, usual: Rhythm, interval: float, job: str) -> Rhythm:
    deadline = interval * usual.deadline / usual.interval
    shortest = SHORTEST_ENGINE_DEADLINE if area == ENGINE_AREA else 0.0
    return Rhythm(job, interval, max(deadline, shortest))


def local_watches(
    site: Site,
    instance: str,
    chosen: Mapping[str, Rhythm] = RHYTHMS,
    without: frozenset[str] = frozenset(),
) -> list[Watch]:
    """The sources of this machine but the agent itself; `without` names collectors or areas."""
    areas = [area for area in chosen if area not in {OWN_AREA, ENGINE_AREA, *without}]
    watches = (_watch(area, site, instance, chosen[area], without) for area in areas)
    return [watch for watch in watches if watch.collectors]


def own_watch(
    site: Site, instance: str, stages: Sequence[Collector], rhythm: Rhythm = RHYTHMS[OWN_AREA]
) -> Watch:
    """The agent itself: its process, and what each stage says of itself, read anew at a scrape."""
    watch = _watch(OWN_AREA, site, instance, rhythm, frozenset())
    return Watch(
        area=OWN_AREA,
        source=watch.source,
        collectors=(*watch.collectors, *stages),
        interval=rhythm.interval,
        deadline=rhythm.deadline,
        cheap=watch.cheap | {stage.name for stage in stages},
    )


def engine_watch(site: Site, access: EngineAccess, rhythm: Rhythm = RHYTHMS[ENGINE_AREA]) -> Watch:
    """One inference engine; its target is the instance of its source.

    The engine gets less time than the runner would give it, so that it can say that it is down.
    """
    original = OriginalPage(access.target, access.job) if access.keep_original else None
    patience = rhythm.deadline * _SHARE_OF_DEADLINE
    engine = Engine(access, site.now, patience, original=original)
    return Watch(
        area=ENGINE_AREA,
        source=Source(rhythm.job, engine.target),
        collectors=(engine,),
        interval=rhythm.interval,
        deadline=rhythm.deadline,
        target=engine.target,
        silent=(engine.up(0.0),),
        original=original,
    )


def _watch(area: str, site: Site, instance: str, rhythm: Rhythm, without: frozenset[str]) -> Watch:
    entries = {
        name: entry
        for name, entry in COLLECTORS.items()
        if entry.area == area and name not in without
    }
    # A hung mount must be given up well before the collector of all mounts is.
    patient = replace(site, mount_seconds=min(site.mount_seconds, rhythm.deadline / 2))
    return Watch(
        area=area,
        source=Source(rhythm.job, instance),
        collectors=tuple(entry.make(patient) for entry in entries.values()),
        interval=rhythm.interval,
        deadline=rhythm.deadline,
        cheap=frozenset(name for name, entry in entries.items() if entry.cheap),
    )
