"""The moments at which an expression is evaluated."""

from dataclasses import dataclass

import numpy as np

from tocsin_alerting.store.cell import Ints


@dataclass(frozen=True, slots=True)
class Steps:
    """`count` moments from `start_ms` on, `step_ms` apart; an instant query has one."""

    start_ms: int
    step_ms: int
    count: int

    @property
    def end_ms(self) -> int:
        return self.start_ms + (self.count - 1) * self.step_ms

    @property
    def times(self) -> Ints:
        """(count,) in Unix ms."""
        return self.start_ms + np.arange(self.count, dtype=np.int64) * self.step_ms


def instant(at_ms: int) -> Steps:
    return Steps(at_ms, 1, 1)


def between(start_ms: int, end_ms: int, step_ms: int) -> Steps:
    return Steps(start_ms, step_ms, max(0, (end_ms - start_ms) // step_ms + 1))
