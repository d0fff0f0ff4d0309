"""`match: subset`: what is expected names some labels and annotations, and leaves nothing over."""

import asyncio
from pathlib import Path

import pytest

from tocsin_alerting.rules.rule_test import pairs_off, run
from tocsin_alerting.rules.rule_test_file import read_tests
from tocsin_alerting.rules.rule_test_store import make_test_store

RULES = """
groups:
- name: g
  rules:
  - alert: Down
    expr: m > 0
    labels: {severity: P1}
    annotations: {summary: "{{ $labels.i }} is down", b: c}
"""
HEAD = """
rule_files: [rules.yml]
tests:
- input_series: [{series: 'm{i="1"}', values: 1x9}, {series: 'm{i="2"}', values: 2x9}]
  interval: 1m
"""


def passes(folder: Path, match: str, case: str) -> bool:
    (folder / "rules.yml").write_text(RULES)
    path = folder / "tests.yml"
    text = f"{HEAD}  {match}\n  {case}\n"
    return asyncio.run(run(read_tests(text, str(path)), make_test_store)).ok


@pytest.mark.parametrize(
    ("alerts", "right"),
    [
        ("{exp_labels: {i: 1}}, {exp_labels: {i: 2}}", True),
        ("{exp_labels: {i: 2}}, {exp_labels: {severity: P1}}", True),  # the other one is left
        ("{}, {exp_annotations: {summary: 1 is down}}", True),
        ("{}, {}", True),
        ("{exp_labels: {i: 1}}", False),
        ("{exp_labels: {i: 1}}, {exp_labels: {i: 1}}", False),
        ("{exp_labels: {i: 1, severity: P2}}, {exp_labels: {i: 2}}", False),
        ("{}, {}, {}", False),
        ("{exp_annotations: {b: d}}, {}", False),
        ("", False),
    ],
)
def test_alerts(tmp_path: Path, alerts: str, right: bool) -> None:
    case = f"alert_rule_test: [{{alertname: Down, eval_time: 5m, exp_alerts: [{alerts}]}}]"
    assert passes(tmp_path, "match: subset", case) is right
    assert not passes(tmp_path, "match: exact", case) and not passes(tmp_path, "", case)


@pytest.mark.parametrize(
    ("samples", "right"),
    [
        ("{labels: '{}', value: 2}, {labels: 'm', value: 1}", True),
        ("{labels: '{i=\"1\"}', value: 1}, {labels: '{i=\"2\"}', value: 2}", True),
        ("{labels: '{i=\"1\"}', value: 2}, {labels: '{i=\"2\"}', value: 1}", False),
        ("{labels: 'm', value: 1}", False),
        ("{labels: 'n', value: 1}, {labels: 'm', value: 2}", False),
    ],
)
def test_samples(tmp_path: Path, samples: str, right: bool) -> None:
    case = f"promql_expr_test: [{{expr: m, eval_time: 1m, exp_samples: [{samples}]}}]"
    assert passes(tmp_path, "match: subset", case) is right
    assert not passes(tmp_path, "", case)


def test_pairs_are_found_where_the_first_choice_blocks_them() -> None:
    fits = {"ab": "12", "b": "1", "c": "3"}
    wanted, got = list(fits), ["1", "2", "3"]
    assert pairs_off(wanted, got, lambda one, other: other in fits[one])
    assert not pairs_off(["b", "b", "c"], got, lambda one, other: other in fits[one])
