"""Alert state after a restart (rules/group.go, RestoreForState, without its 10 minutes).

Prometheus restores nothing for rules with a `for` below 10 minutes, nor when an alert began to
fire; ours does both, because the rows hold it. It also has what lacks less than 10 minutes wait for
10 more, as its server may not have scraped yet; our rules wait for their sources, and restarts that
come again and again would never let it fire. `Restore.PROMETHEUS` does as Prometheus.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from enum import Enum

from tocsin_alerting.rules.alert import Alert, AlertState
from tocsin_alerting.rules.instance_journal import InstanceRow
from tocsin_alerting.rules.rule import AlertingRule, Rule

OUTAGE_TOLERANCE_MS = 3_600_000
GRACE_MS = 10 * 60_000


class RestoreMode(Enum):
    FULL = "full"
    PROMETHEUS = "prometheus"


def active_since_ms(
    active_at_ms: int, down_at_ms: int, now_ms: int, for_ms: int, grace_ms: int
) -> int:
    """When a pending alert counts as active from, after an outage from `down_at_ms` to `now_ms`.

    It had waited long enough: unchanged, it fires now. It lacks less than the grace period: it
    fires after that. Else the outage does not count. All in Unix milliseconds.
    """
    remaining = for_ms - (down_at_ms - active_at_ms)
    if remaining <= 0:
        return active_at_ms
    if remaining < grace_ms:
        return now_ms + grace_ms - for_ms
    return active_at_ms + (now_ms - down_at_ms)


def restore_alerts(
    rows: Iterable[InstanceRow],
    rule: AlertingRule,
    now_ms: int,
    how: RestoreMode = RestoreMode.FULL,
    interval_ms: int = 0,
) -> dict[str, Alert]:
    """The alerts of `rule` by fingerprint, as they stand before its first evaluation.

    The outage begins where the next evaluation was due, `interval_ms` after the last one: up to
    then nobody would have looked. To Prometheus it begins with the last one.
    """
    missed_ms = interval_ms if how is RestoreMode.FULL else 0
    alerts = (_alert(row, rule, now_ms, how, missed_ms) for row in rows)
    return {alert.fingerprint: alert for alert in alerts if alert is not None}


def _alert(
    row: InstanceRow, rule: AlertingRule, now_ms: int, how: RestoreMode, missed_ms: int
) -> Alert | None:
    alert = row.alert
    if alert is None:
        return None
    if how is RestoreMode.PROMETHEUS:
        if alert.state is AlertState.INACTIVE or rule.for_ms < GRACE_MS:
            return None
        alert = replace(
            alert, state=AlertState.PENDING, fired_at_ms=None, keep_firing_since_ms=None
        )
    if alert.state is not AlertState.PENDING:
        return replace(alert, rule=rule.uid)  # people were told: it must be cleared by us, too
    if now_ms - row.seen_ms > OUTAGE_TOLERANCE_MS:
        return None
    grace = GRACE_MS if how is RestoreMode.PROMETHEUS else 0
    down_ms = min(now_ms, row.seen_ms + missed_ms)
    since = active_since_ms(alert.active_at_ms, down_ms, now_ms, rule.for_ms, grace)
    return replace(alert, rule=rule.uid, active_at_ms=since)


def inherited_origins(
    rules: Mapping[str, Rule], saved: Mapping[str, Sequence[Alert]]
) -> dict[str, str]:
    """Which rule goes on with the alerts of the last run; both by origin, the present one first.

    A rule that moved to another group or file, or among rules of its name, is the same: it has the
    name of the alerts, and its labels. Which of several is told by what stayed the same.
    """
    own = {
        origin for origin, alerts in saved.items() if may_be_alerts_of(rules.get(origin), alerts)
    }
    inherited = {origin: origin for origin in own}
    named: dict[str, list[str]] = defaultdict(list)
    for origin, rule in rules.items():
        named[rule.name].append(origin)
    for before in sorted(saved.keys() - own):
        names = {alert.name for alert in saved[before]}
        fitting = [
            origin
            for name in names
            for origin in named[name]
            if origin not in inherited and may_be_alerts_of(rules[origin], saved[before])
        ]
        if fitting:
            inherited[min(fitting, key=lambda origin: _distance(origin, before))] = before
    for origin in saved.keys() & rules.keys() - inherited.keys() - set(inherited.values()):
        inherited[origin] = origin  # its labels were changed: it tells what it no longer says
    return inherited


def may_be_alerts_of(rule: Rule | None, alerts: Sequence[Alert]) -> bool:
    """Labels that are templates may have become anything."""
    if not isinstance(rule, AlertingRule):
        return False
    plain = [(name, value) for name, value in rule.labels if "{{" not in value]
    labels = (dict(alert.labels) for alert in alerts)
    return all(
        alert.name == rule.name
        and all(alert_labels.get(name, "") == value for name, value in plain)
        for alert, alert_labels in zip(alerts, labels, strict=True)
    )


def _distance(origin: str, before: str) -> tuple[bool, bool]:
    file, _, uid = origin.rpartition(";")
    file_before, _, uid_before = before.rpartition(";")
    return uid != uid_before, file != file_before
