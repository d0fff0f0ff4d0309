"""Which label bytes are which series of the store, for as long as the store's numbers hold."""

from collections.abc import Mapping, Sequence

from tocsin_alerting.remote_write.layouts import Layouts
from tocsin_alerting.remote_write.numbered import NumberedStore
from tocsin_alerting.store.senders import UNKNOWN, Sender
from tocsin_exporter.snapshot import Labels

MOST = 200_000  # series whose label bytes are remembered
_AT_ONCE = 1_000  # registered under one lock of the store: others want to write, too


class Roster:
    """`known` maps label bytes to the store's numbers; `layouts` are made of such numbers."""

    def __init__(self, store: NumberedStore, most: int = MOST) -> None:
        self._store = store
        self._most = most
        self._epoch: int | None = None
        self._known: dict[bytes, int] = {}
        self.layouts = Layouts()

    @property
    def known(self) -> Mapping[bytes, int]:
        return self._known

    @property
    def epoch(self) -> int:
        """The epoch of the numbers; one that never was while there are none."""
        return -1 if self._epoch is None else self._epoch

    def enrol(self, series: Sequence[Labels], sender: Sender = UNKNOWN) -> list[int] | None:
        """The number of each; below 0 where the store has no place. None: begin anew, with no one
        known, because the numbers given out before are no longer good."""
        numbers: list[int] = []
        for begin in range(0, len(series), _AT_ONCE):
            epoch, some = self._store.register(series[begin : begin + _AT_ONCE], sender)
            if self._epoch is not None and epoch != self._epoch:
                self.forget()
                return None
            self._epoch = epoch
            numbers += some.tolist()
        return numbers

    def remember(self, key: bytes, number: int) -> None:
        """`key` was parsed and checked: these are the labels of that series, and nothing else."""
        if len(self._known) >= self._most:
            self._known.clear()
        self._known[key] = number

    def forget(self) -> None:
        self._epoch = None
        self._known.clear()
        self.layouts = Layouts()
