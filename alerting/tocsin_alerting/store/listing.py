"""Which series of a selection have samples in an interval, and what their labels say."""

from collections.abc import Iterable, Iterator, Sequence, Set
from heapq import merge

import numpy as np

from tocsin_alerting.store.cell import Ints, Mask
from tocsin_alerting.store.selection import Selection
from tocsin_alerting.store.target import NAME
from tocsin_exporter.snapshot import Labels

_SORTED_AT_ONCE = 2_000  # series; sorting lets nobody else work, so it is done in short runs


def held(selection: Selection, t0_ms: int, t1_ms: int) -> Mask:
    """Which series have a sample in the closed interval."""
    found = [one.held(t0_ms, t1_ms) for one in (*selection.parts, *selection.scattered)]
    return np.concatenate([np.empty(0, np.bool_), *found])


def ordered_in(selection: Selection, t0_ms: int, t1_ms: int) -> list[Labels]:
    """The label sets that have a sample in the closed interval, by metric, and by labels within
    one: the order of a Prometheus."""
    flags, labels = held(selection, t0_ms, t1_ms), selection.series.labels
    order = selection.series.remember("order", lambda: _order(labels))
    return [labels[at] for at in order[flags[order]].tolist()]


def _order(labels: Sequence[Labels]) -> Ints:
    def in_order() -> Iterator[int]:
        metrics: dict[str, list[int]] = {}
        for at, one in enumerate(labels):
            metrics.setdefault(dict(one).get(NAME, ""), []).append(at)
        for name in sorted(metrics):
            found = metrics[name]
            starts = range(0, len(found), _SORTED_AT_ONCE)
            runs = (
                sorted(found[at : at + _SORTED_AT_ONCE], key=labels.__getitem__) for at in starts
            )
            yield from merge(*runs, key=labels.__getitem__)

    return np.fromiter(in_order(), np.int64, len(labels))


def values_in(selection: Selection, t0_ms: int, t1_ms: int, name: str | None) -> Set[str]:
    """The values of a label of those series; None: the names of their labels."""

    def texts(series: Iterable[Labels]) -> frozenset[str]:
        if name is None:
            return frozenset(one for labels in series for one, _ in labels)
        return frozenset(text for labels in series for one, text in labels if one == name)

    flags, labels = held(selection, t0_ms, t1_ms), selection.series.labels
    if flags.all():
        return selection.series.remember(("texts", name), lambda: texts(labels))
    return texts(labels[at] for at in np.flatnonzero(flags).tolist())
