"""Series sets made from series sets, each computed once: without a name, without some labels."""

import re
from collections.abc import Iterable

import numpy as np

from tocsin_alerting.promql.eval.grouping import Grouping, grouped
from tocsin_alerting.promql.eval.limits import QueryError
from tocsin_alerting.promql.parser.signatures import Semantics
from tocsin_alerting.tsdb.label_sets import LabelSets
from tocsin_alerting.tsdb.target_labels import METRIC_NAME
from tocsin_alerting.tsdb.values import Ints, Mask
from tocsin_exporter.snapshot import Labels


def without(labels: Labels, names: frozenset[str]) -> Labels:
    return tuple(pair for pair in labels if pair[0] not in names)


def only(labels: Labels, names: frozenset[str]) -> Labels:
    return tuple(pair for pair in labels if pair[0] in names)


def with_label(labels: Labels, name: str, value: str) -> Labels:
    """`labels` with one label set; an empty value takes it away."""
    rest = [pair for pair in labels if pair[0] != name]
    return tuple(sorted([*rest, (name, value)] if value else rest))


def check_label(name: str, message: str, semantics: Semantics) -> None:
    """Raises QueryError with `message` when no label can be called `name`.

    Any text is a label's name, except none and what was no UTF-8 (the parser marks it); 2.42 takes
    identifiers only.
    """
    fits = (
        _OLD_LABEL.fullmatch(name)
        if semantics == 2
        else name and "\N{REPLACEMENT CHARACTER}" not in name
    )
    if not fits:
        raise QueryError(message)


_OLD_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_NAME = frozenset((METRIC_NAME,))
IDENTITY = frozenset((METRIC_NAME, "__type__", "__unit__"))
"""What says which metric a series is of; a result that is none of it any more loses them all."""


def nameless(series: LabelSets) -> LabelSets:
    """The series without what says which metric they are of."""
    return series.memo(
        "nameless", lambda: LabelSets(tuple(without(labels, IDENTITY) for labels in series.labels))
    )


def partly_nameless(series: LabelSets, unnamed: bool | Mask) -> LabelSets:
    """The series, all or those of the mask (series,) without `__name__`."""
    if isinstance(unnamed, bool):
        return nameless(series) if unnamed else series
    if unnamed.all():
        return nameless(series)
    if not unnamed.any():
        return series

    def drop() -> LabelSets:
        pairs = zip(series.labels, unnamed.tolist(), strict=True)
        return LabelSets(
            tuple(without(labels, IDENTITY) if drop else labels for labels, drop in pairs)
        )

    return series.memo(("nameless", unnamed.tobytes()), drop)


def by_labels(series: LabelSets, names: Iterable[str], exclude: bool) -> Grouping:
    """Grouped by these labels, or with `exclude` by all others but the name."""
    key = (frozenset(names), exclude)

    def group() -> Grouping:
        if exclude:
            dropped = key[0] | _NAME
            return grouped([without(labels, dropped) for labels in series.labels])
        return grouped([only(labels, key[0]) for labels in series.labels])

    return series.memo(("by", key), group)


def equals(series: LabelSets) -> Grouping | None:
    """Series with equal labels as groups; None when all differ, as they nearly always do."""

    def group() -> tuple[Grouping | None]:
        groups = grouped(list(series.labels))
        return (None if len(groups.groups) == len(series) else groups,)

    return series.memo("equals", group)[0]


def taken(series: LabelSets, rows: Iterable[int]) -> LabelSets:
    """The series at these rows."""
    return LabelSets(tuple(series.labels[row] for row in rows))


def sorted_rows(series: LabelSets) -> tuple[LabelSets, Ints] | None:
    """The series by their labels, and the rows that they come from; None where they lie so."""

    def arrange() -> tuple[tuple[LabelSets, Ints] | None]:
        rows = sorted(range(len(series)), key=series.labels.__getitem__)
        if rows == list(range(len(series))):
            return (None,)
        return ((taken(series, rows), np.array(rows, np.int64)),)

    return series.memo("sorted", arrange)[0]


def as_rows(flags: Mask) -> list[int]:
    """The positions at which a mask (series,) holds."""
    rows: list[int] = np.flatnonzero(flags).tolist()
    return rows
