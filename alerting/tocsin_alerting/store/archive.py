"""What the store hands over to be kept, and asks for when it no longer has it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from tocsin_alerting.store.cell import Floats, Ints
from tocsin_alerting.store.columns import Part
from tocsin_alerting.store.matchers import Verdicts
from tocsin_alerting.store.rows import MatcherSets
from tocsin_alerting.store.runs import Runs
from tocsin_alerting.store.selection import Selection
from tocsin_exporter.snapshot import Labels, Source


@dataclass(frozen=True, slots=True)
class Owner:
    """This row of a source is of that series from now on; without a source, this loose row."""

    source: Source | None
    row: int
    labels: Labels


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """Cells written at `at_ms`. With `whole` they are all that the source has: the series that
    it has no longer are among them, with a stale marker each."""

    source: Source
    at_ms: int
    rows: Ints
    values: Floats
    whole: bool


@dataclass(frozen=True, slots=True, eq=False)
class Scraps:
    """Samples (n,) of loose series, in the order in which they came."""

    rows: Ints
    times: Ints
    values: Floats


@dataclass(frozen=True, slots=True)
class Shift:
    """What was stored up to `until_ms` moved by `delta_ms`."""

    delta_ms: int
    until_ms: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Whatever was handed over before this is part of what `Store.held` gave."""


Entry: TypeAlias = Owner | Column | Scraps | Shift | Checkpoint


@dataclass(frozen=True, slots=True, eq=False)
class Live:
    """What a selector chose of a source in memory; segments have what is before `begins_ms`."""

    source: Source
    labels: tuple[Labels, ...]
    part: Part
    begins_ms: int


@dataclass(frozen=True, slots=True, eq=False)
class LivePairs:
    """What a selector chose of the loose series in memory: `rows` (ascending) of `runs`."""

    labels: tuple[Labels, ...]
    rows: Ints
    runs: Runs


class Archive(Protocol):
    """`retention_ms` is how long it keeps samples."""

    @property
    def retention_ms(self) -> int: ...

    @property
    def up(self) -> bool:
        """Whether what is handed over is kept at present."""

    @property
    def progress(self) -> int:
        """It grows whenever the archive has written what it was handed."""

    def record(self, entry: Entry) -> None:
        """Takes it to be written later, by another thread: no I/O here, and no error."""

    def seal_due(self, now_ms: int) -> None:
        """It is `now_ms`: what is older than the running hour may be sealed."""

    def newest(self) -> Mapping[Source, int]:
        """The time of the newest sealed column of each source."""

    def newest_pairs(self) -> int | None:
        """The time of the newest sealed sample of a loose series; None: there is none."""

    def newest_of(self, series: Sequence[Labels], pairs_alone: bool = False) -> tuple[Ints, Ints]:
        """The time (n,) and the bits (n,) of the newest sealed sample of each series, NEVER_MS and
        0 where there is none; `pairs_alone`: of those that it has in pairs. This reads files."""

    def join(
        self,
        matcher_sets: MatcherSets,
        live: Sequence[Live],
        pairs: LivePairs | None,
        t0_ms: int,
        t1_ms: int,
        verdicts: Verdicts,
    ) -> Selection:
        """What was chosen in memory with what was sealed before it."""
