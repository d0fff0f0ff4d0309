"""Rules made from a few words, as the file reader would make them."""

from typing import Any

from tocsin_alerting.promql.parser.parser import parse
from tocsin_alerting.rules.rule import AlertingRule, RecordingRule, Rule, RuleGroup
from tocsin_exporter.snapshot import labels

MINUTE = 60_000


def alerting(
    expr: str = "m > 0",
    name: str = "A",
    for_ms: int = 0,
    keep_ms: int = 0,
    uid: str = "",
    annotations: dict[str, str] | None = None,
    **rule_labels: str,
) -> AlertingRule:
    noted = tuple(sorted((annotations or {}).items()))
    return AlertingRule(
        uid or f"g/{name}/1",
        name,
        expr,
        parse(expr),
        for_ms,
        keep_ms,
        tuple(sorted(rule_labels.items())),
        noted,
    )


def recording(name: str, expr: str, **rule_labels: str) -> RecordingRule:
    return RecordingRule(f"g/{name}/1", name, expr, parse(expr), labels(**rule_labels))


def group(*rules: Rule, name: str = "g", file: str = "f.yml", **fields: Any) -> RuleGroup:
    return RuleGroup(file, name, rules, **fields)
