"""What alerts do to an incident: rules 1, 18 to 20, 22, 25 to 27 and 30 of docs/incidents.md."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from tocsin_alerting.incidents.answers import over, resolve
from tocsin_alerting.incidents.effects import Change, Effect, Effects, Record, SetTimer
from tocsin_alerting.incidents.escalation import page, restart, timer
from tocsin_alerting.incidents.grouping import Group
from tocsin_alerting.incidents.incident import ENDED, Incident, Member, Source, State, began_ms
from tocsin_alerting.incidents.notification import Reason
from tocsin_alerting.incidents.policy import Policy, Severity, severity_of
from tocsin_alerting.incidents.routing import SEVERITY_LABEL, IncidentConfig, policy_for
from tocsin_alerting.incidents.timer import TimerKind
from tocsin_alerting.rules.alert import Alert, AlertEvent, EventKind

RULE_REMOVED = "rule removed"
_Pairs = frozenset[tuple[str, str]]


def alert_severity(alert: Alert, config: IncidentConfig) -> Severity | None:
    """P2 when it has none; None when nobody is to be paged (`severity: none`)."""
    return severity_of(dict(alert.labels).get(SEVERITY_LABEL, ""), config.severity_words)


def open_incident(
    number: int, group: Group, event: AlertEvent, now_ms: int, config: IncidentConfig
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
    waits = timer(opened, TimerKind.GROUP_WAIT, now_ms + policy.group_wait_ms)
    return opened, (Record("opened", data=data), waits, *slo_timers(opened, config))


def _new_member(event: AlertEvent, now_ms: int) -> Member:
    return Member(event.alert, Source.FIRING, now_ms, origins={event.origin: Source.FIRING})


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
        return _fired(incident, changed.events, now_ms, config)
    return _ended(incident, changed.events, now_ms, config)


def _ended(
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
        elif (member := _without(known, event, now_ms)) is not known:
            members[name], last = member, event
    ignored = (Record("ignored_late", data=_about(late)),) if late else ()
    if last is None:
        return incident, ignored
    why = last.reason or (RULE_REMOVED if last.kind is EventKind.REMOVED else "clear")
    after, effects = _follow(replace(incident, members=members), incident, now_ms, config, why)
    return after, (*ignored, *effects)


def _about(alerts: Sequence[Alert]) -> dict[str, object]:
    """The first one by name, and how many there are if there are more."""
    several = {"alerts": len(alerts)} if len(alerts) > 1 else {}
    return {"alert": alerts[0].name, **several}


def _without(known: Member, event: AlertEvent, now_ms: int) -> Member:
    if event.kind is EventKind.UNKNOWN:
        return _doubted(known, event.origin)
    if event.kind is EventKind.GIVEN_UP:
        return _given_up(known, event.origin)
    return _cleared(known, event, now_ms)


def _doubted(known: Member, origin: str) -> Member:
    origins = {**known.origins, origin: Source.UNKNOWN}
    return replace(known, origins=origins, source=_said(origins))


def _given_up(known: Member, origin: str) -> Member:
    """`origin` says nothing of it any more. Of whom nobody says anything, that is unknown still."""
    origins = {name: said for name, said in known.origins.items() if name != origin}
    if origins == known.origins:
        return known
    return replace(known, origins=origins, source=_said(origins))


def _cleared(known: Member, event: AlertEvent, now_ms: int) -> Member:
    """The member as it is without `event.origin`; unchanged when others alone say that it fires."""
    if known.origins and event.origin not in known.origins:
        return known
    origins = {name: said for name, said in known.origins.items() if name != event.origin}
    if origins:
        return replace(known, origins=origins, source=_said(origins))
    alert = _as_first_seen(known, event.alert)
    source = Source.UNWATCHED if event.kind is EventKind.REMOVED else Source.CLEAR
    return replace(known, alert=alert, source=source, ended_at_ms=now_ms, origins=origins)


def _said(origins: Mapping[str, Source]) -> Source:
    return Source.FIRING if Source.FIRING in origins.values() else Source.UNKNOWN


def _fired(
    incident: Incident, events: Sequence[AlertEvent], now_ms: int, config: IncidentConfig
) -> Change:
    members = dict(incident.members)
    fresh: list[Alert] = []
    for event in events:
        known = members.get(event.alert.fingerprint)
        if known is None or known.source in ENDED:
            fresh.append(event.alert)
        members[event.alert.fingerprint] = _firing(known, event, now_ms)
    began_at_ms = _began_before(incident, events, now_ms)
    joined = replace(incident, members=members, began_at_ms=began_at_ms)
    if incident.state is State.RESOLVED and (fresh or not incident.closed_by_hand):
        worst = _worst(joined, config)
        reopened, effects = _reopen(joined, worst, now_ms, config)
        return reopened, (*effects, *_joined([one for one in fresh if one is not worst], config))
    alert = min((event.alert for event in events), key=lambda one: _severity(one, config))
    severity = _severity(alert, config)
    heard: list[Effect] = []
    if incident.source is Source.UNKNOWN:
        heard.append(Record("known_again", data={"source": Source.FIRING.value}))
    joined = replace(joined, source=Source.FIRING, unknown_since_ms=None)
    if incident.is_open and severity.worse_than(incident.severity):
        joined, effects = _raise(joined, severity, alert, now_ms, config)
        heard += effects
        fresh = [one for one in fresh if one is not alert]
    return joined, (*heard, *_joined(fresh, config))


def _began_before(incident: Incident, events: Sequence[AlertEvent], now_ms: int) -> int | None:
    """When the stretch began that goes on with `events`: an alert that fires anew forgets when it
    fired before. None when nothing held between its last end and now."""
    known = incident.began_at_ms
    if incident.is_open and known is not None:  # an incident may have thousands of alerts
        named = (incident.members.get(event.alert.fingerprint) for event in events)
        again = [one.alert.active_at_ms for one in named if one and _reaches(one, known)]
        return min([known, *again])
    if not incident.active:
        ends = [one.ended_at_ms or 0 for one in incident.members.values()]
        ended_ms = max(ends, default=0)
        if all(event.alert.active_at_ms > ended_ms for event in events):
            return None
    return began_ms(incident, now_ms)


def _reaches(member: Member, at_ms: int) -> bool:
    return member.ended_at_ms is None or member.ended_at_ms >= at_ms


def _severity(alert: Alert, config: IncidentConfig) -> Severity:
    return alert_severity(alert, config) or Severity.P2


def _worst(incident: Incident, config: IncidentConfig) -> Alert:
    """Of all that fire or are unknown, those that did so before as well."""
    return min((one.alert for one in incident.active), key=lambda one: _severity(one, config))


def _firing(known: Member | None, event: AlertEvent, now_ms: int) -> Member:
    if known is None or known.source in ENDED:
        return _new_member(event, now_ms)
    origins = {**known.origins, event.origin: Source.FIRING}
    alert = _as_first_seen(known, event.alert)
    return Member(alert, Source.FIRING, known.since_ms, origins=origins)


def _as_first_seen(known: Member, alert: Alert) -> Alert:
    """A rule counts anew after a time without data, or for a second origin; what began did not."""
    return replace(alert, active_at_ms=min(known.alert.active_at_ms, alert.active_at_ms))


def _joined(alerts: Sequence[Alert], config: IncidentConfig) -> tuple[Record, ...]:
    if not alerts:
        return ()
    worst = min(_severity(one, config) for one in alerts)
    return (Record("joined", data={**_about(alerts), "severity": worst.value}),)


def _reopen(
    incident: Incident,
    worst: Alert,
    now_ms: int,
    config: IncidentConfig,
    reason: Reason = Reason.REOPENED,
) -> Change:
    """Rule 22: the same incident, from its first step. What never ended has not flapped."""
    severity = _severity(worst, config)
    policy = policy_for(config, dict(worst.labels), severity)
    again = reason is Reason.REOPENED
    fresh = replace(
        incident,
        policy=policy,
        severity=severity,
        source=Source.FIRING,
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
    return _reopen(incident, _worst(incident, config), now_ms, config, Reason.STILL_FIRING)


def _raise(
    incident: Incident, severity: Severity, alert: Alert, now_ms: int, config: IncidentConfig
) -> Change:
    """Rule 18: a worse severity brings its policy and starts it, unless somebody is on it."""
    before, policy = incident.policy, policy_for(config, dict(alert.labels), severity)
    data = {"from": incident.severity.value, "to": severity.value, "policy": policy.name}
    raised = replace(incident, severity=severity, policy=policy)
    raised, slo = _renewed_slo(raised, now_ms, config)
    record = Record("severity_raised", data=data)
    if raised.state is State.ACKED:
        raised, effects = _raise_acked(raised, before, now_ms)
    elif raised.state is State.TRIGGERED and raised.step < 0:  # nobody was paged yet
        due_at_ms = max(now_ms, raised.opened_at_ms + policy.group_wait_ms)
        effects = (timer(raised, TimerKind.GROUP_WAIT, due_at_ms),)
    else:
        note = f"{data['from']} became {data['to']}"
        raised, effects = restart(raised, Reason.WORSE, now_ms, note=note)
    return raised, (record, *slo, *effects)


def _raise_acked(incident: Incident, before: Policy, now_ms: int) -> Change:
    told, effects = page(incident, incident.owner_targets(), Reason.WORSE)
    timeout_ms = incident.policy.ack.timeout_ms
    if timeout_ms is None:
        return told, effects
    due_at_ms = now_ms + timeout_ms
    if before.ack.timeout_ms is not None and incident.acked_at_ms is not None:
        due_at_ms = min(due_at_ms, incident.acked_at_ms + before.ack.timeout_ms)
    return told, (*effects, timer(incident, TimerKind.ACK_TIMEOUT, due_at_ms))


def _follow(
    incident: Incident, before: Incident, now_ms: int, config: IncidentConfig, why: str
) -> Change:
    """Derive the source from the members, and resolve when it has become clear."""
    sources = {member.source for member in incident.members.values()}
    if Source.FIRING in sources:
        return _lowered(replace(incident, source=Source.FIRING), before, config)
    if Source.UNKNOWN in sources and not any(member.origins for member in incident.active):
        return _lost(incident, now_ms, config, why, Reason.GIVEN_UP)
    if Source.UNKNOWN in sources:
        return _unknown(incident, now_ms, config)
    if Source.UNWATCHED in sources and _left_unwatched(incident):
        return _lost(incident, now_ms, config, why, Reason.UNWATCHED)
    clear = replace(incident, source=Source.CLEAR, unknown_since_ms=None)
    if clear.closed_by_hand:
        return over(clear, now_ms, config, why)
    if not clear.is_open:
        return clear, (Record("source_clear", data={"why": why}),)
    return resolve(clear, now_ms, config, why)


def _left_unwatched(incident: Incident) -> bool:
    """Whether its rule is gone of an alert that no other one has outlived and cleared."""
    members = incident.members.values()
    cleared_ms = _last_cleared(one for one in members if one.source is Source.CLEAR)
    return any(
        cleared_ms(member.alert) <= (member.ended_at_ms or 0)
        for member in members
        if member.source is Source.UNWATCHED
    )


def _last_cleared(cleared: Iterable[Member]) -> Callable[[Alert], int]:
    """When, in Unix milliseconds (0: never), the last of `cleared` ended that is the alert under
    other labels of its rule: another severity, and some that were added or taken away."""
    by_names: dict[frozenset[str], dict[_Pairs, int]] = {}
    for member in cleared:
        pairs = _without_severity(member.alert)
        ended = by_names.setdefault(_names(pairs), {})
        ended[pairs] = max(ended.get(pairs, 0), member.ended_at_ms or 0)

    @cache
    def shortened(names: frozenset[str], common: frozenset[str]) -> dict[_Pairs, int]:
        ended: dict[_Pairs, int] = {}
        for pairs, ended_ms in by_names[names].items():
            short = _only(pairs, common)
            ended[short] = max(ended.get(short, 0), ended_ms)
        return ended

    def of(alert: Alert) -> int:
        pairs = _without_severity(alert)
        own = _names(pairs)
        commons = ((names, names & own) for names in by_names if names <= own or names >= own)
        times = (shortened(names, both).get(_only(pairs, both), 0) for names, both in commons)
        return max(times, default=0)

    return of


def _without_severity(alert: Alert) -> _Pairs:
    return frozenset(pair for pair in alert.labels if pair[0] != SEVERITY_LABEL)


def _names(pairs: _Pairs) -> frozenset[str]:
    return frozenset(name for name, _ in pairs)


def _only(pairs: _Pairs, names: frozenset[str]) -> _Pairs:
    return frozenset(pair for pair in pairs if pair[0] in names)


def _lost(
    incident: Incident, now_ms: int, config: IncidentConfig, why: str, reason: Reason
) -> Change:
    """Whoever spoke of the alerts gave them up or is gone: it ends, and nobody is told that it is
    over."""
    lost = replace(incident, source=Source.UNKNOWN, unknown_since_ms=None)
    if lost.closed_by_hand:
        return over(lost, now_ms, config, why, reason)
    if not lost.is_open:
        return lost, ()
    return resolve(lost, now_ms, config, why, reason)


def _lowered(incident: Incident, before: Incident, config: IncidentConfig) -> Change:
    """Rule 19: noted, and the policy stays the higher one until the incident resolves."""
    worst, was = current_severity(incident, config), current_severity(before, config)
    if not was.worse_than(worst):
        return incident, ()
    return incident, (Record("severity_lowered", data={"from": was.value, "to": worst.value}),)


def current_severity(incident: Incident, config: IncidentConfig) -> Severity:
    """The worst among the alerts that fire now; the incident's own when none does."""
    found = [alert_severity(one.alert, config) for one in incident.active]
    return min((one for one in found if one is not None), default=incident.severity)


def _unknown(incident: Incident, now_ms: int, config: IncidentConfig) -> Change:
    """Rule 25: unknown is not resolved."""
    if incident.source is Source.UNKNOWN or not incident.is_open:
        return replace(incident, source=Source.UNKNOWN), ()
    doubtful = replace(incident, source=Source.UNKNOWN, unknown_since_ms=now_ms)
    return doubtful, (
        Record("source_unknown"),
        timer(doubtful, TimerKind.SOURCE_UNKNOWN, now_ms + config.unknown_notice_ms),
        timer(doubtful, TimerKind.UNKNOWN_MAX, now_ms + config.unknown_max_ms),
    )


def slo_timers(incident: Incident, config: IncidentConfig) -> tuple[SetTimer, ...]:
    target_ms = incident.policy.recover_within_ms
    if target_ms is None:
        return ()
    warn_ms = incident.opened_at_ms + round(target_ms * config.slo_warn)
    breach_ms = incident.opened_at_ms + target_ms
    return (
        timer(incident, TimerKind.SLO_WARN, warn_ms),
        timer(incident, TimerKind.SLO_BREACH, breach_ms),
    )


def _renewed_slo(
    incident: Incident, now_ms: int, config: IncidentConfig
) -> tuple[Incident, Effects]:
    """The recover target counts from the opening. Missed already: noted, the raise itself pages."""
    due = slo_timers(incident, config)
    if incident.slo_breached or not due:
        return incident, ()
    if due[-1].timer.due_at_ms <= now_ms:
        return replace(incident, slo_breached=True), (Record("slo_breach"),)
    return incident, due
