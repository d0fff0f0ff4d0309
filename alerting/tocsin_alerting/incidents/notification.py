"""One message to one addressee, complete in itself: made of an incident, kept by the outbox, and
sent by a channel. It has everything that a channel needs to know, and no more.
"""

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from tocsin_alerting.incidents.escalation_policy import Addressee, Recipient
from tocsin_alerting.incidents.incident import (
    ENDED_CONDITIONS,
    Incident,
    IncidentState,
    Member,
    Notify,
    Reason,
    began_ms,
)
from tocsin_alerting.incidents.roster import resolve
from tocsin_alerting.incidents.routing import IncidentConfig, alert_severity
from tocsin_alerting.rules.severity import SEVERITY_LABEL

# A message must stay small enough to be sent; what is left out is counted in it.
MAX_ALERTS = 100
MAX_UNANSWERED = 10
# To a receiver of Alertmanager's messages; the text says what is known.
_RESOLVED = frozenset({Reason.RESOLVED, Reason.FIRED_AND_RESOLVED, Reason.UNWATCHED})


@dataclass(frozen=True, slots=True)
class NotifiedAlert:
    """An alert as a message shows it; `ends_at_ms` is None while it fires. `active_at_ms` is when
    its condition began to hold, which is before it fired if its rule has a `for`."""

    status: str  # firing | resolved
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    starts_at_ms: int
    ends_at_ms: int | None
    value: float
    fingerprint: str
    generator_url: str = ""
    active_at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was known when the worst alert fired, as text: its value and what its rule compares it
    with (`> 85%`), and `numbers`, each with its name or a key of the words of messages. `chart` is
    a PNG of the value from `chart_from_ms` to `chart_until_ms`, b"" for none."""

    value: str = ""
    limit: str = ""
    numbers: tuple[tuple[str, str], ...] = ()
    chart: bytes = b""
    chart_from_ms: int = 0
    chart_until_ms: int = 0
    lowest: str = ""
    highest: str = ""

    def as_data(self) -> dict[str, Any]:
        """For programs; without the picture."""
        numbers = [{"name": name, "value": value} for name, value in self.numbers]
        return {"value": self.value, "limit": self.limit, "numbers": numbers}


@dataclass(frozen=True, slots=True)
class Notification:
    """`key` is the same on every retry of one message and on no other message.

    `incident` is the number that people type; `receiver` names the channel, `contact` the person
    ("" when the receiver has its own addressees); `at_ms` is when the message was decided.
    `others` are told by the same step; `next_to` are told at `next_at_ms` if nobody answers (None:
    nothing follows). `not_recorded` says that the journal could not be written when this was sent.
    `began_at_ms` is when what it tells of began, if known: before the opening if the rules wait.
    `unanswered` are those who got a page before and did not answer, each with when it was decided.
    `truncated_alerts` counts the alerts that were left out of `alerts` to keep the message small.
    `incident` is 0 when it is about none in particular; `incidents` are then those it is about,
    and those that a storm tells of, of which `counts` says how many there are (`storm_counts`), or
    what stands in the digest. `digest_at_ms`: it waits until then, to go out with others.
    `times_in_24h` is how often it has fired within a day, this time included.
    `drill`: nothing is wrong, and the message says so.
    `thread` is what the other side called the first message of this incident to this addressee; it
    is filled in when the message goes out, "" for the first.
    `evidence` is read when it is sent, and not kept.
    """

    key: str
    incident: int
    receiver: str
    contact: str
    reason: Reason
    severity: str
    status: str  # firing | resolved
    state: str  # the incident's state after the transition
    step: int
    loop: int
    title: str
    group_key: str
    group_labels: Mapping[str, str]
    alerts: tuple[NotifiedAlert, ...]
    opened_at_ms: int
    at_ms: int
    actor: str = ""
    note: str = ""
    others: tuple[str, ...] = ()
    next_at_ms: int | None = None
    next_to: tuple[str, ...] = ()
    not_recorded: bool = False
    truncated_alerts: int = 0
    external_url: str = ""
    began_at_ms: int | None = None
    unanswered: tuple[tuple[str, int], ...] = ()
    incidents: tuple[int, ...] = ()
    counts: Mapping[str, Any] = field(default_factory=dict)
    times_in_24h: int = 1
    drill: bool = False
    digest_at_ms: int | None = None
    thread: str = ""
    evidence: Evidence | None = None

    @property
    def generation(self) -> int:
        """The incident's when it was decided; 0 where it is about none in particular."""
        number = self.key.split("/", 2)[1] if self.incident else ""
        return int(number) if number.isdecimal() else 0

    def to_json(self) -> dict[str, Any]:
        """As `asdict`, and no copies: a start reads tens of thousands."""
        shown = {name: getattr(self, name) for name in _FIELDS}
        alerts = ({name: getattr(alert, name) for name in _ALERT_FIELDS} for alert in self.alerts)
        return {**shown, "alerts": tuple(alerts)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Notification":
        """The notification that `to_json` wrote."""
        alerts = tuple(NotifiedAlert(**alert) for alert in data["alerts"])
        people = {name: tuple(data.get(name, ())) for name in ("others", "next_to", "incidents")}
        unanswered = tuple((name, at_ms) for name, at_ms in data.get("unanswered", ()))
        people |= {"unanswered": unanswered}
        return cls(**{**data, **people, "alerts": alerts, "reason": Reason(data["reason"])})


_FIELDS = tuple(one.name for one in fields(Notification) if one.name != "evidence")
_ALERT_FIELDS = tuple(one.name for one in fields(NotifiedAlert))


def with_storm(
    notification: Notification, told: Sequence[Incident], counts: Mapping[str, Any], text: str
) -> Notification:
    """The message of a storm, which tells of these."""
    severity = {SEVERITY_LABEL: notification.severity}
    alerts = tuple(
        replace(
            alert,
            labels={**alert.labels, **severity},
            annotations={**alert.annotations, "summary": text},
        )
        for alert in notification.alerts
    )
    numbers = tuple(incident.number for incident in told[:MAX_ALERTS])
    return replace(notification, alerts=alerts, incidents=numbers, counts=counts)


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
    members = [one for one in worst_first(incident, config) if _is_heard(one, incident)]
    members = members or worst_first(incident, config)
    shown = tuple(_notified_alert(member, resolved, now_ms) for member in members[:MAX_ALERTS])
    follows = next_page(incident, step_due_ms, config)
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
            times_in_24h=incident.times_in_24h,
            drill=incident.drill,
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
    if incident.is_storm:  # its number stands beside it
        del labels["storm"]
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


def notified_alerts(incident: Incident, config: IncidentConfig, now_ms: int) -> list[NotifiedAlert]:
    """Its silenced alerts that fire, or of which nobody can tell, the worst first."""
    silenced = (
        member
        for member in worst_first(incident, config)
        if member.source not in ENDED_CONDITIONS and not _is_heard(member, incident)
    )
    return [_notified_alert(member, False, now_ms) for member in silenced]


def _is_heard(member: Member, incident: Incident) -> bool:
    return member.alert.fingerprint not in incident.silenced


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


def next_page(incident: Incident, step_due_ms: int | None, config: IncidentConfig) -> NextPage:
    """Who is told when the step that is due then runs."""
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
    names = dict.fromkeys(_names_then(incident, targets, step_due_ms, config))
    return NextPage(step_due_ms, tuple(names)) if targets else NextPage()


def _names_then(
    incident: Incident, recipients: Sequence[Recipient], at_ms: int, config: IncidentConfig
) -> Iterator[str]:
    """Who they will be at that time; by their own names where that is nobody yet."""
    for recipient in recipients:
        addressees = resolve([recipient], config.roster, at_ms, incident.severity)
        yield from map(_addressee_name, addressees) if addressees else [str(recipient)]


def _addressee_name(target: Addressee) -> str:
    return target.contact or target.receiver
