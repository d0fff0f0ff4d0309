"""sort, sort_desc, sort_by_label: the order in which an instant query shows its elements."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np

from tocsin_alerting.promql.eval.context import Context
from tocsin_alerting.promql.eval.vector import Value, Vector
from tocsin_alerting.promql.parser.ast import Call
from tocsin_exporter.snapshot import Labels

_INEFFECTIVE = "sort is ineffective for range queries since results are always ordered by labels"
_NUMBERS = re.compile(r"(\d+)")


def ascending(call: Call, args: Sequence[Value], context: Context) -> Vector:
    return _sorted(call, cast(Vector, args[0]), context, 1.0)


def descending(call: Call, args: Sequence[Value], context: Context) -> Vector:
    return _sorted(call, cast(Vector, args[0]), context, -1.0)


def by_label(call: Call, args: Sequence[Value], context: Context) -> Vector:
    return _by_label(call, args, context, reverse=False)


def by_label_desc(call: Call, args: Sequence[Value], context: Context) -> Vector:
    return _by_label(call, args, context, reverse=True)


def _sorted(call: Call, vector: Vector, context: Context, sign: float) -> Vector:
    """By value, NaN last."""
    if context.is_range:
        context.notes.warn(_INEFFECTIVE, call.span)
        return vector
    order = np.argsort(sign * vector.values[0], kind="stable") if len(vector.values) else None
    return replace(vector, order=order)


def _by_label(call: Call, args: Sequence[Value], context: Context, reverse: bool) -> Vector:
    """By the values of these labels as people count (`a2` before `a10`), then by all labels."""
    vector = cast(Vector, args[0])
    if context.is_range:
        context.notes.warn(_INEFFECTIVE, call.span)
        return vector
    names = [cast(str, name) for name in args[1:]]

    def key(row: int) -> tuple[list[list[tuple[int, int, str]]], Labels]:
        labels = vector.series.labels[row]
        values = dict(labels)
        return [_natural(values.get(name, "")) for name in names], labels

    order = sorted(range(len(vector.series)), key=key, reverse=reverse)
    return replace(vector, order=np.array(order, np.int64))


def _natural(text: str) -> list[tuple[int, int, str]]:
    parts = _NUMBERS.split(text)
    return [(0, int(part), part) if part.isdigit() else (1, 0, part) for part in parts if part]
