"""The drill: the real dispatcher on a fake clock, and a run of equal moments told once."""

import pytest

from support.policies import HOUR, MINUTE, P0, config, to
from tocsin_alerting.config.load import incident_config, load
from tocsin_alerting.incidents.dry_run import dry_run
from tocsin_alerting.incidents.escalation_policy import (
    EscalationPolicy,
    EscalationStep,
    FinalStep,
)
from tocsin_alerting.rules.severity import Severity


async def test_each_step_at_its_time_and_the_end() -> None:
    *found, a, b, c, d = await dry_run(config(policies={"P0": P0}), Severity.P0)
    assert found == [
        "after       0s  opened      -> li by phone (step 1)",
        "after       0s  opened      -> chat (step 1)",
        "after       5m  slo_breach  -> li by phone (step 1)",
        "after       5m  slo_breach  -> chat (step 1)",
        "after      15m  escalated   -> wang by phone (step 2)",
        "after      30m  escalated   -> mail (step 3)",
        "after      30m  escalated   -> chat (step 3)",
        "after      45m  repeat      -> li by phone (step 1)",
        "after      45m  repeat      -> chat (step 1)",
        "after       1h  escalated   -> wang by phone (step 2)",
        "after    1h15m  escalated   -> mail (step 3)",
        "after    1h15m  escalated   -> chat (step 3)",
        "after    1h45m  final       -> mail, every 15m, 4 times, until after 2h30m",
    ]
    everybody = ("chat", "li by phone", "mail", "wang by phone")
    assert sorted((a, b, c, d)) == [f"after    2h31m  resolved    -> {who}" for who in everybody]


def lines_of(found: list[str], reason: str) -> list[str]:
    return [line for line in found if f" {reason} " in line]


@pytest.mark.parametrize(
    ("for_ms", "told"),
    [
        (40 * MINUTE, 2),  # two are fewer than a run
        (24 * HOUR, 1),
    ],
)
async def test_a_run_of_equal_messages_is_one_line(for_ms: int, told: int) -> None:
    final = FinalStep(to("mail", "chat"), 15 * MINUTE, for_ms)
    policy = EscalationPolicy("P4", (EscalationStep(to("mail"), 15 * MINUTE),), final=final)
    found = lines_of(await dry_run(config(policies={"P4": policy}), Severity.P4), "final")
    assert len(found) == told * 2
    if told == 1:
        assert all(line.endswith(", every 15m, 96 times, until after 1d15m") for line in found)


async def test_a_policy_that_goes_on_and_on_is_followed_for_so_long() -> None:
    final = FinalStep(to("mail"), 1_000, 100 * 365 * 24 * HOUR)
    policy = EscalationPolicy("P4", (EscalationStep(to("mail"), MINUTE),), final=final)
    found = await dry_run(config(policies={"P4": policy}), Severity.P4)
    assert ", every 1s, " in found[-2]
    assert " resolved " in found[-1]


async def test_nobody() -> None:
    policy = EscalationPolicy("P4", (EscalationStep(()),))
    assert await dry_run(config(policies={"P4": policy}), Severity.P4) == [
        "nobody would be notified"
    ]


@pytest.mark.parametrize("severity", Severity)
async def test_the_default_policies_tell_somebody_of_every_severity(severity: Severity) -> None:
    found = await dry_run(incident_config(load(None)), severity)
    assert " opened " in found[0]
    assert " resolved " in found[-1]
