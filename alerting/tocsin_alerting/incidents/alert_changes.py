"""What alerts do to an incident: rules 1, 18 to 20, 22, 25 to 27 and 30 of docs/incidents.md."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from tocsin_alerting.incidents.actions import end_closed_by_hand, resolve
from tocsin_alerting.incidents.effects import Change, Effect, Effects, Record, SetTimer
from tocsin_alerting.incidents.escalation import page, restart, set_timer
from tocsin_alerting.incidents.escalation_policy import EscalationPolicy, Severity, severity_of
from tocsin_alerting.incidents.grouping import AlertGroup
from tocsin_alerting.incidents.incident import (
    ENDED_CONDITIONS,
    Condition,
    Incident,
    IncidentState,
    Member,
    began_ms,
)
from tocsin_alerting.incidents.notification import Reason
from tocsin_alerting.incidents.routing import SEVERITY_LABEL, IncidentConfig, policy_for
from tocsin_alerting.incidents.timers import TimerKind
from tocsin_alerting.rules.alert import Alert, AlertEvent, EventKind

RULE_REMOVED = "rule removed"
_LabelPairs = frozenset[tuple[str, str]]


def alert_severity(alert: Alert, config: IncidentConfig) -> Severity | None:
    """P2 when it has none; None when nobody is to be paged (`severity: none`)."""
    return severity_of(dict(alert.labels).get(SEVERITY_LABEL, ""), config.severity_words)


def open_incident(
    number: int, group: AlertGroup, event: AlertEvent, now_ms: int, config: IncidentConfig
) -> Change:
    """Rule 1. The policy is copied into the incident: an edit never breaks a running escalation."""
    severity = alert_severity(event.alert, config) or Severity.P2
    policy = policy_for(config, dict(event.alert.labels), severity)
    opened = Incident(
        number=number,
        uid=group.uid(now_ms),
        key=group.key,
        group_labels=group.labels,
        policy=policy,
        severity=severity,
        opened_at_ms=now_ms,
        members={event.alert.fingerprint: _new_member(event, now_ms)},
    )
    data = {"severity": severity.value, "policy": policy.name, "alert": event.alert.name}
    waits = set_timer(opened, TimerKind.GROUP_WAIT, now_ms + policy.group_wait_ms)
    return opened, (Record("opened", data=data), waits, *slo_timers(opened, config))


def _new_member(event: AlertEvent, now_ms: int) -> Member:
    return Member(event.alert, Condition.FIRING, now_ms, origins={event.origin: Condition.FIRING})


@dataclass(frozen=True, slots=True)
class AlertsChanged:
    """What one evaluation said of an incident's alerts: all of them fire, or none of them does.

    No alert is named twice.
    """

    events: tuple[AlertEvent, ...]


def alerts_changed(
    incident: Incident, changed: AlertsChanged, now_ms: int, config: IncidentConfig
) -> Change:
    if changed.events[0].kind is EventKind.FIRING:
        return _apply_firing(incident, changed.events, now_ms, config)
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
        elif (member := _member_after(known, event, now_ms)) is not known:
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


def _member_after(known: Member, event: AlertEvent, now_ms: int) -> Member:
    if event.kind is EventKind.UNKNOWN:
        return _with_unknown(known, event.origin)
    if event.kind is EventKind.GIVEN_UP:
        return _without_origin(known, event.origin)
    return _cleared(known, event, now_ms)


def _with_unknown(known: Member, origin: str) -> Member:
    origins = {**known.origins, origin: Condition.UNKNOWN}
    return replace(known, origins=origins, source=_combined_condition(origins))


def _without_origin(known: Member, origin: str) -> Member:
    """`origin` says nothing of it any more. Of whom nobody says anything, that is unknown still."""
    origins = {name: condition for name, condition in known.origins.items() if name != origin}
    if origins == known.origins:
        return known
    return replace(known, origins=origins, source=_combined_condition(origins))


def _cleared(known: Member, event: AlertEvent, now_ms: int) -> Member:
    """The member as it is without `event.origin`; unchanged when others alone say that it fires."""
    if known.origins and event.origin not in known.origins:
        return known
    origins = {name: condition for name, condition in known.origins.items() if name != event.origin}
    if origins:
        return replace(known, origins=origins, source=_combined_condition(origins))
    alert = _as_first_seen(known, event.alert)
    source = Condition.UNWATCHED if event.kind is EventKind.REMOVED else Condition.CLEAR
    return replace(known, alert=alert, source=source, ended_at_ms=now_ms, origins=origins)


def _combined_condition(origins: Mapping[str, Condition]) -> Condition:
    return Condition.FIRING if Condition.FIRING in origins.values() else Condition.UNKNOWN


def _apply_firing(
    incident: Incident, events: Sequence[AlertEvent], now_ms: int, config: IncidentConfig
) -> Change:
    members = dict(incident.members)
    fresh: list[Alert] = []
    for event in events:
        known = members.get(event.alert.fingerprint)
        if known is None or known.source in ENDED_CONDITIONS:
            fresh.append(event.alert)
        members[event.alert.fingerprint] = _firing_member(known, event, now_ms)
    began_at_ms = _began_before(incident, events, now_ms)
    joined = replace(incident, members=members, began_at_ms=began_at_ms)
    if incident.state is IncidentState.RESOLVED and (fresh or not incident.closed_by_hand):
        worst = _worst_alert(joined, config)
        reopened, effects = _reopen(joined, worst, now_ms, config)
        return reopened, (
            *effects,
            *_joined_record([one for one in fresh if one is not worst], config),
        )
    alert = min((event.alert for event in events), key=lambda one: _severity_or_p2(one, config))
    severity = _severity_or_p2(alert, config)
    heard: list[Effect] = []
    if incident.source is Condition.UNKNOWN:
        heard.append(Record("known_again", data={"source": Condition.FIRING.value}))
    joined = replace(joined, source=Condition.FIRING, unknown_since_ms=None)
    if incident.is_open and severity.worse_than(incident.severity):
        joined, effects = _raise_severity(joined, severity, alert, now_ms, config)
        heard += effects
        fresh = [one for one in fresh if one is not alert]
    return joined, (*heard, *_joined_record(fresh, config))


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
    return min(
        (member.alert for member in incident.active),
        key=lambda alert: _severity_or_p2(alert, config),
    )


def _firing_member(known: Member | None, event: AlertEvent, now_ms: int) -> Member:
    if known is None or known.source in ENDED_CONDITIONS:
        return _new_member(event, now_ms)
    origins = {**known.origins, event.origin: Condition.FIRING}
    alert = _as_first_seen(known, event.alert)
    return Member(alert, Condition.FIRING, known.since_ms, origins=origins)


def _as_first_seen(known: Member, alert: Alert) -> Alert:
    """A rule counts anew after a time without data, or for a second origin; what began did not."""
    return replace(alert, active_at_ms=min(known.alert.active_at_ms, alert.active_at_ms))


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
    severity = _severity_or_p2(worst, config)
    policy = policy_for(config, dict(worst.labels), severity)
    again = reason is Reason.REOPENED
    fresh = replace(
        incident,
        policy=policy,
        severity=severity,
        source=Condition.FIRING,
        flaps=incident.flaps + again,
        cycle=incident.generation + 1 if again else incident.cycle,
        step=-1,
        resolved_at_ms=None,
        unknown_since_ms=None,
        resolution="",
        closed_by_hand=False,
    )
    reopened, effects = restart(fresh, reason, now_ms)
    data = {"times": reopened.flaps, "severity": severity.value, "policy": policy.name}
    return reopened, (Record("reopened", data=data), *effects)


def raise_again(incident: Incident, now_ms: int, config: IncidentConfig) -> Change:
    """Resolved by hand, and it fires still: forgotten is worse than told twice."""
    return _reopen(incident, _worst_alert(incident, config), now_ms, config, Reason.STILL_FIRING)


def _raise_severity(
    incident: Incident, severity: Severity, alert: Alert, now_ms: int, config: IncidentConfig
) -> Change:
    """Rule 18: a worse severity brings its policy and starts it, unless somebody is on it."""
    before, policy = incident.policy, policy_for(config, dict(alert.labels), severity)
    data = {"from": incident.severity.value, "to": severity.value, "policy": policy.name}
    raised = replace(incident, severity=severity, policy=policy)
    raised, slo = _renew_slo(raised, now_ms, config)
    record = Record("severity_raised", data=data)
    if raised.state is IncidentState.ACKED:
        raised, effects = _raise_acked(raised, before, now_ms)
    elif raised.state is IncidentState.TRIGGERED and raised.step < 0:  # nobody was paged yet
        due_at_ms = max(now_ms, raised.opened_at_ms + policy.group_wait_ms)
        effects = (set_timer(raised, TimerKind.GROUP_WAIT, due_at_ms),)
    else:
        note = f"{data['from']} became {data['to']}"
        raised, effects = restart(raised, Reason.WORSE, now_ms, note=note)
    return raised, (record, *slo, *effects)


def _raise_acked(incident: Incident, before: EscalationPolicy, now_ms: int) -> Change:
    paged, effects = page(incident, incident.owner_addressees(), Reason.WORSE)
    timeout_ms = incident.policy.ack.timeout_ms
    if timeout_ms is None:
        return paged, effects
    due_at_ms = now_ms + timeout_ms
    if before.ack.timeout_ms is not None and incident.acked_at_ms is not None:
        due_at_ms = min(due_at_ms, incident.acked_at_ms + before.ack.timeout_ms)
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
    if Condition.UNWATCHED in sources and _left_unwatched(incident):
        return _end_unobserved(incident, now_ms, config, why, Reason.UNWATCHED)
    clear = replace(incident, source=Condition.CLEAR, unknown_since_ms=None)
    if clear.closed_by_hand:
        return end_closed_by_hand(clear, now_ms, config, why)
    if not clear.is_open:
        return clear, (Record("source_clear", data={"why": why}),)
    return resolve(clear, now_ms, config, why)


def _left_unwatched(incident: Incident) -> bool:
    """Whether its rule is gone of an alert that no other one has outlived and cleared."""
    members = incident.members.values()
    cleared_ms = _last_cleared(member for member in members if member.source is Condition.CLEAR)
    return any(
        cleared_ms(member.alert) <= (member.ended_at_ms or 0)
        for member in members
        if member.source is Condition.UNWATCHED
    )


def _last_cleared(cleared: Iterable[Member]) -> Callable[[Alert], int]:
    """When, in Unix milliseconds (0: never), the last of `cleared` ended that is the alert under
    other labels of its rule: another severity, and some that were added or taken away."""
    by_names: dict[frozenset[str], dict[_LabelPairs, int]] = {}
    for member in cleared:
        pairs = _without_severity(member.alert)
        ended = by_names.setdefault(_label_names(pairs), {})
        ended[pairs] = max(ended.get(pairs, 0), member.ended_at_ms or 0)

    @cache
    def shortened(names: frozenset[str], common: frozenset[str]) -> dict[_LabelPairs, int]:
        ended: dict[_LabelPairs, int] = {}
        for pairs, ended_ms in by_names[names].items():
            short = _restricted_to(pairs, common)
            ended[short] = max(ended.get(short, 0), ended_ms)
        return ended

    def of(alert: Alert) -> int:
        pairs = _without_severity(alert)
        own = _label_names(pairs)
        commons = ((names, names & own) for names in by_names if names <= own or names >= own)
        times = (
            shortened(names, both).get(_restricted_to(pairs, both), 0) for names, both in commons
        )
        return max(times, default=0)

    return of


def _without_severity(alert: Alert) -> _LabelPairs:
    return frozenset(pair for pair in alert.labels if pair[0] != SEVERITY_LABEL)


def _label_names(pairs: _LabelPairs) -> frozenset[str]:
    return frozenset(name for name, _ in pairs)


def _restricted_to(pairs: _LabelPairs, names: frozenset[str]) -> _LabelPairs:
    return frozenset(pair for pair in pairs if pair[0] in names)


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
    doubtful = replace(incident, source=Condition.UNKNOWN, unknown_since_ms=now_ms)
    return doubtful, (
        Record("source_unknown"),
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
