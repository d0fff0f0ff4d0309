"""What people do to an incident: rules 10, 11, 14 to 16 and 21 of docs/incidents.md."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from tocsin_alerting.incidents.effects import Change, Notify, Record, SetTimer, WithdrawPages
from tocsin_alerting.incidents.errors import Conflict
from tocsin_alerting.incidents.escalation import restart, set_timer
from tocsin_alerting.incidents.escalation_policy import (
    RE_RAISE_MS,
    RE_RAISE_P0_MS,
    Addressee,
    Severity,
)
from tocsin_alerting.incidents.incident import Condition, Incident, IncidentState, next_generation
from tocsin_alerting.incidents.notification import Reason
from tocsin_alerting.incidents.routing import IncidentConfig
from tocsin_alerting.incidents.timers import TimerKind


class Verb(StrEnum):
    ACK = "ack"
    UNACK = "unack"
    RESOLVE = "resolve"
    ESCALATE = "escalate"
    SNOOZE = "snooze"


@dataclass(frozen=True, slots=True)
class Action:
    """`step` (escalate; None: the next one) counts from 0; `until_ms` is for snooze alone.

    An action repeated with the same `request_id` is done once; "" asks for no such protection.
    """

    verb: Verb
    incident: int
    actor: str
    note: str = ""
    request_id: str = ""
    step: int | None = None
    until_ms: int | None = None
    false_positive: bool = False


def apply_action(incident: Incident, action: Action, now_ms: int, config: IncidentConfig) -> Change:
    """The incident after `action`. Raises Conflict when its state does not allow it."""
    if not incident.is_open:
        raise Conflict(incident.number, incident.state, f"nothing to {action.verb}")
    return ACTIONS[action.verb](incident, action, now_ms, config)


def acknowledge(incident: Incident, action: Action, now_ms: int, config: IncidentConfig) -> Change:
    """Rules 10 and 11. An owner who acknowledges again changes nothing."""
    if incident.state is IncidentState.ACKED and incident.owner == action.actor:
        return incident, ()
    acked = replace(
        next_generation(incident), state=IncidentState.ACKED, owner=action.actor, acked_at_ms=now_ms
    )
    others = [
        addressee
        for addressee in sorted_addressees(incident.paged)
        if addressee.contact != action.actor
    ]
    acked, notices = notice(acked, Reason.ACKED, others, action)
    data = {"note": action.note, "after_ms": now_ms - incident.opened_at_ms}
    record = Record("acked", action.actor, data)
    return acked, (WithdrawPages(), *notices, record, *ack_timers(acked, now_ms))


def unacknowledge(
    incident: Incident, action: Action, now_ms: int, config: IncidentConfig
) -> Change:
    """Rule 14."""
    if incident.state is not IncidentState.ACKED:
        raise Conflict(incident.number, incident.state, "nobody has acknowledged it")
    note = f"{action.actor} gave it back"
    again, effects = restart(
        incident, Reason.UNACKED, now_ms, actor=action.actor, note=action.note or note
    )
    return again, (Record("unacked", action.actor, {"note": action.note}), *effects)


def escalate(incident: Incident, action: Action, now_ms: int, config: IncidentConfig) -> Change:
    """Rule 15: run a step now, also when somebody owns the incident."""
    step = incident.step + 1 if action.step is None else action.step
    last = len(incident.policy.steps) - 1
    if not 0 <= step <= last:
        raise Conflict(
            incident.number, incident.state, f"it has no step {step}; the last is {last}"
        )
    further, effects = restart(
        incident,
        Reason.MANUAL,
        now_ms,
        step=step,
        keep_loop=True,
        actor=action.actor,
        note=action.note,
    )
    return further, (Record("escalated", action.actor, {"step": step}), *effects)


def snooze(incident: Incident, action: Action, now_ms: int, config: IncidentConfig) -> Change:
    """Rule 16."""
    longest_ms = incident.policy.snooze_max_ms
    if incident.state is IncidentState.SNOOZED:
        raise Conflict(incident.number, incident.state, "it is snoozed already")
    if action.until_ms is None or action.until_ms <= now_ms:
        raise Conflict(incident.number, incident.state, "a snooze must end in the future")
    if longest_ms is not None and action.until_ms - now_ms > longest_ms:
        why = f"its policy allows a snooze of {longest_ms // 1000} s at most"
        raise Conflict(incident.number, incident.state, why)
    quiet = replace(next_generation(incident), state=IncidentState.SNOOZED)
    record = Record("snoozed", action.actor, {"until_ms": action.until_ms, "note": action.note})
    return quiet, (WithdrawPages(), record, set_timer(quiet, TimerKind.SNOOZE_END, action.until_ms))


def resolve_by_hand(
    incident: Incident, action: Action, now_ms: int, config: IncidentConfig
) -> Change:
    """Rule 21. An open incident has alerts that fire, or of which nobody can tell: it says so."""
    why = f"by {action.actor}"
    closed = replace(
        next_generation(incident),
        state=IncidentState.RESOLVED,
        resolved_at_ms=now_ms,
        resolution=why,
        closed_by_hand=True,
    )
    unknown = incident.source is Condition.UNKNOWN
    closed, notices = notice(
        closed, closed_reason(incident), sorted_addressees(closed.paged), action
    )
    data = {
        "why": why,
        "after_ms": now_ms - incident.opened_at_ms,
        "note": action.note,
        "source": incident.source.value,
        "still_firing": not unknown,
        "false_positive": action.false_positive,
    }
    again = set_timer(closed, TimerKind.RE_RAISE, now_ms + re_raise_after_ms(incident))
    return closed, (WithdrawPages(), again, *notices, Record("closed_by_hand", action.actor, data))


def closed_reason(incident: Incident) -> Reason:
    unknown = incident.source is Condition.UNKNOWN
    return Reason.CLOSED_UNKNOWN if unknown else Reason.CLOSED_BY_HAND


def re_raise_after_ms(incident: Incident) -> int:
    """How long it stays closed by hand while it still fires."""
    if incident.policy.re_raise_after_ms is not None:
        return incident.policy.re_raise_after_ms
    return RE_RAISE_P0_MS if incident.severity is Severity.P0 else RE_RAISE_MS


def end_closed_by_hand(
    incident: Incident,
    now_ms: int,
    config: IncidentConfig,
    why: str,
    reason: Reason = Reason.RESOLVED,
) -> Change:
    """What was closed by hand fires no more, or is given up: those who were paged hear of it."""
    ended = replace(next_generation(incident), closed_by_hand=False, paged=frozenset())
    ended, notices = notice(ended, reason, sorted_addressees(incident.paged), None, why)
    ends = set_timer(ended, TimerKind.REOPEN_END, now_ms + config.reopen_within_ms)
    noted = "source_clear" if reason is Reason.RESOLVED else reason.value
    return ended, (*notices, Record(noted, data={"why": why}), ends)


def resolve(
    incident: Incident,
    now_ms: int,
    config: IncidentConfig,
    why: str,
    reason: Reason = Reason.RESOLVED,
) -> Change:
    """Rules 20, 25, 27: withdraw what is unsent, and tell those who were paged, nobody else."""
    resolved = replace(
        next_generation(incident),
        state=IncidentState.RESOLVED,
        resolved_at_ms=now_ms,
        resolution=why,
    )
    addressees = tuple(sorted_addressees(resolved.paged))
    resolved, notices = notice(resolved, reason, addressees, None, why)
    resolved = replace(resolved, paged=frozenset())
    details = {"why": why, "after_ms": now_ms - incident.opened_at_ms}
    record = Record(reason.value, data=details)
    ends = set_timer(resolved, TimerKind.REOPEN_END, now_ms + config.reopen_within_ms)
    return resolved, (WithdrawPages(), *notices, record, ends)


def notice(
    incident: Incident,
    reason: Reason,
    targets: list[Addressee] | tuple[Addressee, ...],
    action: Action | None,
    note: str = "",
) -> Change:
    """A message that is no page: it goes out for a muted incident too."""
    if not targets:
        return incident, ()
    serial = incident.notices + 1
    actor = action.actor if action else ""
    note = (action.note if action else "") or note
    notify = Notify(reason, tuple(targets), serial, actor, note)
    return replace(incident, notices=serial), (notify,)


def ack_timers(incident: Incident, now_ms: int) -> tuple[SetTimer, ...]:
    ack = incident.policy.ack
    due: list[SetTimer] = []
    if ack.remind_ms is not None:
        due.append(set_timer(incident, TimerKind.ACK_REMIND, now_ms + ack.remind_ms))
    if ack.timeout_ms is not None:
        due.append(set_timer(incident, TimerKind.ACK_TIMEOUT, now_ms + ack.timeout_ms))
    return tuple(due)


def sorted_addressees(targets: frozenset[Addressee]) -> list[Addressee]:
    """By name: a set has no order that two runs would share."""
    return sorted(targets, key=lambda addressee: (addressee.receiver, addressee.contact))


ActionHandler = Callable[[Incident, Action, int, IncidentConfig], Change]
ACTIONS: Mapping[Verb, ActionHandler] = {
    Verb.ACK: acknowledge,
    Verb.UNACK: unacknowledge,
    Verb.ESCALATE: escalate,
    Verb.SNOOZE: snooze,
    Verb.RESOLVE: resolve_by_hand,
}
