"""What becomes of the samples of one remote write request."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from tocsin_alerting.tsdb.head.aligned import FillOutcome
from tocsin_alerting.tsdb.head.sample_order import sample_order
from tocsin_alerting.tsdb.head.unaligned import UnalignedOutcome
from tocsin_alerting.tsdb.values import Ints

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
