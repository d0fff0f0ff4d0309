"""From the engine's arrays to what a query answers: only what is present, names dropped."""

from collections.abc import Iterator

import numpy as np

from tocsin_alerting.promql.eval.context import Context, distinct, merged
from tocsin_alerting.promql.eval.extended import edges_of
from tocsin_alerting.promql.eval.label_ops import partly_nameless
from tocsin_alerting.promql.eval.limits import QueryError
from tocsin_alerting.promql.eval.ranges import RangeVector
from tocsin_alerting.promql.eval.unaligned_windows import raw
from tocsin_alerting.promql.eval.vector import Value, Vector, unlabelled
from tocsin_alerting.promql.eval.window import Window, WindowBounds, edges
from tocsin_alerting.promql.result import (
    InstantVector,
    Matrix,
    QueryValue,
    ScalarValue,
    StringValue,
    Track,
)
from tocsin_alerting.tsdb.values import Floats, Ints, is_sample
from tocsin_exporter.snapshot import Labels

_NO_STRINGS = 'invalid expression type "string" for range query, must be Scalar or instant Vector'


def at_once(value: Value, context: Context) -> QueryValue:
    """The value of an instant query."""
    at_ms = context.steps.start_ms
    if isinstance(value, str):
        return StringValue(at_ms, value)
    if not isinstance(value, Vector):
        return ScalarValue(at_ms, float(value[0]))
    vector = _named(value)
    labels, values, rows = vector.series.labels, vector.values[0], vector.order
    if vector.present is not None:
        present = vector.present[0]
        rows = present.nonzero()[0] if rows is None else rows[present[rows]]
    elif rows is None:
        return InstantVector(at_ms, labels, values)
    return InstantVector(at_ms, tuple([labels[row] for row in rows.tolist()]), values[rows])


def over_steps(value: Value, context: Context) -> Matrix:
    if isinstance(value, str):
        raise QueryError(_NO_STRINGS)
    vector = merged(_named(value if isinstance(value, Vector) else unlabelled(value)))
    times = context.steps.times
    tracks = []
    for row in _by_labels(vector):
        values = vector.values[:, row]
        if vector.present is None:
            tracks.append(Track(vector.series.labels[row], times, values))
        elif (present := vector.present[:, row]).any():
            tracks.append(Track(vector.series.labels[row], times[present], values[present]))
    return Matrix(tuple(tracks))


def _by_labels(vector: Vector) -> list[int]:
    labels = vector.series.labels
    return vector.series.memo(
        "by labels", lambda: sorted(range(len(labels)), key=labels.__getitem__)
    )


def _named(vector: Vector) -> Vector:
    """With the names dropped whose series lost them; raises QueryError for equal series then."""
    if vector.unnamed is not False:
        series = partly_nameless(vector.series, vector.unnamed)
        vector = Vector(series, vector.values, vector.present, order=vector.order)
    return distinct(vector)


def _track(labels: Labels, times: Ints, cells: Floats, span: WindowBounds) -> list[Track]:
    """The samples of one series; nothing when there are none."""
    present = is_sample(cells)
    times, cells = times[present], cells[present]
    if not len(cells):
        return []
    if not span.before_ms:
        return [Track(labels, times, cells)]
    at_edges = edges_of(
        Window(cells[:, None], times[:, None], None, span), span.after_ms > 0, False
    )
    if not at_edges.has[0]:
        return []
    inner = slice(int(at_edges.first[0]), int(at_edges.last[0]) + 1)
    moments = np.concatenate([[span.start_ms], times[inner], [span.end_ms]])
    return [Track(labels, moments, np.concatenate([at_edges.left, cells[inner], at_edges.right]))]


def samples(windows: RangeVector, context: Context) -> Matrix:
    """The raw samples in the window of an instant query."""
    series = partly_nameless(windows.series, windows.unnamed)
    tracks = []
    for labels, (times, cells) in zip(series.labels, _raw(windows, context), strict=True):
        tracks += _track(labels, times, cells, windows.spans[0])
    return Matrix(tuple(sorted(tracks, key=lambda track: track.labels)))


def _raw(windows: RangeVector, context: Context) -> Iterator[tuple[Ints, Floats]]:
    """The times and cells of each series in its only window."""
    for frame in windows.frames:
        ((start, stop),) = edges(frame.times, windows.spans, context.semantics == 3)
        context.budget.spend(max(0, stop - start) * frame.count)
        cells, times = frame.cells_in(start, stop), frame.times[start:stop]
        for row in range(frame.count):
            yield times, np.ascontiguousarray(cells[:, row])
    for part in windows.scattered:
        yield from raw(part, windows.spans[0], context.semantics == 3, context.budget)
