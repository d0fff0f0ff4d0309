"""Running the steps of a policy: rules 2 to 9 of docs/incidents.md."""

from collections.abc import Iterable
from dataclasses import replace

from tocsin_alerting.incidents.broken_channels import broken_receivers, told_otherwise
from tocsin_alerting.incidents.escalation_policy import Addressee, Recipient
from tocsin_alerting.incidents.incident import (
    Change,
    Effect,
    Incident,
    IncidentState,
    Notify,
    Reason,
    Record,
    SetTimer,
    Timer,
    TimerKind,
    next_generation,
)
from tocsin_alerting.incidents.roster import (
    Addressees,
    next_told_ms,
    resolve,
    resolve_contact,
    told_from_ms,
)
from tocsin_alerting.incidents.routing import IncidentConfig
from tocsin_alerting.rules.severity import Severity
from tocsin_alerting.time_format import elapsed_text

# With every channel down, an incident must not burn all its steps in one tick.
MIN_STEP_MS = 30_000
MIN_FINAL_MS = 1_000
WAS_MUTED = "was muted for "


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
    """Tell `targets` that it fires; nobody while the incident is muted, and nobody through a
    receiver of which it says that it is broken."""
    broken = broken_receivers(incident)
    wanted = tuple(dict.fromkeys(to for to in targets if to.receiver not in broken))
    if incident.muted or not wanted:
        return incident, ()
    serial = incident.notices + 1
    paged = incident.paged | set(wanted)
    return (
        replace(incident, notices=serial, paged=paged, told_joined=incident.joined),
        (Notify(reason, wanted, serial, actor, note),),
    )


def restart(
    incident: Incident,
    reason: Reason,
    now_ms: int,
    config: IncidentConfig,
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
        assigned_by="",
        acked_at_ms=None,
        loop=loop,
    )
    return run_step(fresh, step, reason, now_ms, config, also=also, actor=actor, note=note)


def run_step(
    incident: Incident,
    step: int,
    reason: Reason,
    now_ms: int,
    config: IncidentConfig,
    *,
    also: Iterable[Addressee] = (),
    actor: str = "",
    note: str = "",
) -> Change:
    """Page the step's recipients (and `also`) and await an answer. Muted: only remember the step;
    outside of their hours: wait for them."""
    step = min(step, len(incident.policy.steps) - 1)
    if incident.muted:
        suppressed = Record("suppressed", data={"step": step, "by": sorted(incident.muted_by)})
        return replace(incident, step=max(incident.step, step)), (suppressed,)
    chosen = incident.policy.steps[step]
    until_ms = _hours_begin_ms(incident, chosen.notify, now_ms, config)
    if until_ms is not None:
        data = {"step": step, "reason": reason.value, "until_ms": until_ms}
        waits = set_timer(incident, TimerKind.HOURS, until_ms)
        return replace(incident, step=step), (Record("waits_for_hours", actor, data), waits)
    targets = (*also, *addressees_now(incident, chosen.notify, now_ms, config))
    incident = replace(incident, step=step, paged_at_ms=now_ms, unreachable=not targets)
    incident, notices = page(incident, targets, reason, actor=actor, note=note)
    noted: list[Effect] = [Record("step", actor, {"step": step, "reason": reason.value})]
    if not targets:
        whom = ", ".join(map(str, chosen.notify))
        noted.append(Record("no_one_reached", data={"step": step, "recipients": whom}))
        noted.append(set_timer(incident, TimerKind.STEP, now_ms + MIN_STEP_MS))
    elif chosen.escalate_after_ms is not None:
        noted.append(set_timer(incident, TimerKind.STEP, now_ms + chosen.escalate_after_ms))
    else:
        incident, ended = exhaust(incident, now_ms, config)
        noted += ended
    return incident, (*notices, *noted)


def notify_current(
    incident: Incident, reason: Reason, now_ms: int, config: IncidentConfig, note: str = ""
) -> Change:
    """Again those who were told: the owner, or the current step. Nobody before the first page."""
    if incident.state is IncidentState.SNOOZED or incident.step < 0:
        return incident, ()
    owned = incident.state is IncidentState.ACKED
    targets = (
        owner_addressees(incident, now_ms, config)
        if owned
        else addressees_now(incident, incident.step_recipients(), now_ms, config)
    )
    return page(incident, targets, reason, note=note)


def muted_note(incident: Incident, now_ms: int) -> str:
    if incident.muted_at_ms is None:
        return ""
    return f"{WAS_MUTED}{elapsed_text(now_ms - incident.muted_at_ms)}"


def addressees_now(
    incident: Incident, recipients: Iterable[Recipient], now_ms: int, config: IncidentConfig
) -> Addressees:
    """Whom `recipients` are at this moment; nobody outside of the policy's hours."""
    if policy_begins_ms(incident, now_ms, config) is not None:
        return ()
    found = resolve(recipients, config.roster, now_ms, incident.severity)
    return told_otherwise(incident, found, now_ms, config)


def owner_addressees(incident: Incident, now_ms: int, config: IncidentConfig) -> Addressees:
    """The owner's ways, at any hour; of an owner whom nobody knows, the current step's."""
    return own_addressees(incident, config) or addressees_now(
        incident, incident.step_recipients(), now_ms, config
    )


def own_addressees(incident: Incident, config: IncidentConfig) -> Addressees:
    """The owner's ways: those that the policy names, else those of the contact."""
    if not incident.owner:
        return ()
    named = [
        recipient
        for step in incident.policy.steps
        for recipient in step.notify
        if recipient.contact == incident.owner
    ]
    ways = (
        resolve_contact(recipient, config.roster, incident.severity)
        for recipient in named or [Recipient(contact=incident.owner)]
    )
    every = tuple(dict.fromkeys(addressee for several in ways for addressee in several))
    broken = broken_receivers(incident)
    return tuple(to for to in every if to.receiver not in broken) if broken else every


def _hours_begin_ms(
    incident: Incident, recipients: Iterable[Recipient], now_ms: int, config: IncidentConfig
) -> int | None:
    """Until when a step has to wait for the hours of its policy or of its people; None: it may
    run, if only to find nobody.

    A P1 waits for no quiet hours while another step can tell somebody now.
    """
    begins_ms = policy_begins_ms(incident, now_ms, config)
    if begins_ms is not None:
        return begins_ms
    severity, roster = incident.severity, config.roster
    if severity is Severity.P1 and any(
        resolve(step.notify, roster, now_ms, severity) for step in incident.policy.steps
    ):
        return None
    return told_from_ms(tuple(recipients), roster, now_ms, severity)


def wait_ends_ms(incident: Incident, now_ms: int, config: IncidentConfig) -> int:
    """Until when a step waits for hours or people by what is known now; now, if it need not."""
    recipients = incident.policy.steps[max(incident.step, 0)].notify
    if addressees_now(incident, recipients, now_ms, config):
        return now_ms
    begins_ms = policy_begins_ms(incident, now_ms, config)
    if begins_ms is None:
        begins_ms = next_told_ms(recipients, config.roster, now_ms, incident.severity)
    return now_ms if begins_ms is None else begins_ms


def policy_begins_ms(incident: Incident, now_ms: int, config: IncidentConfig) -> int | None:
    """When the policy's hours begin; None: they hold now, or do not concern a P0."""
    hours = config.roster.policy_hours.get(incident.policy.name)
    if hours is None or incident.severity is Severity.P0 or hours.contains(now_ms):
        return None
    return hours.next_change_ms(now_ms)


def exhaust(incident: Incident, now_ms: int, config: IncidentConfig) -> Change:
    """Rule 6: nothing is left but the final targets, at their interval. Where nobody was told at
    all, the last step runs again when the next shift begins."""
    effects: list[Effect] = [Record("exhausted")]
    if (final := incident.policy.final) is not None:
        due_at_ms = now_ms + max(final.every_ms, MIN_FINAL_MS)
        effects.append(set_timer(incident, TimerKind.FINAL, due_at_ms))
    elif not incident.paged:
        last = incident.policy.steps[-1].notify
        next_ms = next_told_ms(last, config.roster, now_ms, incident.severity)
        if next_ms is not None:
            effects.append(set_timer(incident, TimerKind.HOURS, next_ms))
    return replace(incident, exhausted_at_ms=now_ms), tuple(effects)


def step_due(incident: Incident, due_at_ms: int, now_ms: int, config: IncidentConfig) -> Change:
    """Rules 4 to 7. Steps that fell due while nobody ran are one page to all their targets."""
    if incident.muted:
        data = {"step": incident.step, "by": sorted(incident.muted_by)}
        return incident, (Record("suppressed", data=data),)
    fallen = _overdue_steps(incident, due_at_ms, now_ms)
    if not fallen:
        return exhaust(incident, now_ms, config)
    step, loop = fallen[-1]
    missed = [who for number, _ in fallen[:-1] for who in incident.policy.steps[number].notify]
    also = addressees_now(incident, missed, now_ms, config)
    reason = Reason.REPEAT if loop > incident.loop and step == 0 else Reason.ESCALATED
    if incident.unreachable:
        reason = Reason.UNREACHABLE
    return run_step(replace(incident, loop=loop), step, reason, now_ms, config, also=also)


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
