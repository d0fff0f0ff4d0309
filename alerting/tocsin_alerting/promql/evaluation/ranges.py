"""How a function of a range vector is evaluated: over each window, all series at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tocsin_alerting.promql import ast
from tocsin_alerting.promql.evaluation.annotation import Occurrences
from tocsin_alerting.promql.evaluation.context import Context
from tocsin_alerting.promql.evaluation.elementwise import Function
from tocsin_alerting.promql.evaluation.frame import Frame
from tocsin_alerting.promql.evaluation.scattered import windows
from tocsin_alerting.promql.evaluation.start_times import overlapping
from tocsin_alerting.promql.evaluation.vector import Vector
from tocsin_alerting.promql.evaluation.window import Span, Window, cut, edges
from tocsin_alerting.store.cell import Floats, Ints, Mask
from tocsin_alerting.store.pairs import Scattered
from tocsin_alerting.store.series import SeriesSet
from tocsin_alerting.store.target import NAME

_OVERLAP = "sample has start time that overlaps with previous sample timestamp"

Answer = tuple[Floats, Mask | None]
"""A number for each series of a window, and which of them have one (None: all)."""

Parameters = Sequence[float]
"""The scalar arguments at this step, in the order of the call."""


@dataclass(frozen=True, slots=True)
class Ends:
    """The first and last of `depth` samples that every series has, and nothing between."""

    first: Floats
    last: Floats
    first_ms: int
    last_ms: int
    depth: int
    span: Span


@dataclass(frozen=True, slots=True)
class RangeFunction:
    """`answer` is the function; series without any sample in the window are never shown to it.

    Where only the ends of a window matter, `ends` gives the same from them alone: for series that
    have no gap, and, with `rising`, do not fall. Most counters are such, at any time. `counter`
    says that it is meant for counters, `quantile` that its parameter is a quantile; `after`
    makes the final answer of what there was. With `slides`, 2.42
    moves the window on with the steps in spite of an @. `anchored` and `smoothed` are what it
    means of a selector with these modifiers.
    """

    answer: Callable[[Window, Parameters], Answer]
    ends: Callable[[Ends], Answer] | None = None
    rising: bool = False
    keeps_name: bool = False
    counter: bool = False
    quantile: bool = False
    slides: bool = False
    after: Function | None = None
    anchored: Callable[[Window, Parameters], Answer] | None = None
    smoothed: Callable[[Window, Parameters], Answer] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class RangeVector:
    """The series of a range selector or subquery: those of the frames one after the other, then
    the scattered ones; a window a step."""

    series: SeriesSet
    frames: Sequence[Frame]
    spans: list[Span]
    unnamed: bool | Mask = False
    scattered: Sequence[Scattered] = ()
    place: ast.Span = ast.NOWHERE


def over_windows(
    function: RangeFunction, given: RangeVector, parameters: Sequence[Floats], context: Context
) -> Vector:
    """`function` at every step; `parameters` hold one number a step each."""
    context.budget.spend(len(given.spans) * len(given.series))
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
            name = dict(given.series.labels[columns][row]).get(NAME, "")
            times = Occurrences(int(overlap[row]))
            context.notes.warn(f'{_OVERLAP} for metric "{name}"', given.place, times)
    return Vector(given.series, values, None if present.all() else present, given.unnamed)


def _over_frame(
    function: RangeFunction,
    frame: Frame,
    spans: list[Span],
    parameters: Sequence[Floats],
    context: Context,
    out: tuple[Floats, Mask],
) -> None:
    read = 0  # windows overlap: a sample counts when it is first read
    for step, (start, stop) in enumerate(edges(frame.times, spans, context.semantics == 3)):
        if start < stop and frame.count:
            context.budget.spend(max(0, stop - max(start, read)) * frame.count)
            read = stop
            at_step = [float(one[step]) for one in parameters]
            _fill(
                function, frame, (start, stop), spans[step], at_step, (out[0][step], out[1][step])
            )


def _over_scattered(
    function: RangeFunction,
    part: Scattered,
    spans: list[Span],
    parameters: Sequence[Floats],
    context: Context,
    out: tuple[Floats, Mask],
) -> Ints:
    """In how many windows of each series a sample of a counter begins before the last one ends."""
    overlap = np.zeros(part.count, np.int64)
    for step, window, rows in windows(part, spans, context.semantics == 3, context.budget):
        at_step = [float(one[step]) for one in parameters]
        answer = function.answer(window, at_step)
        _put_rows(answer, window, rows, None, (out[0][step], out[1][step]))
        if function.counter and window.starts is not None:
            overlap[rows] += overlapping(window)
    return overlap


def _fill(
    function: RangeFunction,
    frame: Frame,
    columns: tuple[int, int],
    span: Span,
    parameters: Parameters,
    out: tuple[Floats, Mask],
) -> None:
    start, stop = columns
    done = None
    if function.ends is not None:
        plain = frame.rising(start, stop) if function.rising else frame.gapless(start, stop)
        if plain.any():
            done = plain
            _put(function.ends(_ends(frame, start, stop, span)), plain, out)
            if plain.all():
                return
    for window, rows in cut(frame, start, stop, span):
        if window.depth:
            _put_rows(function.answer(window, parameters), window, rows, done, out)


def _ends(frame: Frame, start: int, stop: int, span: Span) -> Ends:
    first_ms, last_ms = int(frame.times[start]), int(frame.times[stop - 1])
    first, last = frame.column(start), frame.column(stop - 1)
    return Ends(first, last, first_ms, last_ms, stop - start, span)


def _put(answer: Answer, rows: Mask, out: tuple[Floats, Mask]) -> None:
    values, has = answer
    np.copyto(out[0], values, where=rows)
    np.copyto(out[1], rows if has is None else rows & has)


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
