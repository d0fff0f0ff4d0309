"""One time series of a request, parsed in full: whatever the protocol allows, in any order.

The messages are those of Prometheus's prompb/types.proto: TimeSeries{labels = 1, samples = 2,
exemplars = 3, histograms = 4}, Label{name = 1, value = 2}, Sample{value = 1, timestamp = 2}.
Fields that are not known are passed over.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tocsin_alerting.remote_write.wire import FIXED64, LENGTH, VARINT, expect, fields, varint

SERIES = 1  # of the request
_LABELS, _SAMPLES, _HISTOGRAMS = 1, 2, 4
_LABEL_TAG = _LABELS << 3 | LENGTH

_Parts = tuple[list[tuple[bytes, bytes]], list[tuple[int, int]], int]


@dataclass(frozen=True, slots=True)
class TimeSeries:
    """`times` are Unix ms, `bits` the float64 values as int64, so that every NaN stays as it is.

    `key` are the bytes of its label fields if it begins with all of them, else None. `number` is
    what is known by that key, and if it is not None there are no `pairs`. `stop` is where it ends
    in the request.
    """

    key: bytes | None
    number: int | None
    pairs: tuple[tuple[bytes, bytes], ...]
    times: tuple[int, ...]
    bits: tuple[int, ...]
    histograms: int
    stop: int


def spans(data: bytes, at: int = 0) -> Iterator[tuple[int, int]]:
    """Where each time series of the request begins and stops. Raises Malformed."""
    for found in fields(data, at, len(data)):
        if found[0] == SERIES:
            expect(found, LENGTH, "a time series")
            yield found[2], found[3]


def time_series(data: bytes, begin: int, stop: int, known: Mapping[bytes, int]) -> TimeSeries:
    """The message in data[begin:stop]. Raises Malformed."""
    split = _leading(data, begin, stop)
    key: bytes | None = data[begin:split]
    number = known.get(data[begin:split])
    pairs, samples, histograms = _parts(data, split, stop)
    if pairs:  # later than its other labels: these are not all of them
        key = None
    if pairs or histograms:  # whose refusal names the series
        number = None
    if number is None:
        pairs = _parts(data, begin, split)[0] + pairs
    times, bits = zip(*samples, strict=True) if samples else ((), ())
    return TimeSeries(key, number, tuple(pairs), times, bits, histograms, stop)


def _leading(data: bytes, begin: int, stop: int) -> int:
    """Where the labels stop with which the message begins."""
    at = begin
    while at + 1 < stop and data[at] == _LABEL_TAG and data[at + 1] < 0x80:
        at += 2 + data[at + 1]
    return at if at <= stop else begin


def _parts(data: bytes, begin: int, stop: int) -> _Parts:
    """The labels, the samples and the number of histograms in data[begin:stop]."""
    pairs: list[tuple[bytes, bytes]] = []
    samples: list[tuple[int, int]] = []
    histograms = 0
    for found in fields(data, begin, stop):
        if found[0] == _LABELS:
            expect(found, LENGTH, "a label")
            pairs.append(_label(data, found[2], found[3]))
        elif found[0] == _SAMPLES:
            expect(found, LENGTH, "a sample")
            samples.append(_sample(data, found[2], found[3]))
        histograms += found[0] == _HISTOGRAMS
    return pairs, samples, histograms


def _label(data: bytes, begin: int, stop: int) -> tuple[bytes, bytes]:
    texts = {1: b"", 2: b""}
    for found in fields(data, begin, stop):
        if found[0] in texts:
            expect(found, LENGTH, "the text of a label")
            texts[found[0]] = data[found[2] : found[3]]
    return texts[1], texts[2]


def _sample(data: bytes, begin: int, stop: int) -> tuple[int, int]:
    """(Unix ms, bits of the value): what is not written is 0."""
    if stop - begin == 16 and data[begin] == 9 and data[begin + 9] == 16:  # as nearly always
        at_ms, end = varint(data, begin + 10, stop)
        if end == stop:
            return at_ms, int.from_bytes(data[begin + 1 : begin + 9], "little", signed=True)
    at_ms = bits = 0
    for found in fields(data, begin, stop):
        if found[0] == 1:
            expect(found, FIXED64, "the value of a sample")
            bits = int.from_bytes(data[found[2] : found[3]], "little", signed=True)
        elif found[0] == 2:
            expect(found, VARINT, "the timestamp of a sample")
            at_ms = found[2] - (found[2] >> 63 << 64)
    return at_ms, bits
