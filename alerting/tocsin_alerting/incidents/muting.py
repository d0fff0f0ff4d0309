"""While something mutes an incident nobody is paged; when the last mute ends, somebody is.

Rules 3, 7 and 8. What mutes is a name: `inhibited:NUMBER`, `silence:ID`, `maintenance:NAME`.
"""

from dataclasses import dataclass, replace

from tocsin_alerting.incidents.effects import Change, Effect, Record, WithdrawPages
from tocsin_alerting.incidents.escalation import restart, set_timer
from tocsin_alerting.incidents.incident import Condition, Incident, IncidentState, next_generation
from tocsin_alerting.incidents.notification import Reason
from tocsin_alerting.incidents.timers import TimerKind

INHIBITED = "inhibited:"


@dataclass(frozen=True, slots=True)
class Mutes:
    """All that mutes an incident from now on."""

    names: frozenset[str]


def mute(incident: Incident, mutes: Mutes, now_ms: int) -> Change:
    before, after = incident.muted_by, mutes.names
    if before == after or not incident.is_open:
        return replace(incident, muted_by=after), ()
    noted: list[Effect] = []
    for event, names in (("muted", after - before), ("unmuted", before - after)):
        noted += [Record(event, data={"by": name}) for name in sorted(names)]
    changed = replace(incident, muted_by=after)
    if after:
        muted_at_ms = incident.muted_at_ms if before else now_ms
        withdrawn = () if before else (WithdrawPages(),)
        return replace(changed, muted_at_ms=muted_at_ms), (*withdrawn, *noted)
    unmuted, effects = _unmute(changed, before, now_ms)
    return replace(unmuted, muted_at_ms=None), (*noted, *effects)


def _unmute(incident: Incident, before: frozenset[str], now_ms: int) -> Change:
    """Rule 8: run the current step again, at once.

    After an inhibition the policy's group wait runs first: what the source brought down mostly
    recovers with it, one evaluation later, and then nobody needs to hear of it.
    """
    if incident.state is not IncidentState.TRIGGERED or incident.source is Condition.CLEAR:
        return incident, ()
    if incident.step < 0:  # the group wait still runs and will page
        return incident, ()
    wait_ms = incident.policy.group_wait_ms
    if wait_ms and all(name.startswith(INHIBITED) for name in before):
        waiting = next_generation(incident)
        return waiting, (set_timer(waiting, TimerKind.GROUP_WAIT, now_ms + wait_ms),)
    return restart(
        incident,
        Reason.UNMUTED,
        now_ms,
        step=incident.step,
        keep_loop=True,
        note=muted_note(incident, now_ms),
    )


def muted_note(incident: Incident, now_ms: int) -> str:
    if incident.muted_at_ms is None:
        return ""
    return f"was muted for {(now_ms - incident.muted_at_ms) // 1000} s"
