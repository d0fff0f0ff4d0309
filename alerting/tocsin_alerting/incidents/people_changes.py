"""When people turn out to be reachable otherwise than a step thought: rules 9a and 9c.

A way of a person that failed is followed by the next one, before the step counts as one that
reached nobody; and what waits for people does not wait longer than there is nobody.
"""

from dataclasses import dataclass

from tocsin_alerting.incidents.broken_channels import broken_receivers, told_otherwise
from tocsin_alerting.incidents.escalation import (
    addressees_now,
    page,
    set_timer,
    wait_ends_ms,
)
from tocsin_alerting.incidents.escalation_policy import Addressee
from tocsin_alerting.incidents.incident import (
    Change,
    Incident,
    IncidentState,
    Reason,
    Record,
    Timer,
    TimerKind,
)
from tocsin_alerting.incidents.routing import IncidentConfig


@dataclass(frozen=True, slots=True)
class WayFailed:
    """A page of this step reached nobody by `failed`; `tried` are all that the step was sent to.
    `reason` is that of the page."""

    generation: int
    step: int
    loop: int
    failed: Addressee
    tried: frozenset[Addressee]
    reason: Reason


@dataclass(frozen=True, slots=True)
class PeopleChanged:
    """Somebody else is on call, or may be notified; `waiting` is the incident's timer that waits
    for people."""

    waiting: Timer


def others_reachable(
    incident: Incident, event: WayFailed | PeopleChanged, now_ms: int, config: IncidentConfig
) -> Change:
    if isinstance(event, WayFailed):
        return _way_failed(incident, event, now_ms, config)
    return _people_changed(incident, event, now_ms, config)


def _way_failed(
    incident: Incident, event: WayFailed, now_ms: int, config: IncidentConfig
) -> Change:
    """Rule 9a: the fallback of the receiver, else the next way of the same person, in the order in
    which he prefers them."""
    here = (incident.generation, incident.step, incident.loop)
    contact = config.roster.contacts.get(event.failed.contact)
    if here != (event.generation, event.step, event.loop) or not incident.is_open:
        return incident, ()
    fallback, broken = config.fallback_of(event.failed), broken_receivers(incident)
    if fallback and fallback not in event.tried and fallback.receiver not in broken:
        paged, notices = page(incident, (fallback,), event.reason)
        record = Record("fallback", data=_way_data(event, fallback))
        return (paged, (record, *notices)) if notices else (incident, ())
    if incident.state is not IncidentState.TRIGGERED:
        return incident, ()
    if broken:
        return _by_another_receiver(incident, event, now_ms, config)
    if contact is None or not contact.may_be_told(now_ms, incident.severity):
        return incident, ()
    left = [way for way in contact.ways.values() if way not in event.tried]
    if not left:
        return incident, ()
    paged, notices = page(incident, left[:1], event.reason)
    record = Record("next_way", data=_way_data(event, left[0]))
    return (paged, (record, *notices)) if notices else (incident, ())


def _by_another_receiver(
    incident: Incident, event: WayFailed, now_ms: int, config: IncidentConfig
) -> Change:
    """What is told of a broken receiver reached nobody either: any other is better than none."""
    others = told_otherwise(incident, (event.failed,), now_ms, config, event.tried)
    paged, notices = page(incident, others, event.reason)
    records = (Record("stand_in", data=_way_data(event, to)) for to in others)
    return (paged, (*records, *notices)) if notices else (incident, ())


def _way_data(event: WayFailed, to: Addressee) -> dict[str, object]:
    return {
        "step": event.step,
        "contact": event.failed.contact,
        "failed": event.failed.receiver,
        "receiver": to.receiver,
    }


def _people_changed(
    incident: Incident, event: PeopleChanged, now_ms: int, config: IncidentConfig
) -> Change:
    """Rule 9c: the timer that waits for people is due when there are some, be it now."""
    if incident.state is not IncidentState.TRIGGERED or incident.muted:
        return incident, ()
    due_ms = event.waiting.due_at_ms
    if event.waiting.kind is TimerKind.HOURS:
        due_ms = wait_ends_ms(incident, now_ms, config)
    elif incident.policy.final and not incident.paged:
        now_somebody = addressees_now(incident, incident.policy.final.notify, now_ms, config)
        due_ms = now_ms if now_somebody else due_ms
    if due_ms == event.waiting.due_at_ms:
        return incident, ()
    return incident, (set_timer(incident, event.waiting.kind, due_ms),)
