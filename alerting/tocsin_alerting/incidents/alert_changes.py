"""What alerts do to an incident: rules 1, 18 to 20, 22, 25 to 27 and 30 of docs/incidents.md."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from tocsin_alerting.incidents.actions import end_closed_by_hand, resolve
from tocsin_alerting.incidents.damping import (
    all_clear,
    count_flap,
    fires_in_hold,
    flap_note,
    kept_owner,
    leave_hold,
    reopen_acked,
)
from tocsin_alerting.incidents.escalation import (
    owner_addressees,
    page,
    restart,
    set_timer,
)
from tocsin_alerting.incidents.escalation_policy import EscalationPolicy
from tocsin_alerting.incidents.grouping import AlertGroup
from tocsin_alerting.incidents.incident import (
    ENDED_CONDITIONS,
    Change,
    Condition,
    Effect,
    Effects,
    Incident,
    IncidentState,
    Member,
    Reason,
    Record,
    SetTimer,
    TimerKind,
    began_ms,
)
from tocsin_alerting.incidents.joining import tell_of_new
from tocsin_alerting.incidents.members import firing_member, member_after, new_member
from tocsin_alerting.incidents.openings import NEVER_ENDED
from tocsin_alerting.incidents.routing import IncidentConfig, alert_severity, policy_for
from tocsin_alerting.incidents.successors import left_unwatched
from tocsin_alerting.rules.alert import Alert, AlertEvent, EventKind
from tocsin_alerting.rules.severity import Severity

RULE_REMOVED = "rule removed"


def open_incident(
    number: int,
    group: AlertGroup,
    event: AlertEvent,
    now_ms: int,
    config: IncidentConfig,
    drill_policy: EscalationPolicy | None = None,
) -> Change:
    """Rule 1. The policy is copied into the incident: no edit breaks a running escalation."""
    severity = alert_severity(event.alert, config) or Severity.P2
    policy = drill_policy or policy_for(config, dict(event.alert.labels), severity)
    opened = Incident(
        number=number,
        uid=group.uid(now_ms),
        key=group.key,
        group_labels=group.labels,
        policy=policy,
        severity=severity,
        opened_at_ms=now_ms,
        members={event.alert.fingerprint: new_member(event, now_ms)},
        drill=drill_policy is not None,
    )
    data = {"severity": severity.value, "policy": policy.name, "alert": event.alert.name}
    waits = set_timer(opened, TimerKind.GROUP_WAIT, now_ms + policy.group_wait_ms)
    record = Record("opened", data=data | ({"drill": True} if opened.drill else {}))
    return opened, (record, waits, *slo_timers(opened, config))


@dataclass(frozen=True, slots=True)
class AlertsChanged:
    """What one evaluation said of an incident's alerts: all of them fire, or none of them does.

    No alert is named twice. `silenced` are the fingerprints of those that nobody is to hear of.
    """

    events: tuple[AlertEvent, ...]
    silenced: frozenset[str] = frozenset()


def alerts_changed(
    incident: Incident, changed: AlertsChanged, now_ms: int, config: IncidentConfig
) -> Change:
    if changed.events[0].kind is EventKind.FIRING:
        known = replace(incident, silenced=incident.silenced | changed.silenced)
        return _apply_firing(known, changed.events, now_ms, config)
    return _apply_ended(incident, changed.events, now_ms, config)


def _apply_ended(
    incident: Incident, events: Sequence[AlertEvent], now_ms: int, config: IncidentConfig
) -> Change:
    members = dict(incident.members)
    late: list[Alert] = []
    last: AlertEvent | None = None
    for event in events:
        name = event.alert.fingerprint
        known = members.get(name)
        if known is None:
            late.append(event.alert)
        elif (member := member_after(known, event, now_ms)) is not known:
            members[name], last = member, event
    ignored = (Record("ignored_late", data=_alerts_data(late)),) if late else ()
    if last is None:
        return incident, ignored
    why = last.reason or (RULE_REMOVED if last.kind is EventKind.REMOVED else "clear")
    after, effects = _follow_members(
        replace(incident, members=members), incident, now_ms, config, why
    )
    return after, (*ignored, *effects)


def _alerts_data(alerts: Sequence[Alert]) -> dict[str, object]:
    """The first one by name, and how many there are if there are more."""
    several = {"alerts": len(alerts)} if len(alerts) > 1 else {}
    return {"alert": alerts[0].name, **several}


def _apply_firing(
    incident: Incident, events: Sequence[AlertEvent], now_ms: int, config: IncidentConfig
) -> Change:
    members = dict(incident.members)
    fresh: list[Alert] = []
    for event in events:
        known = members.get(event.alert.fingerprint)
        if known is None or known.source in ENDED_CONDITIONS:
            fresh.append(event.alert)
        members[event.alert.fingerprint] = firing_member(known, event, now_ms)
    began_at_ms = _began_before(incident, events, now_ms)
    joined = replace(incident, members=members, began_at_ms=began_at_ms)
    if incident.state is IncidentState.RESOLVED and (fresh or not incident.closed_by_hand):
        worst = _worst_alert(joined, config)
        reopened, effects = _reopen(joined, worst, now_ms, config)
        return reopened, (
            *effects,
            *_joined_record([alert for alert in fresh if alert is not worst], config),
        )
    alert = _worst_of(incident, (event.alert for event in events), config)
    severity = _severity_or_p2(alert, config)
    silenced = alert.fingerprint in incident.silenced
    recorded: list[Effect] = []
    if incident.source is Condition.UNKNOWN:
        recorded.append(Record("known_again", data={"source": Condition.FIRING.value}))
    joined = replace(joined, source=Condition.FIRING, unknown_since_ms=None)
    if incident.in_hold:
        joined, effects = fires_in_hold(joined, now_ms, config)
        recorded += effects
        fresh = [other for other in fresh if other.fingerprint not in incident.members]
    if incident.is_open and severity.worse_than(incident.severity) and not silenced:
        policy = policy_for(config, dict(alert.labels), severity)
        joined, effects = raise_severity(joined, severity, policy, now_ms, config)
        recorded += effects
        fresh = [other for other in fresh if other is not alert]
    unheard = (other for other in fresh if other.fingerprint not in incident.members)
    effects = (*recorded, *_joined_record(fresh, config), *tell_of_new(joined, unheard, now_ms))
    return joined, tuple(effect for effect in effects if _is_live(effect, joined))


def _is_live(effect: Effect, incident: Incident) -> bool:
    """A timer of before a new start of the escalation is not to be set after it."""
    return not isinstance(effect, SetTimer) or effect.timer.is_live(incident.generation)


def _began_before(incident: Incident, events: Sequence[AlertEvent], now_ms: int) -> int | None:
    """When the stretch began that goes on with `events`: an alert that fires anew forgets when it
    fired before. None when nothing held between its last end and now."""
    known = incident.began_at_ms
    if incident.is_open and known is not None:  # an incident may have thousands of alerts
        named = (incident.members.get(event.alert.fingerprint) for event in events)
        again = [
            member.alert.active_at_ms for member in named if member and _lasted_until(member, known)
        ]
        return min([known, *again])
    if not incident.active:
        ends = [member.ended_at_ms or 0 for member in incident.members.values()]
        ended_ms = max(ends, default=0)
        if all(event.alert.active_at_ms > ended_ms for event in events):
            return None
    return began_ms(incident, now_ms)


def _lasted_until(member: Member, at_ms: int) -> bool:
    return member.ended_at_ms is None or member.ended_at_ms >= at_ms


def _severity_or_p2(alert: Alert, config: IncidentConfig) -> Severity:
    return alert_severity(alert, config) or Severity.P2


def _worst_alert(incident: Incident, config: IncidentConfig) -> Alert:
    """Of all that fire or are unknown, those that did so before as well."""
    return _worst_of(incident, (member.alert for member in incident.active), config)


def _worst_of(incident: Incident, alerts: Iterable[Alert], config: IncidentConfig) -> Alert:
    """What is silenced comes after all that is not."""

    def rank(alert: Alert) -> tuple[bool, Severity]:
        return alert.fingerprint in incident.silenced, _severity_or_p2(alert, config)

    return min(alerts, key=rank)


def _joined_record(alerts: Sequence[Alert], config: IncidentConfig) -> tuple[Record, ...]:
    if not alerts:
        return ()
    worst = min(_severity_or_p2(alert, config) for alert in alerts)
    return (Record("joined", data={**_alerts_data(alerts), "severity": worst.value}),)


def _reopen(
    incident: Incident,
    worst: Alert,
    now_ms: int,
    config: IncidentConfig,
    reason: Reason = Reason.REOPENED,
) -> Change:
    """Rule 22: the same incident, from its first step. What never ended has not flapped."""
    severity, policy = incident.severity, incident.policy
    if not incident.is_storm:  # that of a storm is the one of its incidents
        severity = _severity_or_p2(worst, config)
        policy = policy_for(config, dict(worst.labels), severity)
    again = reason is Reason.REOPENED
    fresh = replace(
        incident,
        policy=policy,
        severity=severity,
        source=Condition.FIRING,
        cycle=incident.generation + 1 if again else incident.cycle,
        step=-1,
        resolved_at_ms=None,
        told_at_ms=None,
        unknown_since_ms=None,
        resolution="",
        ended_as="",
        closed_by_hand=False,
    )
    flaps: Effects = ()
    if again:
        fresh, flaps = count_flap(fresh, now_ms, config)
        reason = Reason.FLAPPING if fresh.flapping else reason
    note = flap_note(fresh, now_ms)
    if again and (owner := kept_owner(incident, now_ms, config)):
        reopened, effects = reopen_acked(fresh, owner, reason, now_ms, config)
    else:
        reopened, effects = restart(fresh, reason, now_ms, config, note=note)
    data = {"times": reopened.flaps, "severity": severity.value, "policy": policy.name}
    never_ended = {} if again else {NEVER_ENDED: True}
    return reopened, (Record("reopened", data=data | never_ended), *flaps, *effects)


def raise_again(incident: Incident, now_ms: int, config: IncidentConfig) -> Change:
    """Resolved by hand, and it fires still: forgotten is worse than told twice."""
    return _reopen(incident, _worst_alert(incident, config), now_ms, config, Reason.STILL_FIRING)


def raise_to_loud(incident: Incident, now_ms: int, config: IncidentConfig) -> Change:
    """Rule 18 for what was silenced until now, and is worse than all that was not."""
    loud = incident.loud
    if not incident.is_open or not loud:
        return incident, ()
    worst = _worst_of(incident, (member.alert for member in loud), config)
    severity = _severity_or_p2(worst, config)
    if not severity.worse_than(incident.severity):
        return incident, ()
    policy = policy_for(config, dict(worst.labels), severity)
    return raise_severity(incident, severity, policy, now_ms, config)


def raise_severity(
    incident: Incident,
    severity: Severity,
    policy: EscalationPolicy,
    now_ms: int,
    config: IncidentConfig,
) -> Change:
    """Rule 18: a worse severity brings its policy and starts it, unless somebody is on it."""
    before = incident.policy
    data = {"from": incident.severity.value, "to": severity.value, "policy": policy.name}
    raised = replace(incident, severity=severity, policy=policy)
    raised, slo = _renew_slo(raised, now_ms, config)
    record = Record("severity_raised", data=data)
    if raised.state is IncidentState.ACKED:
        raised, effects = _raise_acked(raised, before, now_ms, config)
    elif raised.state is IncidentState.TRIGGERED and raised.step < 0:  # nobody was paged yet
        due_at_ms = max(now_ms, raised.opened_at_ms + policy.group_wait_ms)
        effects = (set_timer(raised, TimerKind.GROUP_WAIT, due_at_ms),)
    else:
        note = f"{data['from']} became {data['to']}"
        raised, effects = restart(raised, Reason.WORSE, now_ms, config, note=note)
    return raised, (record, *slo, *effects)


def _raise_acked(
    incident: Incident, before: EscalationPolicy, now_ms: int, config: IncidentConfig
) -> Change:
    paged, effects = page(incident, owner_addressees(incident, now_ms, config), Reason.WORSE)
    timeout_ms = incident.ack_timeout_ms
    if timeout_ms is None:
        return paged, effects
    due_at_ms = now_ms + timeout_ms
    former_ms = replace(incident, policy=before).ack_timeout_ms
    if former_ms is not None and incident.acked_at_ms is not None:
        due_at_ms = min(due_at_ms, incident.acked_at_ms + former_ms)
    return paged, (*effects, set_timer(incident, TimerKind.ACK_TIMEOUT, due_at_ms))


def _follow_members(
    incident: Incident, before: Incident, now_ms: int, config: IncidentConfig, why: str
) -> Change:
    """Derive the source from the members, and resolve when it has become clear."""
    sources = {member.source for member in incident.members.values()}
    if Condition.FIRING in sources:
        return _record_lowered(replace(incident, source=Condition.FIRING), before, config)
    if Condition.UNKNOWN in sources and not any(member.origins for member in incident.active):
        return _end_unobserved(incident, now_ms, config, why, Reason.GIVEN_UP)
    if Condition.UNKNOWN in sources:
        return _become_unknown(incident, now_ms, config)
    if Condition.UNWATCHED in sources and left_unwatched(incident):
        return _end_unobserved(incident, now_ms, config, why, Reason.UNWATCHED)
    clear = replace(incident, source=Condition.CLEAR, unknown_since_ms=None)
    if clear.closed_by_hand:
        return end_closed_by_hand(clear, now_ms, config, why)
    if not clear.is_open:
        return clear, (Record("source_clear", data={"why": why}),)
    return all_clear(clear, now_ms, config, why)


def _end_unobserved(
    incident: Incident, now_ms: int, config: IncidentConfig, why: str, reason: Reason
) -> Change:
    """Whoever spoke of the alerts gave them up or is gone: it ends, and nobody is told that it is
    over."""
    lost = replace(incident, source=Condition.UNKNOWN, unknown_since_ms=None)
    if lost.closed_by_hand:
        return end_closed_by_hand(lost, now_ms, config, why, reason)
    if not lost.is_open:
        return lost, ()
    return resolve(lost, now_ms, config, why, reason)


def _record_lowered(incident: Incident, before: Incident, config: IncidentConfig) -> Change:
    """Rule 19: noted, and the policy stays the higher one until the incident resolves."""
    worst, was = current_severity(incident, config), current_severity(before, config)
    if not was.worse_than(worst):
        return incident, ()
    return incident, (Record("severity_lowered", data={"from": was.value, "to": worst.value}),)


def current_severity(incident: Incident, config: IncidentConfig) -> Severity:
    """The worst among the alerts that fire now; the incident's own when none does."""
    severities = [alert_severity(member.alert, config) for member in incident.active]
    return min(
        (severity for severity in severities if severity is not None), default=incident.severity
    )


def _become_unknown(incident: Incident, now_ms: int, config: IncidentConfig) -> Change:
    """Rule 25: unknown is not resolved."""
    if incident.source is Condition.UNKNOWN or not incident.is_open:
        return replace(incident, source=Condition.UNKNOWN), ()
    waited: Effects = ()
    if incident.in_hold:
        incident, waited = leave_hold(incident, now_ms, config)
    doubtful = replace(incident, source=Condition.UNKNOWN, unknown_since_ms=now_ms)
    return doubtful, (
        Record("source_unknown"),
        *waited,
        set_timer(doubtful, TimerKind.SOURCE_UNKNOWN, now_ms + config.unknown_notice_ms),
        set_timer(doubtful, TimerKind.UNKNOWN_MAX, now_ms + config.unknown_max_ms),
    )


def slo_timers(incident: Incident, config: IncidentConfig) -> tuple[SetTimer, ...]:
    target_ms = incident.policy.recover_within_ms
    if target_ms is None:
        return ()
    warn_ms = incident.opened_at_ms + round(target_ms * config.slo_warn)
    breach_ms = incident.opened_at_ms + target_ms
    return (
        set_timer(incident, TimerKind.SLO_WARN, warn_ms),
        set_timer(incident, TimerKind.SLO_BREACH, breach_ms),
    )


def _renew_slo(incident: Incident, now_ms: int, config: IncidentConfig) -> tuple[Incident, Effects]:
    """The recover target counts from the opening. Missed already: noted, the raise itself pages."""
    due = slo_timers(incident, config)
    if incident.slo_breached or not due:
        return incident, ()
    if due[-1].timer.due_at_ms <= now_ms:
        return replace(incident, slo_breached=True), (Record("slo_breach"),)
    return incident, due
