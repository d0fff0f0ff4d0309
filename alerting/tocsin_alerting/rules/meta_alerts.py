"""What the agent says of its own rules and sources: alerts as all others, each with its incident.

What is watched here has no rule, or is the rule itself. CollectorFailing and ClockStepped are rules
of the bundled pack, so that they hold for whoever scrapes an exporter as well; here they are
switched and given their severity.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from tocsin_alerting.annotations import DEFAULT_AGENT_URL
from tocsin_alerting.rules.alert import Alert, firing_alert
from tocsin_alerting.rules.alerting import DuplicateLabelSet
from tocsin_alerting.rules.evaluation import LimitExceeded
from tocsin_alerting.rules.recording import DuplicateRecordedSeries
from tocsin_alerting.rules.rule import AlertingRule, Rule, RuleFile
from tocsin_alerting.rules.severity import SEVERITY_LABEL, SEVERITY_WORDS, Severity, severity_of
from tocsin_alerting.rules.state import RuleState

META = "meta;"  # then the alert's name and what it is about: the origin of what is said of it
_MAX_ERROR = 300
_FAILS_SURELY = (LimitExceeded, DuplicateLabelSet, DuplicateRecordedSeries)


class MetaAlertName(StrEnum):
    RULE_BROKEN = "RuleBroken"
    METRIC_MISSING = "MetricMissing"
    TARGET_SILENT = "TargetSilent"
    COLLECTOR_FAILING = "CollectorFailing"
    CLOCK_STEPPED = "ClockStepped"


GROUPED_BY: Mapping[str, tuple[str, ...]] = {
    MetaAlertName.RULE_BROKEN: ("alertname", "file"),
    MetaAlertName.METRIC_MISSING: ("alertname", "file"),
    MetaAlertName.TARGET_SILENT: ("alertname", "instance", "job"),
}
"""An incident for each file, or source, however others are grouped."""


@dataclass(frozen=True, slots=True)
class MetaAlertSwitch:
    """Whether it is raised, and how bad it is."""

    enabled: bool
    severity: Severity


def meta_origin(name: str, about: str) -> str:
    return f"{META}{name};{about}"


def meta_alert(
    name: MetaAlertName,
    severity: Severity,
    about: Mapping[str, str],
    since_ms: int,
    now_ms: int,
    words: tuple[str, str],
) -> Alert:
    """`about` are its labels besides the name and the severity, `words` summary and description."""
    labels = {**about, "alertname": name.value, SEVERITY_LABEL: severity.value}
    annotations = {
        "summary": words[0],
        "description": words[1],
        "runbook_url": f"{DEFAULT_AGENT_URL}runbooks/{name}",
    }
    return firing_alert(labels, annotations, since_ms, now_ms)


def rule_labels(rule: RuleState, machine: str) -> dict[str, str]:
    """By them a rule is told apart from others of its name."""
    return {"instance": machine, "file": rule.file, "rule_group": rule.group, "rule": rule.rule.uid}


def is_broken(rule: RuleState, failures: int) -> bool:
    """It failed so often in a row; results that collide, or are too many, will do so again."""
    return rule.failures_in_a_row >= failures or rule.failure in _FAILS_SURELY


def broken_severity(
    rule: RuleState, usual: Severity, words: Mapping[str, Severity] = SEVERITY_WORDS
) -> Severity:
    """Of a rule over its limit all alerts are dropped: this one stands for them, and is no milder
    than they are."""
    if rule.failure is not LimitExceeded or not isinstance(rule.rule, AlertingRule):
        return usual
    own = severity_of(dict(rule.rule.labels).get(SEVERITY_LABEL, ""), words)
    return own if own is not None and own.worse_than(usual) else usual


def broken_words(rule: RuleState) -> tuple[str, str]:
    error = rule.last_error.partition("\n")[0][:_MAX_ERROR]
    kind = "alert" if isinstance(rule.rule, AlertingRule) else "recording rule"
    lost = (
        "All its alerts are dropped while it is over the limit of its group; this one stands for"
        " them."
        if rule.failure is LimitExceeded
        else "Until it is repaired it cannot fire, and nobody knows whether what fired still does."
        if isinstance(rule.rule, AlertingRule)
        else "Until it is repaired, what reads its series sees nothing."
    )
    summary = f"The {kind} {rule.rule.name} of {rule.file} cannot be evaluated"
    return summary, f"{error}. {lost}"


def switched(file: RuleFile, switches: Mapping[str, MetaAlertSwitch]) -> RuleFile:
    """A file of the bundled pack with those of its meta-alerts that are wanted, as bad as they are
    said to be."""
    groups = (
        replace(group, rules=tuple(_switched(group.rules, switches))) for group in file.groups
    )
    return replace(file, groups=tuple(group for group in groups if group.rules))


def _switched(rules: Iterable[Rule], switches: Mapping[str, MetaAlertSwitch]) -> Iterator[Rule]:
    for rule in rules:
        switch = switches.get(rule.name)
        if switch is None or not isinstance(rule, AlertingRule):
            yield rule
        elif switch.enabled:
            labels = {**dict(rule.labels), SEVERITY_LABEL: switch.severity.value}
            yield replace(rule, labels=tuple(sorted(labels.items())))
