"""`anchored` and `smoothed`: windows with a value at their very edges, and no extrapolation.

An anchored window starts with the newest sample at or before its left edge; a smoothed one has
interpolated values at both. (promql/engine.go and functions.go, extendedRate, extendFloats)
"""

from dataclasses import dataclass

import numpy as np

from tocsin_alerting.promql.eval.ranges import Answer, Parameters
from tocsin_alerting.promql.eval.window import Window
from tocsin_alerting.tsdb.values import Floats, Ints, Mask


@dataclass(frozen=True, slots=True, eq=False)
class Edges:
    """The values at both edges of each series's window, and which samples lie strictly inside.

    `first` and `last` (series,) are those of the inner samples, `has` says that there is a window.
    """

    left: Floats
    right: Floats
    first: Ints
    last: Ints
    has: Mask


def edges_of(window: Window, smoothed: bool, counter: bool) -> Edges:
    span = window.span
    first, last = _outermost(window, smoothed)
    first_ms, last_ms = _times(window, first), _times(window, last)
    left, right = _values(window, first), _values(window, last)
    has = last_ms > span.start_ms
    if smoothed:
        has &= first_ms <= span.end_ms
        following = np.minimum(first + 1, window.depth - 1)
        at_start = _between(window, first, following, span.start_ms, counter)
        left = np.where(first_ms < span.start_ms, at_start, left)
        at_end = _between(window, np.maximum(last - 1, 0), last, span.end_ms, counter)
        right = np.where((last > 0) & (last_ms > span.end_ms), at_end, right)
    inner_first = first + (first_ms <= span.start_ms)
    inner_last = last - (last_ms >= span.end_ms)
    return Edges(left, right, inner_first, inner_last, has)


def change(window: Window, counter: bool, smoothed: bool) -> Answer:
    """From edge to edge; a counter that fell went on from zero."""
    edges = edges_of(window, smoothed, counter)
    total = edges.right - edges.left
    if counter:
        rows = np.arange(window.depth)[:, None]
        inside = (rows >= edges.first) & (rows <= edges.last)
        before = np.concatenate([edges.left[None, :], window.values[:-1]])
        before = np.where(rows == edges.first, edges.left, before)
        total = total + np.where(inside & (window.values < before), before, 0.0).sum(axis=0)
        newest = _values(window, np.clip(edges.last, 0, window.depth - 1))
        newest = np.where(edges.last >= edges.first, newest, edges.left)
        total = total + np.where(edges.right < newest, newest, 0.0)
    return total, edges.has


def rate(window: Window, smoothed: bool) -> Answer:
    total, has = change(window, True, smoothed)
    return total / (window.span.range_ms / 1000.0), has


def anchored_pairs(window: Window) -> tuple[Floats, Floats, Mask, Mask]:
    """(earlier, later, which pairs count, which series have a window) from the anchor on."""
    before = _count_before(window, window.span.start_ms, included=True)
    anchor = np.maximum(before - 1, 0)
    earlier, later, both = window.pairs()
    from_anchor: Mask = np.arange(window.depth - 1)[:, None] >= anchor
    has: Mask = before < window.sizes
    return earlier, later, from_anchor if both is None else from_anchor & both, has


def interpolated(window: Window, _: Parameters) -> Answer:
    """The value at the window's end, which lies amid samples; the newest where none follow."""
    moment = window.span.end_ms
    following = _count_before(window, moment, included=False)
    at = np.minimum(following, window.depth - 1)
    before = np.maximum(following - 1, 0)
    inside = following < window.sizes
    exact = inside & (_times(window, at) == moment)
    value = np.where(
        inside, _between(window, before, at, moment, counter=False), _values(window, before)
    )
    return np.where(exact, _values(window, at), value), exact | (following > 0)


def _outermost(window: Window, smoothed: bool) -> tuple[Ints, Ints]:
    """The samples from which the edges' values come."""
    newest = window.sizes.astype(np.int64) - 1
    before = _count_before(window, window.span.start_ms, included=True)
    first = np.maximum(np.minimum(before, newest) - 1, 0)
    if not smoothed:
        return first, newest
    return first, np.minimum(_count_before(window, window.span.end_ms, included=False), newest)


def _count_before(window: Window, moment_ms: int, included: bool) -> Ints:
    """How many samples of each series are older than the moment, or as old."""
    times = np.broadcast_to(window.times, window.values.shape)
    early = times <= moment_ms if included else times < moment_ms
    valid = window.valid
    counts: Ints = (early if valid is None else early & valid).sum(axis=0)
    return counts


def _values(window: Window, rows: Ints) -> Floats:
    values: Floats = np.take_along_axis(window.values, rows[None, :], axis=0)[0]
    return values


def _times(window: Window, rows: Ints) -> Ints:
    times = np.broadcast_to(window.times, window.values.shape)
    moments: Ints = np.take_along_axis(times, rows[None, :], axis=0)[0]
    return moments


def _between(window: Window, before: Ints, after: Ints, moment_ms: int, counter: bool) -> Floats:
    """On the line through two samples; a counter that fell between them rose from zero."""
    start, end = _values(window, before), _values(window, after)
    if counter:
        start = np.where(end < start, 0.0, start)
    start_ms, end_ms = _times(window, before), _times(window, after)
    value: Floats = start + (end - start) * (moment_ms - start_ms) / (end_ms - start_ms)
    return value
