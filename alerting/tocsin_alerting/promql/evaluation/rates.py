"""rate, increase, delta, irate, idelta: how fast a series changes."""

import numpy as np

from tocsin_alerting.promql.evaluation import extended, start_times
from tocsin_alerting.promql.evaluation.ranges import Answer, Ends, Parameters, RangeFunction
from tocsin_alerting.promql.evaluation.window import Span, Window
from tocsin_alerting.store.cell import Floats, Ints


def _extrapolated(
    first: Floats,
    change: Floats,
    first_ms: Ints | int,
    last_ms: Ints | int,
    sizes: Floats | int,
    span: Span,
    counter: bool,
    per_second: bool,
) -> Floats:
    """The change over the whole window, from that between the first and the last sample.

    Where samples lie close to an edge of the window (nearer than 1.1 times their mean distance)
    the slope is taken to go on to that edge, else for half a mean distance, the best guess at
    where the series begins or ends. A counter cannot have been below zero: its slope begins no
    earlier than where it would have been zero. (Prometheus, promql/functions.go, extrapolatedRate)
    """
    sampled = (last_ms - first_ms) / 1000.0
    mean_gap = sampled / (sizes - 1)
    threshold = mean_gap * 1.1
    to_start = (first_ms - span.start_ms) / 1000.0
    to_end = (span.end_ms - last_ms) / 1000.0
    to_zero: Floats | float = np.inf
    if counter:
        to_zero = np.where((change > 0) & (first >= 0), sampled * (first / change), np.inf)
    if span.semantics == 2:  # in 2.42 the zero point may also bring the start within reach
        to_start = np.fmin(to_start, to_zero)
    to_start = np.where(to_start >= threshold, mean_gap / 2, to_start)
    to_start = np.fmin(to_start, to_zero)
    to_end = np.where(to_end >= threshold, mean_gap / 2, to_end)
    factor = (sampled + to_start + to_end) / sampled
    result: Floats = change * (factor / (span.range_ms / 1000.0) if per_second else factor)
    return result


def _whole(window: Window, counter: bool, per_second: bool = False) -> Answer:
    first, first_ms = window.first()
    last, last_ms = window.last()
    sizes = window.sizes
    change = last - first
    if counter and window.depth > 1:
        earlier, later, both = window.pairs()
        fell = later < earlier
        if window.starts is not None:
            fell |= start_times.restarts(window)
        fell = fell if both is None else fell & both
        if fell.any():
            # One after the other: near the largest numbers the order decides.
            change = np.cumsum(np.vstack([change, np.where(fell, earlier, 0.0)]), axis=0)[-1]
    answer = _extrapolated(
        first, change, first_ms, last_ms, sizes, window.span, counter, per_second
    )
    if not counter or window.starts is None:
        return answer, sizes >= 2
    known, has = start_times.from_start(window, change)
    known = known / (window.span.range_ms / 1000.0) if per_second else known
    return np.where(has, known, answer), has | (sizes >= 2)


def _ends(ends: Ends, counter: bool, per_second: bool = False) -> Answer:
    change = ends.last - ends.first
    if ends.depth < 2:
        return change, np.zeros(change.shape, np.bool_)
    answer = _extrapolated(
        ends.first, change, ends.first_ms, ends.last_ms, ends.depth, ends.span, counter, per_second
    )
    return answer, None


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
            fell |= start_times.last_restart(window)
        change = np.where(fell, last, change) / ((last_ms - before_ms) / 1000.0)
    return change, window.sizes >= 2


def _rate(window: Window, _: Parameters) -> Answer:
    return _whole(window, counter=True, per_second=True)


def _rate_of_ends(ends: Ends) -> Answer:
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
IRATE = RangeFunction(lambda window, _: _instant(window, per_second=True))
IDELTA = RangeFunction(lambda window, _: _instant(window, per_second=False))
