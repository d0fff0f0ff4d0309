"""A rule that can give nothing in a test is left out, and the test says what it said."""

import asyncio
import random
from pathlib import Path

import pytest

from alerting.rules.test_rule_test import agree, written
from support.promtool import needs_promtool
from tocsin_alerting.promql.parser.signatures import Semantics
from tocsin_alerting.rules.rule_file import read
from tocsin_alerting.rules.rule_test_needed import needed_rules
from tocsin_alerting.rules.rule_test_store import make_test_store
from tocsin_exporter.snapshot import labels

HERE = labels(__name__="here", job="a", i="1")
KEPT = (
    "here",
    'here{job="a"}',
    'here{job=~"a|b", gone=""}',
    '{job="a"}',
    '{__name__=~"he.*"}',
    "gone or here",
    "here unless gone",
    "gone or vector(1)",
    "vector(1)",
    "time()",
    "absent(gone)",
    "absent_over_time(gone[5m])",
    "scalar(gone) > bool 1",
    "sum(here)",
    "rate(here[5m])",
    "max_over_time(here[5m:1m])",
    "-here",
    "(here)",
    "2 * here",
    "here + on () gone or here",
    "gone + fill (0) here",
)
LEFT_OUT = (
    "gone",
    'here{job="b"}',
    'here{i!="1"}',
    '{job="b"}',
    '{__name__=~"go.*"}',
    "here and gone",
    "gone and here",
    "gone unless here",
    "gone or gone",
    "here + gone",
    "gone / here > 5",
    "2 * gone > 1",
    "sum(gone) == 0",
    "sum(rate(gone[5m])) / sum(rate(here[5m]))",
    "histogram_quantile(0.9, sum by (le) (rate(gone[5m])))",
    'label_replace(gone, "a", "$1", "b", "(.*)")',
    "topk(3, gone)",
    'count_values("v", gone)',
    "day_of_week(gone)",
    "-gone",
    "(gone)",
)
FAILING = (
    'label_replace(gone, "a", "$1", "b", "(")',
    'label_join(gone, "~", ",", "a")',
    'count_values("~", gone)',
    "topk(scalar(gone), gone)",
    "topk(scalar(absent(here)), gone)",
    "round(topk(scalar(absent(here)), gone), scalar(here))",
    'gone * on () rate({__name__=~"here|too"}[5m])',
)
MAY_FAIL = (
    "gone * on (job) (here + on (job) here)",
    'gone and abs(here or {__name__=~"too"})',
)


def kept(series: str, *rules: str) -> list[str]:
    """The names of the rules that stay in a test of this input."""
    text = "groups: [{name: g, rules: [" + ", ".join(rules) + "]}]"
    asked = needed_rules(
        [read(text, "r.yml")],
        [labels(__name__=name) for name in series.split()],
        make_test_store(60_000).engine,
        0,
    )
    return [
        rule.name for file in asyncio.run(asked) for group in file.groups for rule in group.rules
    ]


def stays(expr: str, semantics: Semantics = 3) -> bool:
    text = f"groups: [{{name: g, rules: [{{alert: A, expr: '{expr}'}}]}}]"
    file = read(text, "r.yml", semantics=semantics)
    engine = make_test_store(60_000, semantics).engine
    (file,) = asyncio.run(needed_rules([file], [HERE], engine, 0))
    return bool(file.groups[0].rules)


@pytest.mark.parametrize("expr", KEPT)
def test_what_may_have_a_result_stays(expr: str) -> None:
    assert stays(expr)


@pytest.mark.parametrize("expr", [*FAILING, *MAY_FAIL])
def test_what_may_fail_stays(expr: str) -> None:
    assert stays(expr, 2)


@pytest.mark.parametrize("expr", LEFT_OUT)
def test_what_has_none_is_left_out(expr: str) -> None:
    assert not stays(expr)


def test_what_a_needed_rule_records_is_there_for_all_others() -> None:
    rules = (
        "{alert: Early, expr: c > 1}",
        "{record: c, expr: b}",
        "{record: b, expr: a}",
        "{record: lost, expr: gone}",
        "{alert: OnLost, expr: lost}",
        "{alert: Any, expr: '{__name__=~\"b|x\"}'}",
    )
    assert kept("a", *rules) == ["Early", "c", "b", "Any"]
    assert kept("gone", *rules) == ["lost", "OnLost"]


def test_alerts_are_series_once_one_may_fire() -> None:
    rules = (
        "{alert: Firing, expr: ALERTS}",
        "{alert: Since, expr: ALERTS_FOR_STATE}",
        "{record: r, expr: a}",
        "{alert: Down, expr: b}",
    )
    assert kept("a", *rules) == ["r"]
    assert kept("b", *rules) == ["Firing", "Since", "Down"]


@needs_promtool
@pytest.mark.parametrize("seed", range(2))
def test_promtool_says_the_same_of_a_few_inputs(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    exprs = [expr for expr in (*KEPT, *LEFT_OUT) if "fill" not in expr and "{" != expr[0]]
    rules = "".join(
        f"  - {{record: 'r{number}', expr: '{expr}'}}\n" for number, expr in enumerate(exprs)
    ) + "".join(
        f"  - {{alert: A{number}, expr: 'r{of} > 0'}}\n"
        for number, of in enumerate(chance.sample(range(len(exprs)), 20))
    )
    tests = "".join(
        f"  - input_series: [{{series: '{series}', values: '0+{chance.randint(1, 5)}x9'}}]\n"
        "    interval: 1m\n    alert_rule_test:\n"
        + "".join(f"    - {{eval_time: 5m, alertname: A{number}}}\n" for number in range(20))
        + "    promql_expr_test:\n    - {eval_time: 5m, expr: 'count by (__name__) ({i!=\"z\"})'}\n"
        "    - {eval_time: 5m, expr: 'count by (alertname) (ALERTS)'}\n"
        for series in ('here{job="a", i="1"}', 'gone{job="b"}', "other")
    )
    report = agree(written(tmp_path, f"tests:\n{tests}", f"groups:\n- name: g\n  rules:\n{rules}"))
    assert len(report.failures) > 20


@needs_promtool
@pytest.mark.parametrize("expr", FAILING)
def test_promtool_says_the_same_of_what_fails(tmp_path: Path, expr: str) -> None:
    series = (
        "[{series: 'here{job=\"a\", i=\"1\"}', values: '0 1 2'},"
        " {series: 'here{job=\"a\", i=\"2\"}', values: '0 1 2'},"
        " {series: 'too{job=\"a\", i=\"1\"}', values: '0 1 2'}]"
    )
    tests = (
        f"tests:\n- interval: 1m\n  input_series: {series}\n"
        "  alert_rule_test: [{eval_time: 2m, alertname: A}]\n"
    )
    rules = f"groups:\n- name: g\n  rules:\n  - {{alert: A, expr: '{expr}'}}\n"
    assert not agree(written(tmp_path, tests, rules)).ok
