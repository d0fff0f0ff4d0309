"""Unit tests of rules, run beside the real promtool: the same verdict in the same words."""

import asyncio
import random
from functools import partial
from pathlib import Path

import pytest

from support.promtool import needs_promtool, run_tests
from tocsin_alerting.rules.rule_test import RuleTestReport, run
from tocsin_alerting.rules.rule_test_file import read_tests
from tocsin_alerting.rules.rule_test_store import make_test_store
from tocsin_alerting.yaml_document import InvalidDocument

RULES = """
groups:
  - name: late
    rules:
      - alert: OnRecorded
        expr: sum_of_m > 1
  - name: early
    interval: 10m
    rules:
      - record: sum_of_m
        expr: sum by (job) (m)
      - alert: Plain
        expr: m > 0
        labels: {severity: P1, gone: "{{ $labels.nope }}"}
        annotations: {summary: "{{ $labels.i }} is {{ $value }}", b: ""}
      - alert: Waits
        expr: m > 0
        for: 2m
        annotations: {ext: "{{ $externalLabels.dc }}"}
      - alert: Keeps
        expr: m > 0
        keep_firing_for: 3m
      - alert: Both
        expr: m > 0
        for: 90s
        keep_firing_for: 2m
      - alert: State
        expr: count by (alertstate) (ALERTS)
"""


def ours(path: Path) -> RuleTestReport:
    return asyncio.run(
        run(
            read_tests(path.read_text("utf-8"), str(path), 2), partial(make_test_store, semantics=2)
        )
    )


def written(folder: Path, tests: str, rules: str = RULES) -> Path:
    (folder / "rules.yml").write_text(rules, "utf-8")
    path = folder / "tests.yml"
    path.write_text(f"rule_files: [rules.yml]\n{tests}", "utf-8")
    return path


def agree(path: Path) -> RuleTestReport:
    """Both say the same; line ends apart."""
    passed, printed = run_tests(path)
    report = ours(path)
    assert str(report).split() == printed.split()
    assert report.ok is passed
    return report


def values(chance: random.Random) -> str:
    return " ".join(chance.choice(("0", "1", "1", "2", "_", "stale")) for _ in range(14))


@needs_promtool
@pytest.mark.parametrize("seed", range(6))
def test_random_series_give_the_alerts_and_series_that_prometheus_has(
    tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    names = ("Plain", "Waits", "Keeps", "Both", "OnRecorded", "State")
    interval = chance.choice(("30s", "1m", "45s"))
    minutes = range(0, 14, 1)
    alerts = "".join(
        f"      - {{eval_time: {minute}m, alertname: {name}, exp_alerts: []}}\n"
        for minute in minutes
        for name in names
    )
    exprs = "".join(
        f"      - {{eval_time: {minute}m, expr: '{expr}'}}\n"
        for minute in minutes
        for expr in ("ALERTS", "ALERTS_FOR_STATE", "sum_of_m")
    )
    series = "".join(
        f"      - {{series: 'm{{i=\"{i}\", job=\"{i % 2}\"}}', values: '{values(chance)}'}}\n"
        for i in range(4)
    )
    report = agree(
        written(
            tmp_path,
            f"evaluation_interval: {interval}\ngroup_eval_order: [early, late]\ntests:\n"
            f"  - interval: 1m\n    name: seed {seed}\n    external_labels: {{dc: z}}\n"
            f"    input_series:\n{series}    alert_rule_test:\n{alerts}"
            f"    promql_expr_test:\n{exprs}",
        )
    )
    assert len(report.failures) > 30


ORDER = """
groups:
  - {name: first, rules: [{record: r1, expr: m}]}
  - {name: second, rules: [{record: r2, expr: "min(m or vector(0)) + count(unnamed)"}]}
  - {name: unnamed, rules: [{record: unnamed, expr: m}]}
"""


@needs_promtool
@pytest.mark.parametrize(
    ("order", "sees"),
    [("first, second", True), ("first, second, unnamed", False), ("unnamed, second", True)],
)
def test_a_group_that_is_not_named_comes_with_the_first_one(
    tmp_path: Path, order: str, sees: bool
) -> None:
    """Of groups of the same place promtool takes any first; the second one comes after them."""
    passes = "[{labels: r2, value: 2}]" if sees else "[]"
    report = agree(
        written(
            tmp_path,
            f"evaluation_interval: 1m\ngroup_eval_order: [{order}]\ntests:\n  - interval: 1m\n"
            "    input_series: [{series: m, values: '1'}]\n"
            f"    promql_expr_test: [{{expr: r2, eval_time: 0m, exp_samples: {passes}}}]\n",
            ORDER,
        )
    )
    assert report.ok, str(report)


@needs_promtool
@pytest.mark.parametrize(
    ("eval_time", "passes"), [("1m", False), ("2m", True), ("2m59s", True), ("3m", False)]
)
def test_a_test_sees_the_last_evaluation_before_its_time(
    tmp_path: Path, eval_time: str, passes: bool
) -> None:
    report = agree(
        written(
            tmp_path,
            "tests:\n  - interval: 1m\n"
            "    input_series: [{series: 'm{i=\"a\"}', values: '0 0 1 0'}]\n"
            f"    alert_rule_test:\n      - eval_time: {eval_time}\n        alertname: Plain\n"
            "        exp_alerts:\n          - exp_labels: {i: a, severity: P1}\n"
            "            exp_annotations: {summary: a is 1, b: ''}\n",
        )
    )
    assert report.ok is passes
    if not passes:
        assert report.failures[0].place.line == 6


@needs_promtool
def test_a_rule_that_fails_ends_the_test(tmp_path: Path) -> None:
    rules = "groups: [{name: g, rules: [{alert: A, expr: m * on (job) n}]}]"
    path = written(
        tmp_path,
        "tests:\n  - interval: 1m\n    input_series:\n"
        + "".join(f"      - {{series: '{s}', values: '_ 1'}}\n" for s in ('m{i="1"}', 'm{i="2"}'))
        + "      - {series: n, values: '_ 1'}\n"
        "    promql_expr_test: [{expr: m, eval_time: 2m}]\n",
        rules,
    )
    passed, printed = run_tests(path)
    report = ours(path)
    assert not passed and not report.ok
    assert len(report.failures) == 1
    assert "    rule: A, time: 1m0s, err: " in str(report)
    assert "    rule: A, time: 1m0s, err: " in printed


@needs_promtool
@pytest.mark.parametrize(
    ("expr", "expected", "passes"),
    [
        ("m", "[{labels: 'm{i=\"a\"}', value: 3}]", True),
        ("m", "[{labels: '{i=\"a\"}', value: 3}]", False),
        ("m", "[{labels: 'm{i=\"a\"}', value: 3.5}]", False),
        ("m > 5", "[]", True),
        ("sum(m) / 0", "[{labels: '{}', value: .inf}]", True),
        ("1 + 1", "[{labels: '', value: 2}]", True),
        ("max_over_time(m[2m:])", "[{labels: '{i=\"a\"}', value: 3}]", True),
        ("m * on () group_left () vector(1) or vector(2)", "[]", False),
    ],
)
def test_expressions_are_compared_exactly(
    tmp_path: Path, expr: str, expected: str, passes: bool
) -> None:
    path = written(
        tmp_path,
        "tests:\n  - interval: 1m\n"
        "    input_series: [{series: 'm{i=\"a\"}', values: '0+1x10'}]\n"
        f"    promql_expr_test: [{{expr: '{expr}', eval_time: 3m, exp_samples: {expected}}}]\n",
    )
    assert agree(path).ok is passes


def test_a_last_digit_may_differ_when_asked(tmp_path: Path) -> None:
    tests = (
        "fuzzy_compare: {}\ntests:\n  - interval: 1m\n"
        "    input_series: [{{series: m, values: '0.1'}}]\n"
        "    promql_expr_test:\n"
        "      - {{expr: m + 0.2, exp_samples: [{{labels: '{{}}', value: 0.3}}]}}\n"
    )
    assert ours(written(tmp_path, tests.format("true"))).ok
    assert not ours(written(tmp_path, tests.format("false"))).ok


def test_a_test_may_start_later_than_1970(tmp_path: Path) -> None:
    tests = (
        "tests:\n  - interval: 1m\n    start_timestamp: 1700000000\n"
        "    input_series: [{series: 'm{i=\"a\"}', values: '1x5'}]\n"
        "    promql_expr_test:\n"
        "      - {expr: time(), eval_time: 1m, exp_samples: [{value: 1700000060}]}\n"
        '      - expr: ALERTS_FOR_STATE{alertname="Waits"}\n        eval_time: 3m\n'
        "        exp_samples:\n"
        '          - labels: \'ALERTS_FOR_STATE{alertname="Waits", i="a"}\'\n'
        "            value: 1700000000\n"
    )
    report = ours(written(tmp_path, tests))
    assert report.ok, str(report)


def test_a_broken_rule_file_is_told_with_its_place(tmp_path: Path) -> None:
    path = written(tmp_path, "tests: [{}]\n", "groups: [{name: g, rules: [{alert: A, expr: (}]}]")
    with pytest.raises(
        InvalidDocument, match=r"rules\.yml:1:46: group \"g\", rule 1, \"A\": could"
    ):
        ours(path)


EXPR = """tests:
- {head}
  input_series: [{{series: '{series}', values: '{values}'}}]
  promql_expr_test: [{{expr: '{expr}', eval_time: {at}, exp_samples: [{expected}]}}]
"""
USUAL = {
    "head": "interval: 30s",
    "series": "m",
    "values": "0+1x10",
    "expr": "m",
    "at": "1m",
    "expected": "{labels: m, value: 2}",
}


@needs_promtool
@pytest.mark.parametrize(
    ("changes", "passes"),
    [
        ({"at": "1m30s"}, True),  # no input is loaded after the last evaluation
        ({"at": "1m30s", "expected": "{labels: m, value: 3}"}, False),
        ({"head": "name: n", "expr": "count_over_time(m[5m])",
          "expected": '{labels: "{}", value: 1}'}, True),
        ({"expected": "{labels: m, value: 0b10}"}, True),
        ({"expected": "{labels: m, value: 0x2}"}, True),
        ({"expected": "{labels: m, value: 02}"}, True),
        ({"expr": "m * 0 / 0", "expected": '{labels: "{}", value: .nan}'}, False),
        ({"series": 'm{__name__="x"}'}, True),
        ({"series": "m', values: '7x10'}, {series: 'm"}, True),  # the later one replaces it
    ],
)  # fmt: skip
def test_promtool_judges_alike(tmp_path: Path, changes: dict[str, str], passes: bool) -> None:
    tests = "evaluation_interval: 1m\n" + EXPR.format(**{**USUAL, **changes})
    assert agree(written(tmp_path, tests)).ok is passes


@needs_promtool
@pytest.mark.parametrize("value", ['"2"', "NaN", "nan", "inf", "two"])
def test_a_value_that_is_no_number_for_promtool_is_none_here(tmp_path: Path, value: str) -> None:
    changes = {**USUAL, "expected": f"{{labels: m, value: {value}}}"}
    path = written(tmp_path, "evaluation_interval: 1m\n" + EXPR.format(**changes))
    assert not run_tests(path)[0]
    with pytest.raises(InvalidDocument, match="must be a number"):
        ours(path)


@needs_promtool
@pytest.mark.parametrize(
    ("rule_files", "tests", "passes"),
    [
        ("gone.yml", "tests: [{interval: 1m}]", True),
        ('"*.gone"', "tests: [{interval: 1m}]", True),
        ('""', "tests: [{interval: 1m}]", True),
        ("broken.yml", "tests: []", True),
        ("broken.yml", "tests: [{interval: 1m}]", False),
        ('"[a"', "tests: []", False),
    ],
)
def test_rule_files_that_are_gone_or_broken_matter_when_a_test_needs_them(
    tmp_path: Path, rule_files: str, tests: str, passes: bool
) -> None:
    (tmp_path / "broken.yml").write_text("groups: [{name: g, rules: [{alert: A, expr: up ==}]}]")
    path = tmp_path / "tests.yml"
    path.write_text(f"rule_files: [{rule_files}]\n{tests}\n")
    assert run_tests(path)[0] is passes
    try:
        assert ours(path).ok is passes
    except InvalidDocument:
        assert not passes


MERGED = """evaluation_interval: 1m
tests:
- interval: 1m
  input_series: [{{series: m, values: "1x5"}}]
  alert_rule_test:
  - &first {{alertname: Plain, eval_time: 1m, exp_alerts: []}}
  - {{{case}}}
"""


@needs_promtool
@pytest.mark.parametrize(
    "case",
    [
        "<<: *first, alertname: Nothing",
        "alertname: Nothing, <<: *first",  # what is merged later wins, as in Go's yaml.v2
        "<<: [{alertname: Plain}, {alertname: Nothing}], eval_time: 1m",
        "<<: {alertname: Nothing}, <<: {eval_time: 1m}",
        "alertname: Plain, eval_time: 1m, exp_alerts: [exp_labels: {<<: {severity: P1}}]",
        "alertname: Plain, eval_time: 1m, exp_alerts: [exp_labels: {<<: {a: b}, a: b}]",
        "<<: nothing",
    ],
)
def test_merge_keys_in_tests_are_promtools(tmp_path: Path, case: str) -> None:
    path = written(tmp_path, MERGED.format(case=case))
    try:
        passed = ours(path).ok
    except InvalidDocument:
        passed = False
    assert run_tests(path)[0] is passed
