"""A receiver through which nothing arrives, as an alert, and who hears of it by another one."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tocsin_alerting.annotations import DEFAULT_AGENT_URL
from tocsin_alerting.incidents.escalation_policy import Addressee, EscalationPolicy, Recipient
from tocsin_alerting.incidents.grouping import AlertGroup, alert_group
from tocsin_alerting.incidents.incident import Incident
from tocsin_alerting.incidents.roster import Addressees, possible_addressees, resolve
from tocsin_alerting.incidents.routing import IncidentConfig
from tocsin_alerting.rules.alert import Alert, AlertEvent, firing_alert
from tocsin_alerting.rules.meta_alerts import GROUPED_BY, META
from tocsin_alerting.rules.severity import SEVERITY_LABEL, Severity
from tocsin_alerting.time_format import rfc3339

CHANNEL = "channel;"  # and the receiver's name: the origin of what is said of it
ALERT_NAME = "ChannelBroken"
_MAX_ERROR = 300
_GROUPED_BY = ("alertname", "receiver")


@dataclass(slots=True)
class FailureStreak:
    """Failures without a success between them. `not_before_ms`: as the other side said.
    `spells` are how often it was tried more than once, with long times between in which nobody
    tried: what is over is not tried on where only pages are sent. `tries` are those of the last."""

    since_ms: int
    last_ms: int
    refusals: int = 0
    error: str = ""
    not_before_ms: int = 0
    spells: int = 0
    tries: int = 0

    def failed(self, error: str, now_ms: int) -> None:
        self.last_ms, self.error, self.tries = now_ms, error, self.tries + 1
        self.spells += self.tries == 2

    def begin_anew(self, now_ms: int) -> None:
        self.since_ms, self.tries = now_ms, 0


def broken_receivers(incident: Incident) -> frozenset[str]:
    """Through which it cannot be told, as it is about them alone."""
    first = next(iter(incident.members.values()), None)
    if first is None or first.alert.name != ALERT_NAME:
        return frozenset()
    origins = [origin for member in incident.members.values() for origin in member.origins]
    if not all(origin.startswith(CHANNEL) for origin in origins):
        return frozenset()
    return frozenset(origin.removeprefix(CHANNEL) for origin in origins)


def group_of(event: AlertEvent, config: IncidentConfig) -> AlertGroup:
    """As the configuration groups, but each broken receiver has an incident of its own: with others
    it could not be told through one of them. So has each file of rules that is not well, and each
    source."""
    labels = dict(event.alert.labels)
    by = _own_grouping(event.origin, labels)
    if not by:
        return alert_group(config, labels)
    return AlertGroup(tuple((name, labels[name]) for name in by if name in labels))


def _own_grouping(origin: str, labels: Mapping[str, str]) -> tuple[str, ...]:
    if origin.startswith(CHANNEL):
        return _GROUPED_BY
    return GROUPED_BY.get(labels["alertname"], ()) if origin.startswith(META) else ()


def told_otherwise(
    incident: Incident,
    found: Addressees,
    now_ms: int,
    config: IncidentConfig,
    tried: frozenset[Addressee] = frozenset(),
) -> Addressees:
    """`found`, but of an incident about a broken receiver nobody through it: the others, else the
    same people by their other ways, else whom P0 pages, else any other receiver; through one that
    is broken as well only where no other is left. Nobody, if there is no other at all."""
    broken = broken_receivers(incident)
    if not broken or not found:
        return found
    for unfit in (broken | config.broken, broken):
        for several in _instead(incident, found, now_ms, config):
            fit = (to for to in several if to.receiver not in unfit and to not in tried)
            if left := tuple(dict.fromkeys(fit)):
                return left
    return ()


def _instead(
    incident: Incident, found: Addressees, now_ms: int, config: IncidentConfig
) -> Iterator[Addressees]:
    yield found
    contacts = (config.roster.contacts.get(to.contact) for to in found)
    yield tuple(way for contact in contacts if contact for way in contact.ways.values())
    for step in config.policies[Severity.P0.value].steps:
        yield resolve(step.notify, config.roster, now_ms, incident.severity)
    alone = (to for to in config.addressees if not to.contact)
    yield tuple(sorted(alone, key=lambda to: to.receiver))


def broken_alert(receiver: str, trouble: FailureStreak, config: IncidentConfig) -> Alert:
    """It has an `instance` as all alerts have."""
    error = trouble.error.partition("\n")[0][:_MAX_ERROR]
    labels = {
        "alertname": ALERT_NAME,
        "instance": receiver,
        "receiver": receiver,
        SEVERITY_LABEL: _severity(receiver, config).value,
    }
    since = rfc3339(trouble.since_ms - trouble.since_ms % 1000)
    annotations = {
        "summary": f'Receiver "{receiver}" delivers nothing',
        "description": f"No message has arrived through it since {since}. It resolves when one"
        f" does: alertctl receivers test {receiver}. Last error: {error}",
        "runbook_url": f"{DEFAULT_AGENT_URL}runbooks/{ALERT_NAME}",
    }
    return firing_alert(labels, annotations, trouble.since_ms, trouble.last_ms)


def _severity(receiver: str, config: IncidentConfig) -> Severity:
    """P1 where pages of P0 go through it, as a fallback at least; else P3."""
    recipients = [*_recipients(config.policies[Severity.P0.value])]
    recipients += [added for route in config.routes for added in route.receivers_add]
    waiting = list(possible_addressees(recipients, config.roster))
    used = set[Addressee]()
    while waiting:
        to = waiting.pop()
        if to not in used:
            used.add(to)
            instead = config.fallback_of(to)
            waiting += [instead] if instead is not None else []
    return Severity.P1 if any(to.receiver == receiver for to in used) else Severity.P3


def _recipients(policy: EscalationPolicy) -> Iterator[Recipient]:
    for step in policy.steps:
        yield from step.notify
    if policy.final:
        yield from policy.final.notify
