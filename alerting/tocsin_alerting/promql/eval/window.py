"""The samples in a range selector's window, cut out of a frame."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tocsin_alerting.promql.eval.frame import Frame
from tocsin_alerting.promql.parser.signatures import Semantics
from tocsin_alerting.tsdb.values import Floats, Ints, Mask, is_sample


@dataclass(frozen=True, slots=True)
class WindowBounds:
    """The window of one step: it ends at `end_ms` and is `range_ms` long; `step_ms` evaluates it.

    The two moments differ by offset and @. `before_ms` and `after_ms` say how far beyond its edges
    samples are read that are not in it.
    """

    step_ms: int
    end_ms: int
    range_ms: int
    semantics: Semantics = 3
    before_ms: int = 0
    after_ms: int = 0

    @property
    def start_ms(self) -> int:
        return self.end_ms - self.range_ms


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """`values` (depth, series), oldest first; `times` (depth, 1) or (depth, series) in ms.

    `counts` (series,) says how many samples each series has: what follows them in `values` is
    of no meaning. It is None where every series has `depth` of them. `starts` (depth, series) say
    in ms when the counters behind the samples began, 0 where that is unknown, None where it never
    is.
    """

    values: Floats
    times: Ints
    counts: Ints | None
    span: WindowBounds
    starts: Ints | None = None

    @property
    def depth(self) -> int:
        return len(self.values)

    @property
    def sizes(self) -> Floats:
        """How many samples each series has, (series,)."""
        if self.counts is None:
            return np.full(self.values.shape[1], float(self.depth))
        return self.counts.astype(np.float64)

    @property
    def valid(self) -> Mask | None:
        """Which of `values` are samples; None: all."""
        if self.counts is None:
            return None
        mask: Mask = np.arange(self.depth)[:, None] < self.counts
        return mask

    def filled(self, value: float) -> Floats:
        """The values with `value` where there is no sample."""
        valid = self.valid
        return self.values if valid is None else np.where(valid, self.values, value)

    def first(self) -> tuple[Floats, Ints]:
        """The oldest value of each series and its time."""
        return self.values[0], np.broadcast_to(self.times[0], self.values[0].shape)

    def last(self, back: int = 0) -> tuple[Floats, Ints]:
        """The newest value of each series, or the one so many before it, and its time."""
        if self.counts is None:
            at = -1 - back
            return self.values[at], np.broadcast_to(self.times[at], self.values[at].shape)
        rows = np.maximum(self.counts - 1 - back, 0)[None, :]
        values = np.take_along_axis(self.values, rows, axis=0)[0]
        times = np.broadcast_to(self.times, self.values.shape)
        return values, np.take_along_axis(times, rows, axis=0)[0]

    def pairs(self) -> tuple[Floats, Floats, Mask | None]:
        """(earlier, later, which pairs are two samples), each (depth - 1, series)."""
        valid = self.valid
        return self.values[:-1], self.values[1:], None if valid is None else valid[1:]


def edges(times: Ints, spans: list[WindowBounds], open_left: bool) -> list[tuple[int, int]]:
    """The columns start..stop of each window; one on its left edge counts when it is closed."""
    starts = np.array([span.start_ms - span.before_ms for span in spans], np.int64)
    ends = np.array([span.end_ms + span.after_ms for span in spans], np.int64)
    left = times.searchsorted(starts, side="right" if open_left else "left").tolist()
    right = times.searchsorted(ends, side="right").tolist()
    return list(zip(left, right, strict=True))


def cut(
    frame: Frame, start: int, stop: int, span: WindowBounds
) -> Iterator[tuple[Window, Ints | None]]:
    """Windows over columns start..stop and the series that each is of (None: all of them).

    Series without a gap go together. When a whole scrape is missing, as when a target was down,
    that is no gap: its column is left out. What has gaps of its own has its samples moved up, so
    that a function meets them in a row.
    """
    times = frame.times[start:stop, None]
    cells = frame.cells_in(start, stop)
    if frame.gapless(start, stop).all():
        yield Window(cells, times, None, span), None
        return
    present = is_sample(cells)
    scraped = present.any(axis=1)
    if not scraped.all():
        cells, times, present = cells[scraped], times[scraped], present[scraped]
    whole = present.all(axis=0)
    if whole.all():
        yield Window(cells, times, None, span), None
        return
    rows = np.flatnonzero(whole)
    if len(rows):
        yield Window(cells[:, rows], times, None, span), rows
    rows = np.flatnonzero(~whole)
    yield _moved_up(cells[:, rows], present[:, rows], times, span), rows


def _moved_up(cells: Floats, present: Mask, times: Ints, span: WindowBounds) -> Window:
    counts = present.sum(axis=0)
    places = np.cumsum(present, axis=0) - 1
    columns, rows = np.nonzero(present)
    target = (places[columns, rows], rows)
    shape = (int(counts.max(initial=0)), cells.shape[1])
    values, moments = np.zeros(shape), np.zeros(shape, np.int64)
    values[target] = cells[columns, rows]
    moments[target] = times[columns, 0]
    return Window(values, moments, counts, span)


# `starts` say when the counter of a sample began to count, where its writer tells. A counter that
# began anew is then seen without a fall. (promql/functions.go, isStartTimestampReset)


def restarts(window: Window) -> Mask:
    """Between which samples (depth - 1, series) a counter began anew.

    A start at the sample before is one of two things: increments, each of which starts where the
    last one ended, or a counter whose start is unknown, which has none or a senseless one before.
    """
    before_ms, at_ms, before, start = _starts_of_pairs(window)
    known = (start != 0) & (start < at_ms)
    increments = (start == before_ms) & (before != 0) & (before < before_ms)
    mask: Mask = known & ((start > before_ms) | increments)
    return mask


def overlapping(window: Window) -> Mask:
    """The series (series,) of which a sample's time of counting reaches behind the one before."""
    before_ms, _, before, start = _starts_of_pairs(window)
    overlap = (start != 0) & (start < before_ms) & (start != before)
    if window.valid is not None:
        overlap &= window.valid[1:]
    mask: Mask = overlap.any(axis=0)
    return mask


def last_restart(window: Window) -> Mask:
    """Which series (series,) began anew between their last two samples."""
    at = np.maximum(window.sizes.astype(np.int64) - 2, 0)[None, :]
    mask: Mask = np.take_along_axis(restarts(window), at, axis=0)[0]
    return mask


def _starts_of_pairs(window: Window) -> tuple[Ints, Ints, Ints, Ints]:
    """Times and starts of all samples but the last, and of all but the first."""
    assert window.starts is not None
    return window.times[:-1], window.times[1:], window.starts[:-1], window.starts[1:]
