"""`alertctl test FILE` prints and ends as promtool does; without FILES it drills as well."""

import re
import subprocess
from pathlib import Path

import pytest

from support.command_line import alertctl
from support.promtool import needs_promtool

RULES = """
groups:
- name: g
  rules:
  - alert: Down
    expr: up == 0
    for: 1m
    labels: {severity: P1}
"""
HEAD = "rule_files: [rules.yml]\nevaluation_interval: 1m\ntests:\n- interval: 1m\n"
INPUT = "  input_series: [{series: 'up{job=\"a\"}', values: '1 0 0 0'}]\n"
FILES = {
    "right.yml": f"{HEAD}{INPUT}  alert_rule_test: [{{alertname: Down, eval_time: 3m, exp_alerts: "
    "[{exp_labels: {severity: P1, job: a}}]}]\n",
    "wrong.yml": f"{HEAD}{INPUT}  alert_rule_test: [{{alertname: Down, eval_time: 3m}}]\n"
    "  promql_expr_test: [{expr: up, eval_time: 0, exp_samples: [{labels: 'up{job=\"a\"}', "
    "value: 7}]}]\n",
    "empty.yml": "",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rules.yml").write_text(RULES)
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


@needs_promtool
@pytest.mark.parametrize("names", [["right.yml"], ["wrong.yml"], ["empty.yml"], [*FILES]])
def test_it_prints_and_ends_as_promtool_does(folder: Path, names: list[str]) -> None:
    paths = [str(folder / name) for name in names]
    theirs = subprocess.run(
        ["promtool", "test", "rules", *paths], capture_output=True, text=True, check=False
    )
    ours = alertctl("test", *paths)
    assert (ours.code, ours.out, ours.err) == (theirs.returncode, theirs.stdout, theirs.stderr)


def test_a_file_is_called_as_it_was_given(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert alertctl("test", "./right.yml").out.startswith("Unit Testing:  ./right.yml\n")


def test_debug_tells_each_test_and_all_its_samples(folder: Path) -> None:
    text = FILES["right.yml"].replace("eval_time: 3m", "eval_time: 90s")
    named = text + "- name: by name\n  alert_rule_test: [{alertname: Down, eval_time: 1m}]\n"
    (folder / "two.yml").write_text(named)
    ended = alertctl("test", "--debug", str(folder / "two.yml"))
    lines = [line for line in ended.err.splitlines() if "FAILED" not in line]
    took = lines.pop(8)
    assert re.fullmatch(r"DEBUG: Test unnamed#0 finished, took [0-9.]+(ms|s|µs)", took)
    assert lines[:10] == [
        "DEBUG: Starting test unnamed#0",
        "DEBUG: Dump of all data (input_series and rules) at 1m31s:",
        '{__name__="ALERTS", alertname="Down", alertstate="pending", job="a", severity="P1"} =>',
        "1 @[60000]",
        '{__name__="ALERTS_FOR_STATE", alertname="Down", job="a", severity="P1"} =>',
        "60 @[60000]",
        '{__name__="up", job="a"} =>',
        "0 @[60000]",
        "DEBUG: Starting test by name",
        "DEBUG: Dump of all data (input_series and rules) at 1m1s:",
    ]


def test_keys_of_others_are_taken_where_it_is_asked_for(folder: Path) -> None:
    path, rules = str(folder / "right.yml"), str(folder / "rules.yml")
    config = folder / "tocsin.yml"
    config.write_text("rule_files: [rules.yml]\nreceivers: {log: {type: log}}\n")
    text = RULES.replace("- name: g", "- name: g\n  owner: us").replace("for:", "team: a\n    for:")
    (folder / "rules.yml").write_text("meta: 1" + text)
    for command in (("test", path), ("check", rules), ("check", str(config))):
        refused = alertctl(*command)
        assert refused.code == 1
        assert all(f'unknown key "{key}"' in refused.err for key in ("meta", "owner", "team"))
        assert "SUCCESS" in alertctl(command[0], "--ignore-unknown-fields", command[1]).out
    (folder / "right.yml").write_text(FILES["right.yml"] + "more: 1\n")
    assert 'unknown key "more"' in alertctl("test", "--ignore-unknown-fields", path).err


def test_what_differs_is_shown_alone(folder: Path) -> None:
    wrong = "{severity: P2, job: a}"
    text = FILES["right.yml"].replace("{severity: P1, job: a}", wrong)
    (folder / "wrong.yml").write_text(
        f"{text}  promql_expr_test: [{{expr: up, eval_time: 0, exp_samples: "
        "[{labels: 'up{job=\"a\"}', value: 7}]}]\n"
    )
    ended = alertctl("test", "--diff", str(folder / "wrong.yml"))
    shown = [line.strip() for line in ended.err.splitlines() if line.strip()[:1] in "-+"]
    assert shown == [
        '-   severity="P2"',
        '+   severity="P1"',
        '- {__name__="up", job="a"} 7E+00',
        '+ {__name__="up", job="a"} 1E+00',
    ]
    assert ended.code == 1


def test_alerts_that_fire_in_no_test_are_named(folder: Path) -> None:
    more = "  - {alert: Slow, expr: up > 5}\n  - {alert: Down, expr: up == 2}\n"
    (folder / "rules.yml").write_text(RULES + more)
    ended = alertctl("test", "--coverage", str(folder / "right.yml"))
    assert (ended.code, ended.out.splitlines()[3:]) == (0, [
        "Coverage: 1 of 3 alerts fire in a test; these fire in none:",
        f'  {folder}/rules.yml:9:5: Slow (group "g")',
        f'  {folder}/rules.yml:10:5: Down (group "g")',
    ])  # fmt: skip
    ended = alertctl("test", "--coverage", str(folder / "wrong.yml"))
    assert "Coverage: 0 of 3 alerts" in ended.out


@needs_promtool
def test_an_expression_that_is_none_fails_alone(folder: Path) -> None:
    path = folder / "broken.yml"
    path.write_text(
        f"{HEAD}{INPUT}  promql_expr_test:\n  - {{expr: 'sum(up', eval_time: 1m}}\n"
        "  - {expr: up, eval_time: 1m}\n"
        "- interval: 1m\n  input_series: [{series: m, values: '1 stale+0x3 5'}]\n"
        "  promql_expr_test: [{expr: m, eval_time: 2m}, {expr: m, eval_time: 1m}]\n"
    )
    theirs = subprocess.run(
        ["promtool", "test", "rules", path], capture_output=True, text=True, check=False
    )
    ours = alertctl("test", str(path))
    assert (ours.code, ours.err) == (theirs.returncode, theirs.stderr)
    checked = alertctl("check", str(path))
    assert f"{path}:7:19: unclosed left parenthesis" in checked.err


@pytest.mark.parametrize(
    "content",
    [
        b"tests: [",
        b"\xff\x00",
        b"tests: 5",
        b"tests: [{input_series: [{series: 'up{', values: '1'}]}]",
        b"nosuch: 1",
    ],
)
def test_a_broken_file_fails_with_its_places_and_the_next_is_run(
    folder: Path, content: bytes
) -> None:
    broken = folder / "broken.yml"
    broken.write_bytes(content)
    ended = alertctl("test", str(broken), str(folder / "right.yml"))
    assert ended.code == 1
    assert ended.err.startswith("  FAILED:\n")
    assert f"{folder}/" in ended.err.splitlines()[1]
    assert ended.out.endswith("right.yml\n  SUCCESS\n\n")


def test_a_rule_file_that_is_not_there_is_a_warning_as_in_promtool(folder: Path) -> None:
    path = folder / "tests.yml"
    path.write_text("rule_files: [none.yml]\ntests: []\n")
    ended = alertctl("test", str(path))
    assert (ended.code, ended.out) == (0, f"Unit Testing:  {path}\n  SUCCESS\n\n")
    assert ended.err == f"  WARNING: no file match pattern {folder}/none.yml\n"


@pytest.mark.parametrize("name", ["none.yml", "."])
def test_what_cannot_be_read_fails(tmp_path: Path, name: str) -> None:
    ended = alertctl("test", str(tmp_path / name))
    assert ended.code == 1
    assert f"{tmp_path / name}:1:1: cannot read this file: " in ended.err


@pytest.mark.parametrize("text", ["langauge: en", "rule_files: [none.yml]"])
def test_a_wrong_configuration_is_told_and_nothing_else_is_done(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tocsin.yml"
    path.write_text(text)
    ended = alertctl("test", "--config.file", str(path))
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith(f"Configuration: {path}: FAILED\n{path}:1:")


LEFT_EDGE = """
tests:
- interval: 1m
  input_series: [{series: up, values: 1x9}]
  promql_expr_test:
  - {expr: "count_over_time(up[5m])", eval_time: 5m, exp_samples: [{labels: "{}", value: 6}]}
"""


def test_expressions_mean_what_they_mean_to_the_prometheus_that_is_named(tmp_path: Path) -> None:
    file = tmp_path / "tests.yml"
    file.write_text(LEFT_EDGE)
    assert alertctl("test", "--promql.semantics", "2", str(file)).code == 0
    assert alertctl("test", str(file)).code == 1
