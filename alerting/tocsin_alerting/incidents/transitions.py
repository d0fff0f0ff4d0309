"""The incident's state machine: one pure function. docs/incidents.md numbers its rules."""

from dataclasses import dataclass

from tocsin_alerting.incidents.actions import Action, apply_action
from tocsin_alerting.incidents.alert_changes import AlertsChanged, alerts_changed
from tocsin_alerting.incidents.escalation import step_failed
from tocsin_alerting.incidents.incident import Change, Incident, IncidentState, Record
from tocsin_alerting.incidents.joining import note_page
from tocsin_alerting.incidents.muting import Mutes, mute
from tocsin_alerting.incidents.people_changes import (
    PeopleChanged,
    WayFailed,
    others_reachable,
)
from tocsin_alerting.incidents.readdressing import Reconfigured, readdress
from tocsin_alerting.incidents.routing import IncidentConfig
from tocsin_alerting.incidents.storm_changes import StormGrew, storm_grew
from tocsin_alerting.incidents.succession import Succession, succeed
from tocsin_alerting.incidents.timers import TimerDue, timer_due
from tocsin_alerting.rules.alert import AlertEvent


@dataclass(frozen=True, slots=True)
class StepFailed:
    """Every message of this step failed for good."""

    generation: int
    step: int
    loop: int


Event = (
    AlertEvent
    | AlertsChanged
    | TimerDue
    | Action
    | Mutes
    | StepFailed
    | Reconfigured
    | Succession
    | StormGrew
    | WayFailed
    | PeopleChanged
)


def transition(incident: Incident, event: Event, now_ms: int, config: IncidentConfig) -> Change:
    """The incident after `event`, and what has to be done; `alert_changes.open_incident` is rule 1.

    Raises Conflict when the state does not allow an action.
    """
    after, effects = _answer(incident, event, now_ms, config)
    return note_page(after, effects, now_ms), effects


def _answer(incident: Incident, event: Event, now_ms: int, config: IncidentConfig) -> Change:
    if isinstance(event, Action):
        return apply_action(incident, event, now_ms, config)
    if incident.state is IncidentState.CLOSED:
        return incident, (Record("ignored_late"),)
    match event:
        case AlertEvent():
            return alerts_changed(incident, AlertsChanged((event,)), now_ms, config)
        case AlertsChanged():
            return alerts_changed(incident, event, now_ms, config)
        case TimerDue():
            return timer_due(incident, event, now_ms, config)
        case Mutes():
            return mute(incident, event, now_ms, config)
        case StepFailed():
            return _failed(incident, event, now_ms)
        case Reconfigured():
            return readdress(incident, event, now_ms, config)
        case Succession():
            return succeed(incident, event, now_ms, config)
        case WayFailed() | PeopleChanged():
            return others_reachable(incident, event, now_ms, config)
        case StormGrew():
            return storm_grew(incident, event, now_ms, config)


def _failed(incident: Incident, event: StepFailed, now_ms: int) -> Change:
    """Rule 9, unless the incident has moved on since."""
    current = StepFailed(incident.generation, incident.step, incident.loop)
    if incident.state is not IncidentState.TRIGGERED or incident.muted or current != event:
        return incident, ()
    return step_failed(incident, now_ms)
