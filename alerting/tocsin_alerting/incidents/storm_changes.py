"""A storm: one incident that tells of many which opened at once. Rules 33 to 35.

It escalates, is acknowledged and resolves as any other; those it tells of are muted by it. It has
one alert of its own, which fires until the last of them is over.
"""

from dataclasses import dataclass, replace

from tocsin_alerting.incidents.alert_changes import open_incident, raise_severity
from tocsin_alerting.incidents.escalation import addressees_now, notify_current, page, set_timer
from tocsin_alerting.incidents.escalation_policy import EscalationPolicy
from tocsin_alerting.incidents.grouping import AlertGroup
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
    next_generation,
)
from tocsin_alerting.incidents.routing import IncidentConfig
from tocsin_alerting.rules.alert import Alert, AlertEvent, AlertState, EventKind
from tocsin_alerting.rules.severity import Severity

STORM = "storm:"
STORM_ALERT = "TocsinIncidentStorm"
# The summary waits for the rest of the evaluation; the first of P0 are told meanwhile.
MIN_WAIT_MS = 5_000


@dataclass(frozen=True, slots=True)
class StormGrew:
    """So it is from now on. `update`: those who were told hear of what joined since. `anew`: what
    joined is covered by no acknowledgement of before."""

    policy: EscalationPolicy
    severity: Severity
    joined: int
    lost: int
    update: bool = False
    anew: bool = False


def storm_name(number: int) -> str:
    """How it stands in `muted_by` of those that it tells of."""
    return f"{STORM}{number}"


def storm_event(
    number: int, now_ms: int, kind: EventKind = EventKind.FIRING, why: str = ""
) -> AlertEvent:
    alert = Alert(
        rule="",
        labels=(("alertname", STORM_ALERT), ("storm", str(number))),
        annotations=(("summary", "Many incidents opened at once"),),
        state=AlertState.FIRING,
        value=0.0,
        active_at_ms=now_ms,
        fired_at_ms=now_ms,
    )
    return AlertEvent(kind, alert, now_ms, why, origin="storm")


def open_storm(number: int, first: Incident, now_ms: int, config: IncidentConfig) -> Change:
    """With the policy of the `first` that it tells of."""
    group = AlertGroup((("alertname", STORM_ALERT), ("storm", str(number))))
    opened, _ = open_incident(number, group, storm_event(number, now_ms), now_ms, config)
    policy = _storm_policy(first.policy)
    storm = replace(opened, storm=number, severity=first.severity, policy=policy)
    data = {"severity": first.severity.value, "policy": policy.name, "alert": STORM_ALERT}
    waits = SetTimer(Timer(TimerKind.GROUP_WAIT, now_ms + policy.group_wait_ms, 1))
    return storm, (Record("opened", data=data), waits)


def _storm_policy(policy: EscalationPolicy) -> EscalationPolicy:
    return replace(
        policy,
        group_wait_ms=max(policy.group_wait_ms, MIN_WAIT_MS),
        recover_within_ms=None,  # each incident has its own target, and notes it
        resolve_hold_ms=0,  # each of them has waited
    )


def joint_policy(storm: Incident, member: Incident) -> EscalationPolicy:
    """The policy of the worse; its first step tells those of the other's as well."""
    worse = member.severity.worse_than(storm.severity)
    chosen, other = (member.policy, storm.policy) if worse else (storm.policy, member.policy)
    first, *later = chosen.steps
    added = tuple(one for one in other.steps[0].notify if one not in first.notify)
    if not worse and not added:
        return storm.policy
    widened = replace(first, notify=first.notify + added)
    return _storm_policy(replace(chosen, steps=(widened, *later)))


def storm_grew(incident: Incident, event: StormGrew, now_ms: int, config: IncidentConfig) -> Change:
    """Rule 34. Whom its first page did not reach, because none of theirs was in it, is told at
    once; the others in time."""
    grown = replace(incident, joined=event.joined, lost=event.lost)
    if not grown.is_open:
        return grown, ()
    if event.anew and _is_quiet(grown):
        return _page_again(grown, event, now_ms, config)
    if event.severity.worse_than(grown.severity):
        return raise_severity(grown, event.severity, event.policy, now_ms, config)
    known = incident.policy.steps[0].notify
    new = [one for one in event.policy.steps[0].notify if one not in known]
    grown = replace(grown, policy=event.policy)
    effects: Effects = ()
    if event.update and grown.joined > grown.told_joined:
        grown, effects = notify_current(grown, Reason.STORM_GREW, now_ms, config)
        if effects:
            effects = (*effects, Record("storm_grew", data={"incidents": grown.joined}))
    elif new and grown.state is IncidentState.TRIGGERED and grown.step >= 0:
        targets = addressees_now(grown, new, now_ms, config)
        missed = [target for target in targets if target not in grown.paged]
        told = grown.told_joined
        grown, effects = page(grown, missed, Reason.STORM_GREW)
        grown = replace(grown, told_joined=told)
    return grown, effects


def _is_quiet(storm: Incident) -> bool:
    """Whether nobody would hear of it by its escalation: somebody has it, or it is over."""
    return storm.state is not IncidentState.TRIGGERED or storm.exhausted


def _page_again(storm: Incident, event: StormGrew, now_ms: int, config: IncidentConfig) -> Change:
    """From the first step, once for all that joins within its wait; a worse severity at once."""
    again = replace(
        next_generation(storm),
        state=IncidentState.TRIGGERED,
        owner="",
        assigned_by="",
        acked_at_ms=None,
        loop=0,
    )
    record = Record("storm_again", data={"incidents": again.joined})
    if event.severity.worse_than(again.severity):
        raised, effects = raise_severity(again, event.severity, event.policy, now_ms, config)
        return raised, (record, *effects)
    again = replace(again, policy=event.policy, step=-1)
    due_at_ms = now_ms + again.policy.group_wait_ms
    return again, (record, set_timer(again, TimerKind.GROUP_WAIT, due_at_ms))
