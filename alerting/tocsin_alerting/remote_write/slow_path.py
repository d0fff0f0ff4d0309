"""The series of a request that are not known yet, or not written as usual."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from tocsin_alerting.remote_write.label_validation import (
    InvalidLabels,
    describe_series,
    validated_labels,
)
from tocsin_alerting.remote_write.prompb import RequestTooLarge, TimeSeries, read_series
from tocsin_alerting.remote_write.ref_cache import SeriesRefCache
from tocsin_alerting.remote_write.result import Refusals
from tocsin_alerting.remote_write.samples import RequestSamples
from tocsin_alerting.tsdb.head.remote_limits import (
    OVER_SERIES,
    OVER_SOURCES,
    PER_SENDER,
    PER_SOURCE,
    REASONS,
)
from tocsin_alerting.tsdb.senders import UNKNOWN, Sender
from tocsin_exporter.snapshot import Labels

MAX_PARTS = 1_000_000  # labels and samples of a request, each a Python object or two


_REASON_TEXTS = {
    PER_SOURCE: "its source has too many series",
    PER_SENDER: "this sender has its share of the sources or series of all senders",
    OVER_SERIES: "the agent holds as many series as it may",
    OVER_SOURCES: "the agent holds as many sources as it may",
}


@dataclass(frozen=True, slots=True)
class _NewSeries:
    series: TimeSeries
    labels: Labels


def parse_series(
    data: bytes, spans: Iterable[tuple[int, int]], known: Mapping[bytes, int]
) -> list[TimeSeries]:
    """Raises Malformed, or RequestTooLarge for more than MOST_PARTS labels and samples."""
    series: list[TimeSeries] = []
    parts = 0
    for begin, stop in spans:
        series.append(read_series(data, begin, stop, known))
        parts += len(series[-1].pairs) + len(series[-1].times)
        if parts > MAX_PARTS:
            raise RequestTooLarge(f"more than {MAX_PARTS} labels and samples in one request")
    return series


def register_series(
    series: Iterable[TimeSeries],
    ref_cache: SeriesRefCache,
    refusals: Refusals,
    sender: Sender = UNKNOWN,
) -> RequestSamples | None:
    """Their samples, but for those refused. None as in SeriesRefCache.register."""
    placed: list[tuple[int, TimeSeries]] = []
    new: list[_NewSeries] = []
    for time_series in series:
        _refuse_histograms(time_series, refusals)
        if time_series.ref is not None:
            placed.append((time_series.ref, time_series))
        elif time_series.times:
            new += _checked(time_series, refusals)
    refs = ref_cache.register([candidate.labels for candidate in new], sender)
    if refs is None:
        return None
    for ref, candidate in zip(refs, new, strict=True):
        time_series = candidate.series
        if ref < 0:
            message = f"{describe_series(time_series.pairs)}: {_REASON_TEXTS[ref]}"
            refusals.add(REASONS[ref], len(time_series.times), time_series.stop, message)
            continue
        if time_series.key is not None:
            ref_cache.add(time_series.key, ref)
        placed.append((ref, time_series))
    return _samples_of(placed)


def _refuse_histograms(series: TimeSeries, refusals: Refusals) -> None:
    if series.histograms:
        message = f"{describe_series(series.pairs)}: native histograms are not stored"
        refusals.add("native_histogram", series.histograms, series.stop, message)


def _checked(series: TimeSeries, refusals: Refusals) -> Iterable[_NewSeries]:
    try:
        yield _NewSeries(series, validated_labels(series.pairs))
    except InvalidLabels as error:
        message = f"{describe_series(series.pairs)}: {error}"
        refusals.add("invalid_labels", len(series.times), series.stop, message)


def _samples_of(placed: list[tuple[int, TimeSeries]]) -> RequestSamples:
    placed.sort(key=lambda pair: pair[1].stop)
    counts = [len(series.times) for _, series in placed]
    refs = np.array([ref for ref, _ in placed], np.int64)
    stops = np.array([series.stop for _, series in placed], np.int64)
    times = np.array([at for _, series in placed for at in series.times], np.int64)
    bits = np.array([value for _, series in placed for value in series.bits], np.int64)
    many = np.repeat(refs, counts), times, bits.view(np.float64), np.repeat(stops, counts)
    return RequestSamples(*many)
