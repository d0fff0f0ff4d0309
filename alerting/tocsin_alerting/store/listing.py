"""Which series of a selection have samples in an interval, and what their labels say."""

from collections.abc import Iterator, Sequence, Set
from heapq import merge
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from tocsin_alerting.store.cell import Ints, Mask
from tocsin_alerting.store.selection import Selection
from tocsin_alerting.store.target import NAME
from tocsin_exporter.snapshot import Labels

Texts = tuple[str, ...]
Numbers = NDArray[np.int32]
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
    series, flags = selection.series, held(selection, t0_ms, t1_ms)
    texts, numbers = series.remember(("texts", name), lambda: _texts(series.labels, name))
    if not flags.all():
        texts = [texts[at] for at in np.flatnonzero(np.bincount(numbers[flags])).tolist()]
    return frozenset(chain.from_iterable(texts))


def _texts(series: Sequence[Labels], name: str | None) -> tuple[list[Texts], Numbers]:
    """What the series say, each thing once, and which of these (series,) each of them says."""

    def said(labels: Labels) -> Texts:
        return tuple(one if name is None else text for one, text in labels if name in (None, one))

    known: dict[Texts, int] = {}
    numbers = (known.setdefault(said(labels), len(known)) for labels in series)
    every = np.fromiter(numbers, np.int32, len(series))
    return list(known), every
