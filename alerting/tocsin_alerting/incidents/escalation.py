"""Running the steps of a policy: rules 2 to 9 of docs/incidents.md."""

from collections.abc import Iterable
from dataclasses import replace

from tocsin_alerting.incidents.effects import Change, Effect, Notify, Record, SetTimer
from tocsin_alerting.incidents.escalation_policy import Addressee
from tocsin_alerting.incidents.incident import Incident, IncidentState, next_generation
from tocsin_alerting.incidents.notification import Reason
from tocsin_alerting.incidents.timers import Timer, TimerKind

# With every channel down, an incident must not burn all its steps in one tick.
MIN_STEP_MS = 30_000
MIN_FINAL_MS = 1_000


def set_timer(incident: Incident, kind: TimerKind, due_at_ms: int) -> SetTimer:
    return SetTimer(Timer(kind, due_at_ms, incident.generation))


def page(
    incident: Incident,
    targets: Iterable[Addressee],
    reason: Reason,
    *,
    actor: str = "",
    note: str = "",
) -> Change:
    """Tell `targets` that it fires; nobody while the incident is muted."""
    wanted = tuple(dict.fromkeys(targets))
    if incident.muted or not wanted:
        return incident, ()
    serial = incident.notices + 1
    paged = incident.paged | set(wanted)
    return (
        replace(incident, notices=serial, paged=paged),
        (Notify(reason, wanted, serial, actor, note),),
    )


def restart(
    incident: Incident,
    reason: Reason,
    now_ms: int,
    *,
    step: int = 0,
    keep_loop: bool = False,
    also: Iterable[Addressee] = (),
    actor: str = "",
    note: str = "",
) -> Change:
    """TRIGGERED in a new generation, running `step` at once; `also` are told first."""
    loop = incident.loop if keep_loop else 0
    fresh = replace(
        next_generation(incident),
        state=IncidentState.TRIGGERED,
        owner="",
        acked_at_ms=None,
        loop=loop,
    )
    return run_step(fresh, step, reason, now_ms, also=also, actor=actor, note=note)


def run_step(
    incident: Incident,
    step: int,
    reason: Reason,
    now_ms: int,
    *,
    also: Iterable[Addressee] = (),
    actor: str = "",
    note: str = "",
) -> Change:
    """Page the step's targets (and `also`) and await an answer. Muted: only remember the step."""
    step = min(step, len(incident.policy.steps) - 1)
    if incident.muted:
        suppressed = Record("suppressed", data={"step": step, "by": sorted(incident.muted_by)})
        return replace(incident, step=max(incident.step, step)), (suppressed,)
    chosen = incident.policy.steps[step]
    targets = (*also, *chosen.notify)
    incident = replace(incident, step=step, paged_at_ms=now_ms, unreachable=not targets)
    incident, notices = page(incident, targets, reason, actor=actor, note=note)
    noted: list[Effect] = [Record("step", actor, {"step": step, "reason": reason.value})]
    if not targets:
        noted.append(Record("no_one_reached", data={"step": step}))
        noted.append(set_timer(incident, TimerKind.STEP, now_ms + MIN_STEP_MS))
    elif chosen.escalate_after_ms is not None:
        noted.append(set_timer(incident, TimerKind.STEP, now_ms + chosen.escalate_after_ms))
    else:
        incident, ended = exhaust(incident, now_ms)
        noted += ended
    return incident, (*notices, *noted)


def exhaust(incident: Incident, now_ms: int) -> Change:
    """Rule 6: nothing is left but the final targets, at their interval."""
    effects: list[Effect] = [Record("exhausted")]
    if (final := incident.policy.final) is not None:
        due_at_ms = now_ms + max(final.every_ms, MIN_FINAL_MS)
        effects.append(set_timer(incident, TimerKind.FINAL, due_at_ms))
    return replace(incident, exhausted_at_ms=now_ms), tuple(effects)


def step_due(incident: Incident, due_at_ms: int, now_ms: int) -> Change:
    """Rules 4 to 7. Steps that fell due while nobody ran are one page to all their targets."""
    if incident.muted:
        data = {"step": incident.step, "by": sorted(incident.muted_by)}
        return incident, (Record("suppressed", data=data),)
    fallen = _overdue_steps(incident, due_at_ms, now_ms)
    if not fallen:
        return exhaust(incident, now_ms)
    step, loop = fallen[-1]
    missed = [target for n, _ in fallen[:-1] for target in incident.policy.steps[n].notify]
    reason = Reason.REPEAT if loop > incident.loop and step == 0 else Reason.ESCALATED
    if incident.unreachable:
        reason = Reason.UNREACHABLE
    return run_step(replace(incident, loop=loop), step, reason, now_ms, also=missed)


def _overdue_steps(incident: Incident, due_at_ms: int, now_ms: int) -> list[tuple[int, int]]:
    """The (step, loop) pairs that should have run by `now_ms`, each step at most once."""
    steps = incident.policy.steps
    step, loop, at_ms = incident.step, incident.loop, due_at_ms
    fallen: list[tuple[int, int]] = []
    while at_ms <= now_ms and len(fallen) < len(steps):
        step += 1
        if step >= len(steps):
            step, loop = 0, loop + 1
        after_ms = steps[step].escalate_after_ms
        if loop > incident.policy.repeat:
            break
        fallen.append((step, loop))
        if after_ms is None:
            break
        at_ms += after_ms
    return fallen


def step_failed(incident: Incident, now_ms: int) -> Change:
    """Rule 9: the step reached nobody, so the next one need not wait for an answer."""
    noted = Record("no_one_reached", data={"step": incident.step})
    if incident.exhausted:
        return incident, (noted,)
    earliest = (incident.paged_at_ms or now_ms) + MIN_STEP_MS
    incident = replace(incident, unreachable=True)
    return incident, (noted, set_timer(incident, TimerKind.STEP, max(now_ms, earliest)))
