"""What people do to an incident: rules 10, 11, 14 to 16, 21, 31 and 32 of docs/incidents.md."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from tocsin_alerting.incidents.errors import Conflict
from tocsin_alerting.incidents.escalation import own_addressees, page, restart, set_timer
from tocsin_alerting.incidents.escalation_policy import (
    RE_RAISE_MS,
    RE_RAISE_P0_MS,
    Addressee,
)
from tocsin_alerting.incidents.incident import (
    Change,
    Condition,
    Effect,
    Incident,
    IncidentState,
    Notify,
    Reason,
    Record,
    SetTimer,
    TimerKind,
    WithdrawPages,
    next_generation,
)
from tocsin_alerting.incidents.routing import IncidentConfig
from tocsin_alerting.rules.severity import Severity
from tocsin_alerting.time_format import elapsed_text


class Verb(StrEnum):
    ACK = "ack"
    UNACK = "unack"
    RESOLVE = "resolve"
    ESCALATE = "escalate"
    SNOOZE = "snooze"
    ASSIGN = "assign"
    COMMENT = "comment"


@dataclass(frozen=True, slots=True)
class Action:
    """`step` (escalate; None: the next one) counts from 0; `until_ms` is for snooze, `to` for
    assign, `cause` for resolve, `fields` of the fault record (name to text) for comment alone.
    `via` says by what the actor came, where he did not prove himself: it is kept in the history.
    `lasts_ms` is for a snooze of somebody without a clock: who takes the action sets `until_ms`.
    `generation` is the incident's in the message that was answered, 0 where nobody knows.

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
    cause: str = ""
    to: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    via: str = ""
    lasts_ms: int = 0
    generation: int = 0

    def is_late_for(self, incident: Incident) -> bool:
        """Whether it answers what was told before the incident was last opened again."""
        return 0 < self.generation < incident.cycle


def apply_action(incident: Incident, action: Action, now_ms: int, config: IncidentConfig) -> Change:
    """The incident after `action`. Raises Conflict when its state does not allow it."""
    if not incident.is_open and action.verb is not Verb.COMMENT:
        raise Conflict(incident.number, incident.state, f"nothing to {action.verb}")
    changed, effects = ACTIONS[action.verb](incident, action, now_ms, config)
    return changed, tuple(_with_via(effect, action) for effect in effects)


def _with_via(effect: Effect, action: Action) -> Effect:
    if not action.via or not isinstance(effect, Record) or effect.actor != action.actor:
        return effect
    return replace(effect, data={**effect.data, "via": action.via})


def acknowledge(incident: Incident, action: Action, now_ms: int, config: IncidentConfig) -> Change:
    """Rules 10 and 11. The generation is raised, which is what stops the escalation: its step timer
    belongs to the old one. An owner who acknowledges again changes nothing, but for one to whom it
    was assigned."""
    owned = incident.state is IncidentState.ACKED and incident.owner == action.actor
    if owned and not incident.assigned_by:
        return incident, ()
    acked = _owned(incident, action.actor, now_ms)
    others = [
        addressee
        for addressee in sorted_addressees(incident.paged)
        if addressee.contact != action.actor
    ]
    acked, notices = notice(acked, Reason.ACKED, others, action)
    data = {"note": action.note, "after_ms": now_ms - incident.opened_at_ms}
    record = Record("acked", action.actor, data)
    return acked, (WithdrawPages(), *notices, record, *ack_timers(acked, now_ms))


def assign(incident: Incident, action: Action, now_ms: int, config: IncidentConfig) -> Change:
    """Rule 31: somebody else is to have it. He is paged, and unless he acknowledges in time, the
    escalation goes on: nobody takes a silent assignee for an answer."""
    if not action.to:
        raise Conflict(incident.number, incident.state, "an assignment must say to whom")
    if action.to == action.actor:
        return acknowledge(incident, action, now_ms, config)
    ways = _ways_to(incident, action.to, config)
    if not ways:
        why = (
            f'no receiver writes to "{action.to}", so nobody would be notified;'
            f" there are {_known_contacts(incident, config)}"
        )
        raise Conflict(incident.number, incident.state, why)
    assigned = replace(_owned(incident, action.to, now_ms), assigned_by=action.actor)
    assigned, pages = page(assigned, ways, Reason.ASSIGNED, actor=action.actor, note=action.note)
    data = {"to": action.to, "note": action.note, "muted": incident.muted}
    record = Record("assigned", action.actor, data)
    return assigned, (WithdrawPages(), *pages, record, *ack_timers(assigned, now_ms))


def _ways_to(incident: Incident, contact: str, config: IncidentConfig) -> tuple[Addressee, ...]:
    """The ways in the policy, else all that the configuration has."""
    own = own_addressees(replace(incident, owner=contact), config)
    return own or tuple(
        target for target in sorted_addressees(config.addressees) if target.contact == contact
    )


def _known_contacts(incident: Incident, config: IncidentConfig) -> str:
    named = {recipient.contact for step in incident.policy.steps for recipient in step.notify}
    named |= {target.contact for target in config.addressees} | config.roster.contacts.keys()
    return ", ".join(sorted(named - {""})) or "no contacts"


def comment(incident: Incident, action: Action, now_ms: int, config: IncidentConfig) -> Change:
    """Rule 32: a line in the history, and nothing else."""
    return incident, (comment_record(action),)


def comment_record(action: Action) -> Record:
    return Record("commented", action.actor, {"note": action.note, "fields": dict(action.fields)})


def _owned(incident: Incident, owner: str, now_ms: int) -> Incident:
    """In a new generation, in which no step runs."""
    return replace(
        next_generation(incident),
        state=IncidentState.ACKED,
        owner=owner,
        assigned_by="",
        acked_at_ms=now_ms,
    )


def unacknowledge(
    incident: Incident, action: Action, now_ms: int, config: IncidentConfig
) -> Change:
    """Rule 14."""
    if incident.state is not IncidentState.ACKED:
        raise Conflict(incident.number, incident.state, "it is not acknowledged")
    note = f"acknowledgement withdrawn by {action.actor}"
    again, effects = restart(
        incident, Reason.UNACKED, now_ms, config, actor=action.actor, note=action.note or note
    )
    return again, (Record("unacked", action.actor, {"note": action.note}), *effects)


def escalate(incident: Incident, action: Action, now_ms: int, config: IncidentConfig) -> Change:
    """Rule 15: run a step now, also when somebody owns the incident."""
    step = incident.step + 1 if action.step is None else action.step
    last = len(incident.policy.steps) - 1
    if not 0 <= step <= last:
        raise Conflict(
            incident.number,
            incident.state,
            f"its policy has no step {step}; the last one is {last}",
        )
    further, effects = restart(
        incident,
        Reason.MANUAL,
        now_ms,
        config,
        step=step,
        keep_loop=True,
        actor=action.actor,
        note=action.note,
    )
    return further, (Record("escalated", action.actor, {"step": step}), *effects)


def snooze(incident: Incident, action: Action, now_ms: int, config: IncidentConfig) -> Change:
    """Rule 16; one that is snoozed gets another end."""
    longest_ms = incident.policy.snooze_max_ms
    if action.until_ms is None or action.until_ms <= now_ms:
        raise Conflict(incident.number, incident.state, "a snooze must end in the future")
    if longest_ms is not None and action.until_ms - now_ms > longest_ms:
        why = f"its policy allows a snooze of {elapsed_text(longest_ms)} at most"
        raise Conflict(incident.number, incident.state, why)
    quiet = replace(next_generation(incident), state=IncidentState.SNOOZED, assigned_by="")
    record = Record("snoozed", action.actor, {"until_ms": action.until_ms, "note": action.note})
    return quiet, (WithdrawPages(), record, set_timer(quiet, TimerKind.SNOOZE_END, action.until_ms))


def resolve_by_hand(
    incident: Incident, action: Action, now_ms: int, config: IncidentConfig
) -> Change:
    """Rule 21. It says whether alerts fire, or nobody can tell; in a hold none does."""
    why = f"by {action.actor}"
    if incident.drill:
        return end_drill(incident, now_ms, config, why, action.actor)
    if incident.in_hold:
        return resolve(incident, now_ms, config, why, actor=action.actor)
    closed = replace(
        next_generation(incident),
        state=IncidentState.RESOLVED,
        resolved_at_ms=now_ms,
        resolution=why,
        ended_as="closed_by_hand",
        closed_by_hand=True,
        flapping=False,
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
        "cause": action.cause,
    }
    again = set_timer(closed, TimerKind.RE_RAISE, now_ms + re_raise_after_ms(incident))
    return closed, (WithdrawPages(), again, *notices, Record("closed_by_hand", action.actor, data))


def end_drill(
    incident: Incident, now_ms: int, config: IncidentConfig, why: str, actor: str = ""
) -> Change:
    """Nothing fires: whoever resolves a drill has ended it, and so has its time."""
    members = {
        name: replace(member, source=Condition.CLEAR, ended_at_ms=now_ms, origins={})
        for name, member in incident.members.items()
    }
    clear = replace(incident, members=members, source=Condition.CLEAR, unknown_since_ms=None)
    over, effects = resolve(clear, now_ms, config, why, actor=actor)
    record = Record("drill_ended", actor, {"why": "" if actor else why})
    return over, (record, *effects)


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
    ended = replace(
        next_generation(incident),
        closed_by_hand=False,
        ended_as=reason.value,
        paged=frozenset(),
    )
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
    actor: str = "",
) -> Change:
    """Rules 20, 25, 27: withdraw what is unsent, and tell those who were paged, nobody else."""
    resolved = replace(
        next_generation(incident),
        state=IncidentState.RESOLVED,
        resolved_at_ms=now_ms,
        resolution=why,
        ended_as=reason.value,
        flapping=False,
        held=frozenset(),
        hold_until_ms=None,
    )
    addressees = tuple(sorted_addressees(resolved.paged))
    resolved, notices = notice(resolved, reason, addressees, None, why)
    resolved = replace(resolved, paged=frozenset())
    details = {"why": why, "after_ms": now_ms - incident.opened_at_ms}
    record = Record(reason.value, actor, details)
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
    """An assignee who has not acknowledged is not reminded of an acknowledgement."""
    remind_ms = None if incident.assigned_by else incident.policy.ack.remind_ms
    timeout_ms = incident.ack_timeout_ms
    due: list[SetTimer] = []
    if remind_ms is not None:
        due.append(set_timer(incident, TimerKind.ACK_REMIND, now_ms + remind_ms))
    if timeout_ms is not None:
        due.append(set_timer(incident, TimerKind.ACK_TIMEOUT, now_ms + timeout_ms))
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
    Verb.ASSIGN: assign,
    Verb.COMMENT: comment,
}
