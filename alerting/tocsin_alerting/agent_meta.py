"""The agent's meta-alerts: what is looked at, and by which words of the configuration."""

import re
from pathlib import Path

from tocsin_alerting.agent_elsewhere import Elsewhere
from tocsin_alerting.agent_setup import Setup
from tocsin_alerting.bundled import bundled
from tocsin_alerting.config.config import Config
from tocsin_alerting.config.meta_alerts import MetaAlertSection
from tocsin_alerting.incidents.dispatcher import Dispatcher
from tocsin_alerting.loops.meta_alerts import BrokenRules, MetaAlertCheck, MetaAlertLoop
from tocsin_alerting.loops.missing_metrics import MissingMetrics
from tocsin_alerting.loops.pack_rules import PackRule
from tocsin_alerting.loops.silent_targets import SilentTargets
from tocsin_alerting.promql.parser.types import refuse_unsupported
from tocsin_alerting.rules.groups import Groups
from tocsin_alerting.rules.meta_alerts import MetaAlertName
from tocsin_alerting.rules.rule_file import load as load_rules
from tocsin_alerting.rules.state import GroupState
from tocsin_alerting.rules.unknown_alerts import SourceStatus
from tocsin_alerting.tsdb.store import Store
from tocsin_exporter.catalogue import TABLES
from tocsin_exporter.clock import Clock
from tocsin_exporter.collectors.engine_dialects import DIALECTS, TOCSIN
from tocsin_exporter.scrape_manager import ScrapeManager
from tocsin_exporter.snapshot import Source


class MetaAlerts:
    """`loop` has those of the meta-alerts that are wanted and are no rules. What a rule reads is
    known of those that are evaluated on our own store."""

    def __init__(
        self,
        setup: Setup,
        dispatcher: Dispatcher,
        groups: Groups,
        elsewhere: Elsewhere,
        store: Store,
        agent: ScrapeManager,
        clock: Clock,
    ) -> None:
        machine, ours, sources = setup.instance, bundled("rules"), groups.deps.sources

        def here() -> list[GroupState]:
            return [progress for progress in groups.all if elsewhere.asks_store(progress)]

        def absent() -> set[Source]:
            return {scraper.target.source for scraper in agent.scrapers if scraper.absent}

        def pages() -> set[Source]:
            targets = [scraper.target for scraper in agent.scrapers]
            return {target.source for target in targets if target.page is not None}

        self._stores = dispatcher.stores
        self._broken = BrokenRules(lambda: groups.all, machine)
        self._missing = MissingMetrics(
            here,
            store,
            lambda source: sources.health(source) is SourceStatus.DEAD,
            lambda file: ours in Path(file).parents,
            family_of,
            machine,
            clock.monotonic,
        )
        read = (lambda: agent.sources, absent, sources.touched)
        self._silent = SilentTargets(here, store.sources, *read, pages=pages)
        self.resume = self._silent.resume
        self._pack = {name: self._pack_rule(name, groups) for name in _OF_THE_PACK}
        self.loop = MetaAlertLoop(dispatcher, (), clock.now_ms)
        self.reconfigure(setup.config)

    def reconfigure(self, config: Config) -> None:
        """Rules of the bundled pack are read as they are wanted."""
        wanted = config.meta_alerts
        broken, missing, silent = wanted.rule_broken, wanted.metric_missing, wanted.target_silent
        self._broken.severity, self._broken.failures = broken.severity, broken.failures
        self._broken.words = config.severities
        self._missing.severity, self._missing.after_ms = missing.severity, missing.after
        self._silent.severity, self._silent.after_ms = silent.severity, silent.after
        self._stores.switch = wanted.store_unreachable.switch()
        pack = wanted.rule_switches()
        for name, check in self._pack.items():
            check.severity = pack[name].severity
        checks: list[tuple[MetaAlertSection, MetaAlertCheck]] = [
            (broken, self._broken),
            (missing, self._missing),
            (silent, self._silent),
        ]
        self.loop.checks = [
            *(check for section, check in checks if section.enabled),
            *(check for name, check in self._pack.items() if pack[name].enabled),
        ]

    def _pack_rule(self, name: MetaAlertName, groups: Groups) -> PackRule:
        file = load_rules([str(bundled("rules") / _OF_THE_PACK[name])], refuse_unsupported)
        return PackRule(name, file, lambda: groups.all, lambda: groups.deps)


_OF_THE_PACK = {
    MetaAlertName.COLLECTOR_FAILING: "host.yml",
    MetaAlertName.CLOCK_STEPPED: "tocsin.yml",
}


def family_of(metric: str) -> str:
    """The pattern of the names that are there together with a metric of our collectors, as there is
    something to read; with an engine's own one, as there is such an engine; "" for others."""
    for dialect in DIALECTS.values():
        if dialect.prefix != TOCSIN.prefix and metric.startswith(dialect.prefix):
            return f"{re.escape(dialect.prefix)}.*"
    stem = re.sub("_(bucket|sum|count)$", "", metric)
    ours = any(name in table for table in TABLES.values() for name in (metric, stem))
    return re.escape(metric) if ours else ""
