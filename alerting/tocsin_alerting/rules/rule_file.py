"""Prometheus rule files: read with every problem at once, each with its place."""

import glob
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tocsin_alerting.promql.errors import ParseError
from tocsin_alerting.promql.parser import parser
from tocsin_alerting.promql.parser.ast import NOWHERE as NO_SPAN
from tocsin_alerting.promql.parser.ast import Expr, NumberLiteral, PositionRange
from tocsin_alerting.promql.parser.signatures import Semantics, ValueType
from tocsin_alerting.promql.parser.types import type_of
from tocsin_alerting.rules import template
from tocsin_alerting.rules.rule import (
    AlertingRule,
    FilePosition,
    RecordingRule,
    Rule,
    RuleFile,
    RuleGroup,
)
from tocsin_alerting.rules.yaml_reader import YamlReader, kind_name
from tocsin_alerting.yaml_document import Document, InvalidDocument, Path, Problem, parse, read_text
from tocsin_exporter.series import Labels

CheckExpression = Callable[[Expr], Iterable[tuple[PositionRange, str]]]
ReadRuleFile = Callable[[str], str]
KnownRuleFile = Callable[[str, str], RuleFile | None]
"""A path and its text -> what they were read as before."""

_GROUP_KEYS = ("name", "interval", "query_offset", "limit", "labels", "rules")
_KEYS_OF_THANOS = ("partial_response_strategy",)  # which the operator takes, and leaves alone
_RULE_KEYS = ("record", "alert", "expr", "for", "keep_firing_for", "labels", "annotations")
_LABEL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_METRIC_NAME = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*")
_PLACEHOLDER_EXPR = NumberLiteral(0.0)
_MANIFEST = "PrometheusRule"  # of the Prometheus operator


@dataclass(frozen=True, slots=True)
class _RuleName:
    """A rule's kind and name, and where it is in the document."""

    path: Path
    record: str
    alert: str

    @property
    def name(self) -> str:
        return self.record or self.alert


def no_objection(expr: Expr) -> Iterable[tuple[PositionRange, str]]:
    """For an engine that evaluates everything that parses."""
    return ()


@dataclass(frozen=True, slots=True)
class BrokenRuleFile:
    """One that cannot be used as it is; `replaced`: its last good copy runs in its place."""

    path: str
    problems: tuple[Problem, ...]
    replaced: bool = False


def load(
    patterns: Iterable[str],
    check_expr: CheckExpression = no_objection,
    semantics: Semantics = 3,
    read_file: ReadRuleFile = read_text,
    known: KnownRuleFile = lambda path, text: None,
) -> list[RuleFile]:
    """The rule files that the paths and globs name, each once, in order.

    Raises InvalidDocument with every problem of every file. A glob may match nothing, a path not.
    `read_file` gives the text of a file, or raises as `read_text`.
    """
    files, broken = load_usable(patterns, check_expr, semantics, read_file, known=known)
    if broken:
        raise InvalidDocument(problem for one in broken for problem in one.problems)
    return files


def load_usable(
    patterns: Iterable[str],
    check_expr: CheckExpression = no_objection,
    semantics: Semantics = 3,
    read_file: ReadRuleFile = read_text,
    last_good: Callable[[str], str | None] = lambda path: None,
    known: KnownRuleFile = lambda path, text: None,
) -> tuple[list[RuleFile], list[BrokenRuleFile]]:
    """The same, as far as it goes: a file that is wrong is left out, or is what `last_good` has of
    it, and is told."""
    files: list[RuleFile] = []
    broken: list[BrokenRuleFile] = []
    for path in _paths(patterns):
        try:
            text = read_file(path)
            files.append(known(path, text) or read(text, path, check_expr, semantics))
        except InvalidDocument as error:
            copy = _copy(path, last_good(path), check_expr, semantics)
            files += [copy] if copy else []
            broken.append(BrokenRuleFile(path, tuple(error.problems), copy is not None))
    return files, broken


def _copy(
    path: str, text: str | None, check_expr: CheckExpression, semantics: Semantics
) -> RuleFile | None:
    """An older version may have taken what this one does not."""
    try:
        return None if text is None else read(text, path, check_expr, semantics)
    except InvalidDocument:
        return None


def read(
    text: str,
    path: str,
    check_expr: CheckExpression = no_objection,
    semantics: Semantics = 3,
    ignore_unknown: bool = False,
) -> RuleFile:
    """The rule file `text`; `path` is what messages and groups call it. `ignore_unknown` lets keys
    stand in it that are somebody else's. Raises InvalidDocument."""
    return read_document(parse(text, path), check_expr, semantics, ignore_unknown)


def read_document(
    document: Document,
    check_expr: CheckExpression = no_objection,
    semantics: Semantics = 3,
    ignore_unknown: bool = False,
) -> RuleFile:
    """The same of what is parsed; a PrometheusRule of Kubernetes counts as well."""
    reading = YamlReader(document, semantics, ignore_unknown)
    groups = _groups(reading, groups_root(document.data), check_expr)
    if reading.problems:
        raise InvalidDocument(reading.problems)
    return RuleFile(document.file, groups)


class RuleFileCache:
    """Reads each rule file once, however many ask for it, as long as its text stays what it is."""

    def __init__(self, check_expr: CheckExpression, ignore_unknown: bool = False) -> None:
        self._check_expr, self._ignore_unknown = check_expr, ignore_unknown
        self._files: dict[tuple[str, str, Semantics], RuleFile] = {}

    def known(self, semantics: Semantics) -> Callable[[str, str], RuleFile]:
        """What `load` takes; the files are read by it, and it raises InvalidDocument."""

        def read_once(path: str, text: str) -> RuleFile:
            key = path, text, semantics
            if key not in self._files:
                how = self._check_expr, semantics, self._ignore_unknown
                self._files[key] = read(text, path, *how)
            return self._files[key]

        return read_once


def groups_root(data: Any) -> Path:
    """Below which part the groups of a rule file stand: all of it, or the `spec` of a manifest."""
    return ("spec",) if isinstance(data, dict) and data.get("kind") == _MANIFEST else ()


def _paths(patterns: Iterable[str]) -> list[str]:
    paths: dict[str, None] = {}
    for pattern in patterns:
        paths.update(dict.fromkeys(sorted(glob.glob(pattern)) or _literal(pattern)))
    return list(paths)


def _literal(pattern: str) -> Sequence[str]:
    return () if glob.has_magic(pattern) else (pattern,)


def _groups(reading: YamlReader, root: Path, check_expr: CheckExpression) -> tuple[RuleGroup, ...]:
    fields = _below(reading, root)
    groups: list[RuleGroup] = []
    lines: dict[str, int] = {}
    at: Path = (*root, "groups")
    for number, value in enumerate(reading.sequence(at, fields.get("groups"), "groups")):
        if value is None:  # Prometheus's YAML leaves it out
            continue
        path: Path = (*at, number)
        group = _group(reading, path, value, check_expr)
        line, _ = reading.document.position((*path, "name"))
        if group.name in lines and group.name:
            reading.wrong(
                (*path, "name"),
                f'group "{group.name}" is defined twice, first in line {lines[group.name]};'
                " rename one",
            )
        lines.setdefault(group.name, line)
        groups.append(group)
    return tuple(groups)


def _below(reading: YamlReader, root: Path) -> Mapping[str, Any]:
    data = reading.document.data
    if not root:
        return reading.mapping((), data, ("groups",), "a rule file")
    known = ("apiVersion", "kind", "metadata", "spec", "status")
    manifest = reading.mapping((), data, known, f"a {_MANIFEST}")
    return reading.mapping(root, manifest.get("spec"), ("groups",), f"the spec of a {_MANIFEST}")


def _group(reading: YamlReader, path: Path, value: Any, check_expr: CheckExpression) -> RuleGroup:
    reading.where = f"group {path[-1]}: " if not isinstance(value, dict) else ""
    known = (*_GROUP_KEYS, *(_KEYS_OF_THANOS if path[0] == "spec" else ()))
    fields = reading.mapping(path, value, known, "a group")
    name = reading.text((*path, "name"))
    reading.where = f'group "{name}": '
    if not name:
        reading.wrong(path, "the group has no name; add `name`")
    labels = _labels(reading, (*path, "labels"))
    rules: list[Rule] = []
    counts: Counter[str] = Counter()
    interval_ms = reading.duration((*path, "interval"))
    for number, node in enumerate(reading.sequence((*path, "rules"), fields.get("rules"), "rules")):
        at = (*path, "rules", number)
        if node is None:  # as a group
            continue
        if isinstance(node, dict):
            rules.append(_rule(reading, at, node, (name, labels), counts, check_expr))
        else:
            reading.wrong(at, f"rule {number + 1} must be a mapping, not {kind_name(node)}")
    reading.where = f'group "{name}": '
    made = RuleGroup(
        file=reading.document.file,
        name=name,
        rules=tuple(rules),
        interval_ms=interval_ms or None,
        query_offset_ms=reading.duration((*path, "query_offset")),
        limit=max(0, reading.whole((*path, "limit"))),
        labels=_sorted(labels),
        place=_place(reading.document, path),
    )
    reading.where = ""
    return made


def _rule(
    reading: YamlReader,
    path: Path,
    node: Any,
    group: tuple[str, dict[str, str]],
    counts: Counter[str],
    check_expr: CheckExpression,
) -> Rule:
    group_name, group_labels = group
    reading.where = f'group "{group_name}", rule {int(path[-1]) + 1}: '
    named = _RuleName(path, reading.text((*path, "record")), reading.text((*path, "alert")))
    if named.name:
        reading.where = f'{reading.where[:-2]}, "{named.name}": '
    reading.mapping(path, node, _RULE_KEYS, "a rule")
    counts[named.name] += 1
    uid = f"{group_name}/{named.name}/{counts[named.name]}"
    _check_kind(reading, named)
    labels = group_labels | _labels(reading, (*path, "labels"), templates=bool(named.alert))
    expr = reading.text((*path, "expr"))
    query = _query(reading, (*path, "expr"), expr, check_expr)
    place = _place(reading.document, path)
    for_ms = reading.duration((*path, "for")) or 0
    keep_ms = reading.duration((*path, "keep_firing_for")) or 0
    annotations = _annotations(reading, (*path, "annotations"))
    if named.record:
        of_alerts = {"for": for_ms, "keep_firing_for": keep_ms, "annotations": annotations}
        for key in () if named.alert else (key for key, value in of_alerts.items() if value):
            reading.wrong((*path, key), f"a recording rule has no `{key}`; remove it", key=True)
        return RecordingRule(uid, named.record, expr, query, _sorted(labels), place)
    return AlertingRule(
        uid,
        named.alert,
        expr,
        query,
        for_ms,
        keep_ms,
        _sorted(labels),
        _sorted(annotations),
        place,
    )


def _check_kind(reading: YamlReader, named: _RuleName) -> None:
    """Exactly one of record and alert."""
    path = named.path
    if named.record and named.alert:
        reading.wrong(path, "a rule is either `record` or `alert`, not both; make two of it")
    elif not named.name:
        reading.wrong(path, "one of `record` or `alert` must be set; add one")
    if reading.semantics == 3 and set(named.record) & set("{}"):
        message = f'"{named.record}" is no metric name: braces belong into `expr`'
        reading.wrong((*path, "record"), message)
    elif named.record and not _is_name(reading, _METRIC_NAME, named.record):
        message = f'"{named.record}" is no metric name; use letters, digits, `_` and `:`'
        reading.wrong((*path, "record"), message)


def _query(reading: YamlReader, path: Path, text: str, check_expr: CheckExpression) -> Expr:
    if not text.strip():
        if reading.document.text(path) is not None or not _has(reading.document, path):
            reading.wrong(path, "`expr` must be set; add the expression")
        return _PLACEHOLDER_EXPR
    try:
        query = parser.parse(text, reading.semantics)
    except ParseError as error:
        reading.wrong_at(path, error.span.start, f"could not parse expression: {error.message}")
        return _PLACEHOLDER_EXPR
    kind = type_of(query)
    if kind not in (ValueType.VECTOR, ValueType.SCALAR):
        message = f"a rule needs an instant vector or a scalar, this is a {kind.documented}"
        reading.wrong_at(path, getattr(query, "span", NO_SPAN).start, message)
        return query
    for span, message in check_expr(query):
        reading.wrong_at(path, span.start, message)
    return query


def _labels(reading: YamlReader, path: Path, templates: bool = False) -> dict[str, str]:
    labels = reading.texts(path, "labels")
    for name in labels:
        if name == "__name__":
            reading.wrong((*path, name), "`__name__` cannot be set by a label", key=True)
        elif not _is_name(reading, _LABEL_NAME, name):
            message = f'invalid label name "{name}"; use letters, digits and `_`'
            reading.wrong((*path, name), message, key=True)
        if templates:
            _check_template(reading, (*path, name), labels[name], f'label "{name}"')
    return labels


def _is_name(reading: YamlReader, usual: re.Pattern[str], name: str) -> bool:
    """Prometheus 3 takes any text that is not empty."""
    return bool(usual.fullmatch(name)) or (reading.semantics == 3 and name != "")


def _annotations(reading: YamlReader, path: Path) -> dict[str, str]:
    annotations = reading.texts(path, "annotations")
    for name, text in annotations.items():
        if not _is_name(reading, _LABEL_NAME, name):
            message = f'invalid annotation name "{name}"; use letters, digits and `_`'
            reading.wrong((*path, name), message, key=True)
        _check_template(reading, (*path, name), text, f'annotation "{name}"')
    return annotations


def _check_template(reading: YamlReader, path: Path, text: str, what: str) -> None:
    if "{{" not in text:
        return
    try:
        template.check(text)
    except template.TemplateSyntaxProblem as error:
        reading.wrong_at(path, error.offset, f"{what} is no template: {error}")


def _has(document: Document, path: Path) -> bool:
    """Whether there is a value, right or wrong, at `path`; a wrong one was named already."""
    value = document.data
    for step in path:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return False
    return value is not None


def _place(document: Document, path: Path) -> FilePosition:
    return FilePosition(document.file, *document.position(path))


def _sorted(labels: dict[str, str]) -> Labels:
    return tuple(sorted(labels.items()))
