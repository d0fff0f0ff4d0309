"""`for` over a restart: Prometheus's own table (TestForStateRestore) and what ours does beyond."""

from dataclasses import replace

import pytest

from support.alert_events import alert
from support.rule_texts import MINUTE, alerting, recording
from tocsin_alerting.rules.alert import Alert, AlertState, rules_origin
from tocsin_alerting.rules.instance_journal import InstanceRow
from tocsin_alerting.rules.restore import (
    RestoreMode,
    active_since_ms,
    inherited_origins,
    restore_alerts,
)
from tocsin_alerting.rules.rule import Rule

FOR, GRACE = 25 * MINUTE, 10 * MINUTE
PENDING = Alert("old/A/1", (("alertname", "A"),), (), AlertState.PENDING, 1.0, 0)
FIRING = replace(PENDING, state=AlertState.FIRING, fired_at_ms=MINUTE)


def row(alert: Alert, seen_ms: int) -> InstanceRow:
    return InstanceRow("f", "g", "g/A/1", seen_ms, alert)


@pytest.mark.parametrize(
    ("spent", "outage", "wanted"),
    [
        (5, 10, 15 - 5),  # 20 minutes are missing: the outage does not count
        (15, 10, 25 + 10 - 25),  # 10 minutes are missing, no less than the grace period
        (20, 30, 50 + 10 - 25),  # 5 are missing: the grace period must pass
        (25, 30, 0),  # it had waited long enough
        (40, 59, 0),
    ],
)
def test_it_counts_as_prometheus_does(spent: int, outage: int, wanted: int) -> None:
    down, now = spent * MINUTE, (spent + outage) * MINUTE
    assert active_since_ms(0, down, now, FOR, GRACE) == wanted * MINUTE


@pytest.mark.parametrize("how", list(RestoreMode))
def test_a_pending_alert_waits_out_its_for(how: RestoreMode) -> None:
    rule = alerting(for_ms=FOR)
    (alert,) = restore_alerts([row(PENDING, 5 * MINUTE)], rule, 15 * MINUTE, how).values()
    assert (alert.active_at_ms, alert.rule) == (10 * MINUTE, rule.uid)


def test_an_outage_of_more_than_an_hour_forgets_what_was_pending() -> None:
    rule, rows = alerting(for_ms=FOR), [row(PENDING, MINUTE)]
    assert restore_alerts(rows, rule, 61 * MINUTE) != {}
    assert restore_alerts(rows, rule, 61 * MINUTE + 1) == {}


def test_a_short_for_is_restored_by_ours_alone() -> None:
    rule, rows = alerting(for_ms=2 * MINUTE), [row(PENDING, MINUTE)]
    (alert,) = restore_alerts(rows, rule, 21 * MINUTE).values()
    assert alert.active_at_ms == 20 * MINUTE  # one of two minutes is spent
    assert restore_alerts(rows, rule, 21 * MINUTE, RestoreMode.PROMETHEUS) == {}


@pytest.mark.parametrize(
    ("now_s", "since_s"),
    [
        (17, 0),  # back before the next evaluation was due: it does not fire early
        (20, 0),  # killed between two evaluations, none missed: as if nothing had been
        (25, 5),  # one was missed
        (100, 80),
    ],
)
def test_an_outage_costs_the_evaluations_that_it_missed(now_s: int, since_s: int) -> None:
    rule, rows = alerting(for_ms=MINUTE), [row(PENDING, 15_000)]
    (alert,) = restore_alerts(rows, rule, now_s * 1000, interval_ms=5_000).values()
    assert alert.active_at_ms == since_s * 1000


@pytest.mark.parametrize("for_minutes", [9, 10, 15, 60, 600])
def test_restarts_again_and_again_cost_what_they_missed_and_no_more(for_minutes: int) -> None:
    """A restart at each minute, which takes 15 s and misses two evaluations of 5 s."""
    rule, now_ms, missed_ms, alert = alerting(for_ms=for_minutes * MINUTE), 0, 0, PENDING
    while now_ms + MINUTE + 5_000 - alert.active_at_ms < rule.for_ms:
        rows = [row(alert, now_ms + MINUTE)]
        now_ms += MINUTE + 15_000
        missed_ms += 10_000
        (alert,) = restore_alerts(rows, rule, now_ms, interval_ms=5_000).values()
        assert alert.active_at_ms == missed_ms
    assert 0 < rule.for_ms - (now_ms - missed_ms) <= MINUTE + 5_000


def test_a_firing_alert_goes_on_firing_however_long_the_outage() -> None:
    rule = alerting(for_ms=FOR)
    (alert,) = restore_alerts([row(FIRING, 30 * MINUTE)], rule, 600 * MINUTE).values()
    assert (alert.state, alert.fired_at_ms, alert.active_at_ms) == (AlertState.FIRING, MINUTE, 0)


def test_prometheus_makes_a_firing_alert_pending_first() -> None:
    rule = alerting(for_ms=FOR)
    rows = [row(FIRING, 30 * MINUTE)]
    (alert,) = restore_alerts(rows, rule, 40 * MINUTE, RestoreMode.PROMETHEUS).values()
    assert (alert.state, alert.fired_at_ms, alert.active_at_ms) == (AlertState.PENDING, None, 0)


def test_a_row_of_a_doubt_alone_is_no_alert() -> None:
    assert restore_alerts([InstanceRow("f", "g", "g/A/1", 0)], alerting(), MINUTE) == {}


DOWN = replace(alert("Down", "P0", target="a"), rule="g/Down/0")
HERE, THERE = rules_origin("f.yml", "g/Down/0"), rules_origin("e.yml", "g/Down/0")


def _rules(*origins: str, severity: str = "P0") -> dict[str, Rule]:
    rule = alerting(name="Down", severity=severity, tier="{{ $labels.tier }}")
    return {origin: replace(rule, uid=origin.rpartition(";")[2]) for origin in origins}


@pytest.mark.parametrize(
    ("rules", "saved", "found"),
    [
        (_rules(HERE, THERE), {HERE: [DOWN]}, {HERE: HERE}),
        (_rules(rules_origin("f.yml", "h/Down/0"), THERE), {HERE: [DOWN]}, {THERE: HERE}),
        (_rules(rules_origin("f.yml", "h/Down/0"), rules_origin("e.yml", "h/Down/0")),
         {HERE: [DOWN]}, {rules_origin("f.yml", "h/Down/0"): HERE}),
        (_rules(THERE), {HERE: [DOWN], THERE: [DOWN]}, {THERE: THERE}),
        (_rules(THERE, severity="P1"), {HERE: [DOWN]}, {}),
        (_rules(HERE, severity="P1"), {HERE: [DOWN]}, {HERE: HERE}),
        (_rules(HERE, severity="P1") | _rules(THERE), {HERE: [DOWN]}, {THERE: HERE}),
        ({THERE: recording("Down", "m")}, {HERE: [DOWN]}, {}),
    ],
)  # fmt: skip
def test_which_rule_goes_on_with_the_alerts_of_one_that_moved(
    rules: dict[str, Rule], saved: dict[str, list[Alert]], found: dict[str, str]
) -> None:
    assert inherited_origins(rules, saved) == found
