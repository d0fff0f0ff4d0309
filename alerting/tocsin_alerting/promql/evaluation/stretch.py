"""Samples of series without a common time axis, read stretch by stretch and searched at once."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

import numpy as np

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
    part: Scattered, starts: Ints, ends: Ints, stale: bool
) -> Iterator[tuple[slice, Stretch]]:
    """Some steps and what lies between their `starts` and `ends` (steps,), both ascending, in ms.

    A stretch is as long as it takes to hold about _SAMPLES, and never shorter than one step's.
    Stale markers are in it only with `stale`.
    """
    step, reach_ms = 0, _FIRST_MS
    most = max(1, _SAMPLES // max(1, part.count))
    while step < len(starts) and part.count:
        t0_ms = int(starts[step])
        within = int(np.searchsorted(ends, t0_ms + reach_ms, side="right"))
        stop = min(max(step + 1, within), step + most)
        t1_ms = int(ends[stop - 1])
        if t0_ms <= t1_ms:
            found = _stretch(part.between(t0_ms, t1_ms), t0_ms, t1_ms, stale)
            yield slice(step, stop), found
            held = max(1, len(found.keys))
            reach_ms = max(2, int((t1_ms - t0_ms + 1) * min(8.0, _SAMPLES / held)))
        step = stop


def _stretch(pairs: Pairs, t0_ms: int, t1_ms: int, stale: bool) -> Stretch:
    pairs = pairs if stale else _unmarked(pairs)
    width = t1_ms - t0_ms + 1
    numbers = np.repeat(np.arange(len(pairs.offsets) - 1), np.diff(pairs.offsets))
    keys = numbers * width + (pairs.times - t0_ms)
    return Stretch(t0_ms, width, pairs.offsets, pairs.times, pairs.values, keys, pairs.starts)


def _unmarked(pairs: Pairs) -> Pairs:
    """Without the stale markers."""
    samples = ~is_stale(pairs.values)
    if samples.all():
        return pairs
    before = np.concatenate([[0], np.cumsum(samples)])
    starts = None if pairs.starts is None else pairs.starts[samples]
    return Pairs(before[pairs.offsets], pairs.times[samples], pairs.values[samples], starts)
