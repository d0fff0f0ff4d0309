"""The samples of one remote write request: which are of one column, which are in each other's way,
and what becomes of each."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tocsin_alerting.tsdb.head.aligned import FillOutcome
from tocsin_alerting.tsdb.head.unaligned import UnalignedOutcome
from tocsin_alerting.tsdb.values import Ints, Mask

# Plain numbers: numpy compares them faster than those of an Enum.
ACCEPTED = 0
UNALIGNED = 1  # it does not fit its source's columns
REPEATED = 2  # the request has another one of the same series and time, which decides
OUT_OF_ORDER, DUPLICATE, TOO_OLD, TOO_FAR_AHEAD, OWN_SOURCE = range(3, 8)

_REASONS = {
    OUT_OF_ORDER: "out_of_order",
    DUPLICATE: "duplicate",
    TOO_OLD: "too_old",
    TOO_FAR_AHEAD: "too_far_ahead",
    OWN_SOURCE: "own_source",
}
Outcomes: TypeAlias = NDArray[np.int8]


class SampleOrder(NamedTuple):
    """`late` (n,): an earlier sample of the same series in the request is newer. `twin` (n,): the
    position of the first sample of that series and time, a sample's own if that is it."""

    late: Mask
    twin: Ints


def all_equal(numbers: Ints) -> bool:
    """Whether all of them (at least one) are the same."""
    return bool((numbers == numbers[0]).all())


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
    # Series after series, each on a range of its own, so that one running maximum does for all.
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


@dataclass(frozen=True, slots=True)
class WriteResult:
    """How many samples were taken, and how many were refused, by reason: out_of_order, duplicate,
    too_old, too_far_ahead (of the clock), own_source (the agent itself appends to the series).

    `first_refused` is the place of the first that was refused, with its reason."""

    accepted: int
    refused: Mapping[str, int]
    first_refused: tuple[int, str] | None = None


def write_result(outcomes: Outcomes) -> WriteResult:
    if not outcomes.any():
        return WriteResult(len(outcomes), {})
    counts = np.bincount(outcomes, minlength=OWN_SOURCE + 1).tolist()
    refused = {name: counts[outcome] for outcome, name in _REASONS.items() if counts[outcome]}
    if not refused:
        return WriteResult(counts[ACCEPTED], refused)
    at = int(np.argmax(outcomes >= OUT_OF_ORDER))
    return WriteResult(counts[ACCEPTED], refused, (at, _REASONS[int(outcomes[at])]))


def aligned_outcomes(filled: FillOutcome) -> Outcomes:
    """Of samples for a column that was there; what it cannot take is unaligned."""
    outcomes = np.where(filled.accepted, ACCEPTED, UNALIGNED).astype(np.int8)
    outcomes[filled.conflicting] = DUPLICATE
    outcomes[filled.out_of_order] = OUT_OF_ORDER
    return outcomes


def unaligned_outcomes(outcome: UnalignedOutcome) -> Outcomes:
    """Of samples of unaligned series."""
    outcomes = np.full(len(outcome.new), DUPLICATE, np.int8)
    outcomes[outcome.out_of_order] = OUT_OF_ORDER
    outcomes[outcome.new | outcome.repeated] = ACCEPTED
    return outcomes


def mark_repeats(refs: Ints, times: Ints, outcomes: Outcomes) -> tuple[Ints, Ints]:
    """Refuses what is late within the request; (those that another decides on, these others)."""
    here = np.flatnonzero(outcomes == ACCEPTED)
    if not len(here):
        return here, here
    order = sample_order(refs[here], times[here])
    outcomes[here[order.late]] = OUT_OF_ORDER
    again = ~order.late & (order.twin != np.arange(len(here)))
    outcomes[here[again]] = REPEATED
    return here[again], here[order.twin[again]]
