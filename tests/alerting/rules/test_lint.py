"""What is allowed and probably not meant."""

import pytest

from tocsin_alerting.rules.rule_file import read

HEAD = "groups:\n  - name: g\n    rules:\n"


def lints(*rules: str) -> list[str]:
    text = HEAD + "".join(f"      - {rule}\n" for rule in rules)
    return [str(lint).removeprefix("f.yml:") for lint in read(text, "f.yml").lints]


FINE = "{alert: A, expr: up == 0, labels: {severity: P1}, annotations: {summary: s}}"


def test_a_good_rule_has_none() -> None:
    assert lints(FINE, "{record: r, expr: up}") == []


@pytest.mark.parametrize(
    "severity", ["P0", "P4", "critical", "Critical", "none", '"{{ $labels.s }}"']
)
def test_known_severities_and_templates_pass(severity: str) -> None:
    assert lints(FINE.replace("P1", severity)) == []


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        (
            FINE.replace("P1", "page"),
            '4:54: group "g", rule 1, "A": unknown severity "page": P2 is used;'
            " use one of P0, P1, P2, P3, P4, critical, warning, info, none",
        ),
        (
            FINE.replace("severity: P1", "team: x"),
            '4:9: group "g", rule 1, "A": no label `severity`: P2 is used; add P0 to P4',
        ),
        (FINE.replace("summary: s", "description: s"), "no annotation `summary`"),
        (FINE.replace("up == 0", "m > 80").replace("summary: s", 'summary: "{{ $value |'
         ' humanizePercentage }}"'), "4:81: "),
        (FINE.replace("up == 0", "100 * m").replace("summary: s", 'summary: "{{'
         ' humanizePercentage $value }}"'), "humanizePercentage takes a ratio of 0 to 1"),
        (FINE.replace("severity: P1", 'severity: P1, v: "{{ $value }}"'),
         "label `v` holds the value: each new value makes a new alert"),
    ],
)  # fmt: skip
def test_what_is_probably_not_meant(rule: str, wanted: str) -> None:
    (lint,) = lints(rule)
    assert wanted in lint


def test_a_ratio_may_be_printed_as_a_percentage() -> None:
    text = FINE.replace("up == 0", "m > 0.8").replace(
        "summary: s", 'summary: "{{ humanizePercentage $value }}"'
    )
    assert lints(text) == []


def test_two_rules_of_one_name_and_label_set_collide() -> None:
    assert lints(FINE, FINE) == [
        '5:9: group "g", rule 2, "A": same name and labels as the rule in line 4;'
        " their results collide"
    ]
    assert lints(FINE, FINE.replace("P1", "P2")) == []


@pytest.mark.parametrize("text", ["", "groups:\n", "groups: []\n", "groups: [{name: g}]\n", "# \n"])
def test_a_file_without_rules_is_said_to_be_one(text: str) -> None:
    (lint,) = read(text, "f.yml").lints
    assert "no rules in this file; nothing will ever fire" in str(lint)
    assert (lint.line, lint.column) == (1, 1)
