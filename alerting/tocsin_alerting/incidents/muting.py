"""While something mutes an incident nobody is paged; when the last mute ends, somebody is.

Rules 3, 7 and 8. The name of a mute is `inhibited:NUMBER` (the number of the inhibiting incident),
`silence:ID` or `maintenance:NAME`.
"""

from dataclasses import dataclass, replace

from tocsin_alerting.incidents.alert_changes import raise_to_loud
from tocsin_alerting.incidents.damping import wait_to_unmute
from tocsin_alerting.incidents.escalation import muted_note, restart, set_timer
from tocsin_alerting.incidents.incident import (
    Change,
    Condition,
    Effect,
    Incident,
    IncidentState,
    Reason,
    Record,
    TimerKind,
    WithdrawPages,
    next_generation,
)
from tocsin_alerting.incidents.routing import IncidentConfig

INHIBITED = "inhibited:"


@dataclass(frozen=True, slots=True)
class Mutes:
    """All that mutes an incident from now on, and the fingerprints of its `silenced` alerts (None:
    as before)."""

    names: frozenset[str]
    silenced: frozenset[str] | None = None


def mute(incident: Incident, mutes: Mutes, now_ms: int, config: IncidentConfig) -> Change:
    """The incident with its mutes; what is heard again may be worse than all that was heard."""
    if mutes.silenced is None or mutes.silenced == incident.silenced:
        return _mute(incident, mutes, now_ms, config)
    heard_again = bool(incident.silenced - mutes.silenced) and not mutes.names
    changed = replace(incident, silenced=mutes.silenced)
    if not heard_again:
        return _mute(changed, mutes, now_ms, config)
    if changed.state is IncidentState.ACKED:  # its owner is told, once it is not muted
        unmuted, effects = _mute(changed, mutes, now_ms, config)
        raised, further = raise_to_loud(unmuted, now_ms, config)
    else:  # before, so that the end of the mutes pages once, by the worse policy
        raised, effects = raise_to_loud(changed, now_ms, config)
        raised, further = _mute(raised, mutes, now_ms, config)
    return raised, (*effects, *further)


def _mute(incident: Incident, mutes: Mutes, now_ms: int, config: IncidentConfig) -> Change:
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
    unmuted, effects = _unmute(changed, before, now_ms, config)
    return replace(unmuted, muted_at_ms=None), (*noted, *effects)


def _unmute(
    incident: Incident, before: frozenset[str], now_ms: int, config: IncidentConfig
) -> Change:
    """Rule 8: run the current step again, at once.

    After an inhibition the policy's group wait runs first: what the source brought down mostly
    recovers with it, one evaluation later, and then nobody needs to hear of it.
    """
    if incident.state is not IncidentState.TRIGGERED:
        return incident, ()
    if incident.step < 0:  # the group wait still runs and will page
        return incident, ()
    if incident.source is Condition.CLEAR:
        return wait_to_unmute(incident)
    wait_ms = incident.policy.group_wait_ms
    if wait_ms and all(name.startswith(INHIBITED) for name in before):
        waiting = next_generation(incident)
        return waiting, (set_timer(waiting, TimerKind.GROUP_WAIT, now_ms + wait_ms),)
    return restart(
        incident,
        Reason.UNMUTED,
        now_ms,
        config,
        step=incident.step,
        keep_loop=True,
        note=muted_note(incident, now_ms),
    )
