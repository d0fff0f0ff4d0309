"""What a rule file may say and probably does not mean: told apart from errors."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tocsin_alerting.promql.parser.ast import (
    COMPARISONS,
    BinaryExpr,
    BinaryOp,
    Expr,
    NumberLiteral,
    walk,
)
from tocsin_alerting.rules.rule import AlertingRule, Rule, RuleGroup
from tocsin_alerting.rules.severity import NEVER_PAGED, SEVERITY_LABEL, SEVERITY_WORDS, Severity
from tocsin_alerting.yaml_document import Document, Path, Problem
from tocsin_exporter.snapshot import Labels

_SEVERITIES = (*Severity, *SEVERITY_WORDS, NEVER_PAGED)
_VALUE = re.compile(r"\{\{[^}]*(\$value|\.Value)\b")
_PERCENTAGE = re.compile(
    r"humanizePercentage\s+(\$value|\.Value)|(\$value|\.Value)\s*\|\s*humanizePercentage"
)


def lint(document: Document, groups: Iterable[RuleGroup]) -> Iterator[Problem]:
    """The lints of a file without errors, in its order."""
    first: dict[tuple[str, Labels], int] = {}
    empty = True
    written = (document.data or {}).get("groups") or []
    for at, group in zip(_numbers(written), groups, strict=True):
        for number, rule in zip(_numbers(written[at].get("rules") or []), group.rules, strict=True):
            empty = False
            path: Path = ("groups", at, "rules", number)
            where = f'group "{group.name}", rule {number + 1}, "{rule.name}": '
            for place, message in _rule(path, rule, first):
                yield document.problem(place, where + message)
            first.setdefault((rule.name, rule.labels), rule.place.line)
    if empty:
        yield document.problem((), "no rules in this file; nothing will ever fire")


def _numbers(items: Sequence[Any]) -> list[int]:
    """Where the items stand: a `null` is none."""
    return [number for number, item in enumerate(items) if item is not None]


def _rule(
    path: Path, rule: Rule, first: dict[tuple[str, Labels], int]
) -> Iterator[tuple[Path, str]]:
    same = first.get((rule.name, rule.labels))
    if same is not None:
        yield path, f"same name and labels as the rule in line {same}; their results collide"
    if isinstance(rule, AlertingRule):
        yield from _severity(path, rule)
        yield from _annotations(path, rule)
        yield from _labels(path, rule)


def _severity(path: Path, rule: AlertingRule) -> Iterator[tuple[Path, str]]:
    severity = dict(rule.labels).get(SEVERITY_LABEL, "")
    if not severity:
        yield path, "no label `severity`: P2 is used; add P0 to P4"
    elif "{{" not in severity and severity not in _SEVERITIES:
        if severity.lower() not in SEVERITY_WORDS:
            known = ", ".join(_SEVERITIES)
            message = f'unknown severity "{severity}": P2 is used; use one of {known}'
            yield (*path, "labels", SEVERITY_LABEL), message


def _annotations(path: Path, rule: AlertingRule) -> Iterator[tuple[Path, str]]:
    annotations = dict(rule.annotations)
    if not annotations.get("summary"):
        yield path, "no annotation `summary`: messages show only the name; add one line"
    for name, text in annotations.items():
        if _PERCENTAGE.search(text) and _is_percentage(rule.query):
            yield (
                (*path, "annotations", name),
                "humanizePercentage takes a ratio of 0 to 1, and this value seems to be 0 to 100:"
                ' it would be printed 100 times too large; use printf "%.1f%%"',
            )


def _labels(path: Path, rule: AlertingRule) -> Iterator[tuple[Path, str]]:
    for name, text in rule.labels:
        if _VALUE.search(text):
            yield (
                (*path, "labels", name),
                f"label `{name}` holds the value: each new value makes a new alert;"
                " put it into an annotation",
            )


def _is_percentage(query: Expr) -> bool:
    """Multiplied by 100, or compared with a number that no ratio reaches."""
    for node in walk(query):
        if isinstance(node, BinaryExpr):
            numbers = [
                side.value for side in (node.lhs, node.rhs) if isinstance(side, NumberLiteral)
            ]
            times_100 = node.op is BinaryOp.MUL and 100 in numbers
            if times_100 or (
                node is query and node.op in COMPARISONS and max(numbers, default=0) > 1
            ):
                return True
    return False
