"""What memory holds of one source at one moment, for those who write it down."""

from dataclasses import dataclass

from tocsin_alerting.store.cell import Ints
from tocsin_alerting.store.columns import Columns
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
