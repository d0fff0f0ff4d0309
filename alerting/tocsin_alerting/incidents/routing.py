"""Which policy an alert's incident follows, and who hears of it besides the policy's steps.

Matchers see an alert's own labels. The first matching route that names a policy decides the
policy; `continue_` (YAML `continue`) lets later routes add their receivers, or the policy when none
was named yet. When no route names one, the policy is the one called like the severity.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, tzinfo

from tocsin_alerting.incidents.alert_matcher import AlertMatcher, all_match
from tocsin_alerting.incidents.escalation_policy import (
    Addressee,
    EscalationPolicy,
    EscalationStep,
    Recipient,
)
from tocsin_alerting.incidents.heartbeats import ExpectedHeartbeat
from tocsin_alerting.incidents.maintenance import MaintenanceWindow
from tocsin_alerting.incidents.rates import Rates, ReceiverRules
from tocsin_alerting.incidents.roster import Roster
from tocsin_alerting.rules.alert import Alert
from tocsin_alerting.rules.severity import SEVERITY_LABEL, SEVERITY_WORDS, Severity, severity_of

EVERY_LABEL = "..."


@dataclass(frozen=True, slots=True)
class Route:
    """`policy` None: this route only adds receivers, to every step of the policy found elsewhere.

    `group_by` None: the global grouping.
    """

    matchers: tuple[AlertMatcher, ...] = ()
    policy: str | None = None
    receivers_add: tuple[Recipient, ...] = ()
    continue_: bool = False
    group_by: tuple[str, ...] | None = None


def check_group_by(by: tuple[str, ...]) -> None:
    """Raises ValueError when severity would split one symptom into several incidents."""
    if SEVERITY_LABEL in by:
        raise ValueError(
            "cannot group by severity: an alert that gets worse would become a second incident"
        )


@dataclass(frozen=True, slots=True)
class GroupBy:
    """Alerts with equal values of these labels share an incident; `...` means every label.

    Severity is never part of it: a P1 that worsens to P0 stays the same incident.
    """

    by: tuple[str, ...] = ("alertname", "instance", "target")

    def __post_init__(self) -> None:
        check_group_by(self.by)


@dataclass(frozen=True, slots=True)
class InhibitRule:
    """While a source fires, targets with the same values of the `equal` labels page nobody."""

    source: tuple[AlertMatcher, ...]
    target: tuple[AlertMatcher, ...]
    equal: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FlapDamping:
    """`count` times fired again within `window_ms` is flapping. Then it must be clear for `hold_ms`
    before it is resolved, each time it happens again `multiplier` times as long, `max_ms` at most.
    """

    count: int
    window_ms: int
    hold_ms: int
    multiplier: float
    max_ms: int


@dataclass(frozen=True, slots=True)
class StormLimit:
    """So many incidents that begin to page within `window_ms` are a storm. So many of P0 are told
    singly, and the first of each alert."""

    incidents: int = 20
    window_ms: int = 60_000


@dataclass(frozen=True, slots=True)
class BrokenLimit:
    """A receiver that has failed for `after_ms`, or refused so many messages as if for good, and
    delivered none meanwhile, is an incident."""

    after_ms: int = 5 * 60_000
    refusals: int = 3


@dataclass(frozen=True, slots=True)
class IncidentConfig:
    """All that the incident layer is told. Durations are milliseconds.

    `policies` holds one of each name in P0..P4 at least. `unknown_notice_ms`: how long a state may
    be unknown before people hear of it; `unknown_max_ms`: when it is given up and resolved.
    `slo_warn` is the share of a policy's `recover_within_ms` at which the warning is noted.
    `external_url` is the base of the links in messages. `addressees` are all whom a message can
    reach (empty: that is not known, and nobody is missed). `local_names` are this machine's
    names and addresses, in lower case. `roster` says who the recipients of a step are.
    `silence_warn_ms`: so long before the end of a silence its author is told that something still
    fires under it; None: nobody is. `flap` None: nothing counts as flapping. `reopen_keeps_ack`:
    an acknowledgement that has not expired holds for what fires again. `storm` None: each incident
    is told singly, however many. `zone`: where it is nine o'clock when a daily digest goes out.
    `receiver_rules` are those of receivers that have any, `contact_rates` those of a contact by one
    of its ways.
    `channel_broken` None: a broken receiver is no incident. `broken` are those that are, at the
    moment: what is told of one of them does not go through the others.
    """

    policies: Mapping[str, EscalationPolicy]
    routes: tuple[Route, ...] = ()
    group: GroupBy = GroupBy()
    inhibit: tuple[InhibitRule, ...] = ()
    reopen_within_ms: int = 30 * 60_000
    unknown_notice_ms: int = 5 * 60_000
    unknown_max_ms: int = 24 * 3_600_000
    slo_warn: float = 0.8
    slo_pages: bool = True
    severity_words: Mapping[str, Severity] = field(default_factory=lambda: dict(SEVERITY_WORDS))
    external_url: str = ""
    addressees: frozenset[Addressee] = frozenset()
    local_names: frozenset[str] = frozenset()
    roster: Roster = Roster()
    maintenance: tuple[MaintenanceWindow, ...] = ()
    silence_warn_ms: int | None = 15 * 60_000
    heartbeats: tuple[ExpectedHeartbeat, ...] = ()
    flap: FlapDamping | None = None
    reopen_keeps_ack: bool = False
    storm: StormLimit | None = None
    zone: tzinfo = UTC
    receiver_rules: Mapping[str, ReceiverRules] = field(default_factory=dict)
    contact_rates: Mapping[Addressee, Rates] = field(default_factory=dict)
    channel_broken: BrokenLimit | None = None
    broken: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        named = {route.policy for route in self.routes} | {severity.value for severity in Severity}
        missing = sorted(name for name in named if name and name not in self.policies)
        if missing:
            raise ValueError(f"no policy named {', '.join(missing)}")
        stepless = sorted(name for name, policy in self.policies.items() if not policy.steps)
        if stepless:
            raise ValueError(f"policy {', '.join(stepless)} has no steps; give it at least one")
        for route in self.routes:
            check_group_by(route.group_by or ())

    def is_known(self, recipient: Recipient) -> bool:
        """Whether a message can reach it, now or at another hour."""
        if recipient.receiver:
            addressee = Addressee(recipient.receiver, recipient.contact)
            return not self.addressees or addressee in self.addressees
        return self.roster.knows(recipient)

    def fallback_of(self, to: Addressee) -> Addressee | None:
        """Who gets what does not arrive there: the same contact by the receiver's fallback, where
        that is one of the contact's ways, else that receiver's own addressees."""
        rules = self.receiver_rules.get(to.receiver)
        if rules is None or not rules.fallback:
            return None
        contact, alone = self.roster.contacts.get(to.contact), Addressee(rules.fallback)
        same = Addressee(rules.fallback, to.contact)
        if contact is not None and same in contact.ways.values():
            return same
        return alone if self.is_known(Recipient(receiver=rules.fallback)) else None

    def own_fallback_of(self, to: Addressee) -> Addressee | None:
        """Of the same person: who is told by it need not hear the same by another way."""
        instead = self.fallback_of(to)
        return instead if instead and instead.contact == to.contact else None


def alert_severity(alert: Alert, config: IncidentConfig) -> Severity | None:
    """P2 when it has none; None when nobody is to be paged (`severity: none`)."""
    return severity_of(dict(alert.labels).get(SEVERITY_LABEL, ""), config.severity_words)


def policy_for(
    config: IncidentConfig, labels: Mapping[str, str], severity: Severity
) -> EscalationPolicy:
    """The policy, with the receivers that matching routes add in every step."""
    name, added = None, list[Recipient]()
    for route in matching_routes(config, labels):
        name = name or route.policy
        added += [target for target in route.receivers_add if target not in added]
    policy = config.policies[name or severity.value]
    return _with_receivers(policy, added) if added else policy


def group_by_for(config: IncidentConfig, labels: Mapping[str, str]) -> tuple[str, ...]:
    """The labels to group by: those of the first matching route that has its own."""
    own = (route.group_by for route in matching_routes(config, labels))
    return next((by for by in own if by is not None), config.group.by)


def matching_routes(config: IncidentConfig, labels: Mapping[str, str]) -> Iterator[Route]:
    for route in config.routes:
        if all_match(route.matchers, labels):
            yield route
            if not route.continue_:
                return


def _with_receivers(policy: EscalationPolicy, added: list[Recipient]) -> EscalationPolicy:
    def widened(step: EscalationStep) -> EscalationStep:
        extra = tuple(target for target in added if target not in step.notify)
        return replace(step, notify=step.notify + extra)

    return replace(policy, steps=tuple(map(widened, policy.steps)))
