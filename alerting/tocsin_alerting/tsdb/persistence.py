"""What the store hands over to be kept, and asks for when it no longer has it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np

from tocsin_alerting.tsdb.matchers import MatchMemo
from tocsin_alerting.tsdb.query.selection import HeadSlice, Selection, UnalignedSlice
from tocsin_alerting.tsdb.series_index import MatcherSets
from tocsin_alerting.tsdb.values import STALE_BITS, Floats, Ints
from tocsin_exporter.snapshot import Labels, Source


@dataclass(frozen=True, slots=True)
class SeriesRecord:
    """These rows of a source are of those series from now on; without a source, these unaligned
    rows."""

    source: Source | None
    rows: tuple[int, ...]
    labels: tuple[Labels, ...]


@dataclass(frozen=True, slots=True, eq=False)
class AlignedRecord:
    """`cells` (columns, rows) written at `times` (columns,). With `whole` they are all that the
    source has: the series that it has no longer are among them, with a stale marker each."""

    source: Source
    times: Ints
    rows: Ints
    cells: Floats
    whole: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class UnalignedRecord:
    """Samples (n,) of unaligned rows, those of one row in the order in which they came."""

    rows: Ints
    times: Ints
    values: Floats
    sealed: bool = False


@dataclass(frozen=True, slots=True)
class ClockShift:
    """What was stored up to `until_ms` moved by `delta_ms`."""

    delta_ms: int
    until_ms: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Whatever was handed over before this is part of what `Store.snapshot` gave."""


WalEntry: TypeAlias = SeriesRecord | AlignedRecord | UnalignedRecord | ClockShift
QueueEntry: TypeAlias = WalEntry | Checkpoint


def column_record(
    source: Source, at_ms: int, rows: Ints, values: Floats, whole: bool = False
) -> AlignedRecord:
    """Cells (rows,) of one column."""
    return AlignedRecord(source, np.array([at_ms]), rows, values.reshape(1, -1), whole)


def whole_column(
    source: Source, at_ms: int, rows: Ints, values: Floats, ended: Ints
) -> AlignedRecord:
    """All cells of a source at `at_ms`; the rows that have `ended` are among them, stale."""
    if len(ended):
        stale = np.full(len(ended), STALE_BITS, np.int64).view(np.float64)
        rows, values = np.concatenate([rows, ended]), np.concatenate([values, stale])
    return column_record(source, at_ms, rows, values, True)


class Persistence(Protocol):
    """`retention_ms` is how long it keeps samples."""

    @property
    def retention_ms(self) -> int: ...

    @property
    def up(self) -> bool:
        """Whether what is handed over is kept at present."""
        ...

    @property
    def progress(self) -> int:
        """It grows whenever the persistence has written what it was handed."""
        ...

    def record(self, entry: QueueEntry) -> None:
        """Takes it to be written later, by another thread: no I/O here, and no error. As
        `seal_due` it is called with the store's lock: a step of the clock comes between no two."""
        ...

    def seal_due(self, now_ms: int) -> None:
        """It is `now_ms`: what is older than the running hour may be sealed."""
        ...

    def newest_sealed(self) -> Mapping[Source, int]:
        """The time of the newest sealed column of each source."""
        ...

    def newest_unaligned_ms(self) -> int | None:
        """The time of the newest sealed sample of an unaligned series; None: there is none."""
        ...

    def newest_samples(
        self, series: Sequence[Labels], unaligned_only: bool = False
    ) -> tuple[Ints, Ints]:
        """The time (n,) and the bits (n,) of the newest sealed sample of each series, NEVER_MS and
        0 where there is none; `unaligned_only`: of unaligned samples. This reads files."""
        ...

    def join(
        self,
        matcher_sets: MatcherSets,
        aligned: Sequence[HeadSlice],
        unaligned: UnalignedSlice | None,
        t0_ms: int,
        t1_ms: int,
        memo: MatchMemo,
    ) -> Selection:
        """What was chosen in memory with what was sealed before it."""
        ...
