"""What one source said in one round: the value that everything downstream is made from.

Labels once, numbers always: a `Layout` holds the families and the series, a `Snapshot` holds one
number a series. A source whose series did not change hands out the *same* `Layout` object again,
so the exposition and the store may remember whatever they computed for it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Generic, NamedTuple, Protocol, TypeAlias, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from tocsin_exporter.series import Family as Family
from tocsin_exporter.series import Labels as Labels
from tocsin_exporter.series import MetricType as MetricType
from tocsin_exporter.series import Series as Series
from tocsin_exporter.series import Source as Source
from tocsin_exporter.series import labels as labels
from tocsin_exporter.series import sorted_labels as sorted_labels
from tocsin_exporter.slices import Work, at_once, parts

Values = NDArray[np.float64]
Rows = NDArray[np.intp]
K = TypeVar("K")
V = TypeVar("V")

MOST_REMEMBERED = 200_000  # series: what is kept of 100,000 takes some 90 MB


@dataclass(frozen=True, slots=True)
class MachineName:
    """`present` is the `instance` of this machine's sources, those of `jobs`; `before` is what it
    was as long as nobody noted it: the listen address."""

    jobs: frozenset[str]
    present: str
    before: str


@dataclass(frozen=True, slots=True)
class Renaming:
    """This machine's sources (those of `jobs`) had other values of `instance` before: what is kept
    under one of `former` is meant as `present`."""

    jobs: frozenset[str] = frozenset()
    former: frozenset[str] = frozenset()
    present: str = ""

    def source(self, source: Source) -> Source:
        ours = source.job in self.jobs and source.instance in self.former
        return Source(source.job, self.present) if ours else source

    def labels(self, labels: Labels) -> Labels:
        """Labels without a job are of a rule that has taken it away."""
        named = dict(labels)
        if named.get("instance") not in self.former or named.get("job", "") not in (*self.jobs, ""):
            return labels
        return tuple((k, self.present if k == "instance" else v) for k, v in labels)


@dataclass(frozen=True, slots=True)
class Exemplar:
    """An example behind a bucket; `at_ms` is when it was observed, in Unix milliseconds."""

    labels: Labels
    value: float
    at_ms: int


SeriesKey: TypeAlias = tuple[str, Labels]  # a sample's name and its labels


@dataclass(frozen=True, eq=False)
class Layout:
    """The series of a source in the order in which its values come; compared by identity."""

    series: tuple[Series, ...]

    @property
    def families(self) -> Mapping[str, Family]:
        return {s.family.name: s.family for s in self.series}


class LayoutMemo(Generic[K, V]):
    """What was computed for layouts and is asked for again: at most `most` such answers, about
    MOST_REMEMBERED series in all. The last is kept in any case: an engine may have more."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: dict[K, tuple[V, int]] = {}
        self._series = 0

    def get(self, key: K) -> V | None:
        entry = self._kept.pop(key, None)
        if entry is None:
            return None
        self._kept[key] = entry
        return entry[0]

    def keep(self, key: K, value: V, series: int) -> None:
        """`series` is how many the layouts of the key have."""
        self._drop(key)
        self._kept[key] = value, series
        self._series += series
        while len(self._kept) > 1 and (
            len(self._kept) > self._most or self._series > MOST_REMEMBERED
        ):
            self._drop(next(iter(self._kept)))

    def _drop(self, key: K) -> None:
        _, series = self._kept.pop(key, (None, 0))
        self._series -= series


EMPTY = Layout(())
_A_SLICE = 2_000  # series
_VALUE = itemgetter(1)  # of a Sample
_KEY = itemgetter(0, 2, 3)  # all the rest
_Choice: TypeAlias = tuple[Layout, frozenset[str], frozenset[str]]
_choices: LayoutMemo[_Choice, tuple[Layout, Rows]] = LayoutMemo(64)


@dataclass(frozen=True, eq=False)
class Snapshot:
    """One source, one round.

    `at_ms` is Unix milliseconds, `duration_seconds` the time the reading took. `ok` is false when
    the source did not answer; it may then still carry the series that say so (`llm_engine_up 0`).
    `values` has the shape (len(layout.series),) and is read-only. Without `report` the store adds
    no `up` and no `scrape_*`: another snapshot of the same reading has them, or nothing is known.
    Those carry `target_labels` besides job and instance, and count `scraped` samples, or else (-1)
    the values.
    """

    source: Source
    at_ms: int
    ok: bool
    layout: Layout
    values: Values
    duration_seconds: float = 0.0
    exemplars: Mapping[int, Exemplar] = field(default_factory=dict)  # row -> exemplar
    report: bool = True
    target_labels: Labels = ()
    scraped: int = -1

    @property
    def series(self) -> tuple[Series, ...]:
        return self.layout.series

    @property
    def families(self) -> Mapping[str, Family]:
        return self.layout.families


def unread(source: Source, at_ms: int) -> Snapshot:
    """A reading that failed: not ok, and without a series."""
    return Snapshot(source, at_ms, ok=False, layout=EMPTY, values=np.empty(0))


def values_of(snapshot: Snapshot, name: str) -> list[float]:
    """The values of the series of that name."""
    named = zip(snapshot.series, snapshot.values.tolist(), strict=True)
    return [value for series, value in named if series.name == name]


def only(snapshot: Snapshot, families: frozenset[str], series: frozenset[str]) -> Snapshot:
    """The snapshot without the rows whose family and name are in neither of these."""
    layout, rows = _chosen(snapshot.layout, families, series)
    values = snapshot.values[rows]
    values.flags.writeable = False
    exemplars = {
        new: snapshot.exemplars[old]
        for new, old in enumerate(rows.tolist() if snapshot.exemplars else ())
        if old in snapshot.exemplars
    }
    return replace(snapshot, layout=layout, values=values, exemplars=exemplars)


def _chosen(
    layout: Layout, families: frozenset[str], series: frozenset[str]
) -> tuple[Layout, Rows]:
    key = layout, families, series
    known = _choices.get(key)
    if known is None:
        rows = [
            row
            for row, line in enumerate(layout.series)
            if line.family.name in families or line.name in series
        ]
        known = Layout(tuple(layout.series[row] for row in rows)), np.array(rows, np.intp)
        _choices.keep(key, known, len(layout.series))
    return known


class Sample(NamedTuple):
    """What a collector returns: a family, the labels and a number.

    A tuple, because hundreds are made at each scrape and a frozen dataclass takes twice the time.
    `suffix` is `_bucket`, `_sum` or `_count` for the parts of a histogram or summary.
    """

    family: Family
    value: float
    labels: Labels = ()
    suffix: str = ""


class LastSample(NamedTuple):
    """What a series said last before a restart; `labels` are without job and instance."""

    name: str
    labels: Mapping[str, str]
    value: float


@runtime_checkable
class Resumable(Protocol):
    """A collector that must know the last samples of some families, by the name of each."""

    name: str
    remembered: frozenset[str]

    def resume(self, last: Iterable[LastSample], at: float) -> None:
        """Go on from these, before the first reading; they are of Unix second `at`."""
        ...


@runtime_checkable
class ClockShifted(Protocol):
    """A collector that keeps times by the wall clock."""

    def move(self, seconds: float) -> None:
        """The clock was set, and reads so many more now."""
        ...


class DuplicateSeries(ValueError):
    """Two samples of one snapshot have the same name and labels."""

    def __init__(self, series: Series) -> None:
        shown = ",".join(f'{k}="{v}"' for k, v in series.labels)
        super().__init__(f"{series.name}{{{shown}}} was collected twice")


class LayoutCache:
    """Turns samples into (layout, values), giving out the same `Layout` while the series stay."""

    def __init__(self) -> None:
        self._keys: list[tuple[Family, Labels, str]] = []
        self._layout = EMPTY

    def build(self, samples: Iterable[Sample]) -> tuple[Layout, Values]:
        """Raises DuplicateSeries when two samples have one name and label set."""
        return at_once(self.steps(list(samples)))

    def steps(self, batch: Sequence[Sample]) -> Work[tuple[Layout, Values]]:
        """The same in slices, if there are many."""
        keys: list[tuple[Family, Labels, str]] = []
        for part in parts(batch, _A_SLICE):
            if keys:
                yield
            keys += map(_KEY, part)
        layout = self._layout
        if keys != self._keys:
            layout = yield from _layout(batch)
            self._layout, self._keys = layout, keys
        values = np.fromiter(map(_VALUE, batch), np.float64, len(batch))
        values.flags.writeable = False
        return layout, values


def _layout(batch: Sequence[Sample]) -> Work[Layout]:
    series: list[Series] = []
    seen: set[tuple[str, Labels]] = set()
    for part in parts(batch, _A_SLICE):
        if series:
            yield
        for sample in part:
            line = Series(sample.family, sample.family.name + sample.suffix, sample.labels)
            if (line.name, line.labels) in seen:
                raise DuplicateSeries(line)
            seen.add((line.name, line.labels))
            series.append(line)
    return Layout(tuple(series))
