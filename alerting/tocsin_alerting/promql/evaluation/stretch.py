"""Samples of series without a common time axis, read stretch by stretch and searched at once."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

import numpy as np

from tocsin_alerting.promql.evaluation.budget import Budget
from tocsin_alerting.store.cell import Floats, Ints, is_stale
from tocsin_alerting.store.pairs import Pairs, Scattered

_FIRST_MS = 600_000
_SAMPLES = 1 << 20  # what a stretch should hold, in samples and in places that are looked up


class What(Enum):
    """What is asked of a sample: its value, or one of its times, in seconds."""

    VALUE = 1
    TIME = 2
    START = 3


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
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

    def numbers(self, what: What) -> Floats | None:
        """(samples,) what is asked for; None where no writer says it."""
        if what is What.VALUE:
            return self.values
        moments = self.times if what is What.TIME else self.starts
        return None if moments is None else moments / 1000.0


def stretches(
    part: Scattered, starts: Ints, ends: Ints, stale: bool, budget: Budget
) -> Iterator[tuple[slice, Stretch]]:
    """Some steps and what lies between their `starts` and `ends` (steps,), both ascending, in ms.

    A stretch is as long as it takes to hold about _SAMPLES, and never shorter than one step's.
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


def _following(reach_ms: int, held: int) -> int:
    """How far the next reading should reach, after one that gave so many samples."""
    return max(2, int((reach_ms + 1) * min(8.0, _SAMPLES / max(1, held))))


def _read(part: Scattered, t0_ms: int, t1_ms: int, reach_ms: int, budget: Budget) -> Pairs:
    """In pieces where a window is long, so that one that is too long ends before it is held."""
    pieces: list[Pairs] = []
    while t0_ms <= t1_ms:
        end_ms = min(t1_ms, t0_ms + reach_ms)
        pieces.append(part.between(t0_ms, end_ms))
        budget.hold(sum(len(one.times) for one in pieces))
        reach_ms = _following(end_ms - t0_ms, len(pieces[-1].times))
        t0_ms = end_ms + 1
    return pieces[0] if len(pieces) == 1 else _joined(pieces)


def _joined(pieces: list[Pairs]) -> Pairs:
    """Those of later times behind those of earlier ones, series by series."""
    numbers = np.concatenate([_numbers(one.offsets) for one in pieces])
    order = np.argsort(numbers, kind="stable")
    offsets = np.sum([one.offsets for one in pieces], axis=0)
    times = np.concatenate([one.times for one in pieces])[order]
    values = np.concatenate([one.values for one in pieces])[order]
    starts = [one.starts for one in pieces if one.starts is not None]
    began = np.concatenate(starts)[order] if len(starts) == len(pieces) else None
    return Pairs(offsets, times, values, began)


def _numbers(offsets: Ints) -> Ints:
    """The number of the series of each sample."""
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


def _stretch(pairs: Pairs, t0_ms: int, t1_ms: int, stale: bool) -> Stretch:
    pairs = pairs if stale else _unmarked(pairs)
    width = t1_ms - t0_ms + 1
    keys = _numbers(pairs.offsets) * width + (pairs.times - t0_ms)
    return Stretch(t0_ms, width, pairs.offsets, pairs.times, pairs.values, keys, pairs.starts)


def _unmarked(pairs: Pairs) -> Pairs:
    """Without the stale markers."""
    samples = ~is_stale(pairs.values)
    if samples.all():
        return pairs
    before = np.concatenate([[0], np.cumsum(samples)])
    starts = None if pairs.starts is None else pairs.starts[samples]
    return Pairs(before[pairs.offsets], pairs.times[samples], pairs.values[samples], starts)
