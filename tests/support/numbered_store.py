"""What remote write asks of a store, with a list behind it: every sample as it arrived."""

from collections.abc import Mapping, Sequence

import numpy as np

from tocsin_alerting.tsdb.head.request_samples import WriteResult
from tocsin_alerting.tsdb.senders import UNKNOWN, Sender
from tocsin_alerting.tsdb.values import Floats, Ints
from tocsin_exporter.snapshot import Labels

Row = tuple[Labels, int, int]
"""(labels, Unix ms, bits of the value)."""


class NumberedStore:
    """Takes everything, but for the series beyond `most`; `renumber` ends an epoch. `refused`
    says for what reasons it refuses the last samples of each request."""

    def __init__(self, most: int = 10**9, refused: Mapping[str, int] | None = None) -> None:
        self.rows: list[Row] = []
        self.epoch = 7
        self.batches: list[int] = []
        self.senders: list[Sender] = []
        self._most = most
        self._refused = refused or {}
        self._series: list[Labels] = []

    def register(self, series: Sequence[Labels], sender: Sender = UNKNOWN) -> tuple[int, Ints]:
        self.batches.append(len(series))
        self.senders.append(sender)
        return self.epoch, np.array([self._number(one) for one in series], np.int64)

    def write_refs(
        self, epoch: int, numbers: Ints, times: Ints, values: Floats, now_ms: int
    ) -> WriteResult | None:
        if epoch != self.epoch:
            return None
        lost = sum(self._refused.values())
        first = (len(numbers) - lost, next(iter(self._refused))) if lost else None
        lists = numbers.tolist(), times.tolist(), values.view(np.int64).tolist()
        self.rows += [(self._series[n], at, bits) for n, at, bits in zip(*lists, strict=True)]
        return WriteResult(len(numbers) - lost, self._refused, first)

    @property
    def registered(self) -> int:
        return sum(self.batches)

    def renumber(self) -> None:
        self.epoch += 1
        self._series = []

    def taken(self) -> list[Row]:
        """What arrived since the last call."""
        rows, self.rows = self.rows, []
        return rows

    def _number(self, labels: Labels) -> int:
        if labels in self._series:
            return self._series.index(labels)
        if len(self._series) >= self._most:
            return -1
        self._series.append(labels)
        return len(self._series) - 1
