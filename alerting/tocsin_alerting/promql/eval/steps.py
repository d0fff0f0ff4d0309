"""The moments at which an expression is evaluated."""

from dataclasses import dataclass

import numpy as np

from tocsin_alerting.tsdb.values import Ints


@dataclass(frozen=True, slots=True)
class Steps:
    """Moments from `start_ms` on, `step_ms` apart, up to `end_ms`, on which none need fall.

    An instant query has one.
    """

    start_ms: int
    step_ms: int
    end_ms: int

    @property
    def count(self) -> int:
        return max(0, (self.end_ms - self.start_ms) // self.step_ms + 1)

    @property
    def times(self) -> Ints:
        """(count,) in Unix ms."""
        return self.start_ms + np.arange(self.count, dtype=np.int64) * self.step_ms


def instant(at_ms: int) -> Steps:
    return Steps(at_ms, 1, at_ms)
