"""What memory holds at one moment, for those who write it down."""

from collections.abc import Sequence
from dataclasses import dataclass

from tocsin_alerting.tsdb.head.columns import Columns
from tocsin_alerting.tsdb.head.sorted_run import SortedRun
from tocsin_alerting.tsdb.values import Ints
from tocsin_exporter.snapshot import Labels, Source


@dataclass(frozen=True, slots=True, eq=False)
class AlignedSnapshot:
    """What memory holds of a source: its columns, the series of its rows, and which columns (by
    number) are sealed, or closed and about to be. `present_rows` are the rows it has at present.

    `moved_ms` is how far the wall clock has moved the sealed ones from their times in blocks.
    """

    source: Source
    columns: Columns
    rows: Ints
    labels: tuple[Labels, ...]
    present_rows: Ints
    sealed: int
    closed: int
    moved_ms: int


@dataclass(frozen=True, slots=True, eq=False)
class UnalignedSnapshot:
    """What it holds of unaligned series, in the order of arrival; the times as in
    `UnalignedHead`."""

    rows: Ints
    labels: tuple[Labels, ...]
    runs: tuple[SortedRun, ...]
    begins_ms: int
    floor_ms: int


@dataclass(frozen=True, slots=True, eq=False)
class HeadSnapshot:
    """Everything that memory holds; of what is about to be sealed `late_samples` came late."""

    sources: Sequence[AlignedSnapshot]
    unaligned: UnalignedSnapshot
    late_samples: int = 0
