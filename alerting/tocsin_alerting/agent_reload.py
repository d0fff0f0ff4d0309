"""What a reload puts in force: each stage of the agent takes what is new of its own."""

import asyncio
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from tocsin_alerting.agent_elsewhere import Destinations, Elsewhere
from tocsin_alerting.agent_engines import EngineSources
from tocsin_alerting.agent_logs import AgentLogs
from tocsin_alerting.agent_meta import MetaAlerts
from tocsin_alerting.agent_scrapes import ScrapeJobs
from tocsin_alerting.agent_setup import RunningConfig, Setup, retention_words
from tocsin_alerting.api.alertmanager.intake import AlertIntake
from tocsin_alerting.api.http.tokens import digest
from tocsin_alerting.api.prometheus.status import RuntimeInfo
from tocsin_alerting.api.tocsin.overview import AgentState
from tocsin_alerting.bundled import bundled
from tocsin_alerting.config.config import Config
from tocsin_alerting.config.config_copy import ConfigCopy, StorageNote
from tocsin_alerting.config.effective import effective
from tocsin_alerting.config.load import incident_config
from tocsin_alerting.config.paging import unwatched
from tocsin_alerting.config.reading import BuiltChannel, ReadConfig, emptied, unmatched
from tocsin_alerting.config.rule_copies import RuleCopies
from tocsin_alerting.incidents.dispatcher import Dispatcher
from tocsin_alerting.local.engine_supervisor import EngineSupervisor
from tocsin_alerting.local.ports import trusted_users
from tocsin_alerting.loops.calendar_refresh import CalendarRefresh
from tocsin_alerting.loops.channel_answers import ChannelAnswers
from tocsin_alerting.loops.config_reload import ConfigReload, ReloadStatus, ReloadSteps
from tocsin_alerting.loops.heartbeat_loop import HeartbeatLoop
from tocsin_alerting.loops.rule_loop import RuleLoop
from tocsin_alerting.notify.delivery import DeliveryLoop
from tocsin_alerting.rules.groups import Groups
from tocsin_alerting.rules.moves import changed_parts
from tocsin_alerting.rules.state import RuleState
from tocsin_alerting.time_format import rfc3339
from tocsin_alerting.tsdb.disk_persistence import DiskPersistence
from tocsin_alerting.tsdb.store import Store
from tocsin_exporter.clock import Clock
from tocsin_exporter.threads import Threads, in_thread

log = logging.getLogger(__name__)

_MOST_NAMED = 3
_DIRECTORY_SECONDS = 5.0


class ReloadedStages(Protocol):
    """The parts of the agent that a reload changes: the App has them."""

    groups: Groups
    rule_loop: RuleLoop
    dispatcher: Dispatcher
    calendars: CalendarRefresh
    delivery_loop: DeliveryLoop
    answers: ChannelAnswers
    heartbeats: HeartbeatLoop
    intake: AlertIntake
    meta_alerts: MetaAlerts
    scrape_jobs: ScrapeJobs
    logs: AgentLogs
    clock: Clock
    elsewhere: Elsewhere
    engines: EngineSupervisor | None
    engine_sources: EngineSources
    store: Store
    disk: DiskPersistence


class AgentReload:
    """`reload.reload` reads and applies; `running` is what is in force."""

    def __init__(self, setup: Setup, running: RunningConfig, stages: ReloadedStages) -> None:
        self._setup, self._running, self._stages = setup, running, stages
        self._copying, self._users = Threads(1, "rule copies"), Threads(1, "user directory")
        self.shown: tuple[RuntimeInfo, AgentState] | None = None
        self._destinations: Destinations | None = None
        reader = setup.reader
        steps = ReloadSteps(
            read=lambda: reader.again(running.read, stages.clock.now_ms()),
            stamps=lambda: reader.stamps(running.config),
            objections=self.objections,
            prepare=self.prepare,
            apply=self.apply,
            discard=self.discard,
            began=setup.systemd.reloading,
            ended=setup.systemd.reloaded,
        )
        self._take_tokens(setup.read)
        now_ms = stages.clock.now_ms()
        status = ReloadStatus(now_ms, now_ms, error=started_without(setup.read))
        self.reload = ConfigReload(steps, status, reader.started, stages.clock)

    def as_json(self) -> dict[str, Any]:
        """How the last reload ended, for `/api/v1/status/tocsin`."""
        last = self.reload.status
        return {
            "successful": last.successful,
            "at": rfc3339(last.at_ms),
            "last_success": rfc3339(last.success_ms),
            "error": last.error,
            "held": last.held,
            "needs_restart": list(last.needs_restart),
        }

    def objections(self, read: ReadConfig) -> Sequence[str]:
        """Why nobody should apply this unasked."""
        found = ["the configuration file is empty"] if read.empty else []
        found += [f"{path} has no rule any more" for path in
                  emptied(self._running.read.rules, read.rules)]  # fmt: skip
        found += [f"{pattern} finds no rule file any more" for pattern in
                  unmatched(self._running.read, read)]  # fmt: skip
        paging = {rule.origin for rule in self._paging_rules()}
        lost = [rule for rule in self._stages.groups.lost(read.rules) if rule.origin in paging]
        if names := sorted({f'"{rule.rule.name}"' for rule in lost}):
            found.append(f"it would remove {_some(names)}, of which an incident is open")
        if targets := self._lost_engines(read.config):
            found.append(f"it would no longer watch {_some(targets)}, of which an incident is open")
        return found

    def _lost_engines(self, wanted: Config) -> list[str]:
        """Of those that are named now, about which people are paged."""
        left = {engine.access.target for engine in wanted.engines}
        gone = {engine.access.target for engine in self._running.config.engines} - left
        incidents = self._stages.dispatcher.working.incidents.values() if gone else ()
        members = (member for one in incidents if one.is_open for member in one.active)
        about = {dict(member.alert.labels).get("target", "") for member in members}
        return sorted(gone & about)

    async def prepare(self, read: ReadConfig) -> None:
        """What needs threads and certificates, before anything of it holds. Raises RuntimeError and
        OSError."""
        self._stages.calendars.prepare(read.config)
        self._destinations = await self._stages.elsewhere.prepare(read.config)

    async def apply(self, read: ReadConfig) -> None:
        """Put it in force, once it is prepared: what may wait first, then the rest in one turn of
        the loop."""
        stages, config = self._stages, read.config
        now_ms = stages.clock.now_ms()
        incidents = incident_config(config, stages.calendars.known(config, read.calendars))
        stages.groups.interval_ms = config.evaluation_interval
        paging = [(rule.origin, rule, rule.rule) for rule in self._paging_rules()]
        removed = await stages.rule_loop.load(read.rules, now_ms)
        changed = {
            origin: (before.name, parts)
            for origin, rule, before in paging
            if not rule.removed and (parts := changed_parts(before, rule.rule))
        }
        stages.dispatcher.note_changed_rules(changed, now_ms)
        renamed = renamed_receivers(self._running.read.channels, read.channels)
        self._take(read)
        await stages.dispatcher.reconfigure(incidents, now_ms, renamed)
        await stages.dispatcher.handle(removed, now_ms)
        await self.keep_copies()
        if (destinations := self._destinations) is not None:
            self._destinations = None
            await stages.elsewhere.take(config, destinations)
        await self._take_sources(config)  # last: who is paged must not wait for who is watched

    def _paging_rules(self) -> list[RuleState]:
        """Those of which incidents are open."""
        origins = set(self._stages.dispatcher.origins)
        rules = (rule for group in self._stages.groups.all for rule in group.rules)
        return [rule for rule in rules if rule.origin in origins]

    async def _take_sources(self, config: Config) -> None:
        """What is watched, and how long it is kept."""
        stages = self._stages
        await stages.scrape_jobs.reload(self._running.read)
        stages.logs.configure(config)
        stages.disk.limit(config.storage.retention, config.storage.size)
        stages.store.retention_ms = config.storage.retention
        if stages.engines is not None:
            if (owners := await self._owners(config)) is not None:
                stages.engines.trust(owners)
            await stages.engine_sources.reconfigure(stages.engines, config)

    async def _owners(self, config: Config) -> frozenset[int] | None:
        """The users whose engines are found; None, and those before stay, where the directory of
        users does not answer."""
        allowed = config.discovery.user_ids
        try:
            async with asyncio.timeout(_DIRECTORY_SECONDS):
                return await in_thread(lambda: trusted_users(allowed(), os.environ), self._users)
        except TimeoutError:
            log.error("failed to look up discovery.allow_users: no answer; those before stay")
            return None

    def _take_deps(self, config: Config) -> None:
        groups = self._stages.groups
        deps = replace(groups.deps, external_labels=config.external_labels)
        deps = replace(deps, unknown_max_ms=config.unknown_max)
        groups.take(deps, self._stages.elsewhere.datasources.deps_of(deps))

    def _take(self, read: ReadConfig) -> None:
        stages, config, before = self._stages, read.config, self._running.read
        self._running.take(read)
        self._take_deps(config)
        stages.calendars.reconfigure(config, read.calendars)
        stages.rule_loop.expects_rules = bool(config.rule_files)
        stages.meta_alerts.reconfigure(config)
        stages.intake.resolve_timeout_ms = config.resolve_timeout
        self._take_tokens(read)
        stages.delivery_loop.replace_channels(self._running.channels)
        stages.answers.changed()
        if read.heartbeats is not before.heartbeats:
            stages.heartbeats.replace_pings(read.heartbeats)
        if self.shown is not None:
            runtime, overview = self.shown
            runtime.retention = retention_words(config)
            runtime.config, overview.unwatched = effective(config), unwatched(config)
            overview.expects_rules = bool(config.rule_files)

    def _take_tokens(self, read: ReadConfig) -> None:
        tokens = {digest(token): name for token, name in read.heartbeat_tokens.items()}
        self._stages.dispatcher.heartbeats.configured_tokens = tokens

    async def discard(self, read: ReadConfig) -> None:
        """Close what was made for it alone."""
        running = self._running.read
        known = {id(one.channel) for one in running.channels.values()}
        for built in read.channels.values():
            if id(built.channel) not in known:
                await built.channel.close()
        for ping in read.heartbeats:
            if ping not in running.heartbeats:
                await ping.close()

    async def keep_copies(self) -> None:
        """Of the files that run, for a start that finds one of them broken."""
        read, ours = self._running.read, str(bundled("rules"))
        texts = {path: text for path, text in read.rule_texts.items() if not path.startswith(ours)}
        broken = [file.path for file in read.broken_rules]
        directory = self._setup.config.storage.path
        copies = RuleCopies.of(directory)
        await in_thread(lambda: copies.keep(texts, broken), self._copying)
        file, text = self._setup.reader.config_file, read.text
        if file is not None and text is not None and not read.broken:
            copy, note = ConfigCopy.of(directory, file), StorageNote.of(file)
            await in_thread(lambda: copy.keep(text), self._copying)
            await in_thread(lambda: note.keep(directory, text), self._copying)


def renamed_receivers(
    before: Mapping[str, BuiltChannel], now: Mapping[str, BuiltChannel]
) -> dict[str, str]:
    """Those that are gone, by name, where there is one new one alone that is the same in all but
    that: who has the page by the old name has it by the new one."""
    gone, new = before.keys() - now.keys(), now.keys() - before.keys()
    same = {
        old: [name for name in new if _made_of(now[name]) == _made_of(before[old])] for old in gone
    }
    return {old: names[0] for old, names in same.items() if len(names) == 1}


def _made_of(one: BuiltChannel) -> tuple[object, ...]:
    return one.settings, one.files, one.addresses


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def started_without(read: ReadConfig) -> str:
    """What of the files was wrong at the start, "" for nothing."""
    problems = (str(problem) for file in read.broken_rules for problem in file.problems)
    return "\n".join([*filter(None, [read.broken]), *problems])
