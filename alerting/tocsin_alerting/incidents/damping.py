"""What fires and clears again and again wakes people once: rules 20, 22 of docs/incidents.md.

An incident whose alerts are all clear may have to stay so for a while before it is resolved: its
*hold*. It is open meanwhile, and what was due waits. What fires again too often is *flapping*: one
message says so, and each time that it happens again the hold grows.
"""

from dataclasses import replace

from tocsin_alerting.incidents.actions import ack_timers, resolve
from tocsin_alerting.incidents.escalation import (
    muted_note,
    notify_current,
    owner_addressees,
    page,
    restart,
    set_timer,
)
from tocsin_alerting.incidents.incident import (
    Change,
    Condition,
    Effect,
    Effects,
    Incident,
    IncidentState,
    Reason,
    Record,
    Timer,
    TimerKind,
    next_generation,
)
from tocsin_alerting.incidents.routing import IncidentConfig
from tocsin_alerting.time_format import elapsed_text

FIRED_AGAIN, WITHIN = "fired again ", " times in "
MIN_WAIT_MS = 1_000
_REMIND = TimerKind.ACK_REMIND
_KEPT_TIMES = 100  # of those at which it fired again
UNMUTED = "unmuted"  # among what a hold keeps waiting: the step that the end of a mute runs
WAITS_FOR_HOLD = frozenset(
    {
        TimerKind.GROUP_WAIT,
        TimerKind.STEP,
        TimerKind.FINAL,
        TimerKind.HOURS,
        TimerKind.ACK_REMIND,
        TimerKind.ACK_TIMEOUT,
        TimerKind.SNOOZE_END,
        TimerKind.SLO_BREACH,
    }
)


def hold_ms(incident: Incident, config: IncidentConfig) -> int:
    """How long its alerts must be clear before it is resolved."""
    flap, own_ms = config.flap, incident.policy.resolve_hold_ms
    if flap is None or not incident.flapping:
        return own_ms
    grown_ms = flap.hold_ms
    for _ in range(1, incident.damped):
        if grown_ms >= flap.max_ms:
            break
        grown_ms = round(grown_ms * flap.multiplier)
    return max(own_ms, min(grown_ms, flap.max_ms))


def all_clear(incident: Incident, now_ms: int, config: IncidentConfig, why: str) -> Change:
    """Rule 20: resolve what is open, now or after its hold."""
    wait_ms = hold_ms(incident, config)
    if not wait_ms:
        return resolve(incident, now_ms, config, why)
    if incident.in_hold:
        return incident, ()
    until_ms = now_ms + wait_ms
    holding = replace(incident, hold_until_ms=until_ms)
    noted = Record("hold", data={"why": why, "until_ms": until_ms})
    return holding, (noted, set_timer(holding, TimerKind.HOLD_END, until_ms))


def hold_end(incident: Incident, due: Timer, now_ms: int, config: IncidentConfig) -> Change:
    """Clear for long enough. The timer of a hold that was left does nothing, another hold has its
    own in its place."""
    if not incident.in_hold:
        return incident, ()
    return resolve(incident, now_ms, config, flap_note(incident, now_ms) or "clear")


def wait_for_hold(incident: Incident, due: Timer, now_ms: int) -> Change:
    """What is due while all is clear waits for the end of the hold, or until it fires again."""
    at_ms = max(incident.hold_until_ms or 0, now_ms + MIN_WAIT_MS)
    waiting = replace(incident, held=incident.held | {due.kind.value})
    return waiting, (set_timer(waiting, due.kind, at_ms),)


def wait_to_unmute(incident: Incident) -> Change:
    """Rule 8 waits as well: nobody is paged for what is clear."""
    waiting = replace(incident, held=incident.held | {UNMUTED})
    if incident.exhausted:
        return waiting, ()
    return waiting, (set_timer(waiting, TimerKind.STEP, incident.hold_until_ms or 0),)


def leave_hold(incident: Incident, now_ms: int, config: IncidentConfig) -> Change:
    """It is clear no more: what waited is due now."""
    left = replace(incident, hold_until_ms=None, held=frozenset())
    if UNMUTED in incident.held and left.state is IncidentState.TRIGGERED:
        return restart(
            left,
            Reason.UNMUTED,
            now_ms,
            config,
            step=left.step,
            keep_loop=True,
            note=muted_note(left, now_ms),
        )
    kinds = (kind for kind in WAITS_FOR_HOLD if kind.value in incident.held)
    return left, tuple(set_timer(left, kind, now_ms) for kind in sorted(kinds))


def fires_in_hold(incident: Incident, now_ms: int, config: IncidentConfig) -> Change:
    """Fired again before it was resolved. People have heard nothing of its being clear, and hear
    nothing now, unless it began to flap."""
    was_flapping = incident.flapping
    counted, effects = count_flap(incident, now_ms, config)
    left, due = leave_hold(counted, now_ms, config)
    told: Effects = ()
    if left.flapping and not was_flapping and left.generation == incident.generation:
        left, told = notify_current(left, Reason.FLAPPING, now_ms, config, flap_note(left, now_ms))
    again = Record("fires_again", data={"times": left.flaps})
    return left, (again, *effects, *told, *due)


def kept_owner(incident: Incident, now_ms: int, config: IncidentConfig) -> str:
    """Who owns it still when it fires again; "": nobody, or the configuration says otherwise."""
    if not config.reopen_keeps_ack or incident.closed_by_hand or incident.assigned_by:
        return ""
    timeout_ms, acked_ms = incident.policy.ack.timeout_ms, incident.acked_at_ms
    if acked_ms is None or (timeout_ms is not None and now_ms - acked_ms >= timeout_ms):
        return ""
    return incident.owner


def reopen_acked(
    incident: Incident, owner: str, reason: Reason, now_ms: int, config: IncidentConfig
) -> Change:
    """The owner hears of it, and nobody else. The acknowledgement lasts as long as it was to."""
    acked = replace(
        next_generation(incident), state=IncidentState.ACKED, owner=owner, step=0, loop=0
    )
    note = flap_note(acked, now_ms)
    targets = owner_addressees(acked, now_ms, config)
    acked, told = page(acked, targets, reason, note=note)
    since_ms = now_ms if acked.acked_at_ms is None else acked.acked_at_ms
    due = [timer for timer in ack_timers(acked, now_ms) if timer.timer.kind is _REMIND]
    due += [timer for timer in ack_timers(acked, since_ms) if timer.timer.kind is not _REMIND]
    kept = Record("ack_kept", owner, {"acked_at_ms": since_ms})
    return acked, (*told, kept, *due)


def count_flap(incident: Incident, now_ms: int, config: IncidentConfig) -> Change:
    """Fired again: is that too often by now? The hold grows as long as it is."""
    flap = config.flap
    counted = replace(incident, flaps=incident.flaps + 1)
    if flap is None:
        return counted, ()
    lately = (at for at in incident.flapped if incident.flapping or now_ms - at < flap.window_ms)
    recent = (*lately, now_ms)[-_KEPT_TIMES:]
    flapping = incident.flapping or len(recent) >= flap.count
    counted = replace(
        counted,
        flapped=recent,
        flapping=flapping,
        damped=incident.damped + 1 if flapping else 0,
    )
    if not flapping:
        return counted, ()
    noted: list[Effect] = [set_timer(counted, TimerKind.FLAP_END, now_ms + flap.window_ms)]
    if not incident.flapping:
        noted.append(Record("flapping", data={"note": flap_note(counted, now_ms)}))
    return counted, tuple(noted)


def flap_end(incident: Incident, due: Timer, now_ms: int, config: IncidentConfig) -> Change:
    """It has not fired again for a whole window: it fires, and stays so."""
    if not incident.flapping or incident.in_hold:
        return incident, ()
    if incident.source is not Condition.FIRING:
        wait_ms = config.flap.window_ms if config.flap else MIN_WAIT_MS
        return incident, (set_timer(incident, TimerKind.FLAP_END, now_ms + wait_ms),)
    note = flap_note(incident, now_ms)
    steady = replace(incident, flapping=False, flapped=(), damped=0)
    steady, told = notify_current(steady, Reason.FLAP_ENDED, now_ms, config, note)
    return steady, (Record("flap_ended", data={"note": note}), *told)


def flap_note(incident: Incident, now_ms: int) -> str:
    """`fired again 7 times in 40m`; "" of what does not flap."""
    if not incident.flapping or not incident.flapped:
        return ""
    lasted = elapsed_text(now_ms - incident.flapped[0])
    return f"{FIRED_AGAIN}{len(incident.flapped)}{WITHIN}{lasted}"
