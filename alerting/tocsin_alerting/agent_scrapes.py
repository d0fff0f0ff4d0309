"""Targets of `scrape_configs` and probes as sources of this agent: they come, change and go."""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tocsin_alerting.agent_probes import AgentProbes
from tocsin_alerting.config.reading import ReadConfig
from tocsin_alerting.loops.supervise import restart_on_error
from tocsin_alerting.tsdb.store import Store
from tocsin_exporter.clock import Clock
from tocsin_exporter.duplicate_exporters import DuplicateExporters
from tocsin_exporter.loop_watchdog import LoopWatchdog
from tocsin_exporter.scrape import ScrapeTarget
from tocsin_exporter.scrape_job import JobTarget, JobTargets, ScrapeJob, TargetGroup, job_targets
from tocsin_exporter.scrape_manager import ScrapeManager
from tocsin_exporter.service_discovery import AskDns, JobDiscovery, dns_records
from tocsin_exporter.snapshot import Labels, Source
from tocsin_exporter.state_file import StateFile
from tocsin_exporter.targets import job_target
from tocsin_exporter.threads import Threads, in_thread

log = logging.getLogger(__name__)

FILES_SECONDS = 5.0  # for which a start or a reload waits for the files of targets
RETRY_SECONDS = 30.0  # after which the targets are written down again, on a disk that was full


@dataclass(slots=True)
class _Pool:
    """One job with what is scraped of it now."""

    job: ScrapeJob
    discovery: JobDiscovery
    targets: JobTargets = JobTargets()
    scraped: dict[Source, JobTarget] = field(default_factory=dict)


class ScrapeJobs:
    """Follows the discovery of each job, and hands targets to the `manager`. The series of a target
    that goes end at once. What was found is kept in the data directory: a start, or a job that was
    changed, must not lose the targets of a name server that is away."""

    def __init__(
        self,
        manager: ScrapeManager,
        store: Store,
        clock: Clock,
        ask: AskDns = dns_records,
        retry_seconds: float = RETRY_SECONDS,
        files_seconds: float = FILES_SECONDS,
    ) -> None:
        self._manager, self._store, self._now_ms, self._ask = manager, store, clock.now_ms, ask
        self._retry_seconds, self._files_seconds = retry_seconds, files_seconds
        self._file, self._thread = StateFile(None), Threads(1, "targets found")
        self._known: dict[str, list[TargetGroup]] = {}
        self._found = asyncio.Event()
        self.probes = AgentProbes(manager, store, clock)
        self._pools: dict[str, _Pool] = {}
        self._changed = asyncio.Event()

    @property
    def dropped(self) -> Mapping[str, Sequence[Labels]]:
        """By job, what relabelling left out."""
        return {name: pool.targets.dropped for name, pool in self._pools.items()}

    def configure(self, read: ReadConfig) -> None:
        """Take these jobs and probes from now on; one that is as it was goes on."""
        jobs = {section.job_name: section.job() for section in read.config.scrape_configs}
        self.probes.configure(read.config.probes, read.probe_modules)
        self._known = {name: groups for name, groups in self._known.items() if name in jobs}
        before, self._pools = self._pools, {}
        kept = {name: pool for name, pool in before.items() if jobs.get(name) == pool.job}
        for name, pool in before.items():
            if name not in kept:
                self._end(pool, jobs.get(name))
        for name, job in jobs.items():
            self._pools[name] = kept.get(name) or self._begin(job)
        self._changed.set()

    async def start(self, read: ReadConfig) -> None:
        """Take these jobs, and read every file once: no rule is to run before that."""
        self._file = StateFile(Path(read.config.storage.path) / "targets.json")
        self._known = known_groups(self._file.read())
        self.configure(read)
        await self._look({name: pool.discovery for name, pool in self._pools.items()})

    async def reload(self, read: ReadConfig) -> None:
        """As `configure`, once the files of jobs that are changed were read: a target that was in
        another list until now, such as static_configs, stays."""
        jobs = {section.job_name: section.job() for section in read.config.scrape_configs}
        discoveries = {
            name: JobDiscovery(job, partial(self._learn, job), self._ask, self._known.get(name, ()))
            for name, job in jobs.items()
            if job.files and name in self._pools and self._pools[name].job != job
        }
        await self._look(discoveries)
        for discovery in discoveries.values():
            discovery.close()
        self.configure(read)

    async def _look(self, discoveries: Mapping[str, JobDiscovery]) -> None:
        """A directory that hangs holds up neither a start nor a reload."""
        looks = {asyncio.create_task(one.look()): name for name, one in discoveries.items()}
        if not looks:
            return
        done, late = await asyncio.wait(looks, timeout=self._files_seconds)
        for look in late:
            look.cancel()
            said = "files of targets do not answer; the targets known are watched"
            log.error(said, extra={"job": looks[look]})
        for look in done:
            look.result()

    def _learn(self, job: ScrapeJob, groups: Sequence[TargetGroup]) -> None:
        self._known[job.name] = [group for group in groups if group not in job.static]

    async def run(self) -> None:
        """Follow all of them for ever, and who exports beside us."""
        others = DuplicateExporters(self._manager.collectors)
        while True:
            self._changed.clear()
            self._found.set()
            discoveries = (pool.discovery.run for pool in self._pools.values())
            loops = [others.follow, self._keep, *discoveries]
            follows = [asyncio.create_task(restart_on_error("targets", one)) for one in loops]
            try:
                await self._changed.wait()
            finally:
                for follow in follows:
                    follow.cancel()

    async def _keep(self) -> None:
        """Write down what was found, whenever that has changed, and again where it failed."""
        while True:
            await self._found.wait()
            self._found.clear()
            write = partial(self._file.write, state_of(self._known))
            if not await in_thread(write, self._thread):
                await asyncio.sleep(self._retry_seconds)
                self._found.set()

    def _begin(self, job: ScrapeJob) -> _Pool:
        known = self._known.get(job.name, ())
        pool = _Pool(job, JobDiscovery(job, partial(self._take, job.name), self._ask, known))
        self._pools[job.name] = pool
        pool.discovery.offer()
        return pool

    def _end(self, pool: _Pool, wanted: ScrapeJob | None) -> None:
        """Its targets, but for those that the same job has again, end."""
        pool.discovery.close()
        groups = [*wanted.static, *self._known.get(wanted.name, ())] if wanted else []
        again = job_targets(wanted, groups).active if wanted else ()
        stays = {target.source for target in again}
        for source in list(pool.scraped):
            self._remove(pool, source, ends=source not in stays)

    def _take(self, name: str, groups: Sequence[TargetGroup]) -> None:
        pool = self._pools[name]
        self._learn(pool.job, groups)
        self._found.set()
        targets = job_targets(pool.job, groups)
        for problem in targets.problems:
            if problem not in pool.targets.problems:
                log.error("target refused: %s", problem, extra={"job": name})
        pool.targets = targets
        wanted = {target.source: target for target in targets.active}
        for source, target in list(pool.scraped.items()):
            if wanted.get(source) != target:
                self._remove(pool, source, ends=source not in wanted)
        for source, target in wanted.items():
            if source not in pool.scraped:
                self._add(pool, target)

    def _add(self, pool: _Pool, target: JobTarget) -> None:
        try:
            self._manager.add(job_target(target, self._manager.turns, self._manager.lag))
        except (ValueError, OSError) as error:  # it is scraped already, or a certificate is bad
            log.error("target refused: %s", error, extra={"job": pool.job.name, "url": target.url})
            return
        pool.scraped[target.source] = target

    def _remove(self, pool: _Pool, source: Source, ends: bool) -> None:
        del pool.scraped[source]
        ended = [one.sources for one in self._manager.scrapers if one.target.source == source]
        self._manager.remove(source)
        for one in (one for sources in ended for one in sources):
            if ends or one != source:
                self._store.end_source(one, self._now_ms())


def state_of(known: Mapping[str, Sequence[TargetGroup]]) -> dict[str, Any]:
    """The groups of each job as JSON."""
    return {
        "jobs": {
            name: [[group.source, list(group.targets), dict(group.labels)] for group in groups]
            for name, groups in known.items()
        }
    }


def known_groups(state: Mapping[str, Any]) -> dict[str, list[TargetGroup]]:
    """What `state_of` wrote; what is none is left out, and costs no other its targets."""
    jobs = state.get("jobs", {})
    known = {
        name: [TargetGroup(one[0], tuple(one[1]), one[2]) for one in groups if _is_group(one)]
        for name, groups in (jobs.items() if isinstance(jobs, dict) else ())
        if isinstance(groups, list)
    }
    if state and state_of(known)["jobs"] != jobs:
        log.warning("some targets lost: the state in targets.json is damaged")
    return known


def _is_group(value: object) -> bool:
    match value:
        case [str(), [*targets], labels]:
            return all(map(_is_label_set, (*targets, labels)))
        case _:
            return False


def _is_label_set(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


def new_sampling(
    targets: Iterable[ScrapeTarget], clock: Clock, store: Store, watch: LoopWatchdog
) -> tuple[ScrapeManager, ScrapeJobs]:
    """Who reads the sources into the store, and who follows those of scrape jobs."""
    manager = ScrapeManager(targets, clock, [store.append], store.prepare, watch.lag)
    return manager, ScrapeJobs(manager, store, clock)
