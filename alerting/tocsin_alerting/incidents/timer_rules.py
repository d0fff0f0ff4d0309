"""What happens when a timer is due: rules 2 to 7, 12, 13, 17, 23 to 25 of docs/incidents.md."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from tocsin_alerting.incidents.actions import re_raise_after_ms, resolve
from tocsin_alerting.incidents.alert_changes import raise_again
from tocsin_alerting.incidents.effects import Change, Effects, Record
from tocsin_alerting.incidents.escalation import (
    MIN_FINAL_MS,
    page,
    restart,
    run_step,
    set_timer,
    step_due,
)
from tocsin_alerting.incidents.incident import OPEN, Condition, Incident, IncidentState
from tocsin_alerting.incidents.muting import muted_note
from tocsin_alerting.incidents.notification import Reason
from tocsin_alerting.incidents.routing import IncidentConfig
from tocsin_alerting.incidents.timers import Timer, TimerKind


@dataclass(frozen=True, slots=True)
class TimerDue:
    timer: Timer


def timer_due(incident: Incident, due: TimerDue, now_ms: int, config: IncidentConfig) -> Change:
    """A timer of an older generation, or one that the state has no use for, changes nothing."""
    states, run = TIMER_RULES[due.timer.kind]
    if incident.state not in states or not due.timer.is_live(incident.generation):
        return incident, ()
    return run(incident, due.timer, now_ms, config)


def _group_wait(incident: Incident, due: Timer, now_ms: int, config: IncidentConfig) -> Change:
    """Rules 2 and 3, and the end of the wait after an inhibition."""
    if incident.step < 0:
        return run_step(incident, 0, Reason.OPENED, now_ms)
    note = muted_note(incident, now_ms)
    return run_step(incident, incident.step, Reason.UNMUTED, now_ms, note=note)


def _step(incident: Incident, due: Timer, now_ms: int, config: IncidentConfig) -> Change:
    return step_due(incident, due.due_at_ms, now_ms)


def _final(incident: Incident, due: Timer, now_ms: int, config: IncidentConfig) -> Change:
    final = incident.policy.final
    if final is None or incident.exhausted_at_ms is None or incident.muted:
        return incident, ()
    if now_ms - incident.exhausted_at_ms > final.for_ms:
        return incident, (Record("final_over"),)
    paged, effects = page(incident, final.notify, Reason.FINAL)
    again_ms = now_ms + max(final.every_ms, MIN_FINAL_MS)
    return paged, (*effects, Record("final"), set_timer(paged, TimerKind.FINAL, again_ms))


def _ack_remind(incident: Incident, due: Timer, now_ms: int, config: IncidentConfig) -> Change:
    """Rule 12: the owner alone, again and again."""
    remind_ms = incident.policy.ack.remind_ms
    if remind_ms is None:
        return incident, ()
    paged, effects = page(incident, incident.owner_addressees(), Reason.ACK_REMIND)
    return paged, (*effects, set_timer(paged, TimerKind.ACK_REMIND, now_ms + remind_ms))


def _ack_timeout(incident: Incident, due: Timer, now_ms: int, config: IncidentConfig) -> Change:
    """Rule 13: acknowledged and forgotten is not answered; the owner hears of it first."""
    on_timeout = incident.policy.ack.on_timeout
    last = len(incident.policy.steps) - 1
    step = {
        "restart": 0,
        "resume": max(incident.step, 0),
        "next": min(incident.step + 1, last),
    }[on_timeout]
    owner = incident.owner
    again, effects = restart(
        incident,
        Reason.ACK_EXPIRED,
        now_ms,
        step=step,
        keep_loop=on_timeout != "restart",
        also=incident.own_addressees(),
        note=f"ack by {owner} expired",
    )
    return again, (Record("ack_expired", owner), *effects)


def _snooze_end(incident: Incident, due: Timer, now_ms: int, config: IncidentConfig) -> Change:
    again, effects = restart(incident, Reason.SNOOZE_END, now_ms)
    return again, (Record("snooze_ended"), *effects)


def _reopen_end(incident: Incident, due: Timer, now_ms: int, config: IncidentConfig) -> Change:
    """Rule 23, unless it was resolved by hand and fires still."""
    if any(member.source is Condition.FIRING for member in incident.members.values()):
        return raise_again(incident, now_ms, config)
    return replace(incident, state=IncidentState.CLOSED), (Record("closed"),)


def _re_raise(incident: Incident, due: Timer, now_ms: int, config: IncidentConfig) -> Change:
    """Closed by hand, and it fires still. While nobody can tell it waits for the source."""
    if incident.source is Condition.FIRING:
        return raise_again(incident, now_ms, config)
    after_ms = re_raise_after_ms(incident)
    return incident, (set_timer(incident, TimerKind.RE_RAISE, now_ms + after_ms),)


def _slo_warn(incident: Incident, due: Timer, now_ms: int, config: IncidentConfig) -> Change:
    return incident, (Record("slo_warn"),) if incident.source is Condition.FIRING else ()


def _slo_breach(incident: Incident, due: Timer, now_ms: int, config: IncidentConfig) -> Change:
    """Rule 24: the recover target and the escalation are different clocks."""
    if incident.source is not Condition.FIRING or incident.slo_breached:
        return incident, ()
    breached = replace(incident, slo_breached=True)
    notices: Effects = ()
    if config.slo_pages:
        breached, notices = _notify_current(breached, Reason.SLO_BREACH)
    return breached, (Record("slo_breach"), *notices)


def _source_unknown(incident: Incident, due: Timer, now_ms: int, config: IncidentConfig) -> Change:
    """Rule 25: say that nobody can tell."""
    since_ms = incident.unknown_since_ms
    if incident.source is not Condition.UNKNOWN or since_ms is None:
        return incident, ()
    note = f"state unknown for {(now_ms - since_ms) // 1000} s"
    paged, effects = _notify_current(incident, Reason.UNKNOWN, note)
    return paged, (Record("unknown_noticed"), *effects)


def _unknown_max(incident: Incident, due: Timer, now_ms: int, config: IncidentConfig) -> Change:
    if incident.source is not Condition.UNKNOWN or incident.unknown_since_ms is None:
        return incident, ()
    hours = (now_ms - incident.unknown_since_ms) / 3_600_000
    why = f"state unknown for {hours:.3g} h, given up"
    return resolve(incident, now_ms, config, why, Reason.GIVEN_UP)


def _notify_current(incident: Incident, reason: Reason, note: str = "") -> Change:
    """Again those who were told: the owner, or the current step. Nobody before the first page."""
    if incident.state is IncidentState.SNOOZED or incident.step < 0:
        return incident, ()
    owned = incident.state is IncidentState.ACKED
    targets = incident.owner_addressees() if owned else incident.step_addressees()
    return page(incident, targets, reason, note=note)


TimerRule = Callable[[Incident, Timer, int, IncidentConfig], Change]
TRIGGERED, ACKED = frozenset({IncidentState.TRIGGERED}), frozenset({IncidentState.ACKED})
TIMER_RULES: Mapping[TimerKind, tuple[frozenset[IncidentState], TimerRule]] = {
    TimerKind.GROUP_WAIT: (TRIGGERED, _group_wait),
    TimerKind.STEP: (TRIGGERED, _step),
    TimerKind.FINAL: (TRIGGERED, _final),
    TimerKind.ACK_REMIND: (ACKED, _ack_remind),
    TimerKind.ACK_TIMEOUT: (ACKED, _ack_timeout),
    TimerKind.SNOOZE_END: (frozenset({IncidentState.SNOOZED}), _snooze_end),
    TimerKind.REOPEN_END: (frozenset({IncidentState.RESOLVED}), _reopen_end),
    TimerKind.RE_RAISE: (frozenset({IncidentState.RESOLVED}), _re_raise),
    TimerKind.SLO_WARN: (OPEN, _slo_warn),
    TimerKind.SLO_BREACH: (OPEN, _slo_breach),
    TimerKind.SOURCE_UNKNOWN: (OPEN, _source_unknown),
    TimerKind.UNKNOWN_MAX: (OPEN, _unknown_max),
}
