"""Policies with short names and round times, and a configuration that holds them."""

from typing import Any

from tocsin_alerting.incidents.policy import Ack, Final, Policy, Severity, Step, Target
from tocsin_alerting.incidents.routing import GroupBy, IncidentConfig

SECOND, MINUTE, HOUR = 1_000, 60_000, 3_600_000


def to(*names: str) -> tuple[Target, ...]:
    """`mail` is a receiver, `phone:li` is li by phone."""
    pairs = (name.partition(":") for name in names)
    return tuple(Target(receiver, contact) for receiver, _, contact in pairs)


P0 = Policy(
    name="P0",
    steps=(
        Step(to("phone:li", "chat"), 15 * MINUTE),
        Step(to("phone:wang"), 15 * MINUTE),
        Step(to("mail", "chat"), 15 * MINUTE),
    ),
    repeat=1,
    final=Final(to("mail"), 15 * MINUTE, HOUR),
    ack=Ack(30 * MINUTE, 10 * MINUTE),
    recover_within_ms=5 * MINUTE,
    snooze_max_ms=30 * MINUTE,
)
P1 = Policy(
    name="P1",
    steps=(Step(to("chat", "mail"), HOUR), Step(to("phone:wang"))),
    ack=Ack(2 * HOUR),
    group_wait_ms=15 * SECOND,
    recover_within_ms=15 * MINUTE,
)
P2 = Policy(
    name="P2",
    steps=(Step(to("chat"), 4 * HOUR), Step(to("mail"))),
    group_wait_ms=30 * SECOND,
    recover_within_ms=HOUR,
)


def config(**changes: Any) -> IncidentConfig:
    quiet = {
        severity.value: Policy(severity.value, (Step(to("mail")),))
        for severity in (Severity.P3, Severity.P4)
    }
    policies = {"P0": P0, "P1": P1, "P2": P2, **quiet, **changes.pop("policies", {})}
    group = changes.pop("group", GroupBy(("alertname", "target")))
    return IncidentConfig(policies=policies, group=group, **changes)
