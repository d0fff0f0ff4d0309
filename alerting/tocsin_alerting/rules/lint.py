"""What a rule file may say and probably does not mean: told apart from errors, each by its name."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from tocsin_alerting.promql.parser.ast import (
    COMPARISONS,
    BinaryExpr,
    BinaryOp,
    Expr,
    NumberLiteral,
    walk,
)
from tocsin_alerting.rules.lint_exprs import MetricTypes, expr_findings
from tocsin_alerting.rules.rule import AlertingRule, Rule, RuleGroup
from tocsin_alerting.rules.severity import NEVER_PAGED, SEVERITY_LABEL, SEVERITY_WORDS, Severity
from tocsin_alerting.rules.threshold import comparison, unit
from tocsin_alerting.yaml_document import Document, Path, Problem, did_you_mean
from tocsin_exporter.series import Labels

WHEN_ASKED = ("foreign-severity", "no-rules", "no-runbook", "no-severity", "no-summary")
"""Matters of taste, or of Tocsin alone, or what generated files are right to have: not said unless
somebody asks for them."""
LIVE = ("matches-nothing", "never-reached")
"""What only a running agent can tell."""
BY_DEFAULT = (
    "absent-regex",
    "counter-without-rate",
    "duplicate-rules",
    "for-below-interval",
    "humanize-percentage",
    "never-fires",
    "rate-of-gauge",
    "unknown-severity",
    "value-in-label",
    "wrong-unit",
)
LINTS = (*sorted((*BY_DEFAULT, *WHEN_ASKED)), *LIVE)
NO_RULES = "no rules in this file; nothing will ever fire"
_SEVERITIES = (*Severity, *SEVERITY_WORDS, NEVER_PAGED)
_NUMBERS = re.compile(
    r"""(?x) "(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])*' | `[^`]*`
    | ==\s*[0-9.eE+-]+
    | (?<![A-Za-z0-9_:.]) [0-9.]+ (?:[eE][-+]?[0-9]+ | [smhdwy0-9]+)? | \s+"""
)
_PRIORITY = re.compile(r"[pP][0-9]+")
_VALUE = re.compile(r"\{\{[^}]*(\$value|\.Value)\b")
_PERCENTAGE = re.compile(
    r"humanizePercentage\s+(\$value|\.Value)|(\$value|\.Value)\s*\|\s*humanizePercentage"
)
_WRITTEN_AS = re.compile(
    r"(humanize1024|humanizeDuration)\s+(?:\$value|\.Value)"
    r"|(?:\$value|\.Value)\s*\|\s*(humanize1024|humanizeDuration)"
)
_WRONG_FOR = {  # what is written as what, and what to use instead
    ("seconds", "humanize1024"): "humanize1024 writes bytes, and this value is in seconds;"
    " use humanizeDuration",
    ("bytes", "humanizeDuration"): "humanizeDuration writes seconds, and this value is in bytes;"
    " use humanize1024",
}


@dataclass(frozen=True, slots=True, order=True)
class Lint:
    """One lint, at its place; `name` is what it is chosen and left out by."""

    problem: Problem
    name: str

    def __str__(self) -> str:
        return f"{self.problem} ({self.name})"


class _Found(NamedTuple):
    """`offset` is the character of the text at `path` that is meant, -1 for all of it."""

    name: str
    path: Path
    message: str
    offset: int = -1


_NO_TYPES: MetricTypes = MappingProxyType({})


def lint(
    document: Document,
    groups: Iterable[RuleGroup],
    chosen: Collection[str] = BY_DEFAULT,
    types: MetricTypes = _NO_TYPES,
    root: Path = (),
) -> Iterator[Lint]:
    """The chosen lints of a file without errors, in its order; its groups are below `root`.

    `types` says of metrics what they are, as far as that is known.
    """
    empty = True
    seen: dict[tuple[str, Labels], list[Rule]] = {}
    for path, group, rule in placed(document, groups, root):
        empty = False
        where = f'group "{group.name}", rule {int(path[-1]) + 1}, "{rule.name}": '
        same = seen.setdefault((rule.name, rule.labels), [])
        for found in _rule(path, group, rule, same, types):
            if found.name in chosen:
                yield Lint(_problem(document, found, where), found.name)
        same.append(rule)
    if empty and "no-rules" in chosen:
        yield Lint(document.problem((), NO_RULES), "no-rules")


def placed(
    document: Document, groups: Iterable[RuleGroup], root: Path = ()
) -> Iterator[tuple[Path, RuleGroup, Rule]]:
    """Every rule with its group and where it stands in the document."""
    written = _at(document.data, root).get("groups") or []
    for at, group in zip(_numbers(written), groups, strict=True):
        for number, rule in zip(_numbers(written[at].get("rules") or []), group.rules, strict=True):
            yield (*root, "groups", at, "rules", number), group, rule


def _at(data: Any, root: Path) -> Mapping[str, Any]:
    for step in root:
        data = data[step]
    return data or {}


def _numbers(items: Sequence[Any]) -> list[int]:
    """Where the items stand: a `null` is none."""
    return [number for number, item in enumerate(items) if item is not None]


def _problem(document: Document, found: _Found, where: str) -> Problem:
    message = where + found.message
    if found.offset < 0:
        return document.problem(found.path, message)
    return Problem(document.file, *document.text_position(found.path, found.offset), message)


def _rule(
    path: Path,
    group: RuleGroup,
    rule: Rule,
    same: Sequence[Rule],
    types: MetricTypes,
) -> Iterator[_Found]:
    """`same` are the rules before it with its name and labels."""
    for other in same:
        if _shape(other.expr) == _shape(rule.expr):
            line = other.place.line
            message = f"same name and labels as the rule in line {line}; their results collide"
            yield _Found("duplicate-rules", path, message)
            break
    for offset, name, message in expr_findings(rule.query, types, isinstance(rule, AlertingRule)):
        yield _Found(name, (*path, "expr"), message, offset)
    if isinstance(rule, AlertingRule):
        yield from _severity(path, rule)
        yield from _for(path, group, rule)
        yield from _annotations(path, rule)
        yield from _labels(path, rule)


def _shape(expr: str) -> str:
    """What an expression selects and does, whatever its thresholds and ranges: two of one shape
    have results of the same labels, others may be meant to exclude each other, and what equals one
    number equals no other."""
    return _NUMBERS.sub(lambda match: match[0] if match[0][0] in "\"'`=" else "", expr)


def _severity(path: Path, rule: AlertingRule) -> Iterator[_Found]:
    severity = dict(rule.labels).get(SEVERITY_LABEL, "")
    if not severity:
        yield _Found("no-severity", path, "no label `severity`: P2 is used; add P0 to P4")
    elif "{{" not in severity and severity.lower() not in (*_SEVERITIES, *SEVERITY_WORDS):
        if severity not in _SEVERITIES:
            yield _unknown(severity, (*path, "labels", SEVERITY_LABEL))


def _unknown(severity: str, path: Path) -> _Found:
    """One of ours mistyped, or a word of somebody else's policies."""
    near = did_you_mean(severity.lower() if len(severity) > 2 else severity, _SEVERITIES)
    ours = near or _PRIORITY.fullmatch(severity)
    known = ", ".join(_SEVERITIES)
    message = f'unknown severity "{severity}": P2 is used; use one of {known}{near}'
    return _Found("unknown-severity" if ours else "foreign-severity", path, message)


def _for(path: Path, group: RuleGroup, rule: AlertingRule) -> Iterator[_Found]:
    """Where the group says its interval; the global one is another file's."""
    if group.interval_ms and 0 < rule.for_ms < group.interval_ms:
        yield _Found(
            "for-below-interval",
            (*path, "for"),
            f"`for` of {rule.for_ms / 1000:g}s is below the group's interval of"
            f" {group.interval_ms / 1000:g}s, after which it fires at the earliest;"
            " raise it to the interval, or leave it out",
        )


def _annotations(path: Path, rule: AlertingRule) -> Iterator[_Found]:
    annotations = dict(rule.annotations)
    if not annotations.get("summary"):
        message = "no annotation `summary`: messages show only the name; add one line"
        yield _Found("no-summary", path, message)
    if not any("runbook" in name.lower() for name in annotations):
        message = "no annotation `runbook_url`: who is paged has no page to follow; add it"
        yield _Found("no-runbook", path, message)
    for name, text in annotations.items():
        if "humanize" in text:
            yield from _shown(rule, (*path, "annotations", name), text)


def _shown(rule: AlertingRule, path: Path, text: str) -> Iterator[_Found]:
    if _PERCENTAGE.search(text) and _is_percentage(rule.query):
        yield _Found(
            "humanize-percentage",
            path,
            "humanizePercentage takes a ratio of 0 to 1, and this value seems to be 0 to 100:"
            ' it would be printed 100 times too large; use printf "%.1f%%"',
        )
    for match in _WRITTEN_AS.finditer(text):
        used = match[1] or match[2]
        if message := _WRONG_FOR.get((unit(comparison(rule.query).measured), used)):
            yield _Found("wrong-unit", path, message, match.start())


def _labels(path: Path, rule: AlertingRule) -> Iterator[_Found]:
    for name, text in rule.labels:
        if "{{" in text and _VALUE.search(text):
            yield _Found(
                "value-in-label",
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
