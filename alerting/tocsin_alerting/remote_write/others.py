"""The series of a request that are not known yet, or not written as usual."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from tocsin_alerting.remote_write.batch import Batch
from tocsin_alerting.remote_write.message import TimeSeries, time_series
from tocsin_alerting.remote_write.receipt import Refusals
from tocsin_alerting.remote_write.roster import Roster
from tocsin_alerting.remote_write.series import BadLabels, checked, shown
from tocsin_alerting.remote_write.wire import RequestTooLarge
from tocsin_alerting.store.limits import (
    OVER_SERIES,
    OVER_SOURCES,
    PER_SENDER,
    PER_SOURCE,
    REASONS,
)
from tocsin_alerting.store.senders import UNKNOWN, Sender
from tocsin_exporter.snapshot import Labels

MOST_PARTS = 1_000_000  # labels and samples of a request, each a Python object or two


_WORDS = {
    PER_SOURCE: "its source has too many series",
    PER_SENDER: "this sender has its share of the sources or series of all senders",
    OVER_SERIES: "the agent holds as many series as it may",
    OVER_SOURCES: "the agent holds as many sources as it may",
}


@dataclass(frozen=True, slots=True)
class _New:
    series: TimeSeries
    labels: Labels


def parsed(
    data: bytes, spans: Iterable[tuple[int, int]], known: Mapping[bytes, int]
) -> list[TimeSeries]:
    """Raises Malformed, or RequestTooLarge for more than MOST_PARTS labels and samples."""
    found: list[TimeSeries] = []
    parts = 0
    for begin, stop in spans:
        found.append(time_series(data, begin, stop, known))
        parts += len(found[-1].pairs) + len(found[-1].times)
        if parts > MOST_PARTS:
            raise RequestTooLarge(f"more than {MOST_PARTS} labels and samples in one request")
    return found


def enrolled(
    series: Iterable[TimeSeries], roster: Roster, refusals: Refusals, sender: Sender = UNKNOWN
) -> Batch | None:
    """Their samples, but for those refused. None as in Roster.enrol."""
    placed: list[tuple[int, TimeSeries]] = []
    new: list[_New] = []
    for one in series:
        _refuse_histograms(one, refusals)
        if one.number is not None:
            placed.append((one.number, one))
        elif one.times:
            new += _accepted(one, refusals)
    numbers = roster.enrol([one.labels for one in new], sender)
    if numbers is None:
        return None
    for number, candidate in zip(numbers, new, strict=True):
        one = candidate.series
        if number < 0:
            words = f"{shown(one.pairs)}: {_WORDS[number]}"
            refusals.add(REASONS[number], len(one.times), one.stop, words)
            continue
        if one.key is not None:
            roster.remember(one.key, number)
        placed.append((number, one))
    return _batch(placed)


def _refuse_histograms(one: TimeSeries, refusals: Refusals) -> None:
    if one.histograms:
        words = f"{shown(one.pairs)}: native histograms are not stored"
        refusals.add("native_histogram", one.histograms, one.stop, words)


def _accepted(one: TimeSeries, refusals: Refusals) -> Iterable[_New]:
    try:
        yield _New(one, checked(one.pairs))
    except BadLabels as error:
        words = f"{shown(one.pairs)}: {error}"
        refusals.add("invalid_labels", len(one.times), one.stop, words)


def _batch(placed: list[tuple[int, TimeSeries]]) -> Batch:
    placed.sort(key=lambda pair: pair[1].stop)
    counts = [len(one.times) for _, one in placed]
    numbers = np.array([number for number, _ in placed], np.int64)
    stops = np.array([one.stop for _, one in placed], np.int64)
    times = np.array([at for _, one in placed for at in one.times], np.int64)
    bits = np.array([value for _, one in placed for value in one.bits], np.int64)
    many = np.repeat(numbers, counts), times, bits.view(np.float64), np.repeat(stops, counts)
    return Batch(*many)
