"""How a function of a range vector is evaluated: over each window, all series at once."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from tocsin_alerting.promql.eval import unaligned_windows as scattered
from tocsin_alerting.promql.eval.annotations import Occurrences
from tocsin_alerting.promql.eval.context import Context, Function
from tocsin_alerting.promql.eval.frame import Frame
from tocsin_alerting.promql.eval.vector import CELL_BYTES, Vector, empty
from tocsin_alerting.promql.eval.window import Window, WindowBounds, cut, edges, overlapping
from tocsin_alerting.promql.parser import ast
from tocsin_alerting.promql.parser.signatures import Semantics
from tocsin_alerting.tsdb import window_ends
from tocsin_alerting.tsdb.label_sets import LabelSets
from tocsin_alerting.tsdb.query.unaligned_parts import UnalignedPart
from tocsin_alerting.tsdb.target_labels import METRIC_NAME
from tocsin_alerting.tsdb.values import Floats, Ints, Mask

_OVERLAP = "sample has start time that overlaps with previous sample timestamp"

Answer = tuple[Floats, Mask | None]
"""A number for each series of a window, and which of them have one (None: all)."""

_TOGETHER = 2**15  # numbers: few enough for the processor's cache, many to a pass of numpy

_MANY = 1_000_000  # cells of an answer: with more, see first whether there is anything

Parameters = Sequence[float]
"""The scalar arguments at this step, in the order of the call."""


@dataclass(frozen=True, slots=True, eq=False)
class WindowEdges:
    """The first and the last of `depth` samples in some windows (windows, series), and nothing
    between.

    The other arrays are (windows, 1), or what spreads to the same: times of these samples, and
    where the windows start and end, in ms. All windows are `range_ms` long.
    """

    first: Floats
    last: Floats
    first_ms: Ints
    last_ms: Ints
    depth: Ints
    start_ms: Ints
    end_ms: Ints
    range_ms: int
    semantics: Semantics


@dataclass(frozen=True, slots=True)
class RangeFunction:
    """`answer` is the function; series without any sample in the window are never shown to it.

    Where only the ends of a window matter, `ends` gives the same from them alone: for series that
    have no gap, and, with `rising`, do not fall. Most counters are such, at any time. `counter`
    says that it is meant for counters, `quantile` that its parameter is a quantile; `after`
    makes the final answer of what there was. `anywhere`: it depends on the samples alone, not on
    where the window lies, so that windows of as many samples can be answered as one. With
    `slides`, 2.42
    moves the window on with the steps in spite of an @. `anchored` and `smoothed` are what it
    means of a selector with these modifiers.
    """

    answer: Callable[[Window, Parameters], Answer]
    ends: Callable[[WindowEdges], Answer] | None = None
    rising: bool = False
    keeps_name: bool = False
    counter: bool = False
    quantile: bool = False
    anywhere: bool = False
    slides: bool = False
    after: Function | None = None
    anchored: Callable[[Window, Parameters], Answer] | None = None
    smoothed: Callable[[Window, Parameters], Answer] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class RangeVector:
    """The series of a range selector or subquery: those of the frames one after the other, then
    the scattered ones; a window a step."""

    series: LabelSets
    frames: Sequence[Frame]
    spans: list[WindowBounds]
    unnamed: bool | Mask = False
    scattered: Sequence[UnalignedPart] = ()
    place: ast.PositionRange = ast.NOWHERE


def over_windows(
    function: RangeFunction, given: RangeVector, parameters: Sequence[Floats], context: Context
) -> Vector:
    """`function` at every step; `parameters` hold one number a step each."""
    cells = len(given.spans) * len(given.series)
    if cells > _MANY and not _holds(given, context):
        return empty(len(given.spans))
    context.budget.room(CELL_BYTES * cells)
    values = np.zeros((len(given.spans), len(given.series)))
    present = np.zeros(values.shape, np.bool_)
    offset = 0
    for frame in given.frames:
        columns = slice(offset, offset := offset + frame.count)
        out = (values[:, columns], present[:, columns])
        _over_frame(function, frame, given.spans, parameters, context, out)
    for part in given.scattered:
        columns = slice(offset, offset := offset + part.count)
        out = (values[:, columns], present[:, columns])
        overlap = _over_scattered(function, part, given.spans, parameters, context, out)
        for row in np.flatnonzero(overlap).tolist():
            name = dict(given.series.labels[columns][row]).get(METRIC_NAME, "")
            times = Occurrences(int(overlap[row]))
            context.notes.warn(f'{_OVERLAP} for metric "{name}"', given.place, times)
    return Vector(given.series, values, None if present.all() else present, given.unnamed)


def _holds(given: RangeVector, context: Context) -> bool:
    """Whether any window has a column or a sample."""
    for frame in given.frames:
        places = edges(frame.times, given.spans, context.semantics == 3)
        if any(start < stop for start, stop in places):
            return True
    first, last = given.spans[0], given.spans[-1]
    t0_ms, t1_ms = first.start_ms - first.before_ms, last.end_ms + last.after_ms
    return any(part.has_samples(t0_ms, t1_ms).any() for part in given.scattered)


def _over_frame(
    function: RangeFunction,
    frame: Frame,
    spans: list[WindowBounds],
    parameters: Sequence[Floats],
    context: Context,
    out: tuple[Floats, Mask],
) -> None:
    ahead = function.ends is not None or function.anywhere
    per_pass = max(1, _TOGETHER // max(1, frame.count)) if ahead else 1
    read = _read(frame, spans, context)
    while windows := list(islice(read, per_pass)):
        if function.anywhere and len(windows) > 1:
            done = _as_one(function, frame, windows, spans, parameters, out)
        else:
            done = _from_ends(function, frame, windows, spans, out)
        for at in np.flatnonzero(~done.all(axis=1)).tolist():
            step, start, stop = windows[at]
            mask = done[at] if done[at].any() else None
            at_step = [float(parameter[step]) for parameter in parameters]
            for window, rows in cut(frame, start, stop, spans[step]):
                if window.depth:
                    answer = function.answer(window, at_step)
                    _put_rows(answer, window, rows, mask, (out[0][step], out[1][step]))


_Columns = tuple[int, int, int]
"""A step, and the columns start..stop of its window."""


def _read(frame: Frame, spans: list[WindowBounds], context: Context) -> Iterator[_Columns]:
    """The windows that have columns; each column, and what becomes of the window, counts against
    the budget."""
    read = 0  # windows overlap: a sample counts when it is first read
    for step, (start, stop) in enumerate(edges(frame.times, spans, context.semantics == 3)):
        if start < stop and frame.count:
            context.budget.spend((1 + max(0, stop - max(start, read))) * frame.count)
            read = stop
            yield step, start, stop


def _over_scattered(
    function: RangeFunction,
    part: UnalignedPart,
    spans: list[WindowBounds],
    parameters: Sequence[Floats],
    context: Context,
    out: tuple[Floats, Mask],
) -> Ints:
    """In how many windows of each series a sample of a counter begins before the last one ends."""
    overlap = np.zeros(part.count, np.int64)
    for step, window, rows in scattered.windows(
        part, spans, context.semantics == 3, context.budget
    ):
        context.budget.spend(len(rows))
        at_step = [float(parameter[step]) for parameter in parameters]
        answer = function.answer(window, at_step)
        _put_rows(answer, window, rows, None, (out[0][step], out[1][step]))
        if function.counter and window.starts is not None:
            overlap[rows] += overlapping(window)
    return overlap


def _from_ends(
    function: RangeFunction,
    frame: Frame,
    windows: list[_Columns],
    spans: list[WindowBounds],
    out: tuple[Floats, Mask],
) -> Mask:
    """Fills in what the ends of these windows tell; for which series (windows, series) it did."""
    done = np.zeros((len(windows), frame.count), np.bool_)
    if function.ends is None:
        return done
    steps, starts, stops = np.array(windows).T
    first, last, done = frame.ends(starts, stops, function.rising)
    if not done.any():
        return done
    values, has = function.ends(_ends(frame, (first, last), (starts, stops), _of(spans, steps)))
    has = done if has is None else done & has
    out[0][steps] = values if has.all() else np.where(has, values, 0.0)
    out[1][steps] = has
    return done


def _as_one(
    function: RangeFunction,
    frame: Frame,
    windows: list[_Columns],
    spans: list[WindowBounds],
    parameters: Sequence[Floats],
    out: tuple[Floats, Mask],
) -> Mask:
    """Puts windows of as many samples side by side, as if they were the series of one; for which
    series (windows, series) it did: those without a gap."""
    steps, starts, stops = np.array(windows).T
    done = np.zeros((len(windows), frame.count), np.bool_)
    if any(len(np.unique(parameter[steps])) > 1 for parameter in parameters):
        return done
    at_step = [float(parameter[steps[0]]) for parameter in parameters]
    for begin, end in window_ends.read_groups(starts, stops, frame.count):
        first, in_group = int(starts[begin]), slice(begin, end)
        cells = frame.cells_in(first, int(stops[end - 1]))
        whole = window_ends.holds_throughout(
            ~np.isnan(cells), starts[in_group] - first, stops[in_group] - first
        )
        for depth, which in _as_long((stops - starts)[in_group], frame.count):
            chosen = begin + which
            columns = starts[chosen] - first + np.arange(depth)[:, None]
            values = cells[columns].reshape(depth, -1)
            times = np.repeat(frame.times[first + columns], frame.count, axis=1)
            gapless = whole[which]
            if not gapless.any():
                continue
            if not gapless.all():
                values, times = values[:, gapless.ravel()], times[:, gapless.ravel()]
            answer, has = function.answer(Window(values, times, None, spans[0]), at_step)
            rows, series = np.nonzero(gapless)
            done[chosen] = gapless
            out[0][steps[chosen][rows], series] = answer
            out[1][steps[chosen][rows], series] = True if has is None else has
    return done


def _as_long(depths: Ints, count: int) -> Iterator[tuple[int, Ints]]:
    """Which windows of `count` series have that many columns, not too many at once."""
    for depth in np.unique(depths).tolist():
        which = np.flatnonzero(depths == depth)
        most = _TOGETHER // (depth * count)
        for at in range(0, len(which), most) if most > 1 else ():
            yield depth, which[at : at + most]


def _of(spans: list[WindowBounds], steps: Ints) -> list[WindowBounds]:
    return [spans[step] for step in steps.tolist()]


def _ends(
    frame: Frame,
    cells: tuple[Floats, Floats],
    columns: tuple[Ints, Ints],
    spans: list[WindowBounds],
) -> WindowEdges:
    starts, stops = columns
    return WindowEdges(
        *cells,
        first_ms=frame.times[starts, None],
        last_ms=frame.times[stops - 1, None],
        depth=(stops - starts)[:, None],
        start_ms=np.array([[span.start_ms] for span in spans]),
        end_ms=np.array([[span.end_ms] for span in spans]),
        range_ms=spans[0].range_ms,
        semantics=spans[0].semantics,
    )


def _put_rows(
    answer: Answer, window: Window, rows: Ints | None, done: Mask | None, out: tuple[Floats, Mask]
) -> None:
    values, has = answer
    if window.counts is not None:
        has = window.counts > 0 if has is None else has & (window.counts > 0)
    target: slice | Ints = slice(None) if rows is None else rows
    if done is not None:
        target = np.arange(len(done)) if rows is None else rows
        fresh = ~done[target]
        target, values = target[fresh], values[fresh]
        has = None if has is None else has[fresh]
    out[0][target] = values
    out[1][target] = True if has is None else has
