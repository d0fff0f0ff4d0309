"""The shape of a catalogue table: one row a family, with the labels that its series may carry."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from tocsin_exporter.series import Family, MetricType


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table. `labels` names every label that a series of the family may have."""

    family: Family
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OpenRow:
    """A row whose name comes in part from the kernel: each `{}` stands for a part of the field."""

    name: str
    type: MetricType
    help: str

    def family(self, *parts: str, unit: str = "") -> Family:
        return _open_family(self, parts, unit)


@cache  # the fields are the kernel's, so their number is bounded
def _open_family(row: OpenRow, parts: tuple[str, ...], unit: str) -> Family:
    return Family(row.name.format(*parts), row.type, row.help.format(*parts), unit)


class Table(dict[str, Family]):
    """Families by name, in the order of the rows; `labels` says what each one's series carry."""

    def __init__(self, rows: Iterable[Row], open_rows: Iterable[OpenRow] = ()) -> None:
        super().__init__()
        self.labels: dict[str, tuple[str, ...]] = {}
        self.open_rows = tuple(open_rows)
        for row in rows:
            if row.family.name in self:
                raise ValueError(f"{row.family.name} is in the table twice")
            self[row.family.name] = row.family
            self.labels[row.family.name] = row.labels


def counter(name: str, help: str, unit: str = "", *labels: str) -> Row:
    return Row(Family(name, "counter", help, unit), labels)


def gauge(name: str, help: str, unit: str = "", *labels: str) -> Row:
    return Row(Family(name, "gauge", help, unit), labels)


def histogram(name: str, help: str, unit: str = "", *labels: str) -> Row:
    """The label `le` of the buckets goes without saying."""
    return Row(Family(name, "histogram", help, unit), labels)


_UNITS = ("seconds", "bytes", "hertz", "celsius", "ratio")


def alike(type: MetricType, labels: str, helps: Mapping[str, str]) -> tuple[Row, ...]:
    """Rows of one type and the same labels (in words), from names and helps."""
    return tuple(
        Row(Family(name, type, help, unit_of(name)), tuple(labels.split()))
        for name, help in helps.items()
    )


def unit_of(name: str) -> str:
    """The unit that a name ends in, without `_total`; else nothing."""
    word = name.removesuffix("_total").rpartition("_")[2]
    return word if word in _UNITS else ""
