"""What a person answered to an incident holds for the one that has taken its place.

An agent that starts without its journal opens incidents anew. When the journal comes, the older
ones are closed in their favour, and who had answered must not have to do so again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from tocsin_alerting.incidents.actions import (
    Action,
    Verb,
    ack_timers,
    closed_reason,
    notice,
    sorted_addressees,
)
from tocsin_alerting.incidents.escalation import owner_addressees, page, set_timer
from tocsin_alerting.incidents.incident import (
    Change,
    Effects,
    Incident,
    IncidentState,
    Reason,
    Record,
    SetTimer,
    Timer,
    TimerKind,
    WithdrawPages,
    next_generation,
)
from tocsin_alerting.incidents.routing import IncidentConfig


@dataclass(frozen=True, slots=True)
class Succession:
    """The incident takes the place of `former`, whose timers were `timers`."""

    former: Incident
    timers: Mapping[TimerKind, Timer]


def succeed(incident: Incident, event: Succession, now_ms: int, config: IncidentConfig) -> Change:
    """Keep the acknowledgement, the snooze or the closing by hand, until when it was to last.

    What holds for an incident that gets worse, or that other alerts join, holds here: an owner is
    paged and keeps it, a snooze ends (rule 18), and what was closed by hand fires again.
    """
    former = event.former
    if former.state not in _KEPT_STATES or incident.state is not IncidentState.TRIGGERED:
        return incident, ()
    ends, keep = _KEPT_STATES[former.state]
    end = event.timers.get(ends)
    lasts = former.state is IncidentState.ACKED if end is None else end.due_at_ms > now_ms
    if not lasts or not _answered(incident, former):
        return incident, ()
    heir = replace(next_generation(incident), state=former.state, owner=former.owner)
    heir, effects = keep(heir, event, now_ms, config)
    return heir, (WithdrawPages(), *effects)


def _answered(incident: Incident, former: Incident) -> bool:
    """Whether the answer was to what this incident says: it groups as the former one did, or has
    none but its alerts."""
    known = {member.alert.fingerprint for member in former.active}
    no_other = all(member.alert.fingerprint in known for member in incident.active)
    if former.state is IncidentState.RESOLVED:
        return former.closed_by_hand and no_other
    worse = incident.severity.worse_than(former.severity)
    grouped = no_other or incident.key == former.key
    return grouped and not (worse and former.state is IncidentState.SNOOZED)


def _acked(incident: Incident, event: Succession, now_ms: int, config: IncidentConfig) -> Change:
    former = event.former
    acked = replace(incident, acked_at_ms=former.acked_at_ms, assigned_by=former.assigned_by)
    others = [
        addressee
        for addressee in sorted_addressees(acked.paged)
        if addressee.contact != former.owner
    ]
    acked, notices = notice(acked, Reason.ACKED, others, _action(Verb.ACK, former, acked))
    worse: Effects = ()
    if acked.severity.worse_than(former.severity):
        acked, worse = page(acked, owner_addressees(acked, now_ms, config), Reason.WORSE)
    record = _record("ack_kept", former, acked_at_ms=former.acked_at_ms)
    return acked, (*notices, *worse, record, *_ack_timers(acked, event, now_ms))


def _ack_timers(incident: Incident, event: Succession, now_ms: int) -> Effects:
    """Due when they were; sooner where the policy is another one by now."""
    due = ack_timers(incident, now_ms)
    return tuple(_as_before(timer, event) for timer in due)


def _as_before(wanted: SetTimer, event: Succession) -> SetTimer:
    before, new = event.timers.get(wanted.timer.kind), wanted.timer
    if before is None:
        return wanted
    return SetTimer(replace(new, due_at_ms=min(new.due_at_ms, before.due_at_ms)))


def _snoozed(incident: Incident, event: Succession, now_ms: int, config: IncidentConfig) -> Change:
    ends_ms = event.timers[TimerKind.SNOOZE_END].due_at_ms
    record = _record("snooze_kept", event.former, until_ms=ends_ms)
    return incident, (record, set_timer(incident, TimerKind.SNOOZE_END, ends_ms))


def _closed(incident: Incident, event: Succession, now_ms: int, config: IncidentConfig) -> Change:
    former = event.former
    closed = replace(
        incident,
        resolved_at_ms=former.resolved_at_ms,
        resolution=former.resolution,
        closed_by_hand=True,
    )
    action = _action(Verb.RESOLVE, former, closed)
    closed, notices = notice(closed, closed_reason(closed), sorted_addressees(closed.paged), action)
    again = set_timer(closed, TimerKind.RE_RAISE, event.timers[TimerKind.RE_RAISE].due_at_ms)
    return closed, (again, *notices, _record("closing_kept", former, why=former.resolution))


def _action(verb: Verb, former: Incident, incident: Incident) -> Action:
    note = f"as #{former.number}, before the journal could not be read"
    return Action(verb, incident.number, _actor_of(former), note)


def _record(event: str, former: Incident, **data: object) -> Record:
    return Record(event, _actor_of(former), {"as": former.number, **data})


def _actor_of(former: Incident) -> str:
    closed = former.state is IncidentState.RESOLVED
    return former.resolution.removeprefix("by ") if closed else former.owner


Keep = Callable[[Incident, Succession, int, IncidentConfig], Change]
_KEPT_STATES: Mapping[IncidentState, tuple[TimerKind, Keep]] = {
    IncidentState.ACKED: (TimerKind.ACK_TIMEOUT, _acked),
    IncidentState.SNOOZED: (TimerKind.SNOOZE_END, _snoozed),
    IncidentState.RESOLVED: (TimerKind.RE_RAISE, _closed),
}
