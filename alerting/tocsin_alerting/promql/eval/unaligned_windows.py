"""Samples of series without a common time axis, read some steps at a time and searched at once."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise

import numpy as np

from tocsin_alerting.promql.eval.limits import Budget
from tocsin_alerting.promql.eval.window import Window, WindowBounds
from tocsin_alerting.tsdb.query.unaligned_parts import SeriesSamples, UnalignedPart
from tocsin_alerting.tsdb.values import Floats, Ints, Mask, is_stale

_FIRST_MS = 600_000
_SAMPLES = 1 << 20  # what is read at once, in samples and in places that are looked up


class SampleField(Enum):
    """What is asked of a sample: its value, or one of its times, in seconds."""

    VALUE = 1
    TIME = 2
    START = 3


@dataclass(frozen=True, slots=True, eq=False)
class UnalignedSamples:
    """All samples of a part between `t0_ms` and t0_ms + width - 1, those of a series in a row.

    `keys` (samples,) lay the series end to end on one axis, `width` milliseconds apart, on which
    a single search finds a moment in all of them.
    """

    t0_ms: int
    width: int
    offsets: Ints
    times: Ints
    values: Floats
    keys: Ints
    starts: Ints | None = None

    def behind(self, moments: Ints) -> Ints:
        """(moments, series): the place of the first sample later than that moment."""
        since = np.clip(moments - self.t0_ms, -1, self.width - 1)
        wanted = np.arange(len(self.offsets) - 1) * self.width + since[:, None]
        places: Ints = np.searchsorted(self.keys, wanted, side="right")
        return places

    def numbers(self, what: SampleField) -> Floats | None:
        """(samples,) what is asked for; None where no writer says it."""
        if what is SampleField.VALUE:
            return self.values
        moments = self.times if what is SampleField.TIME else self.starts
        return None if moments is None else moments / 1000.0


def read_samples(
    part: UnalignedPart, starts: Ints, ends: Ints, stale: bool, budget: Budget
) -> Iterator[tuple[slice, UnalignedSamples]]:
    """Some steps and what lies between their `starts` and `ends` (steps,), both ascending, in ms.

    What is read at once holds about _SAMPLES, and never shorter than one step's.
    Stale markers are in it only with `stale`. Raises QueryLimitExceeded or QueryTimeout.
    """
    step, reach_ms = 0, _FIRST_MS
    most = max(1, _SAMPLES // max(1, part.count))
    while step < len(starts) and part.count:
        t0_ms = int(starts[step])
        within = int(np.searchsorted(ends, t0_ms + reach_ms, side="right"))
        stop = min(max(step + 1, within), step + most)
        t1_ms = int(ends[stop - 1])
        if t0_ms <= t1_ms:
            pairs = _read(part, t0_ms, t1_ms, reach_ms, budget)
            yield slice(step, stop), _stretch(pairs, t0_ms, t1_ms, stale)
            reach_ms = _following(t1_ms - t0_ms, len(pairs.times))
        step = stop


def _following(reach_ms: int, samples: int) -> int:
    """How far the next reading should reach, after one that gave so many samples."""
    return max(2, int((reach_ms + 1) * min(8.0, _SAMPLES / max(1, samples))))


def _read(
    part: UnalignedPart, t0_ms: int, t1_ms: int, reach_ms: int, budget: Budget
) -> SeriesSamples:
    """In pieces where a window is long, so that one that is too long ends before it is held."""
    pieces: list[SeriesSamples] = []
    while t0_ms <= t1_ms:
        end_ms = min(t1_ms, t0_ms + reach_ms)
        pieces.append(part.between(t0_ms, end_ms))
        budget.hold(sum(len(piece.times) for piece in pieces))
        reach_ms = _following(end_ms - t0_ms, len(pieces[-1].times))
        t0_ms = end_ms + 1
    return pieces[0] if len(pieces) == 1 else _joined(pieces)


def _joined(pieces: list[SeriesSamples]) -> SeriesSamples:
    """Those of later times behind those of earlier ones, series by series."""
    numbers = np.concatenate([_numbers(piece.offsets) for piece in pieces])
    order = np.argsort(numbers, kind="stable")
    offsets = np.sum([piece.offsets for piece in pieces], axis=0)
    times = np.concatenate([piece.times for piece in pieces])[order]
    values = np.concatenate([piece.values for piece in pieces])[order]
    starts = [piece.starts for piece in pieces if piece.starts is not None]
    began = np.concatenate(starts)[order] if len(starts) == len(pieces) else None
    return SeriesSamples(offsets, times, values, began)


def _numbers(offsets: Ints) -> Ints:
    """The number of the series of each sample."""
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


def _stretch(pairs: SeriesSamples, t0_ms: int, t1_ms: int, stale: bool) -> UnalignedSamples:
    pairs = pairs if stale else _unmarked(pairs)
    width = t1_ms - t0_ms + 1
    keys = _numbers(pairs.offsets) * width + (pairs.times - t0_ms)
    return UnalignedSamples(
        t0_ms, width, pairs.offsets, pairs.times, pairs.values, keys, pairs.starts
    )


def _unmarked(pairs: SeriesSamples) -> SeriesSamples:
    """Without the stale markers."""
    samples = ~is_stale(pairs.values)
    if samples.all():
        return pairs
    before = np.concatenate([[0], np.cumsum(samples)])
    starts = None if pairs.starts is None else pairs.starts[samples]
    return SeriesSamples(before[pairs.offsets], pairs.times[samples], pairs.values[samples], starts)


def newest(
    part: UnalignedPart, floors: Ints, looks: Ints, what: SampleField, budget: Budget
) -> tuple[Floats, Mask | None]:
    """(steps, series): the newest sample at or before each look and not before its floor.

    A stale marker is the newest too, and says that nothing is there.
    """
    values = np.zeros((len(looks), part.count))
    present = np.zeros(values.shape, np.bool_)
    for steps, samples in read_samples(part, floors, looks, stale=True, budget=budget):
        budget.spend(0)
        numbers = samples.numbers(what)
        if numbers is None or not len(numbers):
            continue
        stops = samples.behind(looks[steps])
        at = np.maximum(stops - 1, 0)
        there = samples.behind(floors[steps] - 1) < stops
        present[steps] = there & ~is_stale(samples.values)[at]
        values[steps] = numbers[at]
        budget.spend(int(there.sum()))
    return values, None if present.all() else present


def windows(
    part: UnalignedPart, spans: list[WindowBounds], open_left: bool, budget: Budget
) -> Iterator[tuple[int, Window, Ints]]:
    """The number of a step, a window of it, and the rows (series,) that have samples in that.

    Series with about as many samples share a window, so that a few long ones do not make the
    others as deep as themselves.
    """
    left = 0 if open_left else 1
    starts = np.array([bounds.start_ms - bounds.before_ms - left for bounds in spans], np.int64)
    ends = np.array([bounds.end_ms + bounds.after_ms for bounds in spans], np.int64)
    read_ms = int(starts[0]) if len(spans) else 0
    for steps, samples in read_samples(part, starts + 1, ends, stale=False, budget=budget):
        first, stop = samples.behind(starts[steps]), samples.behind(ends[steps])
        read = np.concatenate([samples.behind(np.array([read_ms])), stop[:-1]])
        budget.spend(int(np.maximum(stop - np.maximum(first, read), 0).sum()))
        read_ms = int(ends[steps][-1])
        for at, span in enumerate(spans[steps]):
            budget.spend(0)
            for rows in _alike(np.maximum(stop[at] - first[at], 0)):
                window = _packed(samples, first[at, rows], stop[at, rows], span)
                yield steps.start + at, window, rows


def raw(
    part: UnalignedPart, span: WindowBounds, open_left: bool, budget: Budget
) -> Iterator[tuple[Ints, Floats]]:
    """The times and values (samples,) of each series in the window and around it."""
    t0_ms, t1_ms = span.start_ms - span.before_ms + open_left, span.end_ms + span.after_ms
    window = np.array([t0_ms]), np.array([t1_ms])
    for _, samples in read_samples(part, *window, stale=False, budget=budget):
        budget.spend(len(samples.keys))
        for begin, end in pairwise(samples.offsets.tolist()):
            yield samples.times[begin:end], samples.values[begin:end]


def _alike(counts: Ints) -> list[Ints]:
    """The series that have samples, put together by the number of binary digits of how many."""
    _, digits = np.frexp(counts.astype(np.float64))
    return [np.flatnonzero(digits == digit) for digit in np.unique(digits[counts > 0]).tolist()]


def _packed(samples: UnalignedSamples, first: Ints, stop: Ints, span: WindowBounds) -> Window:
    counts = stop - first
    depth = int(counts.max())
    places = first + np.arange(depth)[:, None]
    np.minimum(places, len(samples.keys) - 1, out=places)
    starts = None if samples.starts is None else samples.starts[places]
    sizes = None if (counts == depth).all() else counts
    return Window(samples.values[places], samples.times[places], sizes, span, starts)
