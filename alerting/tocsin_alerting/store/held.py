"""What memory holds at one moment, for those who write it down."""

from collections.abc import Sequence
from dataclasses import dataclass

from tocsin_alerting.store.cell import Floats, Ints
from tocsin_alerting.store.columns import Columns
from tocsin_alerting.store.runs import Run
from tocsin_exporter.snapshot import Labels, Source


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """What memory holds of a source: its columns, the series of its rows, and which columns
    (by number) are sealed, or closed and about to be. `placed` are the rows it has at present.

    `moved_ms` is how far the wall clock has moved the sealed ones from their times in segments.
    """

    source: Source
    columns: Columns
    rows: Ints
    labels: tuple[Labels, ...]
    placed: Ints
    sealed: int
    closed: int
    moved_ms: int


@dataclass(frozen=True, slots=True, eq=False)
class HeldPairs:
    """What it holds of loose series, in the order of arrival; the times as in `Loose`."""

    rows: Ints
    labels: tuple[Labels, ...]
    runs: tuple[Run, ...]
    begins_ms: int
    floor_ms: int


@dataclass(frozen=True, slots=True, eq=False)
class LoosePairs:
    """Samples (n,) of loose rows, by row; those of one row in the order in which they came."""

    rows: Ints
    times: Ints
    values: Floats
    sealed: bool


@dataclass(frozen=True, slots=True, eq=False)
class Stock:
    """Everything that memory holds."""

    sources: Sequence[Held]
    pairs: HeldPairs


@dataclass(frozen=True, slots=True, eq=False)
class Restored:
    """Cells of these series; `whole` as in `Column`."""

    labels: tuple[Labels, ...]
    values: Floats
    whole: bool
