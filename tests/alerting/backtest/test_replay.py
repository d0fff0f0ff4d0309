"""Whole days at once say what one evaluation after the other says."""

import asyncio
import random

import numpy as np
import pytest

from tocsin_alerting.backtest.history import History, PastSeries
from tocsin_alerting.backtest.replay import Replay, ReplaySettings, RuleReplay
from tocsin_alerting.promql.engine import QueryEngine
from tocsin_alerting.rules.alert import AlertState
from tocsin_alerting.rules.evaluation import EvaluationDeps
from tocsin_alerting.rules.groups import Groups
from tocsin_alerting.rules.rule import RuleFile
from tocsin_alerting.rules.rule_file import read
from tocsin_alerting.rules.rule_test_store import make_test_store
from tocsin_alerting.rules.unknown_alerts import AllAlive
from tocsin_exporter.snapshot import Labels

START_MS, STEP_MS, STEPS = 1_700_000_000_000, 15_000, 160
RULES = """
groups:
- name: limited
  limit: 2
  rules:
  - {alert: Limited, expr: "load > 4"}
- name: recorded
  rules:
  - {record: "job:load:mean", expr: "avg by (job) (load)"}
  - {record: "job:load:high", expr: "job:load:mean > 6", labels: {level: high}}
  - {record: same, expr: load > 7, labels: {instance: x}}
- name: alerts
  labels: {team: a}
  rules:
  - {alert: High, expr: "job:load:mean > 7"}
  - {alert: Waits, expr: "load > 5", for: 1m, labels: {severity: P1}}
  - {alert: Keeps, expr: "load > 8", keep_firing_for: 2m}
  - {alert: Both, expr: "load > 6", for: 30s, keep_firing_for: 45s}
  - {alert: Ends, expr: "job:load:high or same"}
  - {alert: Gone, expr: "absent(rare)", for: 1m}
  - {alert: Rated, expr: "rate(load[2m]) > 0.01 or sum_over_time(job:load:high[5m]) > 20"}
  - alert: Named
    expr: load > 8
    labels: {about: '{{ $labels.instance }}-{{ $value | printf "%.0f" }}'}
  - {alert: Twice, expr: 'label_replace(load > 8, "instance", "x", "", "")'}
  - {alert: OfAlerts, expr: 'count by (alertname) (ALERTS{alertstate="firing"}) > 2'}
- name: loops
  interval: 30s
  rules:
  - {record: total, expr: "sum(load) + (total offset 30s or vector(0))"}
  - {alert: Much, expr: "total > 2000 or on() later", for: 1m}
  - {record: later, expr: 'count(ALERTS{alertname="Much"}) > 0'}
"""


def samples(seed: int) -> dict[Labels, tuple[list[int], list[float]]]:
    """Six targets whose load wanders, with gaps; and one series that comes and goes."""
    dice = random.Random(seed)
    series: dict[Labels, tuple[list[int], list[float]]] = {}
    for number in range(6):
        labels = (("__name__", "load"), ("instance", f"i{number}"), ("job", f"j{number % 2}"))
        times, values, level = [], [], dice.uniform(2, 8)
        for step in range(STEPS):
            level = min(max(level + dice.uniform(-1, 1), 0), 10)
            if dice.random() > 0.1 and not 60 < step - 9 * number < 90:
                times.append(START_MS + step * STEP_MS + number)
                values.append(round(level, 2))
        series[labels] = times, values
    rare = range(40, 100)
    at = [START_MS + step * STEP_MS for step in rare]
    series[(("__name__", "rare"),)] = at, [1.0] * len(at)
    return series


def replayed(rules: RuleFile, seed: int) -> list[RuleReplay]:
    past = {labels: (np.array(t), np.array(v)) for labels, (t, v) in samples(seed).items()}
    history = History(PastSeries(past))
    settings = ReplaySettings(START_MS, START_MS + STEPS * STEP_MS, STEP_MS)
    replay = Replay(QueryEngine(history, subquery_step_ms=STEP_MS), history, settings)
    return asyncio.run(replay.run(rules.groups))


async def evaluated(rules: RuleFile, seed: int) -> dict[str, set[tuple[Labels, int]]]:
    """By rule, each firing alert at each evaluation, as the agent's own evaluation has it."""
    store = make_test_store(STEP_MS)
    deps = EvaluationDeps(store.engine, store.write, AllAlive(), lambda: 0.0)
    groups = Groups(deps, STEP_MS)
    groups.load([rules], START_MS)
    waiting = sorted(
        (at_ms, labels, value)
        for labels, (times, values) in samples(seed).items()
        for at_ms, value in zip(times, values, strict=True)
    )
    firing: dict[str, set[tuple[Labels, int]]] = {}
    first = -(-START_MS // STEP_MS) * STEP_MS
    for at_ms in range(first, START_MS + STEPS * STEP_MS + 1, STEP_MS):
        while waiting and waiting[0][0] <= at_ms:
            sampled_ms, labels, value = waiting.pop(0)
            store.append(sampled_ms, [(labels, value)])
        for group in sorted(groups.all, key=lambda one: rules.groups.index(one.group)):
            if at_ms % (group.group.interval_ms or STEP_MS):
                continue
            await groups.evaluate(group, at_ms)
            for rule in group.rules:
                firing.setdefault(rule.rule.uid, set()).update(
                    (alert.labels, at_ms)
                    for alert in rule.alerts.values()
                    if alert.state is AlertState.FIRING
                )
    return firing


def at_each_step(replay: RuleReplay) -> set[tuple[Labels, int]]:
    end_ms = START_MS + (STEPS + 1) * STEP_MS
    return {
        (span.labels, at_ms)
        for span in replay.spans
        for at_ms in replay.times.tolist()
        if span.fired_ms <= at_ms < (span.resolved_ms or end_ms)
    }


@pytest.mark.parametrize("seed", range(2))
def test_a_replay_fires_what_evaluations_fire(seed: int) -> None:
    rules = read(RULES, "rules.yml")
    expected = asyncio.run(evaluated(rules, seed))
    got = {replay.rule.uid: at_each_step(replay) for replay in replayed(rules, seed)}
    assert {uid for uid, alerts in got.items() if alerts} > {
        "alerts/Waits/1",
        "alerts/Both/1",
    }
    for uid, alerts in expected.items():
        assert got[uid] == alerts, uid
