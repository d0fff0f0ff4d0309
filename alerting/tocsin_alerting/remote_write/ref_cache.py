"""Which label bytes are which series of the store, for as long as the store's numbers hold."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from tocsin_alerting.remote_write.request_cache import RequestCache
from tocsin_alerting.tsdb.head.request_samples import WriteResult
from tocsin_alerting.tsdb.senders import UNKNOWN, Sender
from tocsin_alerting.tsdb.values import Floats, Ints
from tocsin_exporter.snapshot import Labels


class RefStore(Protocol):
    """What a receiver needs of the store (tests have one that only counts). Numbers hold for an
    epoch; whoever uses them later is told so."""

    def register(self, series: Sequence[Labels], sender: Sender) -> tuple[int, Ints]:
        """The epoch, and a number for each series: below 0, as in remote_limits.REASONS, where
        there is no place for it."""
        ...

    def write_refs(
        self, epoch: int, refs: Ints, times: Ints, values: Floats, now_ms: int
    ) -> WriteResult | None:
        """Sample i is of series refs[i]. None, and nothing written: the epoch is over."""
        ...


MAX_SERIES = 200_000  # series whose label bytes are remembered
_REGISTERED_AT_ONCE = 1_000  # registered under one lock of the store: others want to write, too


class SeriesRefCache:
    """`ref_by_key` maps label bytes to the store's numbers; `requests` are made of such numbers."""

    def __init__(self, store: RefStore, most: int = MAX_SERIES) -> None:
        self._store = store
        self._most = most
        self._epoch: int | None = None
        self._ref_by_key: dict[bytes, int] = {}
        self.requests = RequestCache()

    @property
    def ref_by_key(self) -> Mapping[bytes, int]:
        return self._ref_by_key

    @property
    def epoch(self) -> int:
        """The epoch of the numbers; one that never was while there are none."""
        return -1 if self._epoch is None else self._epoch

    def register(self, series: Sequence[Labels], sender: Sender = UNKNOWN) -> list[int] | None:
        """The number of each; below 0 where the store has no place. None: begin anew, with no one
        known, because the numbers given out before are no longer good."""
        refs: list[int] = []
        for begin in range(0, len(series), _REGISTERED_AT_ONCE):
            epoch, new_refs = self._store.register(
                series[begin : begin + _REGISTERED_AT_ONCE], sender
            )
            if self._epoch is not None and epoch != self._epoch:
                self.clear()
                return None
            self._epoch = epoch
            refs += new_refs.tolist()
        return refs

    def add(self, key: bytes, ref: int) -> None:
        """`key` was parsed and checked: these are the labels of that series, and nothing else."""
        if len(self._ref_by_key) >= self._most:
            self._ref_by_key.clear()
        self._ref_by_key[key] = ref

    def clear(self) -> None:
        self._epoch = None
        self._ref_by_key.clear()
        self.requests = RequestCache()
