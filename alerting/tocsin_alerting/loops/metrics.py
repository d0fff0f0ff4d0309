"""What the stages say of themselves, for the metrics page and for rules on ourselves."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict

from tocsin_alerting.incidents.dispatcher import Dispatcher
from tocsin_alerting.incidents.external_alerts import ExternalAlerts
from tocsin_alerting.incidents.heartbeats import ExpectedHeartbeats, HeartbeatState
from tocsin_alerting.incidents.mute_rules import MUTE_KINDS
from tocsin_alerting.incidents.outbox_message import Delivered
from tocsin_alerting.local.engine_supervisor import EngineSupervisor
from tocsin_alerting.loops.config_reload import ConfigReload
from tocsin_alerting.loops.heartbeat_loop import HeartbeatLoop
from tocsin_alerting.loops.self_health import CHECKS
from tocsin_alerting.notify.delivery import DeliveryLoop
from tocsin_alerting.remote_write.result import RemoteWriteCounters
from tocsin_alerting.rules.alert import AlertState
from tocsin_alerting.rules.groups import Groups
from tocsin_alerting.rules.state import GroupState, RuleHealth
from tocsin_alerting.tsdb.disk_persistence import DiskPersistence
from tocsin_alerting.tsdb.store import Store
from tocsin_exporter.snapshot import Family, Sample, labels

Families = Mapping[str, Family]
ALERTMANAGER_VERSION = "0.28.0"  # it has mutedBy, and names of any characters


def store_samples(store: Store, families: Families) -> Iterator[Sample]:
    size = store.stats()
    yield Sample(families["tocsin_store_series"], size.series)
    yield Sample(families["tocsin_store_series_loose"], size.unaligned)
    yield Sample(families["tocsin_store_samples"], size.samples)
    yield Sample(families["tocsin_store_bytes"], size.bytes)
    yield Sample(families["tocsin_store_series_max"], size.limits.series)
    yield Sample(families["tocsin_store_remote_sources"], size.remote_sources)
    yield Sample(families["tocsin_store_remote_sources_max"], size.limits.sources)
    yield Sample(families["tocsin_store_remote_sources_evicted_total"], size.evicted)
    for reason, count in size.series_refused.items():
        yield Sample(families["tocsin_store_series_refused_total"], count, labels(reason=reason))
    for reason, count in size.refused.items():
        yield Sample(families["tocsin_store_samples_refused_total"], count, labels(reason=reason))


def write_samples(
    traffic: RemoteWriteCounters, protocol: str, families: Families
) -> Iterator[Sample]:
    """What came in by `protocol`: `remote_write` or `otlp`."""
    for code, count in dict(traffic.requests).items():
        own = labels(code=str(code))
        yield Sample(families[f"tocsin_{protocol}_requests_total"], count, own)
    yield Sample(families[f"tocsin_{protocol}_samples_total"], traffic.samples)
    for reason, count in dict(traffic.refused).items():
        own = labels(reason=reason)
        yield Sample(families[f"tocsin_{protocol}_samples_refused_total"], count, own)


def disk_samples(disk: DiskPersistence, families: Families) -> Iterator[Sample]:
    now = disk.status
    values = {
        "tocsin_store_disk_up": float(now.up),
        "tocsin_store_disk_bytes": now.bytes,
        "tocsin_store_segments": now.blocks,
        "tocsin_store_disk_failures_total": now.failures,
        "tocsin_store_disk_lost_total": now.lost,
        "tocsin_store_disk_broken_total": now.broken,
    }
    for name, value in values.items():
        yield Sample(families[name], value)


def rule_samples(groups: Groups, families: Families) -> Iterator[Sample]:
    for progress in groups.all:
        yield from _group_samples(progress, families)
    yield from _alert_samples(groups, families)


def _group_samples(progress: GroupState, families: Families) -> Iterator[Sample]:
    group = labels(rule_group=f"{progress.group.file};{progress.group.name}")
    values = {
        "tocsin_rule_evaluations_total": sum(rule.evaluations for rule in progress.rules),
        "tocsin_rule_evaluation_failures_total": sum(rule.failures for rule in progress.rules),
        "tocsin_rule_group_rules_failing": sum(
            rule.health is RuleHealth.ERR and not rule.unreachable for rule in progress.rules
        ),
        "tocsin_rule_group_iterations_missed_total": progress.missed,
        "tocsin_rule_group_interval_seconds": progress.interval_ms / 1000,
        "tocsin_rule_group_last_duration_seconds": progress.evaluation_seconds,
    }
    for name, value in values.items():
        yield Sample(families[name], value, group)
    if progress.evaluated_ms is not None:
        family = families["tocsin_rule_group_last_evaluation_timestamp_seconds"]
        yield Sample(family, progress.evaluated_ms / 1000, group)


def _alert_samples(groups: Groups, families: Families) -> Iterator[Sample]:
    counts: Counter[tuple[str, str, str]] = Counter()
    for progress in groups.all:
        for rule in progress.rules:
            for alert in rule.alerts.values():
                if alert.state is not AlertState.INACTIVE:
                    severity = dict(alert.labels).get("severity", "")
                    counts[alert.name, severity, alert.state] += 1
    for (name, severity, state), count in sorted(counts.items()):
        own = labels(alertname=name, severity=severity, state=state)
        yield Sample(families["tocsin_alerts"], count, own)


def incident_samples(
    dispatcher: Dispatcher, now_ms: Callable[[], int], families: Families
) -> Iterator[Sample]:
    counts = Counter(
        (incident.severity, incident.state) for incident in dispatcher.working.incidents.values()
    )
    for (severity, state), count in sorted(counts.items()):
        own = labels(severity=severity, state=state)
        yield Sample(families["tocsin_incidents"], count, own)
    yield from _mute_samples(dispatcher, now_ms(), families)
    yield Sample(families["tocsin_journal_up"], float(not dispatcher.writer.down))
    yield Sample(families["tocsin_journal_late_total"], dispatcher.writer.unawaited)
    late = dispatcher.overdue_ms(now_ms()) / 1000
    yield Sample(families["tocsin_timer_overdue_seconds"], late)
    waiting = sum(1 for _ in dispatcher.working.outbox.waiting())
    yield Sample(families["tocsin_notifications_queue_length"], waiting)
    yield from _external_samples(dispatcher.working.external, families)
    yield from _expected_samples(dispatcher.working.heartbeats, now_ms(), families)


def _external_samples(external: ExternalAlerts, families: Families) -> Iterator[Sample]:
    speaks = labels(version=ALERTMANAGER_VERSION)
    yield Sample(families["alertmanager_build_info"], 1, speaks)
    states = {"firing": len(external) - external.unknown, "unknown": external.unknown}
    for state, count in states.items():
        yield Sample(families["tocsin_external_alerts"], count, labels(state=state))
    for status, count in dict(external.received).items():
        own = labels(status=status)
        yield Sample(families["tocsin_external_alerts_received_total"], count, own)


def health_samples(heartbeats: HeartbeatLoop, families: Families) -> Iterator[Sample]:
    troubled = {trouble.part for trouble in heartbeats.troubles()}
    counts = heartbeats.counts
    for part in CHECKS:
        yield Sample(families["tocsin_healthy"], float(part not in troubled), labels(part=part))
    yield Sample(families["tocsin_heartbeats_sent_total"], counts.sent)
    yield Sample(families["tocsin_heartbeats_failed_total"], counts.failed)
    yield Sample(families["tocsin_heartbeats_withheld_total"], counts.withheld)


def _expected_samples(
    expected: ExpectedHeartbeats, now_ms: int, families: Families
) -> Iterator[Sample]:
    """One that never came has no value: it may not have been set up yet."""
    for one in sorted(expected, key=lambda one: one.name):
        own, seen_ms = labels(heartbeat=one.name), expected.seen_ms(one.name)
        state = expected.state(one, now_ms)
        if seen_ms is not None:
            yield Sample(families["tocsin_heartbeat_last_timestamp_seconds"], seen_ms / 1000, own)
        if state is not HeartbeatState.NEVER_SEEN:
            is_there = float(state is not HeartbeatState.MISSING)
            yield Sample(families["tocsin_heartbeat_up"], is_there, own)


def _mute_samples(dispatcher: Dispatcher, at_ms: int, families: Families) -> Iterator[Sample]:
    """An incident that is muted in several ways counts in each of them."""
    muted: dict[str, int] = dict.fromkeys(MUTE_KINDS, 0)
    for incident in dispatcher.working.incidents.values():
        if incident.is_open and incident.muted:
            for kind in {name.partition(":")[0] for name in incident.muted_by}:
                muted[kind] += 1
    for kind, count in muted.items():
        yield Sample(families["tocsin_incidents_muted"], count, labels(by=kind))
    for state, count in dispatcher.working.mute_rules.states(at_ms).items():
        yield Sample(families["tocsin_silences"], count, labels(state=state))


def set_aside_samples(times: Mapping[str, float | None], families: Families) -> Iterator[Sample]:
    """Unix seconds by the kind of file; None: never."""
    for file, at_s in times.items():
        if at_s is not None:
            yield Sample(families["tocsin_set_aside_timestamp_seconds"], at_s, labels(file=file))


def delivery_samples(delivery_loop: DeliveryLoop, families: Families) -> Iterator[Sample]:
    """`Delivered` is delivered; the other outcomes are attempts that failed."""
    failed: Counter[str] = Counter()
    for (receiver, outcome), count in delivery_loop.counts.items():
        if outcome == Delivered.__name__:
            own = labels(receiver=receiver)
            yield Sample(families["tocsin_notifications_sent_total"], count, own)
        else:
            failed[receiver] += count
    for receiver, count in failed.items():
        own = labels(receiver=receiver)
        yield Sample(families["tocsin_notifications_errors_total"], count, own)


def reload_samples(reload: ConfigReload, families: Families) -> Iterator[Sample]:
    last = reload.status
    yield Sample(families["tocsin_config_last_reload_successful"], float(last.successful))
    yield Sample(families["tocsin_config_reload_held"], float(bool(last.held)))
    yield Sample(families["tocsin_config_needs_restart"], len(last.needs_restart))
    name = "tocsin_config_last_reload_success_timestamp_seconds"
    yield Sample(families[name], last.success_ms / 1000)


def text_samples(failures: Mapping[str, int], families: Families) -> Iterator[Sample]:
    """Of each template of the operator's that failed."""
    for name, count in sorted(dict(failures).items()):
        own = labels(template=name)
        yield Sample(families["tocsin_template_failures_total"], count, own)


def engines_samples(engines: EngineSupervisor, families: Families) -> Iterator[Sample]:
    supervised = engines.worker is not None
    yield Sample(families["tocsin_worker_supervised"], float(supervised))
    if engines.worker is not None:
        up = engines.worker.pid is not None
        yield Sample(families["tocsin_worker_up"], float(up))
        yield Sample(families["tocsin_worker_restarts_total"], engines.worker.restarts)
    if engines.load is not None:
        for outcome, count in asdict(engines.load.counts).items():
            own = labels(outcome=outcome)
            yield Sample(families["tocsin_load_requests_total"], count, own)
