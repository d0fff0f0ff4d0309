"""From selectors to numbers: instant vectors with look-back, and range vectors."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tocsin_alerting.promql.eval.context import Context
from tocsin_alerting.promql.eval.frame import Frame
from tocsin_alerting.promql.eval.limits import Budget, QueryError
from tocsin_alerting.promql.eval.ranges import RangeVector
from tocsin_alerting.promql.eval.unaligned_windows import SampleField, newest
from tocsin_alerting.promql.eval.vector import CELL_BYTES, Vector, empty
from tocsin_alerting.promql.eval.window import WindowBounds
from tocsin_alerting.promql.parser.ast import Duration, Edge, MatrixSelector, VectorSelector
from tocsin_alerting.promql.parser.durations import InvalidDuration, resolve
from tocsin_alerting.tsdb.query.selection import Selection, in_order
from tocsin_alerting.tsdb.series_index import MatcherSets
from tocsin_alerting.tsdb.values import Floats, Ints, Mask, is_absent, is_sample
from tocsin_exporter.snapshot import Labels

_DENSE = 4  # columns a step, or steps a column: with more, columns are looked at one by one
_MANY = 1_000_000  # cells of an answer: with more, see first whether there is anything
_CELLS = 2**17  # read at once
_FARTHEST_MS = 2**63 - 2**53  # what @ may fix, with room for the offsets and ranges of any nesting


def span_ms(duration: Duration, context: Context, negative: bool = False) -> int:
    """Milliseconds of a duration in this query; raises QueryError."""
    if isinstance(duration, int):
        return duration
    query = context.query
    try:
        step_ms = query.step_ms if context.is_range else 0
        return resolve(duration, step_ms, query.end_ms - query.start_ms, negative)
    except InvalidDuration as error:
        raise QueryError(str(error)) from None


def moments(
    at: int | Edge | None, offset: Duration, context: Context, slides: bool = False
) -> Ints:
    """When a selector looks, at each step: moved by @ and offset, (steps,) in Unix ms, ascending.

    With `slides`, @ fixes the first step only and the others follow it.
    """
    times = context.steps.times
    if at is not None:
        fixed = {Edge.START: context.query.start_ms, Edge.END: context.query.end_ms}
        moment = fixed[at] if isinstance(at, Edge) else max(-_FARTHEST_MS, min(at, _FARTHEST_MS))
        times = times - context.steps.start_ms + moment if slides else np.full_like(times, moment)
    offset_ms = span_ms(offset, context, negative=True)
    return times - offset_ms if offset_ms else times


def select_instant(
    node: VectorSelector, context: Context, what: SampleField = SampleField.VALUE
) -> Vector:
    """The newest sample of each series that is no older than the look-back."""
    looks = moments(node.at, node.offset, context)
    edge = 1 if context.semantics == 3 else 0  # the left edge is no longer part of the window
    floors = looks - context.lookback_ms + edge
    if not len(looks):
        floors = looks = np.empty(0, np.int64)
    t0_ms, t1_ms = (int(floors[0]), int(looks[-1])) if len(looks) else (0, 0)
    chosen = context.select(node.matcher_sets, t0_ms, t1_ms)
    budget, cells = context.budget, len(looks) * len(chosen.series)
    if cells > _MANY and not _holds(chosen, floors, looks):
        return empty(len(looks))
    budget.room(CELL_BYTES * cells)
    return _newest_samples(chosen, floors, looks, what, budget)


def _newest_samples(
    chosen: Selection, floors: Ints, looks: Ints, what: SampleField, budget: Budget
) -> Vector:
    samples = [_newest(part, floors, looks, what, budget) for part in chosen.parts]
    samples += [newest(part, floors, looks, what, budget) for part in chosen.unaligned]
    if len(samples) == 1:
        values, present = samples[0]
        return Vector(chosen.series, values, present)
    if not samples:
        return Vector(chosen.series, np.empty((len(looks), 0)))
    values = np.concatenate([newest_values for newest_values, _ in samples], axis=1)
    if all(present is None for _, present in samples):
        return Vector(chosen.series, values)
    masks = [np.ones(v.shape, np.bool_) if p is None else p for v, p in samples]
    return Vector(chosen.series, values, np.concatenate(masks, axis=1))


@dataclass(frozen=True, slots=True, eq=False)
class NewestSamples:
    """The newest sample of each series, by metric and then by labels; times are Unix ms."""

    labels: Sequence[Labels]
    times: Ints
    values: Floats


def select_newest(matcher_sets: MatcherSets, context: Context) -> NewestSamples:
    """What an instant selector would give, each with its own time."""
    looks = context.steps.times
    floors = looks - context.lookback_ms + (1 if context.semantics == 3 else 0)
    chosen = context.select(matcher_sets, int(floors[0]), int(looks[-1]))
    values = _newest_samples(chosen, floors, looks, SampleField.VALUE, context.budget)
    seconds = _newest_samples(chosen, floors, looks, SampleField.TIME, context.budget)
    order = in_order(chosen.series)
    if values.present is not None:
        order = order[values.present[0, order]]
    labels = [chosen.series.labels[at] for at in order.tolist()]
    times = np.rint(seconds.values[0, order] * 1000).astype(np.int64)
    return NewestSamples(labels, times, values.values[0, order])


def _holds(chosen: Selection, floors: Ints, looks: Ints) -> bool:
    """Whether any series has a sample between the first floor and the last look."""
    t0_ms, t1_ms = int(floors[0]), int(looks[-1])
    if any(((part.times >= t0_ms) & (part.times <= t1_ms)).any() for part in chosen.parts):
        return True
    return any(part.has_samples(t0_ms, t1_ms).any() for part in chosen.unaligned)


def spans_of(
    looks: Ints, range_ms: int, context: Context, reach_ms: tuple[int, int] = (0, 0)
) -> list[WindowBounds]:
    """The window of each step, which ends when the selector looks; `reach_ms` is `_reach`."""
    before_ms, after_ms = reach_ms
    steps = zip(context.steps.times.tolist(), looks.tolist(), strict=True)
    return [
        WindowBounds(step, look, range_ms, context.semantics, before_ms, after_ms)
        for step, look in steps
    ]


def select_range(node: MatrixSelector, context: Context, slides: bool = False) -> RangeVector:
    selector = node.vector
    range_ms = span_ms(node.range, context)
    looks = moments(selector.at, selector.offset, context, slides)
    before_ms, after_ms = _reach(selector, context)
    spans = spans_of(looks, range_ms, context, (before_ms, after_ms))
    earliest, latest = (int(looks[0]), int(looks[-1])) if spans else (0, 0)
    if slides and selector.at is not None:
        spans = [_shortened(span, earliest) for span in spans]
    t0_ms, t1_ms = earliest - range_ms - before_ms, latest + after_ms
    chosen = context.select(selector.matcher_sets, t0_ms, t1_ms)
    return RangeVector(
        chosen.series, chosen.parts, spans, scattered=chosen.unaligned, place=node.span
    )


def _reach(selector: VectorSelector, context: Context) -> tuple[int, int]:
    """How far before and after its window a selector reads."""
    before_ms = context.lookback_ms if selector.anchored or selector.smoothed else 0
    return before_ms, context.lookback_ms if selector.smoothed else 0


def select_smoothed(node: VectorSelector, context: Context) -> RangeVector:
    """What a smoothed instant selector looks at: an empty window and its surroundings."""
    looks = moments(node.at, node.offset, context)
    before_ms, after_ms = _reach(node, context)
    spans = spans_of(looks, 0, context, (before_ms, after_ms))
    t0_ms, t1_ms = int(looks[0]) - before_ms, int(looks[-1]) + after_ms
    chosen = context.select(node.matcher_sets, t0_ms, t1_ms)
    return RangeVector(chosen.series, chosen.parts, spans, scattered=chosen.unaligned)


def _shortened(span: WindowBounds, last_ms: int) -> WindowBounds:
    """The window without what lies behind `last_ms`: behind an @ nothing is read."""
    late_ms = max(0, span.end_ms - last_ms)
    return replace(span, end_ms=span.end_ms - late_ms, range_ms=span.range_ms - late_ms)


def _newest(
    part: Frame, floors: Ints, looks: Ints, what: SampleField, budget: Budget
) -> tuple[Floats, Mask | None]:
    """(steps, series) values and which are there, of a part of the selection.

    Steps between two columns find the same cells. Nobody says of samples on a shared time axis
    when their counters began.
    """
    stops = part.times.searchsorted(looks, side="right")
    lefts = part.times.searchsorted(floors, side="left")
    budget.spend(int((lefts < stops).sum()) * part.count)
    starts = lefts.tolist()
    if len(stops) == 1 and starts[0] < stops[0] and what is SampleField.VALUE:
        cells = part.column(stops[0] - 1)
        if not np.isnan(cells).any():
            return cells.reshape(1, -1), None
    values = np.zeros((len(stops), part.count))
    present = np.zeros(values.shape, np.bool_)
    done = np.zeros(len(stops), np.bool_)
    if what is SampleField.VALUE and len(stops) > 1:
        span = int(stops[-1] - stops[0])
        if span < _DENSE * len(stops) and len(stops) < _DENSE * span:
            done = _at_once(part, floors, stops, values, present)
    begins = np.flatnonzero(np.diff(stops, prepend=-1)).tolist()
    for begin, end in zip(begins, [*begins[1:], len(stops)], strict=False):
        start, stop = starts[begin], int(stops[begin])
        if start < stop and what is not SampleField.START and not done[begin]:
            cells, times = _look_back(part, start, stop)
            present[begin:end] = is_sample(cells) & (times >= floors[begin:end, None])
            values[begin:end] = times / 1000.0 if what is SampleField.TIME else cells
    return values, None if present.all() else present


def _at_once(part: Frame, floors: Ints, stops: Ints, values: Floats, present: Mask) -> Mask:
    """Writes `values` and `present` of the steps whose newest column has a cell of every series,
    many columns at a time; the steps (steps,) that it did."""
    done = np.zeros(len(stops), np.bool_)
    most = max(1, _CELLS // max(1, part.count))
    for begin in range(int(stops.searchsorted(1)), len(stops), most):
        steps = slice(begin, begin + most)
        columns = stops[steps] - 1
        first = int(columns[0])
        cells = part.cells_in(first, int(columns[-1]) + 1)[columns - first]
        fresh = part.times[columns] >= floors[steps]
        values[steps] = cells
        present[steps] = is_sample(cells) & fresh[:, None]
        done[steps] = ~is_absent(cells).any(axis=1)
    return done


def _look_back(part: Frame, start: int, stop: int) -> tuple[Floats, Floats]:
    """The newest cell of each series in columns start..stop that holds anything, and its time."""
    cells = np.ascontiguousarray(part.column(stop - 1))
    times = np.full(part.count, float(part.times[stop - 1]))
    absent = is_absent(cells)
    if not absent.any() or stop - start == 1:
        return cells, times
    rows = np.flatnonzero(absent)
    older = np.ascontiguousarray(part.cells_in(start, stop - 1)[:, rows])
    # The last column that holds anything; where none does, any: its cell is absent too.
    at = len(older) - 1 - np.argmax(~is_absent(older)[::-1], axis=0)
    cells = cells.copy()
    cells[rows] = older[at, np.arange(len(rows))]
    times[rows] = part.times[start + at]
    return cells, times
