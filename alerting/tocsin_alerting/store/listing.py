"""Which series of a selection have samples in an interval, and what their labels say."""

from collections.abc import Set

import numpy as np

from tocsin_alerting.store.cell import Mask
from tocsin_alerting.store.selection import Selection
from tocsin_exporter.snapshot import Labels


def held(selection: Selection, t0_ms: int, t1_ms: int) -> Mask:
    """Which series have a sample in the closed interval."""
    found = [one.held(t0_ms, t1_ms) for one in (*selection.parts, *selection.scattered)]
    return np.concatenate([np.empty(0, np.bool_), *found])


def series_in(selection: Selection, t0_ms: int, t1_ms: int) -> list[Labels]:
    """The label sets that have a sample in the closed interval."""
    flags, labels = held(selection, t0_ms, t1_ms), selection.series.labels
    if flags.all():
        return list(labels)
    return [labels[at] for at in np.flatnonzero(flags).tolist()]


def values_in(selection: Selection, t0_ms: int, t1_ms: int, name: str | None) -> Set[str]:
    """The values of a label of those series; None: the names of their labels."""

    def texts(series: list[Labels]) -> frozenset[str]:
        if name is None:
            return frozenset(one for labels in series for one, _ in labels)
        return frozenset(text for labels in series for one, text in labels if one == name)

    found = series_in(selection, t0_ms, t1_ms)
    if len(found) == len(selection.series):
        return selection.series.remember(("texts", name), lambda: texts(found))
    return texts(found)
