"""Series sets made from series sets, each computed once: without a name, without some labels."""

import re
from collections.abc import Iterable

import numpy as np

from tocsin_alerting.promql.evaluation.budget import QueryError
from tocsin_alerting.promql.evaluation.grouping import Grouping, grouped
from tocsin_alerting.promql.values import Semantics
from tocsin_alerting.store.cell import Ints, Mask
from tocsin_alerting.store.series import SeriesSet
from tocsin_alerting.store.target import NAME
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
_NAME = frozenset((NAME,))
IDENTITY = frozenset((NAME, "__type__", "__unit__"))
"""What says which metric a series is of; a result that is none of it any more loses them all."""


def nameless(series: SeriesSet) -> SeriesSet:
    """The series without what says which metric they are of."""
    return series.remember(
        "nameless", lambda: SeriesSet(tuple(without(one, IDENTITY) for one in series.labels))
    )


def partly_nameless(series: SeriesSet, unnamed: bool | Mask) -> SeriesSet:
    """The series, all or those of the mask (series,) without `__name__`."""
    if isinstance(unnamed, bool):
        return nameless(series) if unnamed else series
    if unnamed.all():
        return nameless(series)
    if not unnamed.any():
        return series

    def drop() -> SeriesSet:
        pairs = zip(series.labels, unnamed.tolist(), strict=True)
        return SeriesSet(tuple(without(one, IDENTITY) if drop else one for one, drop in pairs))

    return series.remember(("nameless", unnamed.tobytes()), drop)


def by_labels(series: SeriesSet, names: Iterable[str], exclude: bool) -> Grouping:
    """Grouped by these labels, or with `exclude` by all others but the name."""
    key = (frozenset(names), exclude)

    def group() -> Grouping:
        if exclude:
            dropped = key[0] | _NAME
            return grouped([without(one, dropped) for one in series.labels])
        return grouped([only(one, key[0]) for one in series.labels])

    return series.remember(("by", key), group)


def equals(series: SeriesSet) -> Grouping | None:
    """Series with equal labels as groups; None when all differ, as they nearly always do."""

    def group() -> tuple[Grouping | None]:
        found = grouped(list(series.labels))
        return (None if len(found.groups) == len(series) else found,)

    return series.remember("equals", group)[0]


def taken(series: SeriesSet, rows: Iterable[int]) -> SeriesSet:
    """The series at these rows."""
    return SeriesSet(tuple(series.labels[row] for row in rows))


def sorted_rows(series: SeriesSet) -> tuple[SeriesSet, Ints] | None:
    """The series by their labels, and the rows that they come from; None where they lie so."""

    def arrange() -> tuple[tuple[SeriesSet, Ints] | None]:
        rows = sorted(range(len(series)), key=series.labels.__getitem__)
        if rows == list(range(len(series))):
            return (None,)
        return ((taken(series, rows), np.array(rows, np.int64)),)

    return series.remember("sorted", arrange)[0]


def as_rows(flags: Mask) -> list[int]:
    """The positions at which a mask (series,) holds."""
    rows: list[int] = np.flatnonzero(flags).tolist()
    return rows
