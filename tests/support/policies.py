"""Policies with short names and round times, and a configuration that holds them."""

from typing import Any

from tocsin_alerting.incidents.escalation_policy import (
    AckTimes,
    Addressee,
    EscalationPolicy,
    EscalationStep,
    FinalStep,
    Recipient,
)
from tocsin_alerting.incidents.routing import GroupBy, IncidentConfig
from tocsin_alerting.rules.severity import Severity

SECOND, MINUTE, HOUR = 1_000, 60_000, 3_600_000


def to(*names: str) -> tuple[Recipient, ...]:
    """`mail` is a receiver, `phone:li` is li by phone."""
    return tuple(Recipient(one.receiver, one.contact) for one in by(*names))


def by(*names: str) -> tuple[Addressee, ...]:
    """Where messages to `to` the same names go."""
    pairs = (name.partition(":") for name in names)
    return tuple(Addressee(receiver, contact) for receiver, _, contact in pairs)


P0 = EscalationPolicy(
    name="P0",
    steps=(
        EscalationStep(to("phone:li", "chat"), 15 * MINUTE),
        EscalationStep(to("phone:wang"), 15 * MINUTE),
        EscalationStep(to("mail", "chat"), 15 * MINUTE),
    ),
    repeat=1,
    final=FinalStep(to("mail"), 15 * MINUTE, HOUR),
    ack=AckTimes(30 * MINUTE, 10 * MINUTE),
    recover_within_ms=5 * MINUTE,
    snooze_max_ms=30 * MINUTE,
)
P1 = EscalationPolicy(
    name="P1",
    steps=(EscalationStep(to("chat", "mail"), HOUR), EscalationStep(to("phone:wang"))),
    ack=AckTimes(2 * HOUR),
    group_wait_ms=15 * SECOND,
    recover_within_ms=15 * MINUTE,
)
P2 = EscalationPolicy(
    name="P2",
    steps=(EscalationStep(to("chat"), 4 * HOUR), EscalationStep(to("mail"))),
    group_wait_ms=30 * SECOND,
    recover_within_ms=HOUR,
)


def config(**changes: Any) -> IncidentConfig:
    quiet = {
        severity.value: EscalationPolicy(severity.value, (EscalationStep(to("mail")),))
        for severity in (Severity.P3, Severity.P4)
    }
    policies = {"P0": P0, "P1": P1, "P2": P2, **quiet, **changes.pop("policies", {})}
    group = changes.pop("group", GroupBy(("alertname", "target")))
    return IncidentConfig(policies=policies, group=group, **changes)
