"""A series without its numbers: its family, its labels, and who tells it.

Apart from `snapshot`, so that what reads rules need not load numpy.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

MetricType = Literal["counter", "gauge", "histogram", "summary", "untyped"]
Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Family:
    """One metric family: `unit` is the base unit in words ("seconds", "bytes", "")."""

    name: str
    type: MetricType
    help: str
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a page. `name` is the sample's name: it may end in `_bucket`, `_sum`, `_count`.

    `labels` are sorted by label name, hold no empty value and not the name itself.
    """

    family: Family
    name: str
    labels: Labels


@dataclass(frozen=True, slots=True)
class Source:
    """Who said it. One source is one (job, instance), and all its series share one time axis."""

    job: str
    instance: str

    def __str__(self) -> str:
        """For messages."""
        return f"job {self.job}, instance {self.instance}"


def sorted_labels(values: Mapping[str, str]) -> Labels:
    """Labels in the one order that snapshots and the store use; an empty value is no label."""
    return tuple(sorted((name, value) for name, value in values.items() if value))


def labels(**values: str) -> Labels:
    """The same for names that Python can write."""
    return sorted_labels(values)
