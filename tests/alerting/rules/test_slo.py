"""Objectives are read with every problem at its place; cli/test_slo runs their rules."""

import pytest
import yaml

from tocsin_alerting.rules.lint import LINTS, lint
from tocsin_alerting.rules.rule_file import read
from tocsin_alerting.rules.slo import read_slos, rules_text
from tocsin_alerting.yaml_document import InvalidDocument, parse

GOOD = {"name": "a", "objective": 99.9, "good": 'm{code="200"}', "total": "m"}


def written(**keys: object) -> str:
    return yaml.safe_dump({"slos": [{**GOOD, **keys}]})


def problems(text: str) -> list[str]:
    with pytest.raises(InvalidDocument) as caught:
        read_slos(text, "slo.yml")
    return [str(problem) for problem in caught.value.problems]


WRONG = {
    "no list": ("{}", "there are no objectives"),
    "no mapping": ("slos: [5]", "slo.yml:1:8: an objective must be a mapping"),
    "an unknown key": ("servce: a\nslos: []", 'unknown key "servce"'),
    "a name with spaces": (written(name="a b"), '"a b" is no name of an objective'),
    "a service with spaces": (f"service: a b\n{written()}", '"a b" is no name'),
    "no good": ("slos: [{name: a, objective: 99, total: m}]", "an objective needs `good`"),
    "a share of 1": (written(objective=0.999), "is in percent: write 99.9 for 0.999"),
    "no budget": (written(objective=100), "100 leaves no budget"),
    "no number": (written(objective=float("nan")), "must be a number of percent"),
    "a word": (written(objective="high"), "must be a number of percent"),
    "an expression": (written(good="sum(rate(m[5m]))"), "rate() and sum() are added"),
    "a range": (written(good="m[5m]"), "give a counter"),
    "an offset": (written(good="m offset 5m"), "unexpected <offset>"),
    "two sets": (written(good='m{a="1" or b="2"}'), "by its name, without `or`"),
    "no metric": (written(good='{code="200"}'), "must be one metric by its name"),
    "a template": (written(description="a {{ b }}"), "no templates here"),
    "the severity": (written(labels={"severity": "P0"}), '"severity" cannot be a label'),
    "Sloth's labels": (written(labels={"sloth_id": "a"}), '"sloth_id" cannot be a label'),
    "all is good": (written(good="m"), "all that total counts is good"),
    "good beyond total": (
        written(good='m{a!="2"}', total='m{a!="3"}'),
        'good takes a="3", which total does not count',
    ),
    "nothing in common": (
        written(good='m{a="2"}', total='m{a="3"}'),
        "no series is both good and counted by total",
    ),
    "no such value": (written(good='m{a=~"[0-9]{7}q"}'), "no series is both"),
}


@pytest.mark.parametrize(("text", "said"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_told_with_its_place(text: str, said: str) -> None:
    (problem,) = problems(text)
    assert problem.startswith("slo.yml:") and said in problem


def test_two_objectives_have_two_alerts() -> None:
    text = yaml.safe_dump({"slos": [{**GOOD, "name": "a-b"}, {**GOOD, "name": "a_b"}]})
    (problem,) = problems(text)
    assert '"a_b" makes the alert ABBudgetBurn, as "a-b" does; rename one' in problem


@pytest.mark.parametrize(
    ("objective", "severities", "limits"),
    [
        (99.9, ["P1", "P2", "P3"], ["14.4 * 0.001", "6 * 0.001", "3 * 0.001", "1 * 0.001"]),
        (93, ["P2", "P3"], ["6 * 0.07", "3 * 0.07", "1 * 0.07"]),
        (50, ["P3"], ["1 * 0.5"]),
    ],
)
def test_each_tier_that_can_fire_has_a_rule(
    objective: float, severities: list[str], limits: list[str]
) -> None:
    slos = read_slos(written(objective=objective, labels={"team": "ml"}), "slo.yml")
    text = rules_text(slos, "slo.yml", "1.0")
    assert list(lint(parse(text, "rules.yml"), read(text, "rules.yml").groups, LINTS)) == []
    alerts = [rule for rule in yaml.safe_load(text)["groups"][0]["rules"] if "alert" in rule]
    assert [rule["labels"]["severity"] for rule in alerts] == severities
    expressions = " ".join(rule["expr"] for rule in alerts)
    assert [limit for limit in limits if limit not in expressions] == []
    records = [rule for rule in yaml.safe_load(text)["groups"][0]["rules"] if "record" in rule]
    assert all(rule["labels"]["team"] == "ml" for rule in records)
    assert all(rule["labels"]["sloth_id"] == "llm-a" for rule in records)
