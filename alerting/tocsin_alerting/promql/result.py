"""What a query answers: the four kinds of value, without what was never there."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from tocsin_alerting.tsdb.values import Floats, Ints
from tocsin_exporter.snapshot import Labels


@dataclass(frozen=True, slots=True)
class ScalarValue:
    at_ms: int
    value: float


@dataclass(frozen=True, slots=True)
class StringValue:
    at_ms: int
    value: str


@dataclass(frozen=True, slots=True, eq=False)
class InstantVector:
    """One number a series at `at_ms`; `labels` hold `__name__` where the name was kept."""

    at_ms: int
    labels: tuple[Labels, ...]
    values: Floats

    def __iter__(self) -> Iterator[tuple[Labels, float]]:
        return zip(self.labels, self.values.tolist(), strict=True)

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """The samples of one series: `times` in Unix ms and `values`, equally long."""

    labels: Labels
    times: Ints
    values: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Matrix:
    """Series with their samples, ordered by labels."""

    series: tuple[Track, ...]

    def __iter__(self) -> Iterator[Track]:
        return iter(self.series)

    def __len__(self) -> int:
        return len(self.series)


QueryValue: TypeAlias = ScalarValue | StringValue | InstantVector | Matrix


@dataclass(frozen=True, slots=True)
class Result:
    """`warnings` and `infos` are Prometheus's texts, with positions in the query."""

    value: QueryValue
    warnings: tuple[str, ...] = ()
    infos: tuple[str, ...] = ()
