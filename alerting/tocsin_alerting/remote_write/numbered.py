"""What remote write asks of the store: numbers for series, once, and then samples by number."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from tocsin_alerting.store.cell import Floats, Ints
from tocsin_alerting.store.senders import Sender
from tocsin_exporter.snapshot import Labels


class Written(Protocol):
    """How many samples were taken, and how many were not, by reason; `first` is the place of the
    first that was not, with its reason."""

    @property
    def taken(self) -> int: ...

    @property
    def refused(self) -> Mapping[str, int]: ...

    @property
    def first(self) -> tuple[int, str] | None: ...


class NumberedStore(Protocol):
    """Numbers hold for an epoch; whoever uses them later is told so."""

    def register(self, series: Sequence[Labels], sender: Sender) -> tuple[int, Ints]:
        """The epoch, and a number for each series: below 0, as in limits.REASONS, where there is
        no place for it."""

    def write_numbered(
        self, epoch: int, numbers: Ints, times: Ints, values: Floats, now_ms: int
    ) -> Written | None:
        """Sample i is of series numbers[i]. None, and nothing written: the epoch is over."""
