"""The packs of rules: sound, complete, documented; test_promtool_parity.py runs their tests."""

import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.metric_names import unknown
from support.promtool import needs_promtool
from tocsin_alerting.config.load import incident_config, load
from tocsin_alerting.incidents.grouping import alert_group

ROOT = Path(__file__).parents[2]
ENGINES = "prometheus"  # the folder of the packs on engines' own names
RULES = sorted((ROOT / "rules").glob("*.yml"))
ENGINE_PACKS = sorted((ROOT / "rules" / ENGINES).glob("*.yml"))
TESTS = sorted((ROOT / "rules" / "tests").glob("*.yml"))
RUNBOOKS = ROOT / "docs" / "runbooks"
RUNBOOK_URL = "http://127.0.0.1:4911/runbooks/"

Rule = dict[str, Any]


def _rules(kind: str, paths: list[Path]) -> list[Rule]:
    documents = (yaml.safe_load(path.read_text()) for path in paths)
    groups = (group for document in documents for group in document["groups"])
    return [rule for group in groups for rule in group["rules"] if kind in rule]


ALERTS = _rules("alert", RULES)
RECORDS = _rules("record", RULES)
NAMES = sorted({rule["alert"] for rule in ALERTS})
OF_ENGINES = [rule for path in ENGINE_PACKS for rule in _rules("alert", [path])]
NO_RULES = [
    *("ChannelBroken", "ErrorBudgetBurn", "HeartbeatMissing", "MetricMissing"),
    *("RuleBroken", "StoreUnreachable", "TargetSilent"),
]


def _name(value: Any) -> str:
    return (
        value.stem if isinstance(value, Path) else f"{value['alert']}-{value['labels']['severity']}"
    )


@needs_promtool
@pytest.mark.parametrize("path", [*RULES, *ENGINE_PACKS], ids=_name)
def test_promtool_finds_nothing_wrong(path: Path) -> None:
    command = ["promtool", "check", "rules", "--lint-fatal", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("rule", [*ALERTS, *OF_ENGINES], ids=_name)
def test_an_alert_says_what_a_person_needs(rule: Rule) -> None:
    assert rule["labels"].keys() - {"target"} == {"severity"}
    assert re.fullmatch("P[0-4]", rule["labels"]["severity"])
    annotations = rule["annotations"]
    assert annotations.keys() - {"model_name"} == {"summary", "description", "runbook_url"}
    assert ("model_name" in annotations) == (".Labels.model_name" in annotations["summary"])
    assert annotations["summary"][0].isupper() or annotations["summary"].startswith("{{")
    assert annotations["summary"].endswith(".")
    assert re.sub(r"\s*\{\{-? end \}\}$", "", annotations["description"]).endswith(".")
    assert not re.search(r"\{\{ *\$value *\}\}", annotations["description"]), "a bare float"
    assert annotations["runbook_url"] == RUNBOOK_URL + rule["alert"]


@pytest.mark.parametrize("name", [*NAMES, *NO_RULES])
def test_each_alert_has_a_runbook_that_can_be_used_at_night(name: str) -> None:
    text = (RUNBOOKS / f"{name}.md").read_text()
    assert text.startswith(f"# {name}\n")
    assert "notice" in text
    assert "```sh" in text.partition("## First")[2]
    assert "## Escalate" in text
    for rule in (*ALERTS, *OF_ENGINES):
        if rule["alert"] == name:
            assert f"**{rule['labels']['severity']}" in text


def test_no_runbook_is_left_over_and_their_links_lead_somewhere() -> None:
    ours = [*NAMES, *NO_RULES]
    assert sorted(path.stem for path in RUNBOOKS.glob("*.md")) == sorted(ours)
    for path in RUNBOOKS.glob("*.md"):
        for target in re.findall(r"\]\((\w+)\.md\)", path.read_text()):
            assert target in ours, f"{path.name} links to {target}"


@pytest.mark.parametrize("path", sorted(RUNBOOKS.glob("*.md")), ids=_name)
def test_each_runbook_ends_in_chinese_and_can_be_followed_there(path: Path) -> None:
    english, heading, chinese = path.read_text().partition("\n## 中文\n\n")
    assert heading and "\n## " not in chinese, "it is the last section"
    assert chinese.startswith("**影响**：")
    steps = re.findall(r"(?m)^(\d)\. ", chinese)
    assert len(steps) >= 3 and steps == [str(number) for number in range(1, len(steps) + 1)]
    letters = re.sub(r"`[^`]*`|[\sA-Za-z0-9]", "", chinese)
    assert len(re.findall("[一-鿿]", letters)) > 0.7 * len(letters)
    for name in re.findall(r"\b(?:GPU|Host|Inference|Tocsin)[A-Z]\w+", chinese):
        assert name in NAMES, name
    severities = set(re.findall(r"\bP[0-4]\b", chinese))
    assert severities <= set(re.findall(r"\bP[0-4]\b", english))


def _shape(rule: Rule) -> str:
    """What gives an alert its labels, without what may differ between two tiers."""
    by = re.findall(r"(?:sum|max|min|avg|count) by \(([^)]*)\)", rule["expr"])
    return ";".join(sorted(set(by)))


@pytest.mark.parametrize("alerts", [ALERTS, *(_rules("alert", [p]) for p in ENGINE_PACKS)])
def test_tiers_of_one_symptom_differ_in_severity_alone(alerts: list[Rule]) -> None:
    tiers: dict[str, list[Rule]] = defaultdict(list)
    for rule in alerts:
        tiers[rule["alert"]].append(rule)
    for name, rules in tiers.items():
        severities = [rule["labels"]["severity"] for rule in rules]
        assert severities == sorted(set(severities)), f"{name}: worst first, each once"
        assert len({_shape(rule) for rule in rules}) == 1, f"{name}: tiers group alike"
        assert len({rule["annotations"]["summary"] for rule in rules}) == 1, name


def test_the_log_s_xids_are_those_of_nvml() -> None:
    xids = {
        name: re.findall(r'(?:xid|value)=~"([^"]+)"', rule["expr"])
        for rule in ALERTS
        if (name := rule["alert"]) in ("GPUXidError", "LogXidError") and "=~" in rule["expr"]
    }
    assert xids["GPUXidError"] == xids["LogXidError"]


def test_no_rule_selects_on_job() -> None:
    for rule in ALERTS + OF_ENGINES + RECORDS:
        assert not re.search(r"\bjob\s*[=!]", rule["expr"]), rule


def test_every_alert_about_an_engine_carries_its_target() -> None:
    for rule in ALERTS:
        if "llm_" in rule["expr"] and "DCGM" not in rule["expr"]:
            grouped = re.findall(r"by \(([^)]*)\)", rule["expr"])
            assert all("target" in labels for labels in grouped), rule["alert"]


def test_every_metric_is_one_that_we_export_or_record() -> None:
    recorded = {rule["record"] for rule in RECORDS}
    for rule in ALERTS + RECORDS:
        assert not unknown(rule["expr"], recorded)
    for path in RUNBOOKS.glob("*.md"):
        code = re.findall(r"(?s)```sh\n.*?```|`[^`\n]+`", path.read_text())
        assert not unknown("\n".join(code), recorded), path.name


def _alert_tests(paths: list[Path]) -> Iterator[tuple[str, list[Any]]]:
    for path in paths:
        for test in yaml.safe_load(path.read_text())["tests"]:
            for case in test.get("alert_rule_test", ()):
                yield case["alertname"], case["exp_alerts"]


def _tested(tests: list[Path]) -> tuple[set[tuple[str, str]], set[str]]:
    """The alerts with their severities that are seen to fire, and those seen to keep silent."""
    fired, silent = set(), set()
    for name, expected in _alert_tests(tests):
        fired |= {(name, alert["exp_labels"]["severity"]) for alert in expected}
        if not expected:
            silent.add(name)
    return fired, silent


def _wanted(alerts: list[Rule]) -> tuple[set[tuple[str, str]], set[str]]:
    tiers = {(rule["alert"], rule["labels"]["severity"]) for rule in alerts}
    return tiers, {rule["alert"] for rule in alerts}


def test_each_tier_is_seen_to_fire_and_each_alert_to_keep_silent() -> None:
    assert _tested(TESTS) == _wanted(ALERTS)
    for path in ENGINE_PACKS:
        tests = ROOT / "rules" / "tests" / ENGINES / f"{path.stem}.test.yml"
        assert _tested([tests]) == _wanted(_rules("alert", [path]))


def test_what_an_agent_and_a_prometheus_say_of_an_engine_is_one_incident() -> None:
    assert {path.stem for path in ENGINE_PACKS} == {"llamacpp", "sglang", "vllm"}
    own = {"job": "llm", "instance": "gpu1:8000", "target": "gpu1:8000", "model_name": "m"}
    for rule in OF_ENGINES:
        assert rule["alert"] in NAMES
        assert rule["labels"]["target"] == "{{ $labels.instance }}"
        assert rule["expr"].rstrip().endswith("unless on (instance) llm_engine_up")
        theirs = {"job": "vllm", "instance": "gpu1:8000", "target": "gpu1:8000"}
        groups = {
            alert_group(incident_config(load(None)), {"alertname": rule["alert"], **labels})
            for labels in (own, theirs)
        }
        assert len(groups) == 1
