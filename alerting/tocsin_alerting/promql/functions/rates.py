"""rate, increase, delta, irate, idelta: how fast a series changes."""

import numpy as np

from tocsin_alerting.promql.eval import extended
from tocsin_alerting.promql.eval.ranges import Answer, Parameters, RangeFunction, WindowEdges
from tocsin_alerting.promql.eval.window import Window, last_restart, restarts
from tocsin_alerting.tsdb.values import Floats, Mask


def _extrapolated(ends: WindowEdges, change: Floats, counter: bool, per_second: bool) -> Floats:
    """The change over the whole window, from that between the first and the last sample.

    Where samples lie close to an edge of the window (nearer than 1.1 times their mean distance)
    the slope is taken to go on to that edge, else for half a mean distance, the best guess at
    where the series begins or ends. A counter cannot have been below zero: its slope begins no
    earlier than where it would have been zero. (Prometheus, promql/functions.go, extrapolatedRate)
    """
    sampled = (ends.last_ms - ends.first_ms) / 1000.0
    mean_gap = sampled / (ends.depth - 1)
    threshold = mean_gap * 1.1
    to_start: Floats = (ends.first_ms - ends.start_ms) / 1000.0
    to_end = (ends.end_ms - ends.last_ms) / 1000.0
    to_zero: Floats | float = np.inf
    if counter:
        to_zero = ends.first / change
        to_zero *= sampled
        np.copyto(to_zero, np.inf, where=~((change > 0) & (ends.first >= 0)))
    if ends.semantics == 2:  # in 2.42 the zero point may also bring the start within reach
        to_start = np.fmin(to_start, to_zero)
    to_start = np.where(to_start >= threshold, mean_gap / 2, to_start)
    to_start = np.fmin(to_start, to_zero)
    to_end = np.where(to_end >= threshold, mean_gap / 2, to_end)
    factor: Floats = sampled + to_start
    factor += to_end
    factor /= sampled
    if per_second:
        factor /= ends.range_ms / 1000.0
    return change * factor


def _whole(window: Window, counter: bool, per_second: bool = False) -> Answer:
    ends = _ends_of(window)
    sizes, change = window.sizes, ends.last - ends.first
    if counter and window.depth > 1:
        earlier, later, both = window.pairs()
        fell = later < earlier
        if window.starts is not None:
            fell |= restarts(window)
        fell = fell if both is None else fell & both
        if fell.any():
            # One after the other: near the largest numbers the order decides.
            change = np.cumsum(np.vstack([change, np.where(fell, earlier, 0.0)]), axis=0)[-1]
    answer = _extrapolated(ends, change, counter, per_second)
    if not counter or window.starts is None:
        return answer, sizes >= 2
    known, has = _from_start(window, change)
    known = known / (window.span.range_ms / 1000.0) if per_second else known
    return np.where(has, known, answer), has | (sizes >= 2)


def _from_start(window: Window, change: Floats) -> tuple[Floats, Mask]:
    """The change from where the first sample's counter began, and which series (series,) have it.

    There is nothing to guess on the left then; on the right it is as ever. `change` is that
    between the first and the last sample.
    """
    assert window.starts is not None
    span, start = window.span, window.starts[0]
    first, first_ms = window.first()
    last_ms = window.last()[1]
    gaps = np.maximum(window.sizes - 1, 1)
    gap = (last_ms - first_ms) / 1000.0 / gaps
    to_end = (span.end_ms - last_ms) / 1000.0
    to_end = np.where(to_end >= gap * 1.1, gap / 2, to_end)
    counted = (last_ms - start) / 1000.0
    has: Mask = (start != 0) & (start > span.start_ms) & (start < first_ms)
    return (change + first) * ((counted + to_end) / counted), has


def _ends_of(window: Window) -> WindowEdges:
    """Its arrays have one axis, of series, and `depth` may differ between these."""
    first, first_ms = window.first()
    last, last_ms = window.last()
    span = window.span
    return WindowEdges(
        first,
        last,
        first_ms,
        last_ms,
        np.full(first.shape, window.depth) if window.counts is None else window.counts,
        np.array(span.start_ms),
        np.array(span.end_ms),
        span.range_ms,
        span.semantics,
    )


def _ends(ends: WindowEdges, counter: bool, per_second: bool = False) -> Answer:
    answer = _extrapolated(ends, ends.last - ends.first, counter, per_second)
    return answer, np.broadcast_to(ends.depth >= 2, answer.shape)


def _instant(window: Window, per_second: bool) -> Answer:
    """From the last two samples; a counter that fell began again at zero."""
    last, last_ms = window.last()
    if window.depth < 2:
        return last, np.zeros(last.shape, np.bool_)
    before, before_ms = window.last(1)
    change = last - before
    if per_second:
        fell = last < before
        if window.starts is not None:
            fell |= last_restart(window)
        change = np.where(fell, last, change) / ((last_ms - before_ms) / 1000.0)
    return change, window.sizes >= 2


def _rate(window: Window, _: Parameters) -> Answer:
    return _whole(window, counter=True, per_second=True)


def _rate_of_ends(ends: WindowEdges) -> Answer:
    return _ends(ends, counter=True, per_second=True)


RATE = RangeFunction(
    _rate,
    _rate_of_ends,
    rising=True,
    counter=True,
    anchored=lambda window, _: extended.rate(window, smoothed=False),
    smoothed=lambda window, _: extended.rate(window, smoothed=True),
)
INCREASE = RangeFunction(
    lambda window, _: _whole(window, counter=True),
    lambda ends: _ends(ends, counter=True),
    rising=True,
    counter=True,
    anchored=lambda window, _: extended.change(window, counter=True, smoothed=False),
    smoothed=lambda window, _: extended.change(window, counter=True, smoothed=True),
)
DELTA = RangeFunction(
    lambda window, _: _whole(window, counter=False),
    lambda ends: _ends(ends, counter=False),
    anchored=lambda window, _: extended.change(window, counter=False, smoothed=False),
    smoothed=lambda window, _: extended.change(window, counter=False, smoothed=True),
)
IRATE = RangeFunction(lambda window, _: _instant(window, per_second=True), anywhere=True)
IDELTA = RangeFunction(lambda window, _: _instant(window, per_second=False), anywhere=True)
