"""label_replace and label_join: new labels from old ones; the numbers stay."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast

import numpy as np

from tocsin_alerting.promql.eval.context import Context, merged
from tocsin_alerting.promql.eval.label_ops import check_label, with_label
from tocsin_alerting.promql.eval.limits import QueryError
from tocsin_alerting.promql.eval.vector import Value, Vector
from tocsin_alerting.promql.parser.ast import Call
from tocsin_alerting.tsdb.label_sets import LabelSets
from tocsin_alerting.tsdb.matchers import InvalidRegex, Regex, compile_anchored
from tocsin_alerting.tsdb.target_labels import METRIC_NAME
from tocsin_exporter.snapshot import Labels

T = TypeVar("T")
MOST_WRITTEN = 16_000_000  # characters in labels that one call makes: a call doubles them
_MOST_REMEMBERED = 1_000_000
_REFERENCE = re.compile(r"\$(?:\$|(\w+)|\{(\w+)\})")


def label_replace(_: Call, args: Sequence[Value], context: Context) -> Vector:
    """Where the pattern matches the source label, the destination gets the expanded template."""
    vector, target, template, source, pattern = cast(tuple[Vector, str, str, str, str], args)
    expression = _compiled(pattern, context)
    _check_name(target, "destination", "label_replace", context)

    def relabel(labels: Labels) -> Labels | None:
        match = expression.fullmatch(dict(labels).get(source, ""))
        return None if match is None else with_label(labels, target, _expanded(template, match))

    return _relabelled(vector, target, ("replace", *args[1:]), relabel)


def label_join(_: Call, args: Sequence[Value], context: Context) -> Vector:
    vector, target, separator = cast(tuple[Vector, str, str], tuple(args[:3]))
    sources = cast(Sequence[str], args[3:])
    for source in sources:
        _check_name(source, "source", "label_join", context)
    _check_name(target, "destination", "label_join", context)

    def relabel(labels: Labels) -> Labels:
        values = dict(labels)
        texts = [values.get(source, "") for source in sources]
        _limited(None, sum(map(len, texts)) + len(separator) * len(texts))
        return with_label(labels, target, separator.join(texts))

    return _relabelled(vector, target, ("join", *args[1:]), relabel)


def _check_name(name: str, role: str, function: str, context: Context) -> None:
    check_label(name, f"invalid {role} label name in {function}(): {name}", context.semantics)


def _relabelled(
    vector: Vector,
    target: str,
    key: tuple[Value, ...],
    relabel: Callable[[Labels], Labels | None],
) -> Vector:
    """With the labels that `relabel` gives, None meaning that they stay."""

    written = 0

    def relabelled(labels: Labels) -> Labels | None:
        nonlocal written
        changed = relabel(labels)
        written += len(dict(changed or ()).get(target, ""))
        return _limited(changed, written)

    def compute() -> tuple[LabelSets, list[bool]]:
        relabelled_sets = [relabelled(labels) for labels in vector.series.labels]
        pairs = zip(relabelled_sets, vector.series.labels, strict=True)
        return LabelSets(tuple(b if a is None else a for a, b in pairs)), [
            a is not None for a in relabelled_sets
        ]

    series, changed = vector.series.memo(
        ("relabelled", key), compute, lambda _: written <= _MOST_REMEMBERED
    )
    result = replace(vector, series=series)
    if target == METRIC_NAME:  # a name that was given on purpose is kept
        result = replace(result, unnamed=vector.unnamed_rows & ~np.array(changed, np.bool_))
    return merged(result)


def _limited(value: T, written: int) -> T:
    """`value`, if the labels that are made have no more than `MOST_WRITTEN` characters so far."""
    if written > MOST_WRITTEN:
        raise QueryError(f"the labels made by the query have more than {MOST_WRITTEN:,} characters")
    return value


def _compiled(pattern: str, context: Context) -> Regex:
    try:
        return compile_anchored(pattern, context.semantics == 2)
    except InvalidRegex:
        message = f"invalid regular expression in label_replace(): {pattern}"
        raise QueryError(message) from None


def _expanded(template: str, match: Any) -> str:
    """Go's Regexp.Expand: `$1`, `${name}`, `$$`; a group that does not exist is empty."""
    written = 0

    def value(reference: re.Match[str]) -> str:
        nonlocal written
        text = group(reference)
        written += len(text)
        return _limited(text, written)

    def group(reference: re.Match[str]) -> str:
        name = reference[1] or reference[2]
        if name is None:
            return "$"
        number = name.isascii() and name.isdigit() and (name == "0" or name[0] != "0")
        try:
            text: str | None = match.group(int(name) if number else name)
        except (IndexError, KeyError):
            return ""
        return text or ""

    return _REFERENCE.sub(value, template)
