"""The tree that amtool is shown answers as the routing that pages."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.alertmanager import amtool
from support.policies import config, to
from tocsin_alerting.api.alertmanager.routing_tree import (
    alertmanager_yaml,
    receiver_names,
    receivers_of,
    route_tree,
)
from tocsin_alerting.incidents.alert_matcher import AlertMatcher, parse_matcher
from tocsin_alerting.incidents.escalation_policy import EscalationPolicy, EscalationStep
from tocsin_alerting.incidents.routing import (
    IncidentConfig,
    InhibitRule,
    Route,
    alert_severity,
    group_by_for,
    policy_for,
)
from tocsin_alerting.rules.alert import Alert, AlertState
from tocsin_alerting.rules.severity import Severity

VALUES = ["a", "b", 'say "x"', "back\\slash", "中", "two\nlines"]
POLICIES = {
    name: EscalationPolicy(name, (EscalationStep(to("mail")),)) for name in ("db", "web", "night")
}
PLAIN = [AlertMatcher(name, "=", value) for name in ("team", "zone") for value in VALUES]
OTHERS = [parse_matcher(text) for text in ('team!="a"', 'zone=~"a|b"', 'team!~"b.*"', 'zone=""')]
MATCHERS = st.lists(st.sampled_from(PLAIN + OTHERS), max_size=2, unique=True).map(tuple)
ROUTES = st.lists(
    st.builds(
        Route,
        matchers=MATCHERS,
        policy=st.none() | st.sampled_from(sorted(POLICIES)),
        receivers_add=st.lists(st.sampled_from(["pager", "hook", "sms"]), max_size=2).map(
            lambda names: to(*names)
        ),
        continue_=st.booleans(),
        group_by=st.none() | st.sampled_from([("team",), ("...",), ()]),
    ),
    max_size=6,
)
LABELS = st.fixed_dictionaries(
    {"alertname": st.just("X")},
    optional={
        "team": st.sampled_from(VALUES),
        "zone": st.sampled_from(VALUES),
        "severity": st.sampled_from(
            ["P0", "p0", "P1", "P2", "P3", "P4", "critical", "CRITICAL", "warning", "odd", "none"]
            + ["a.b", "axb", "page"]
        ),
    },
)
WORDS = {"critical": Severity.P0, "warning": Severity.P1, "info": Severity.P2, "a.b": Severity.P3}


def routed(routes: list[Route]) -> IncidentConfig:
    return config(
        policies=POLICIES,
        routes=tuple(routes),
        severity_words=WORDS,
        inhibit=(InhibitRule((PLAIN[2],), (OTHERS[1],), ("zone",)),),
    )


def told(setup: IncidentConfig, labels: Mapping[str, str]) -> set[str]:
    """Of the routing that pages: the policy, and whom it has beside its own."""
    alert = Alert("", tuple(sorted(labels.items())), (), AlertState.FIRING, 0.0, 0)
    severity = alert_severity(alert, setup)
    if severity is None:
        return {"none"}
    policy = policy_for(setup, labels, severity)
    own = {str(target) for target in setup.policies[policy.name].steps[0].notify}
    every = {str(target) for target in policy.steps[0].notify}
    return {policy.name} | (every - own)


def _matches(node: Mapping[str, object], labels: Mapping[str, str]) -> bool:
    texts = node.get("matchers", [])
    assert isinstance(texts, list)
    return all(parse_matcher(text).matches(labels) for text in texts)


def walked(node: Mapping[str, object], labels: Mapping[str, str]) -> list[Mapping[str, object]]:
    """As Alertmanager walks a tree: deep, the first child that matches, on while it says so."""
    found: list[Mapping[str, object]] = []
    children = node.get("routes", [])
    assert isinstance(children, list)
    for child in children:
        if _matches(child, labels):
            inner = {**child, "group_by": child.get("group_by", node.get("group_by"))}
            found += walked(inner, labels)
            if not child.get("continue"):
                break
    return found or [node]


@given(ROUTES, st.lists(LABELS, min_size=1, max_size=20))
def test_the_tree_answers_as_the_routing(routes: list[Route], every: list[dict[str, str]]) -> None:
    setup = routed(routes)
    tree = route_tree(setup)
    names = set(receiver_names(setup))
    for labels in every:
        nodes = walked(tree, labels)
        found = {str(node["receiver"]) for node in nodes}
        assert found == told(setup, labels), labels
        assert found == set(receivers_of(setup, labels))
        assert found <= names
        if labels.get("severity") != "none":
            assert list(nodes[-1]["group_by"]) == list(group_by_for(setup, labels))  # type: ignore[call-overload]


@pytest.mark.skipif(shutil.which("amtool") is None, reason="amtool is not installed")
@given(routes=ROUTES, every=st.lists(LABELS, min_size=1, max_size=3))
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_amtool_reads_it_and_answers_the_same(
    tmp_path: Path, routes: list[Route], every: list[dict[str, str]]
) -> None:
    setup = routed(routes)
    file = tmp_path / "am.yml"
    file.write_text(alertmanager_yaml(setup, 300_000), "utf-8")
    checked = amtool("", "check-config", str(file))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    for labels in every:
        words = [f'{name}="{_escaped(value)}"' for name, value in labels.items()]
        tested = amtool("", "config", "routes", "test", f"--config.file={file}", *words)
        assert set(tested.stdout.strip().split(",")) == set(receivers_of(setup, labels)), (
            labels,
            tested.stderr,
        )


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def test_it_holds_no_secret_and_no_way_to_reach_anybody() -> None:
    shown = yaml.safe_load(alertmanager_yaml(routed([]), 300_000))
    assert shown["global"] == {"resolve_timeout": "5m"}
    assert all(receiver.keys() == {"name"} for receiver in shown["receivers"])
    assert shown["inhibit_rules"] == [
        {
            "source_matchers": ['team="say \\"x\\""'],
            "target_matchers": ['zone=~"a|b"'],
            "equal": ["zone"],
        }
    ]
