"""The samples of one request: which are of one column, and which are in each other's way."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tocsin_alerting.tsdb.values import Ints, Mask


class SampleOrder(NamedTuple):
    """`late` (n,): an earlier sample of the same series in the request is newer. `twin` (n,): the
    position of the first sample of that series and time, a sample's own if that is it."""

    late: Mask
    twin: Ints


def all_equal(some: Ints) -> bool:
    """Whether all of them (at least one) are the same."""
    return bool((some == some[0]).all())


def has_duplicates(refs: Ints) -> bool:
    """Whether any series occurs twice."""
    if len(refs) < 2 or (refs[1:] > refs[:-1]).all():
        return False
    ascending = np.sort(refs)
    return bool((ascending[1:] == ascending[:-1]).any())


def distinct(sources: Ints) -> list[int]:
    """The sources of a request (at least one sample)."""
    if all_equal(sources):
        return [int(sources[0])]
    positions: list[int] = np.unique(sources).tolist()
    return positions


def sample_order(refs: Ints, times: Ints) -> SampleOrder:
    """Each series by itself, in the order of the request."""
    order = np.argsort(refs, kind="stable")
    of, at = refs[order], times[order] - times.min()
    begins = np.ones(len(of), np.bool_)
    begins[1:] = of[1:] != of[:-1]
    # Series after series, each on a stretch of its own, so that one running maximum does for all.
    at += (np.cumsum(begins) - 1) * (int(at.max()) + 1)
    newest = np.maximum.accumulate(at)
    late, twin = np.zeros(len(of), np.bool_), np.arange(len(of))
    late[order] = at < newest
    again = (at[1:] == newest[:-1]) & ~begins[1:]
    if again.any():
        # The first sample at this time: the last one before which the maximum grew.
        grown = np.ones(len(of), np.bool_)
        grown[1:] = newest[1:] > newest[:-1]
        first = np.maximum.accumulate(np.where(grown, np.arange(len(of)), 0))
        here = np.flatnonzero(np.concatenate([[False], again]))
        twin[order[here]] = order[first[here]]
    return SampleOrder(late, twin)


def column_groups(at: Ints, sources: Ints, times: Ints) -> Iterator[Ints]:
    """Those of `at` (n,) that are of one source and time, for each such pair of the `sources` and
    `times` (n,); those of a source in ascending time."""
    if not len(at):
        return
    if all_equal(times) and all_equal(sources):
        yield at
        return
    order = np.lexsort((times, sources))
    of, when = sources[order], times[order]
    borders = np.flatnonzero((of[1:] != of[:-1]) | (when[1:] != when[:-1])) + 1
    yield from np.split(at[order], borders)


def newest_per_source(sources: Ints, times: Ints) -> Iterator[tuple[int, int]]:
    """Each of the sources, with the newest time that it has here."""
    if not len(times):
        return
    if all_equal(sources):
        yield int(sources[0]), int(times.max())
        return
    order = np.argsort(sources, kind="stable")
    of = sources[order]
    begins = np.flatnonzero(np.concatenate([[True], of[1:] != of[:-1]]))
    newest_ms = np.maximum.reduceat(times[order], begins)
    yield from zip(of[begins].tolist(), newest_ms.tolist(), strict=True)
