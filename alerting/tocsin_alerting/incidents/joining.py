"""Alerts that join an incident of which people have heard: rule 26 of docs/incidents.md.

As Alertmanager documents `group_interval`: they are told at once if the last page is so long ago,
else together when it is. Nobody is told of what was over by then, of what is silenced, or of a
milder tier of an alert that they know.
"""

from collections.abc import Iterable
from dataclasses import replace

from tocsin_alerting.incidents.escalation import notify_current, set_timer
from tocsin_alerting.incidents.incident import (
    Change,
    Condition,
    Effects,
    Incident,
    IncidentState,
    Notify,
    Reason,
    Record,
    Timer,
    TimerKind,
)
from tocsin_alerting.incidents.outbox_message import NOTICE_REASONS
from tocsin_alerting.incidents.routing import IncidentConfig
from tocsin_alerting.rules.alert import Alert
from tocsin_alerting.rules.severity import SEVERITY_LABEL

NEW_ALERTS = "new alerts: "
_LabelPairs = frozenset[tuple[str, str]]
_TOLD_AT_ONCE = frozenset({IncidentState.TRIGGERED, IncidentState.ACKED})


def without_severity(alert: Alert) -> _LabelPairs:
    """What the tiers of one symptom have in common."""
    return frozenset(pair for pair in alert.labels if pair[0] != SEVERITY_LABEL)


def note_page(incident: Incident, effects: Effects, now_ms: int) -> Incident:
    """Whoever is paged reads of all that fires."""
    pages = (one for one in effects if isinstance(one, Notify))
    if any(one.reason not in NOTICE_REASONS for one in pages):
        return replace(incident, told_at_ms=now_ms)
    return incident


def tell_of_new(incident: Incident, joined: Iterable[Alert], now_ms: int) -> Effects:
    """When people hear of `joined`, alerts that the incident did not have before."""
    after_ms, told_ms = incident.policy.new_alerts_after_ms, incident.told_at_ms
    heard = [alert for alert in joined if alert.fingerprint not in incident.silenced]
    if after_ms is None or told_ms is None or not heard or not incident.is_open:
        return ()
    known = _known(incident, {alert.fingerprint for alert in heard})
    if all(without_severity(alert) in known for alert in heard):
        return ()
    return (set_timer(incident, TimerKind.NEW_ALERTS, max(now_ms, told_ms + after_ms)),)


def _known(incident: Incident, new: set[str]) -> set[_LabelPairs]:
    members = incident.members.items()
    return {without_severity(member.alert) for name, member in members if name not in new}


def new_alerts_due(incident: Incident, due: Timer, now_ms: int, config: IncidentConfig) -> Change:
    """Tell the owner or the current step. Whoever cannot be told now is told an interval later;
    the end of a snooze pages anyway."""
    after_ms, told_ms = incident.policy.new_alerts_after_ms, incident.told_at_ms
    if after_ms is None or told_ms is None or incident.state not in _TOLD_AT_ONCE:
        return incident, ()
    if now_ms < told_ms + after_ms:  # a page went out meanwhile, and had them
        return incident, _wait_on(incident, told_ms, told_ms + after_ms)
    count = _count_new(incident, told_ms)
    if not count:
        return incident, ()
    note = f"{NEW_ALERTS}{count}"
    told, effects = notify_current(incident, Reason.NEW_ALERTS, now_ms, config, note)
    if not effects:
        return incident, _wait_on(incident, told_ms, now_ms + after_ms)
    return told, (Record("new_alerts", data={"alerts": count}), *effects)


def _wait_on(incident: Incident, told_ms: int, at_ms: int) -> Effects:
    if not _count_new(incident, told_ms):
        return ()
    return (set_timer(incident, TimerKind.NEW_ALERTS, at_ms),)


def _count_new(incident: Incident, told_ms: int) -> int:
    """Of what fires, what began since the last page; tiers of one symptom are one."""
    new = {
        member.alert.fingerprint: without_severity(member.alert)
        for member in incident.loud
        if member.since_ms > told_ms and member.source is Condition.FIRING
    }
    return len(set(new.values()) - _known(incident, set(new)))
