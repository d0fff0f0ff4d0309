"""Rule files: what is read, and what is said about those that are broken."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from tocsin_alerting.promql.parser.ast import Call, Expr, PositionRange, walk
from tocsin_alerting.rules import lint as lints
from tocsin_alerting.rules.rule import AlertingRule, RecordingRule
from tocsin_alerting.rules.rule_file import RuleFileCache, load, no_objection, read
from tocsin_alerting.yaml_document import InvalidDocument, parse, read_text

BROKEN = Path(__file__).parent / "broken"
WANTED: dict[str, list[str]] = json.loads((BROKEN / "wanted.json").read_text())
RULES = Path(__file__).parents[3] / "rules"
FULL = """
groups:
  - name: g
    interval: 30s
    query_offset: 1m
    limit: 5
    labels: {team: llm, severity: P3}
    rules:
      - record: job:up:sum
        expr: sum by (job) (up)
        labels: {env: prod}
      - alert: Down
        expr: |
          up
            == 0
        for: 1h30m
        keep_firing_for: 5m
        labels: {severity: P0, code: 7, on: yes}
        annotations: {summary: "{{ $labels.job }} is down"}
      - alert: Down
        expr: 1
        for: 0
  - name: empty
"""


def messages(error: InvalidDocument) -> list[str]:
    return [str(problem).split(".yml:", 1)[1] for problem in error.problems]


@pytest.mark.parametrize("name", sorted(WANTED))
def test_a_broken_file_is_told_with_places(name: str) -> None:
    with pytest.raises(InvalidDocument) as caught:
        load([str(BROKEN / name)], semantics=2)
    problems = messages(caught.value)
    assert len(problems) == len(WANTED[name])
    for problem, wanted in zip(problems, WANTED[name], strict=True):
        assert wanted in problem
        assert re.match(r"[1-9]\d*:[1-9]\d*: .", problem)


def test_every_broken_file_has_its_wanted_messages_and_they_are_many() -> None:
    assert {path.name for path in BROKEN.glob("*.yml")} == set(WANTED)
    assert len(WANTED) >= 20


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
@pytest.mark.parametrize("name", sorted(WANTED))
def test_promtool_refuses_it_as_well(name: str) -> None:
    ours_alone = {
        "expr_of_matrix.yml",  # it loads there and fails at every evaluation
        "no_group_name.yml",  # depends on the version
        "self_alias.yml",
        "complex_key.yml",
    }
    done = subprocess.run(
        ["promtool", "check", "rules", str(BROKEN / name)], capture_output=True, check=False
    )
    assert done.returncode == 1 or name in ours_alone


def test_the_problems_of_all_files_come_at_once() -> None:
    names = ("bad_duration.yml", "bad_limit.yml", "tabs.yml")
    with pytest.raises(InvalidDocument) as caught:
        load([str(BROKEN / name) for name in names])
    assert len(caught.value.problems) == 5
    assert {Path(problem.file).name for problem in caught.value.problems} == set(names)


def test_a_file_is_read_whole() -> None:
    file = read(FULL, "f.yml")
    group, empty = file.groups
    assert (group.name, group.interval_ms, group.query_offset_ms, group.limit) == (
        "g", 30_000, 60_000, 5,
    )  # fmt: skip
    record, down, again = group.rules
    assert isinstance(record, RecordingRule)
    assert (record.uid, record.name, record.expr) == (
        "g/job:up:sum/1", "job:up:sum", "sum by (job) (up)",
    )  # fmt: skip
    assert dict(record.labels) == {"team": "llm", "severity": "P3", "env": "prod"}
    assert isinstance(down, AlertingRule) and isinstance(again, AlertingRule)
    assert (down.uid, down.for_ms, down.keep_firing_for_ms) == ("g/Down/1", 5_400_000, 300_000)
    assert dict(down.labels) == {"team": "llm", "severity": "P0", "code": "7", "on": "yes"}
    assert (down.expr, down.place.line) == ("up\n  == 0\n", 12)
    assert (again.uid, again.for_ms, again.expr) == ("g/Down/2", 0, "1")
    assert (empty.name, empty.rules, empty.interval_ms) == ("empty", (), None)


def test_json_is_read_and_a_second_document_is_not() -> None:
    text = '{"groups": [{"name": "g", "rules": [{"record": "r", "expr": "up"}]}]}'
    assert read(text, "f").groups[0].rules[0].name == "r"
    assert len(read(FULL + "---\n{not: rules}\n", "f").groups) == 2


def test_a_null_is_as_nothing() -> None:
    text = """
groups:
- {name: g, interval: ~, rules: [{record: ~, alert: A, expr: up, for: null,
    labels: {a: ~, b: !!str x}, annotations: }]}
"""
    (rule,) = read(text, "f").groups[0].rules
    assert isinstance(rule, AlertingRule)
    assert (rule.for_ms, rule.labels, rule.annotations) == (0, (("a", ""), ("b", "x")), ())


MERGES = """
groups:
- &first
  name: first
  interval: 10s
  rules:
  - &a
    alert: A
    expr: up == 0
    for: 5m
    labels: &l {team: x, severity: P1}
    annotations: {summary: a}
  - <<: *a
    alert: B
    labels: {<<: [*l, {severity: P3, zone: z}], severity: P2}
- {<<: *first, name: second}
"""


def test_merge_keys_are_read_at_every_level_as_promtool_reads_them(tmp_path: Path) -> None:
    first, second = read(MERGES, "f.yml").groups
    assert (second.name, second.interval_ms, len(second.rules)) == ("second", 10_000, 2)
    assert first.rules[0].labels == (("severity", "P1"), ("team", "x"))
    assert isinstance(first.rules[1], AlertingRule)
    assert (first.rules[1].name, first.rules[1].for_ms) == ("B", 300_000)
    assert first.rules[1].labels == (("severity", "P2"), ("team", "x"), ("zone", "z"))
    if promtool := shutil.which("promtool"):
        (tmp_path / "f.yml").write_text(MERGES)
        command = [promtool, "check", "rules", str(tmp_path / "f.yml")]
        assert subprocess.run(command, capture_output=True, check=False).returncode == 0


UTF8 = """
groups:
- name: g
  labels: {größe: x}
  rules:
  - record: http.server.duration:sum
    expr: sum({"http.server.duration"})
    labels: {service.name: a}
  - alert: A
    expr: '{"http.server.duration:sum"} > 0'
    annotations: {run.book: b}
"""


def test_names_are_any_text_to_prometheus_3_and_words_to_prometheus_2() -> None:
    ((recorded, alert),) = [group.rules for group in read(UTF8, "f").groups]
    assert recorded.name == "http.server.duration:sum"
    assert dict(recorded.labels) == {"größe": "x", "service.name": "a"}
    assert isinstance(alert, AlertingRule)
    assert alert.annotations == (("run.book", "b"),)
    with pytest.raises(InvalidDocument) as caught:
        read(UTF8, "f", semantics=2)
    message = str(caught.value)
    for name in ("größe", "http.server.duration:sum", "service.name", "run.book"):
        assert f'"{name}"' in message


@pytest.mark.parametrize("text", ["record: 'up{a=\"b\"}'", "record: up\n    labels: {'': x}"])
def test_a_name_is_not_empty_and_a_recorded_one_has_no_braces(text: str) -> None:
    with pytest.raises(InvalidDocument):
        read(f"groups:\n- name: g\n  rules:\n  - {text}\n    expr: up\n", "f")


def test_a_moved_rule_is_the_same_rule() -> None:
    assert read(FULL, "f").groups == read("# moved\n\n" + FULL, "f").groups


def test_what_the_engine_cannot_evaluate_is_refused_where_it_stands() -> None:
    def no_holt_winters(expr: Expr) -> Iterable[tuple[PositionRange, str]]:
        for node in walk(expr):
            if isinstance(node, Call) and node.function == "predict_linear":
                yield node.span, "predict_linear is not evaluated"

    text = (
        "groups:\n- name: g\n  rules:\n  - alert: A\n    expr: >-\n      up == 0\n"
        "      and predict_linear(x[1h], 60) < 0\n"
    )
    assert read(text, "f").groups
    with pytest.raises(InvalidDocument) as caught:
        read(text, "f", no_holt_winters)
    (problem,) = caught.value.problems
    assert (problem.line, problem.column) == (7, 11)
    assert problem.message == 'group "g", rule 1, "A": predict_linear is not evaluated'


def test_paths_and_globs_are_loaded_once_and_in_order(tmp_path: Path) -> None:
    for name in ("b.yml", "a.yml", "c.yaml"):
        (tmp_path / name).write_text("groups: []\n")
    patterns = [str(tmp_path / "c.yaml"), str(tmp_path / "*.yml"), str(tmp_path / "a.yml")]
    assert [Path(file.path).name for file in load(patterns)] == ["c.yaml", "a.yml", "b.yml"]
    assert load([str(tmp_path / "nothing*.yml")]) == []


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        InvalidDocument, match=r"none\.yml:1:1: cannot read this file: No such file"
    ):
        load([str(tmp_path / "none.yml")])
    with pytest.raises(InvalidDocument, match="cannot read this file: Is a directory"):
        load([str(tmp_path)])


def test_the_bundled_rules_are_read_without_a_lint() -> None:
    files = load([str(RULES / "*.yml")])
    assert len(files) >= 3
    assert [
        lint
        for file in files
        for lint in lints.lint(parse(read_text(file.path), file.path), file.groups, lints.LINTS)
    ] == []


def test_twenty_semantic_errors_are_told_at_once() -> None:
    rules = "".join(
        f"      - alert: A{number}\n        expr: up{number} == \n        for: {number}\n"
        for number in range(1, 11)
    )
    with pytest.raises(InvalidDocument) as caught:
        read(f"groups:\n  - name: g\n    rules:\n{rules}", "f.yml")
    assert len(caught.value.problems) == 20
    assert len({(problem.line, problem.column) for problem in caught.value.problems}) == 20


ONE = "groups:\n- name: g\n  %s\n  rules:\n  - {%s}\n"
TAKEN = {
    "limit 1e3": ONE % ("limit: 1e3", "alert: A, expr: up"),
    "limit 5.0": ONE % ("limit: 5.0", "alert: A, expr: up"),
    "limit 1_0": ONE % ("limit: 1_0", "alert: A, expr: up"),
    "for 0s": ONE % ("", "record: a, expr: up, for: 0s, annotations: {}"),
    "null for": ONE % ("", "alert: A, expr: up, for: "),
    "null rule": ONE % ("", "alert: A, expr: up") + "  - null\n  - \n",
    "null group": "groups:\n- null\n- ~\n",
}
REFUSED = {
    "empty for": ONE % ("", "alert: A, expr: up, for: ''"),
    "empty interval": ONE % ("interval: ''", "alert: A, expr: up"),
    "a large limit": ONE % ("limit: 99999999999999999999", "alert: A, expr: up"),
    "half a limit": ONE % ("limit: 1.5", "alert: A, expr: up"),  # promtool makes 1 of it
    "a text for a limit": ONE % ("limit: '1_0'", "alert: A, expr: up"),
    "for of a recording rule": ONE % ("", "record: a, expr: up, for: 1s"),
}


@pytest.mark.parametrize("name", [*TAKEN, *REFUSED])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_the_verdict_is_promtools(tmp_path: Path, name: str, encoding: str) -> None:
    path = tmp_path / "r.yml"
    path.write_text((TAKEN | REFUSED)[name], encoding=encoding)
    if shutil.which("promtool") is not None:
        done = subprocess.run(
            ["promtool", "check", "rules", path], capture_output=True, check=False
        )
        assert (done.returncode == 0) == (name in TAKEN or name == "half a limit")
    if name in TAKEN:
        load([str(path)], semantics=2)
    else:
        with pytest.raises(InvalidDocument):
            load([str(path)], semantics=2)


def test_a_limit_is_the_number_that_is_written() -> None:
    limits = [read(TAKEN[f"limit {one}"], "r.yml").groups[0].limit for one in ("1e3", "5.0", "1_0")]
    assert limits == [1000, 5, 10]
    [group] = read(TAKEN["null rule"], "r.yml").groups
    assert [rule.name for rule in group.rules] == ["A"]
    between = "groups:\n- null\n- name: g\n  rules:\n  - null\n  - {alert: A, expr: up}\n"
    found = lints.lint(parse(between, "r.yml"), read(between, "r.yml").groups, lints.LINTS)
    assert {(one.problem.line, one.problem.column) for one in found} == {(6, 5)}


MANIFEST = """
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata: {name: x}
spec:
  groups:
  - name: g
    partial_response_strategy: warn
    rules:
    - {alert: A, expr: up == 0}
    - {alert: B, expr: up ==}
"""


def test_a_manifest_of_kubernetes_is_read_below_its_spec() -> None:
    with pytest.raises(InvalidDocument, match=r'm\.yml:11:29: group "g", rule 2, "B": could not'):
        read(MANIFEST, "m.yml")
    [group] = read(MANIFEST.replace("expr: up ==}", "expr: up}"), "m.yml").groups
    assert [rule.name for rule in group.rules] == ["A", "B"]
    with pytest.raises(InvalidDocument, match='unknown key "spce"'):
        read(MANIFEST.replace("spec:", "spce:"), "m.yml")


def test_a_file_is_read_once_while_its_text_stays() -> None:
    cache = RuleFileCache(no_objection)
    known = cache.known(3)
    first = known("a.yml", "groups: []")
    assert known("a.yml", "groups: []") is first
    assert cache.known(3)("a.yml", "groups: []") is first
    assert cache.known(2)("a.yml", "groups: []") is not first
    assert known("b.yml", "groups: []").path == "b.yml"
    assert known("a.yml", "groups: [{name: g}]").groups[0].name == "g"
    for _ in range(2):
        with pytest.raises(InvalidDocument):
            known("a.yml", "groups: 1")
