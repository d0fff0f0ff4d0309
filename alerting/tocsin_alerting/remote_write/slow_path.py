"""The series of a request that are not known yet, or not written as usual."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tocsin_alerting.remote_write.fast_scan import RequestSamples
from tocsin_alerting.remote_write.prompb import RequestTooLarge, TimeSeries, read_series
from tocsin_alerting.remote_write.ref_cache import SeriesRefCache
from tocsin_alerting.remote_write.result import Refusals
from tocsin_alerting.tsdb.head.remote_limits import (
    OVER_SERIES,
    OVER_SOURCES,
    PER_SENDER,
    PER_SOURCE,
    REASONS,
)
from tocsin_alerting.tsdb.senders import UNKNOWN, Sender
from tocsin_alerting.tsdb.target_labels import METRIC_NAME
from tocsin_exporter.snapshot import Labels

LabelPairs = Sequence[tuple[bytes, bytes]]
_SHOWN = 300  # characters


class InvalidLabels(ValueError):
    """A series that no Prometheus would keep; the others of its request are not concerned."""


def validated_labels(pairs: LabelPairs) -> Labels:
    """The labels, sorted by name, without empty values. Raises InvalidLabels.

    Names may be any UTF-8, as in Prometheus 3 (model.UTF8Validation); `__name__` must be there.
    """
    try:
        decoded = [(name.decode(), value.decode()) for name, value in pairs]
    except UnicodeDecodeError as error:
        text = error.object[:_SHOWN].decode("latin-1").encode("unicode_escape").decode()
        raise InvalidLabels(f'the label text "{text}" is not UTF-8') from None
    labels = dict(decoded)
    if len(labels) < len(decoded):
        twice, _ = Counter(name for name, _ in decoded).most_common(1)[0]
        raise InvalidLabels(f'duplicate label "{twice[:_SHOWN]}"')
    if "" in labels:
        raise InvalidLabels("a label without a name")
    if not labels.get(METRIC_NAME):
        raise InvalidLabels(f"missing {METRIC_NAME}")
    return tuple(sorted((name, value) for name, value in decoded if value))


def describe_series(pairs: LabelPairs) -> str:
    """A series for people, however broken it is: at most some hundred characters of it."""
    texts = [(_text(name), _text(value)) for name, value in pairs]
    name = next((value for label, value in texts if label == METRIC_NAME), "")
    inside = ",".join(f'{label}="{value}"' for label, value in texts if label != METRIC_NAME)
    whole = f"{name}{{{inside}}}"
    return whole if len(whole) <= _SHOWN else f"{whole[:_SHOWN]}..."


def _text(raw: bytes) -> str:
    return raw.decode(errors="backslashreplace").encode("unicode_escape").decode()


MAX_PARTS = 1_000_000  # labels and samples of a request, each a Python object or two


REASON_TEXTS = {
    PER_SOURCE: "its source has too many series",
    PER_SENDER: "the sender has used up its share of series or sources",
    OVER_SERIES: "the agent's limit of series is reached",
    OVER_SOURCES: "the agent's limit of sources is reached",
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
            message = f"{describe_series(time_series.pairs)}: {REASON_TEXTS[ref]}"
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
        refusals.native_histograms.update(
            value.decode(errors="replace")
            for name, value in series.pairs
            if name == METRIC_NAME.encode()
        )


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
