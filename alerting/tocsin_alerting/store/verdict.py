"""What becomes of the samples of one remote write request."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from tocsin_alerting.store.cell import Ints
from tocsin_alerting.store.loose import Told
from tocsin_alerting.store.requests import in_order
from tocsin_alerting.store.table import Filled

# Plain numbers: numpy compares them faster than those of an Enum.
TAKEN = 0
LOOSE = 1  # it does not fit its source's columns
TWIN = 2  # the request has another one of the same series and time, which decides
OUT_OF_ORDER, DUPLICATE, TOO_OLD, TOO_FAR_AHEAD, OWN_SOURCE = range(3, 8)

_REASONS = {
    OUT_OF_ORDER: "out_of_order",
    DUPLICATE: "duplicate",
    TOO_OLD: "too_old",
    TOO_FAR_AHEAD: "too_far_ahead",
    OWN_SOURCE: "own_source",
}
Verdicts: TypeAlias = NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class Written:
    """How many samples were taken, and how many were refused, by reason: out_of_order, duplicate,
    too_old, too_far_ahead (of the clock), own_source (the agent itself appends to the series).

    `first` is the place of the first that was refused, with its reason."""

    taken: int
    refused: Mapping[str, int]
    first: tuple[int, str] | None = None


def written(verdicts: Verdicts) -> Written:
    if not verdicts.any():
        return Written(len(verdicts), {})
    counts = np.bincount(verdicts, minlength=OWN_SOURCE + 1).tolist()
    refused = {name: counts[one] for one, name in _REASONS.items() if counts[one]}
    if not refused:
        return Written(counts[TAKEN], refused)
    at = int(np.argmax(verdicts >= OUT_OF_ORDER))
    return Written(counts[TAKEN], refused, (at, _REASONS[int(verdicts[at])]))


def of_cells(filled: Filled) -> Verdicts:
    """Of samples for a column that was there; what it cannot take is loose."""
    verdicts = np.where(filled.taken, TAKEN, LOOSE).astype(np.int8)
    verdicts[filled.differs] = DUPLICATE
    verdicts[filled.late] = OUT_OF_ORDER
    return verdicts


def of_pairs(told: Told) -> Verdicts:
    """Of samples of loose series."""
    verdicts = np.full(len(told.fresh), DUPLICATE, np.int8)
    verdicts[told.late] = OUT_OF_ORDER
    verdicts[told.fresh | told.same] = TAKEN
    return verdicts


def twins(numbers: Ints, times: Ints, verdicts: Verdicts) -> tuple[Ints, Ints]:
    """Refuses what is late within the request; (those that another decides on, these others)."""
    here = np.flatnonzero(verdicts == TAKEN)
    if not len(here):
        return here, here
    order = in_order(numbers[here], times[here])
    verdicts[here[order.late]] = OUT_OF_ORDER
    again = ~order.late & (order.twin != np.arange(len(here)))
    verdicts[here[again]] = TWIN
    return here[again], here[order.twin[again]]
