"""Unit tests of rules in promtool's format, read strictly and with every problem placed."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, TypeVar

from tocsin_alerting.promql.errors import ParseError
from tocsin_alerting.promql.parser import parser
from tocsin_alerting.promql.parser.signatures import Semantics
from tocsin_alerting.rules.rule import FilePosition
from tocsin_alerting.rules.series_notation import (
    NotationError,
    Value,
    parse_metric,
    parse_series_notation,
)
from tocsin_alerting.rules.yaml_reader import YamlReader
from tocsin_alerting.time_format import LAST_S, format_duration, read_timestamp
from tocsin_alerting.yaml_document import InvalidDocument, Path, parse
from tocsin_alerting.yaml_merge_keys import MergeRules
from tocsin_exporter.snapshot import Labels

_FILE_KEYS = ("rule_files", "evaluation_interval", "group_eval_order", "fuzzy_compare", "tests")
_TEST_KEYS = (
    "name",
    "interval",
    "start_timestamp",
    "input_series",
    "alert_rule_test",
    "promql_expr_test",
    "external_labels",
    "external_url",
    "match",
)
_MATCHES = ("exact", "subset")
_MERGING = MergeRules(True, frozenset({"exp_labels", "exp_annotations", "external_labels"}))
_MINUTE_MS = 60_000
MAX_EVALUATIONS = 1_000_000  # of a test: a year by the minute twice
_OCTAL = re.compile(r"[-+]?0[0-7]+")
_BASED = re.compile(r"[-+]?0(x[0-9a-fA-F]+|o[0-7]+|b[01]+)")
_FLOAT = re.compile(r"[-+]?(\.inf|\.nan|(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?)", re.I)
T = TypeVar("T")
ReadTestPart = Callable[[YamlReader, Path, int], None]
"""Reads what the rules know nothing of: a key of a test that is there, at a path, with the test's
number, counted from 0."""


@dataclass(frozen=True, slots=True)
class InputSeries:
    labels: Labels
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class ExpectedAlert:
    """`labels` hold the alertname."""

    labels: Labels
    annotations: Labels


@dataclass(frozen=True, slots=True)
class AlertCase:
    """Which alerts of one name fire at `eval_ms` after the start; an empty list: none."""

    eval_ms: int
    alertname: str
    expected: tuple[ExpectedAlert, ...]
    place: FilePosition


@dataclass(frozen=True, slots=True)
class ExprCase:
    """`error` is why `expr` is none, and `place` then where; other cases are run all the same."""

    eval_ms: int
    expr: str
    expected: tuple[tuple[Labels, float], ...]
    place: FilePosition
    error: str = ""


@dataclass(frozen=True, slots=True)
class RuleTest:
    """One test; samples of the input are `interval_ms` apart, from `start_ms` on.

    `subset`: what is expected names some of the labels and annotations, not all.
    """

    name: str
    interval_ms: int
    start_ms: int
    series: tuple[InputSeries, ...]
    alerts: tuple[AlertCase, ...]
    exprs: tuple[ExprCase, ...]
    external_labels: Mapping[str, str]
    external_url: str
    subset: bool = False

    @property
    def end_ms(self) -> int:
        cases: list[AlertCase | ExprCase] = [*self.alerts, *self.exprs]
        return self.start_ms + max((case.eval_ms for case in cases), default=0)


@dataclass(frozen=True, slots=True)
class RuleTestFile:
    """`rule_files` are as written: globs, relative to the file."""

    path: str
    rule_files: tuple[str, ...]
    interval_ms: int
    group_order: tuple[str, ...]
    fuzzy: bool
    tests: tuple[RuleTest, ...]
    semantics: Semantics = 3


def read_tests(
    text: str,
    path: str,
    semantics: Semantics = 3,
    parts: Mapping[str, ReadTestPart] = MappingProxyType({}),
) -> RuleTestFile:
    """The tests in `text`; `path` is what messages call it. Raises InvalidDocument.

    `parts` reads the keys of a test that are none of promtool's.
    """
    reading = YamlReader(parse(text, path, _MERGING), semantics)
    data = reading.mapping((), reading.document.data, _FILE_KEYS, "a test file")
    interval_ms = reading.duration(("evaluation_interval",)) or _MINUTE_MS
    order = _words(reading, ("group_eval_order",), data)
    for number, name in enumerate(order):
        if name in order[:number]:
            message = f"group name repeated in evaluation order: {name}"
            reading.wrong(("group_eval_order", number), message)
    tests = _items(reading, (), "tests", data, lambda *at: _test(reading, interval_ms, parts, *at))
    file = RuleTestFile(
        path,
        _words(reading, ("rule_files",), data),
        interval_ms,
        order,
        reading.truth(("fuzzy_compare",)),
        tests,
        semantics,
    )
    if reading.problems:
        raise InvalidDocument(reading.problems)
    return file


def _test(
    reading: YamlReader,
    default_ms: int,
    parts: Mapping[str, ReadTestPart],
    path: Path,
    value: Any,
) -> RuleTest:
    fields = reading.mapping(path, value, (*_TEST_KEYS, *parts), "a test")
    for key in parts:
        if key in fields:
            parts[key](reading, (*path, key), int(path[-1]))
    test = RuleTest(
        name=reading.text((*path, "name")),
        # Prometheus 2 has no default: all input has one time, and the first of it counts.
        interval_ms=reading.duration((*path, "interval")) or default_ms * (reading.semantics == 3),
        start_ms=_start(reading, (*path, "start_timestamp")),
        series=_items(reading, path, "input_series", fields, lambda *at: _series(reading, *at)),
        alerts=_items(reading, path, "alert_rule_test", fields, lambda *at: _alert(reading, *at)),
        exprs=_items(reading, path, "promql_expr_test", fields, lambda *at: _expr(reading, *at)),
        external_labels=reading.texts((*path, "external_labels"), "external_labels"),
        external_url=reading.text((*path, "external_url")),
        subset=reading.one_of((*path, "match"), _MATCHES, "exact") == "subset",
    )
    last_ms = test.end_ms - test.start_ms
    if last_ms // default_ms > MAX_EVALUATIONS:
        reading.wrong(path, _too_long(last_ms, default_ms))
    return test


def _too_long(eval_ms: int, step_ms: int) -> str:
    return (
        f"an eval_time of {format_duration(eval_ms)} takes {eval_ms // step_ms:,} evaluations, one"
        f" each {format_duration(step_ms)}, and a test may take {MAX_EVALUATIONS:,}; raise"
        " evaluation_interval, or test sooner"
    )


def _series(reading: YamlReader, path: Path, value: Any) -> InputSeries:
    reading.mapping(path, value, ("series", "values"), "a series")
    labels = _notation(reading, (*path, "series"), _metric(reading))
    values = _notation(reading, (*path, "values"), parse_series_notation)
    return InputSeries(labels or (), tuple(values or ()))


def _alert(reading: YamlReader, path: Path, value: Any) -> AlertCase:
    fields = reading.mapping(path, value, ("eval_time", "alertname", "exp_alerts"), "an alert test")
    name = reading.text((*path, "alertname"))
    if not name:
        reading.wrong(path, "an item under alert_rule_test misses required attribute alertname")

    def expected(at: Path, node: Any) -> ExpectedAlert:
        reading.mapping(at, node, ("exp_labels", "exp_annotations"), "an expected alert")
        labels = reading.texts((*at, "exp_labels"), "exp_labels") | {"alertname": name}
        annotations = reading.texts((*at, "exp_annotations"), "exp_annotations")
        return ExpectedAlert(tuple(sorted(labels.items())), tuple(sorted(annotations.items())))

    alerts = _items(reading, path, "exp_alerts", fields, expected)
    return AlertCase(_eval_ms(reading, path), name, alerts, _place(reading, path))


def _expr(reading: YamlReader, path: Path, value: Any) -> ExprCase:
    fields = reading.mapping(
        path, value, ("expr", "eval_time", "exp_samples"), "an expression test"
    )
    expr, place, wrong = reading.text((*path, "expr")), _place(reading, path), ""
    try:
        parser.parse(expr, reading.semantics)
    except ParseError as error:
        at = reading.document.text_position((*path, "expr"), error.span.start)
        place, wrong = FilePosition(reading.document.file, *at), error.message

    def expected(at: Path, node: Any) -> tuple[Labels, float]:
        known = ("labels", "value", "histogram")
        wanted = reading.mapping(at, node, known, "an expected sample")
        if wanted.get("histogram") is not None:
            message = "native histograms are not supported in tests"
            reading.wrong((*at, "histogram"), message, key=True)
        labels = _notation(reading, (*at, "labels"), _metric(reading))
        return labels or (), _number(reading, (*at, "value"))

    samples = _items(reading, path, "exp_samples", fields, expected)
    return ExprCase(_eval_ms(reading, path), expr, samples, place, wrong)


def _items(
    reading: YamlReader,
    path: Path,
    key: str,
    fields: Mapping[str, Any],
    read: Callable[[Path, Any], T],
) -> tuple[T, ...]:
    at = (*path, key)
    items = reading.sequence(at, fields.get(key), key)
    return tuple(read((*at, number), item) for number, item in enumerate(items))


def _words(reading: YamlReader, path: Path, data: Mapping[str, Any]) -> tuple[str, ...]:
    items = reading.sequence(path, data.get(str(path[-1])), str(path[-1]))
    return tuple(reading.text((*path, number)) for number in range(len(items)))


def _notation(reading: YamlReader, path: Path, read: Callable[[str], T]) -> T | None:
    text = reading.text(path)
    try:
        return read(text)
    except NotationError as error:
        reading.wrong_at(path, error.offset, str(error))
        return None


def _metric(reading: YamlReader) -> Callable[[str], Labels]:
    return partial(parse_metric, quoted=reading.semantics == 3)


def _number(reading: YamlReader, path: Path) -> float:
    """A number of YAML 1.1 as Go reads it: `2_000`, `0x1f`, `0b11`, `017` and `.inf` as well."""
    text = reading.text(path, "0")
    quoted = text != "0" and reading.document.plain(path) is None
    number = None if quoted else _go_number(text.replace("_", ""))
    if number is None:
        reading.wrong(path, f'"{path[-1]}" must be a number, not {text}')
    return number or 0.0


def _go_number(text: str) -> float | None:
    if _OCTAL.fullmatch(text):
        return int(text, 8)
    if _BASED.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text.replace(".inf", "inf").replace(".nan", "nan"))
    return None


def _start(reading: YamlReader, path: Path) -> int:
    """Unix seconds or RFC 3339, in milliseconds."""
    text = reading.text(path, "0")
    seconds = read_timestamp(text)
    if seconds is None or not abs(seconds) <= LAST_S:
        reading.wrong(path, f'"{text}" is neither Unix seconds nor like 2026-01-31T12:00:00Z')
        return 0
    return round(seconds * 1000)


def _eval_ms(reading: YamlReader, path: Path) -> int:
    return reading.duration((*path, "eval_time")) or 0


def _place(reading: YamlReader, path: Path) -> FilePosition:
    return FilePosition(reading.document.file, *reading.document.position(path))
