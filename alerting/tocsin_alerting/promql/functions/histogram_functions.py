"""histogram_quantile and histogram_fraction over vectors of buckets; those of native histograms,
which are not stored, find none and say so."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

import numpy as np

from tocsin_alerting.promql.eval.context import Context, distinct
from tocsin_alerting.promql.eval.label_ops import with_label
from tocsin_alerting.promql.eval.quantiles import no_quantile, out_of_range
from tocsin_alerting.promql.eval.vector import CELL_BYTES, Scalar, Value, Vector, empty
from tocsin_alerting.promql.functions.histograms import (
    LE,
    BucketLayout,
    Histograms,
    bucket_fraction,
    bucket_quantiles,
    coalesced,
    histograms,
)
from tocsin_alerting.promql.parser.ast import Call, Expr
from tocsin_alerting.promql.parser.types import NEEDS
from tocsin_alerting.strconv import format_number
from tocsin_alerting.tsdb.label_sets import LabelSets
from tocsin_alerting.tsdb.target_labels import METRIC_NAME
from tocsin_alerting.tsdb.values import Floats, Ints, Mask
from tocsin_exporter.snapshot import Labels

Compute = Callable[[Ints, Ints, Floats, Floats], Floats]
"""(steps (n,), which histograms (n,), bounds, counts (n, buckets)) -> a number for each, (n,)."""

_TOGETHER = 2**15  # buckets: few enough for the processor's cache, many to a pass of numpy

_BAD_BUCKET = 'bucket label "le" is missing or has a malformed value of'
_FORCED = (
    "input to histogram_quantile needed to be fixed for monotonicity (see "
    "https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)"
)


def quantile(call: Call, args: Sequence[Value], context: Context) -> Vector:
    asked, vector = cast(tuple[Scalar, Vector], args)
    for q in out_of_range(asked):
        context.notes.warn(no_quantile(q), call.args[0].span)
    return _over(vector, call.args[1], _quantile_at(asked, vector, call.args[1], context), context)


def quantiles(call: Call, args: Sequence[Value], context: Context) -> Vector:
    """Several quantiles at once; each series says in the given label which one it is."""
    vector, label = cast(tuple[Vector, str], tuple(args[:2]))
    steps, series = len(vector.values), len(histograms(vector.series).series) * len(args[2:])
    context.budget.room(2 * CELL_BYTES * steps * series)
    answers = []
    for q, source in zip(cast(Sequence[Scalar], args[2:]), call.args[2:], strict=True):
        for wrong in out_of_range(q):
            context.notes.warn(no_quantile(wrong), source.span)
        compute = _quantile_at(q, vector, call.args[0], context)
        answer = _over(vector, call.args[0], compute, context)
        answers.append(replace(answer, series=_labelled(answer.series, label, float(q[0]))))
    labels = tuple(labels for result in answers for labels in result.series.labels)
    values = np.concatenate([result.values for result in answers], axis=1)
    present = np.concatenate([result.present_mask for result in answers], axis=1)
    return distinct(Vector(LabelSets(labels), values, present, context.semantics == 3))


def _labelled(series: LabelSets, label: str, q: float) -> LabelSets:
    text = open_metrics_number(q)
    return LabelSets(tuple(with_label(labels, label, text) for labels in series.labels))


def open_metrics_number(value: float) -> str:
    """Like the shortest Go float, with `.0` where it would read as an integer."""
    if np.isnan(value) or np.isinf(value):
        return format_number(value)
    text = f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return text if set(text) & set("e.") else f"{text}.0"


def _quantile_at(quantiles: Scalar, vector: Vector, source: Expr, context: Context) -> Compute:
    labels, times = histograms(vector.series).series.labels, context.steps.times.tolist()

    def compute(steps: Ints, numbers: Ints, bounds: Floats, counts: Floats) -> Floats:
        values, falls = bucket_quantiles(quantiles[steps], bounds, counts)
        for at in np.flatnonzero(falls.mask).tolist():
            fall = falls.told(at, times[steps[at]])
            text = _of_metric(_FORCED, labels[numbers[at]], context)
            context.notes.inform(text, source.span, fall)
        return values

    return compute


def _of_metric(text: str, labels: Labels, context: Context) -> str:
    """The message with the name of the metric, where that is still known."""
    name = dict(labels).get(METRIC_NAME, "") if context.semantics == 3 else ""
    return f'{text} for metric name "{name}"' if name else text


def fraction(call: Call, args: Sequence[Value], context: Context) -> Vector:
    lows, highs, vector = cast(tuple[Scalar, Scalar, Vector], args)
    if context.semantics == 2:  # which knows it for native histograms only
        return empty(len(vector.values))

    def compute(steps: Ints, _: Ints, bounds: Floats, counts: Floats) -> Floats:
        of_each = (lows[steps], highs[steps], bounds, counts)
        rows = zip(*(numbers.tolist() for numbers in of_each), strict=True)
        return np.array([bucket_fraction(*row) for row in rows])

    return _over(vector, call.args[2], compute, context)


def _over(vector: Vector, source: Expr, compute: Compute, context: Context) -> Vector:
    buckets = histograms(vector.series)
    _note_bad(buckets, vector, source, context)
    steps = len(vector.values)
    values = np.zeros((steps, len(buckets.series)))
    present = np.zeros(values.shape, np.bool_)
    for layout in buckets.layouts:
        most = max(1, _TOGETHER // layout.rows.size)
        for first in range(0, steps, most):
            context.budget.spend(0)
            steps_now = np.arange(first, min(first + most, steps))
            _at_steps(steps_now, vector, layout, compute, (values, present))
    whole = None if present.all() else present
    return context.unnamed(Vector(buckets.series, values, whole))


def _at_steps(
    steps_now: Ints,
    vector: Vector,
    layout: BucketLayout,
    compute: Compute,
    out: tuple[Floats, Mask],
) -> None:
    """The histograms of a layout at a few steps, in a row; `out` is (steps, histograms)."""
    values, present = out
    rows = slice(int(steps_now[0]), int(steps_now[-1]) + 1)
    counts = vector.values[rows][:, layout.rows]
    twins = (layout.bounds[:, 1:] == layout.bounds[:, :-1]).any(axis=1)
    present_buckets = None if vector.present is None else vector.present[rows][:, layout.rows]
    every = np.ones(counts.shape[:2], np.bool_)
    whole = (every if present_buckets is None else present_buckets.all(axis=2)) & ~twins
    steps, which = np.nonzero(whole)
    at, numbers = steps_now[steps], layout.numbers[which]
    values[at, numbers] = compute(at, numbers, layout.bounds[which], counts[whole])
    present[at, numbers] = True
    partly = ~whole & (every if present_buckets is None else present_buckets.any(axis=2))
    for step, row in np.argwhere(partly).tolist():
        mask = slice(None) if present_buckets is None else present_buckets[step, row]
        bounds_and_counts = layout.bounds[row][mask].tolist(), counts[step, row][mask].tolist()
        bounds, sums = coalesced(*bounds_and_counts)
        at, numbers = steps_now[step : step + 1], layout.numbers[row : row + 1]
        values[at, numbers] = compute(at, numbers, np.array([bounds]), np.array([sums]))
        present[at, numbers] = True


def _note_bad(buckets: Histograms, vector: Vector, source: Expr, context: Context) -> None:
    for row in buckets.bad:
        if vector.present_mask[:, row].any():
            labels = vector.series.labels[row]
            text = f'{_BAD_BUCKET} "{dict(labels).get(LE, "")}"'
            context.notes.warn(_of_metric(text, labels, context), source.span)


def finds_no_native_histograms(call: Call, _: Sequence[Value], context: Context) -> Vector:
    """Nothing: Prometheus leaves out float samples here too, though without a word."""
    context.notes.warn(f"{call.function}() {NEEDS}", call.span)
    return empty(context.steps.count)
