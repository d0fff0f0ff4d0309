"""Whether an answer is what a script expects, and if not, how it differs."""

import math
import re

from support.promqltest.script import Eval, Points
from tocsin_alerting.promql.result import (
    InstantVector,
    Matrix,
    QueryValue,
    Result,
    ScalarValue,
    StringValue,
)
from tocsin_alerting.strconv import quote_labels
from tocsin_exporter.snapshot import Labels

_EPSILON = 1e-6
_SMALLEST = 2.2250738585072014e-308


def almost_equal(a: float, b: float) -> bool:
    """Prometheus's util/almost.Equal with its tests' tolerance."""
    if a == b or math.isnan(a) and math.isnan(b):
        return True
    size, apart = abs(a) + abs(b), abs(a - b)
    if a == 0 or b == 0 or size < _SMALLEST:
        return apart < _EPSILON * _SMALLEST
    return apart / min(size, 1.7976931348623157e308) < _EPSILON


def faults(command: Eval, result: Result) -> list[str]:
    """What is wrong with the answer to `command`, nothing when all is as expected."""
    return [*_value_faults(command, result.value), *_note_faults(command, result)]


def error_faults(command: Eval, error: Exception) -> list[str]:
    """The same for a query that failed."""
    wanted = [note for note in command.expected.notes if note[0] == "fail"]
    if not wanted:
        return [f"unexpected error: {error}"]
    text = str(error)
    return [
        f"error {text!r} is not {how} {pattern!r}"
        for _, how, pattern in wanted
        if not _says(text, how, pattern)
    ]


def _says(text: str, how: str, pattern: str) -> bool:
    if how == "msg":
        return text == pattern
    return not how or re.search(pattern, text) is not None


def _notes(text: str, how: str, pattern: str) -> bool:
    """As `_says`; the scripts of Prometheus 3.0 to 3.9 expect a message without its place."""
    return _says(text, how, pattern) or how == "msg" and text.rpartition(" (")[0] == pattern


def _note_faults(command: Eval, result: Result) -> list[str]:
    found = []
    for kind, texts in (("warn", result.warnings), ("info", result.infos)):
        wanted = [note for note in command.expected.notes if note[0] == kind]
        if any(note[0] == f"no_{kind}" for note in command.expected.notes) and texts:
            found.append(f"unexpected {kind}: {texts}")
        found += [
            f"no {kind} {how} {pattern!r} among {texts}"
            for _, how, pattern in wanted
            if not any(_notes(text, how, pattern) for text in texts)
        ]
        if wanted:
            found += [
                f"unexpected {kind}: {text}"
                for text in texts
                if not any(_notes(text, how, pattern) for _, how, pattern in wanted)
            ]
    return found


def _value_faults(command: Eval, value: QueryValue) -> list[str]:
    expected = command.expected
    if any(note[0] == "fail" for note in expected.notes):
        return ["expected a failure"]
    match value:
        case StringValue(value=text):
            return [] if text == expected.text else [f"{text!r} is not {expected.text!r}"]
        case ScalarValue(value=number):
            right = expected.scalar is not None and almost_equal(number, expected.scalar)
            return [] if right else [f"{number} is not {expected.scalar}"]
        case InstantVector():
            return vector_faults(command, list(value), expected.ordered)
        case Matrix():
            return _matrix_faults(command, value)


def vector_faults(command: Eval, found: list[tuple[Labels, float]], ordered: bool) -> list[str]:
    wanted = [(points.labels, _number(points)) for points in command.expected.series]
    if ordered and [one for one, _ in wanted] != [one for one, _ in found]:
        return ["order is " + ", ".join(quote_labels(one) for one, _ in found)]
    have, want = dict(found), dict(wanted)
    out = [
        f"unexpected {quote_labels(labels)} {value}"
        for labels, value in found
        if labels not in want
    ]
    out += [
        f"missing {quote_labels(labels)} {value}" for labels, value in wanted if labels not in have
    ]
    out += [
        f"{quote_labels(labels)} is {have[labels]!r}, not {value!r}"
        for labels, value in wanted
        if labels in have and not almost_equal(have[labels], value)
    ]
    return out + (["equal series in the result"] if len(have) != len(found) else [])


def _number(points: Points) -> float:
    (value,) = points.values
    assert isinstance(value, float)
    return value


def _matrix_faults(command: Eval, matrix: Matrix) -> list[str]:
    start, _, step = command.expected.window or (command.start_ms, 0, command.step_ms)
    wanted = {
        points.labels: [
            (start + at * step, value)
            for at, value in enumerate(points.values)
            if isinstance(value, float)
        ]
        for points in command.expected.series
    }
    found = {
        one.labels: list(zip(one.times.tolist(), one.values.tolist(), strict=True))
        for one in matrix
    }
    out = [
        f"unexpected {quote_labels(labels)} {found[labels]}"
        for labels in found
        if labels not in wanted
    ]
    for labels, samples in wanted.items():
        have = found.get(labels, [])
        same = len(have) == len(samples) and all(
            a[0] == b[0] and almost_equal(a[1], b[1]) for a, b in zip(have, samples, strict=True)
        )
        out += [] if same else [f"{quote_labels(labels)} is {have}, not {samples}"]
    return out
