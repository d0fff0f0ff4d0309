"""Samples of series that share no time axis: (time, value) pairs, those of one series in a row."""

from dataclasses import dataclass
from typing import Protocol

from tocsin_alerting.store.cell import Floats, Ints, Mask


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Those of series i stand in offsets[i]:offsets[i + 1] of `times` (Unix ms, ascending within a
    series) and `values`; stale markers are among them, cells without a sample are not.

    `starts` (Unix ms) say when the counters behind them began to count, 0 where that is unknown;
    None where no writer says it.
    """

    offsets: Ints  # (series + 1,)
    times: Ints
    values: Floats
    starts: Ints | None = None


class Scattered(Protocol):
    """A part of a selection whose `count` series have times of their own.

    It is read stretch by stretch: an evaluation over days never holds them all.
    """

    @property
    def count(self) -> int: ...

    def between(self, t0_ms: int, t1_ms: int) -> Pairs:
        """The samples in the closed interval."""

    def held(self, t0_ms: int, t1_ms: int) -> Mask:
        """Which series (count,) have a sample in the closed interval, stale markers aside."""
