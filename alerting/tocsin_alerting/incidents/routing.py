"""Which policy an alert's incident follows, and who hears of it besides the policy's steps.

Matchers see an alert's own labels. The first matching route that names a policy decides the
policy; `continue_` (YAML `continue`) lets later routes add their receivers, or the policy when none
was named yet. When no route names one, the policy is the one called like the severity.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from tocsin_alerting.incidents.alert_matcher import AlertMatcher, all_match
from tocsin_alerting.incidents.escalation_policy import (
    SEVERITY_WORDS,
    Addressee,
    EscalationPolicy,
    EscalationStep,
    Severity,
)

SEVERITY_LABEL = "severity"
EVERY_LABEL = "..."


@dataclass(frozen=True, slots=True)
class Route:
    """`policy` None: this route only adds receivers, to every step of the policy found elsewhere.

    `group_by` None: the global grouping.
    """

    matchers: tuple[AlertMatcher, ...] = ()
    policy: str | None = None
    receivers_add: tuple[Addressee, ...] = ()
    continue_: bool = False
    group_by: tuple[str, ...] | None = None


def check_group_by(by: tuple[str, ...]) -> None:
    """Raises ValueError when severity would split one symptom into several incidents."""
    if SEVERITY_LABEL in by:
        raise ValueError(
            "severity cannot be grouped by: an alert that worsens would become a second incident"
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
class IncidentConfig:
    """All that the incident layer is told. Durations are milliseconds.

    `policies` holds one of each name in P0..P4 at least. `unknown_notice_ms`: how long a state may
    be unknown before people hear of it; `unknown_max_ms`: when it is given up and resolved.
    `slo_warn` is the share of a policy's `recover_within_ms` at which the warning is noted.
    `external_url` is the base of the links in messages. `addressees` are all whom a message can
    reach (empty: that is not known, and nobody is missed). `local_names` are this machine's
    names and addresses, in lower case.
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

    def is_addressee(self, target: Addressee) -> bool:
        return not self.addressees or target in self.addressees


def policy_for(
    config: IncidentConfig, labels: Mapping[str, str], severity: Severity
) -> EscalationPolicy:
    """The policy, with the receivers that matching routes add in every step."""
    name, added = None, list[Addressee]()
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


def _with_receivers(policy: EscalationPolicy, added: list[Addressee]) -> EscalationPolicy:
    def widened(step: EscalationStep) -> EscalationStep:
        extra = tuple(target for target in added if target not in step.notify)
        return replace(step, notify=step.notify + extra)

    return replace(policy, steps=tuple(map(widened, policy.steps)))
