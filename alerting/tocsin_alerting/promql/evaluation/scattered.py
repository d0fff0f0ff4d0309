"""Series without a common time axis at each step: the newest sample of each, or its window."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from tocsin_alerting.promql.evaluation.budget import Budget
from tocsin_alerting.promql.evaluation.stretch import Stretch, What, stretches
from tocsin_alerting.promql.evaluation.window import Span, Window
from tocsin_alerting.store.cell import Floats, Ints, Mask, is_stale
from tocsin_alerting.store.pairs import Scattered


def newest(
    part: Scattered, floors: Ints, looks: Ints, what: What, budget: Budget
) -> tuple[Floats, Mask | None]:
    """(steps, series): the newest sample at or before each look and not before its floor.

    A stale marker is the newest too, and says that nothing is there.
    """
    values = np.zeros((len(looks), part.count))
    present = np.zeros(values.shape, np.bool_)
    for steps, stretch in stretches(part, floors, looks, stale=True, budget=budget):
        budget.spend(0)
        numbers = stretch.numbers(what)
        if numbers is None or not len(numbers):
            continue
        stops = stretch.behind(looks[steps])
        at = np.maximum(stops - 1, 0)
        there = stretch.behind(floors[steps] - 1) < stops
        present[steps] = there & ~is_stale(stretch.values)[at]
        values[steps] = numbers[at]
        budget.spend(int(there.sum()))
    return values, None if present.all() else present


def windows(
    part: Scattered, spans: list[Span], open_left: bool, budget: Budget
) -> Iterator[tuple[int, Window, Ints]]:
    """The number of a step, a window of it, and the rows (series,) that have samples in that.

    Series with about as many samples share a window, so that a few long ones do not make the
    others as deep as themselves.
    """
    left = 0 if open_left else 1
    starts = np.array([one.start_ms - one.before_ms - left for one in spans], np.int64)
    ends = np.array([one.end_ms + one.after_ms for one in spans], np.int64)
    read_ms = int(starts[0]) if len(spans) else 0
    for steps, stretch in stretches(part, starts + 1, ends, stale=False, budget=budget):
        first, stop = stretch.behind(starts[steps]), stretch.behind(ends[steps])
        read = np.concatenate([stretch.behind(np.array([read_ms])), stop[:-1]])
        budget.spend(int(np.maximum(stop - np.maximum(first, read), 0).sum()))
        read_ms = int(ends[steps][-1])
        for at, span in enumerate(spans[steps]):
            budget.spend(0)
            for rows in _alike(np.maximum(stop[at] - first[at], 0)):
                window = _packed(stretch, first[at, rows], stop[at, rows], span)
                yield steps.start + at, window, rows


def raw(
    part: Scattered, span: Span, open_left: bool, budget: Budget
) -> Iterator[tuple[Ints, Floats]]:
    """The times and values (samples,) of each series in the window and around it."""
    t0_ms, t1_ms = span.start_ms - span.before_ms + open_left, span.end_ms + span.after_ms
    window = np.array([t0_ms]), np.array([t1_ms])
    for _, stretch in stretches(part, *window, stale=False, budget=budget):
        budget.spend(len(stretch.keys))
        for begin, end in pairwise(stretch.offsets.tolist()):
            yield stretch.times[begin:end], stretch.values[begin:end]


def _alike(counts: Ints) -> list[Ints]:
    """The series that have samples, put together by the number of binary digits of how many."""
    _, digits = np.frexp(counts.astype(np.float64))
    return [np.flatnonzero(digits == one) for one in np.unique(digits[counts > 0]).tolist()]


def _packed(stretch: Stretch, first: Ints, stop: Ints, span: Span) -> Window:
    counts = stop - first
    depth = int(counts.max())
    places = first + np.arange(depth)[:, None]
    np.minimum(places, len(stretch.keys) - 1, out=places)
    starts = None if stretch.starts is None else stretch.starts[places]
    some = None if (counts == depth).all() else counts
    return Window(stretch.values[places], stretch.times[places], some, span, starts)
