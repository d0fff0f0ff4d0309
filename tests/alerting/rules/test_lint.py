"""What is allowed and probably not meant, each by its name and at its place."""

import re
from collections.abc import Collection
from pathlib import Path

import pytest

from tocsin_alerting.cli import check
from tocsin_alerting.rules.lint import BY_DEFAULT, LINTS, LIVE, WHEN_ASKED, lint
from tocsin_alerting.rules.rule_file import read
from tocsin_alerting.yaml_document import parse

PAGE = (Path(__file__).parents[3] / "docs" / "rules.md").read_text()
HEAD = "groups:\n  - name: g\n    interval: 1m\n    rules:\n"
FINE = (
    "{alert: A, expr: up == 0, labels: {severity: P1}, annotations: {summary: s, runbook_url: u}}"
)


def lints(*rules: str, chosen: Collection[str] = LINTS) -> list[str]:
    text = HEAD + "".join(f"      - {rule}\n" for rule in rules)
    found = lint(parse(text, "f.yml"), read(text, "f.yml").groups, chosen)
    return [str(one).removeprefix("f.yml:") for one in found]


def test_a_good_rule_has_none() -> None:
    assert lints(FINE, "{record: r, expr: up}") == []


@pytest.mark.parametrize(
    "severity", ["P0", "P4", "critical", "Critical", "none", '"{{ $labels.s }}"']
)
def test_known_severities_and_templates_pass(severity: str) -> None:
    assert lints(FINE.replace("P1", severity)) == []


BYTES = FINE.replace("up == 0", "node_memory_x_bytes > 5").replace("summary: s", "summary: %s")
SECONDS = BYTES.replace("_bytes", "_seconds")


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        (
            FINE.replace("P1", "page"),
            '5:54: group "g", rule 1, "A": unknown severity "page": P2 is used;'
            " use one of P0, P1, P2, P3, P4, critical, warning, info, none (foreign-severity)",
        ),
        (FINE.replace("P1", "P5"), "none (unknown-severity)"),
        (FINE.replace("P1", "critcal"), 'did you mean "critical"? (unknown-severity)'),
        (
            FINE.replace("severity: P1", "team: x"),
            '5:9: group "g", rule 1, "A": no label `severity`: P2 is used; add P0 to P4'
            " (no-severity)",
        ),
        (FINE.replace("summary: s", "description: s"), "no annotation `summary`"),
        (FINE.replace("runbook_url: u", "x: u"), "(no-runbook)"),
        (FINE.replace("up == 0", "m > 80").replace("summary: s", 'summary: "{{ $value |'
         ' humanizePercentage }}"'), "5:81: "),
        (FINE.replace("up == 0", "100 * m").replace("summary: s", 'summary: "{{'
         ' humanizePercentage $value }}"'), "humanizePercentage takes a ratio of 0 to 1"),
        (FINE.replace("severity: P1", 'severity: P1, v: "{{ $value }}"'),
         "label `v` holds the value: each new value makes a new alert"),
        (SECONDS % '"{{ $value | humanize1024 }}B"',
         "humanize1024 writes bytes, and this value is in seconds; use humanizeDuration (wrong"),
        (BYTES % '"{{ humanizeDuration $value }}"', "seconds, and this value is in bytes; use hum"),
        (FINE.replace("labels", "for: 30s, labels"),
         "`for` of 30s is below the group's interval of 60s"),
        (FINE.replace("up == 0", "'absent(up{job=~\"a|b\"})'"), "5:34: "),
    ],
)  # fmt: skip
def test_what_is_probably_not_meant(rule: str, wanted: str) -> None:
    (found,) = lints(rule)
    assert wanted in found


@pytest.mark.parametrize(
    "rule",
    [
        FINE.replace("up == 0", "m > 0.8").replace("summary: s", 'summary: "{{ humanizePercentage'
                     ' $value }}"'),
        SECONDS % '"{{ $value | humanizeDuration }}"',
        BYTES % '"{{ $value | humanize1024 }}B"',
        FINE.replace("labels", "for: 1m, labels"),
    ],
)  # fmt: skip
def test_what_is_meant_so_is_not_mentioned(rule: str) -> None:
    assert lints(rule) == []


def test_two_rules_of_one_name_and_label_set_collide() -> None:
    assert lints(FINE, FINE) == [
        '6:9: group "g", rule 2, "A": same name and labels as the rule in line 5;'
        " their results collide (duplicate-rules)"
    ]
    assert lints(FINE, FINE.replace("P1", "P2")) == []
    slower, faster = (FINE.replace("up == 0", f"\"rate(m{{a='1'}}[{n}m]) > {n}\"") for n in (5, 10))
    assert len(lints(slower, faster)) == 1
    assert lints(slower, faster.replace("a='1'", "a='2'")) == []  # of other series
    red, other = (FINE.replace("up == 0", f"m == {n}") for n in ("2", "1e3"))
    assert lints(red, other) == []  # nothing is both
    assert len(lints(red, red)) == 1
    above, more = (FINE.replace("up == 0", f"m > {n}") for n in (2, 3))
    assert len(lints(above, more)) == 1


def test_matters_of_taste_are_said_when_they_are_asked_for() -> None:
    bare = "{alert: A, expr: up == 0, labels: {severity: page}}"
    assert lints(bare, chosen=BY_DEFAULT) == []
    assert {line.rpartition("(")[2] for line in lints(bare)} == {
        "foreign-severity)",
        "no-summary)",
        "no-runbook)",
    }


@pytest.mark.parametrize("text", ["", "groups:\n", "groups: []\n", "groups: [{name: g}]\n", "# \n"])
def test_a_file_without_rules_is_said_to_be_one(text: str) -> None:
    groups = read(text, "f.yml").groups
    assert list(lint(parse(text, "f.yml"), groups)) == []  # what generates files may write it
    (found,) = lint(parse(text, "f.yml"), groups, LINTS)
    assert "no rules in this file; nothing will ever fire" in str(found)
    assert (found.problem.line, found.problem.column) == (1, 1)


def test_the_command_line_and_the_page_know_every_lint() -> None:
    assert set(check.LINTS) == set(LINTS)
    rows = re.findall(
        r"^\| `([a-z-]+)` \| (always|when asked|with `--live`) \|", PAGE, re.MULTILINE
    )
    said = {"always": BY_DEFAULT, "when asked": WHEN_ASKED, "with `--live`": LIVE}
    assert rows == [(name, when) for when, names in said.items() for name in sorted(names)]


def test_the_example_of_the_page() -> None:
    text = re.findall(r"(?s)```yaml\n(# linted.yml\n.*?)```", PAGE)[0]
    told = re.findall(r"^linted\.yml:.*$", PAGE, re.MULTILINE)
    groups = read(text, "linted.yml").groups
    types = check.metric_types()
    found = lint(parse(text, "linted.yml"), groups, BY_DEFAULT, types)
    assert list(map(str, sorted(found))) == told != []
