"""The agent's meta-alerts: what is looked at, and by which words of the configuration."""

import re
from collections.abc import Sequence
from pathlib import Path

from tocsin_alerting.agent_elsewhere import Elsewhere
from tocsin_alerting.agent_setup import Setup
from tocsin_alerting.bundled import bundled
from tocsin_alerting.config.meta_alerts import MetaAlertSection
from tocsin_alerting.incidents.dispatcher import Dispatcher
from tocsin_alerting.loops.meta_alerts import BrokenRules, MetaAlertCheck, MetaAlertLoop
from tocsin_alerting.loops.missing_metrics import MissingMetrics
from tocsin_alerting.loops.silent_targets import SilentTargets
from tocsin_alerting.rules.groups import Groups
from tocsin_alerting.rules.state import GroupState
from tocsin_alerting.rules.unknown_alerts import SourceStatus
from tocsin_alerting.tsdb.store import Store
from tocsin_exporter.catalogue import TABLES
from tocsin_exporter.clock import Clock
from tocsin_exporter.collectors.engine_dialects import DIALECTS, TOCSIN
from tocsin_exporter.scrape_manager import ScrapeManager
from tocsin_exporter.snapshot import Source


def meta_alert_loop(
    setup: Setup,
    dispatcher: Dispatcher,
    groups: Groups,
    elsewhere: Elsewhere,
    store: Store,
    agent: ScrapeManager,
    clock: Clock,
) -> MetaAlertLoop:
    """With those of the meta-alerts that are wanted and are no rules. What a rule reads is known of
    those that are evaluated on our own store."""
    wanted, machine, ours = setup.config.meta_alerts, setup.instance, bundled("rules")
    broken, missing, silent = wanted.rule_broken, wanted.metric_missing, wanted.target_silent
    dispatcher.stores.switch = wanted.store_unreachable.switch()
    words, sources = setup.config.severities, groups.deps.sources

    def everywhere() -> Sequence[GroupState]:
        return groups.all

    def here() -> list[GroupState]:
        return [progress for progress in groups.all if elsewhere.asks_store(progress)]

    def absent() -> set[Source]:
        return {scraper.target.source for scraper in agent.scrapers if scraper.absent}

    checks: list[tuple[MetaAlertSection, MetaAlertCheck]] = [
        (broken, BrokenRules(everywhere, machine, broken.severity, broken.failures, words)),
        (
            missing,
            MissingMetrics(
                here,
                store,
                lambda source: sources.health(source) is SourceStatus.DEAD,
                lambda file: ours in Path(file).parents,
                family_of,
                machine,
                clock.monotonic,
                missing.severity,
                missing.after,
            ),
        ),
        (
            silent,
            SilentTargets(
                here,
                store.sources,
                lambda: agent.sources,
                absent,
                sources.touched,
                silent.severity,
                silent.after,
            ),
        ),
    ]
    wanted_ones = [check for section, check in checks if section.enabled]
    return MetaAlertLoop(dispatcher, wanted_ones, clock.now_ms)


def family_of(metric: str) -> str:
    """The pattern of the names that are there together with a metric of our collectors, as there is
    something to read; with an engine's own one, as there is such an engine; "" for others."""
    for dialect in DIALECTS.values():
        if dialect.prefix != TOCSIN.prefix and metric.startswith(dialect.prefix):
            return f"{re.escape(dialect.prefix)}.*"
    stem = re.sub("_(bucket|sum|count)$", "", metric)
    ours = any(name in table for table in TABLES.values() for name in (metric, stem))
    return re.escape(metric) if ours else ""
