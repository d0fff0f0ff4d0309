"""An incident put into messages: everything that a channel needs to know, and no more."""

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tocsin_alerting.incidents.alert_changes import alert_severity
from tocsin_alerting.incidents.effects import Notify
from tocsin_alerting.incidents.escalation_policy import Addressee
from tocsin_alerting.incidents.incident import (
    ENDED_CONDITIONS,
    Incident,
    IncidentState,
    Member,
    began_ms,
)
from tocsin_alerting.incidents.notification import Notification, NotifiedAlert, Reason
from tocsin_alerting.incidents.routing import IncidentConfig

# A message must stay small enough to be sent; what is left out is counted in it.
MAX_ALERTS = 100
MAX_UNANSWERED = 10
# To a receiver of Alertmanager's messages; the text says what is known.
_RESOLVED = frozenset({Reason.RESOLVED, Reason.FIRED_AND_RESOLVED, Reason.UNWATCHED})


@dataclass(frozen=True, slots=True)
class NextPage:
    """Who is told next, and when, if nobody answers; nothing follows when `at_ms` is None."""

    at_ms: int | None = None
    to: tuple[str, ...] = ()


def build_notifications(
    incident: Incident,
    notify: Notify,
    targets: Iterable[Addressee],
    now_ms: int,
    config: IncidentConfig,
    step_due_ms: int | None,
    paged: Mapping[Addressee, int] | None = None,
) -> list[Notification]:
    """One notification for each of `targets`. `step_due_ms` is when the next step is due; `paged`
    says when those who have got a page were told first."""
    addressees = tuple(targets)
    resolved = notify.reason in _RESOLVED
    members = worst_first(incident, config)
    shown = tuple(_notified_alert(member, resolved, now_ms) for member in members[:MAX_ALERTS])
    follows = _next_page(incident, step_due_ms)
    names = [_addressee_name(addressee) for addressee in addressees]
    return [
        Notification(
            key=message_key(incident, notify, target),
            incident=incident.number,
            receiver=target.receiver,
            contact=target.contact,
            reason=notify.reason,
            severity=incident.severity.value,
            status="resolved" if resolved else "firing",
            state=incident.state.value,
            step=max(incident.step, 0),
            loop=incident.loop,
            title=title(incident),
            group_key=incident.key,
            group_labels=dict(incident.group_labels),
            alerts=shown,
            opened_at_ms=incident.opened_at_ms,
            at_ms=now_ms,
            actor=notify.actor,
            note=notify.note,
            others=tuple(dict.fromkeys(name for name in names if name != _addressee_name(target))),
            next_at_ms=follows.at_ms,
            next_to=follows.to,
            truncated_alerts=len(members) - len(shown),
            external_url=config.external_url,
            began_at_ms=began_ms(incident, now_ms),
            unanswered=_unanswered(notify, paged or {}),
        )
        for target in addressees
    ]


def _unanswered(notify: Notify, paged: Mapping[Addressee, int]) -> tuple[tuple[str, int], ...]:
    """Each person once, though told in several ways; the first ones are enough."""
    if notify.reason not in (Reason.ESCALATED, Reason.REPEAT, Reason.FINAL):
        return ()
    people: dict[str, int] = {}
    for target, at_ms in sorted(paged.items(), key=lambda page: page[1]):
        people.setdefault(_addressee_name(target), at_ms)
    return tuple(people.items())[:MAX_UNANSWERED]


def message_key(incident: Incident, notify: Notify, target: Addressee) -> str:
    """The same for every try of one message, also after a restart, and for no other message."""
    parts = (
        incident.uid,
        incident.generation,
        incident.step,
        incident.loop,
        notify.reason.value,
        notify.serial,
        target.receiver,
        target.contact,
    )
    return "/".join(map(str, parts))


def title(incident: Incident) -> str:
    """`EngineDown target=10.0.0.5:8000`: the alert's name and what it is grouped by.

    Of labels with one value (an engine's instance and target) the last one stands for all.
    """
    labels = dict(incident.group_labels)
    names = (member.alert.name for member in incident.members.values())
    name = labels.pop("alertname", "") or next(names, "")
    shown = {value: label for label, value in labels.items()}
    return " ".join((name, *(f"{label}={value}" for value, label in shown.items()))).strip()


def worst_first(
    incident: Incident, config: IncidentConfig, most: int | None = None
) -> list[Member]:
    """What fires first, the worst of it first; the first `most` of them."""

    def rank(member: Member) -> tuple[bool, str, int]:
        severity = alert_severity(member.alert, config)
        return member.source in ENDED_CONDITIONS, severity or "", member.since_ms

    members = incident.members.values()
    if most is None or most >= len(members):
        return sorted(members, key=rank)
    return heapq.nsmallest(most, members, key=rank)


def _notified_alert(member: Member, resolved: bool, now_ms: int) -> NotifiedAlert:
    ended = member.ended_at_ms
    if ended is None and resolved:  # by hand, or given up: it ends for those who read it
        ended = now_ms
    return NotifiedAlert(
        status="firing" if ended is None else "resolved",
        labels=dict(member.alert.labels),
        annotations=dict(member.alert.annotations),
        starts_at_ms=member.since_ms,
        ends_at_ms=ended,
        value=member.alert.value,
        fingerprint=member.alert.fingerprint,
        active_at_ms=member.alert.active_at_ms,
    )


def _next_page(incident: Incident, step_due_ms: int | None) -> NextPage:
    policy = incident.policy
    if incident.closed_by_hand:
        return NextPage(step_due_ms)
    if incident.state is not IncidentState.TRIGGERED or step_due_ms is None:
        return NextPage()
    if incident.exhausted:
        targets = policy.final.notify if policy.final else ()
    elif incident.step + 1 < len(policy.steps):
        targets = policy.steps[incident.step + 1].notify
    elif incident.loop < policy.repeat:
        targets = policy.steps[0].notify
    else:
        return NextPage()
    return (
        NextPage(step_due_ms, tuple(dict.fromkeys(map(_addressee_name, targets))))
        if targets
        else NextPage()
    )


def _addressee_name(target: Addressee) -> str:
    return target.contact or target.receiver
