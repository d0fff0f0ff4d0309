"""A request's way through the series that are known already, by the bytes of their labels.

Only label bytes that were parsed and checked once are ever known, so finding them at the beginning
of a series proves that they are its labels and where its sample begins.

A series of one sample, as Prometheus and vmagent write it, ends with 18 bytes:

    12 10  09 vv vv vv vv vv vv vv vv  10 tt tt tt tt tt tt

that is field 2 of 16 bytes with the float64 v as its field 1 and the varint t, Unix ms, as its
field 2. From 1971 to 2109 t has six bytes. A value of 0 is not written at all:

    12 07  10 tt tt tt tt tt tt

Such a series is *usual*: the samples of all usual series of a request are read at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tocsin_alerting.remote_write.prompb import (
    LENGTH,
    SERIES,
    Malformed,
    RequestTooLarge,
    expect,
    read_field,
    series_spans,
)
from tocsin_alerting.tsdb.values import Floats, Ints, Mask

SAMPLE, ZERO = 18, 9  # bytes
_SAMPLE_HEAD, _ZERO_HEAD, _HEAD = 0x09_10_12, 0x10_07_12, 0xFF_FF_FF
# The last eight bytes of a series as one little-endian number: a byte of the value or the length,
# 10, and the six bytes of the time, of which all but the last have their highest bit set.
_TIME_MARKS, _TIME_MARKED = 0x80_80_80_80_80_80_FF_00 - (1 << 64), 0x00_80_80_80_80_80_10_00


@dataclass(frozen=True, slots=True, eq=False)
class RequestSamples:
    """Sample i is of series refs[i] (of the store), at times[i] (Unix ms).

    `stops[i]` is where its series ends in the request.
    """

    refs: Ints
    times: Ints
    values: Floats
    stops: Ints


_NOTHING = RequestSamples(
    np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0), np.empty(0, np.int64)
)


def read_usual(data: bytes, refs: Ints, stops: Ints, zeros: Mask) -> RequestSamples:
    """The samples of usual series that end at `stops`; `zeros` are those of value 0."""
    count = len(data) - 7
    words = np.ndarray((count,), "<i8", data, 0, (1,))
    tails = words[stops - 8] >> 16
    values = np.ndarray((count,), "<f8", data, 0, (1,))[stops - 15]
    values[zeros] = 0.0
    times = tails & 0x7F
    for group in range(1, 6):
        times |= tails >> group & 0x7F << 7 * group
    return RequestSamples(refs, times, values, stops)


def all_usual(data: bytes, stops: Ints, zeros: Mask) -> bool:
    """Whether each of the series, whose labels are known to be what they are, ends like that."""
    words = np.ndarray((len(data) - 7,), "<i8", data, 0, (1,))
    heads = np.where(zeros, ZERO, SAMPLE)
    wanted = np.where(zeros, _ZERO_HEAD, _SAMPLE_HEAD)
    right = (words[stops - heads] & _HEAD) == wanted
    right &= (words[stops - 8] & _TIME_MARKS) == _TIME_MARKED
    return bool(right.all())


def merged(batches: list[RequestSamples]) -> RequestSamples:
    """All samples in the order of the request."""
    if len(batches) == 1:
        return batches[0]
    batches = [_NOTHING, *batches]
    stops = np.concatenate([batch.stops for batch in batches])
    order = np.argsort(stops, kind="stable")
    return RequestSamples(
        np.concatenate([batch.refs for batch in batches])[order],
        np.concatenate([batch.times for batch in batches])[order],
        np.concatenate([batch.values for batch in batches])[order],
        stops[order],
    )


# A series may take two bytes of a request, and some hundred of memory.
MOST_SERIES = 100_000
MOST_SERIES_BYTES = 1 << 20
_SERIES_TAG = SERIES << 3 | LENGTH
# A first series that stops earlier has no room for labels and a sample: what was found was not it.
SHORTEST = SAMPLE + 2


@dataclass(frozen=True, slots=True, eq=False)
class ScannedSeries:
    """`refs` and `stops` of the known series with one sample; `zeros` (n,) are those whose
    value is 0. `others` is where all other series begin and stop."""

    refs: Ints
    stops: Ints
    zeros: Mask
    others: list[tuple[int, int]]


def scan(data: bytes, known: Mapping[bytes, int]) -> ScannedSeries:
    """Raises Malformed when `data` is no sequence of fields, RequestTooLarge for too many."""
    try:
        scanned = _scan(data, known)
    except IndexError:
        raise Malformed("the request is cut off in the middle of a series") from None
    if len(scanned.stops) and (
        scanned.stops[0] < SHORTEST or not all_usual(data, scanned.stops, scanned.zeros)
    ):
        return _scan_strictly(data)
    return scanned


def _scan(data: bytes, known: Mapping[bytes, int]) -> ScannedSeries:
    # Half a microsecond a series is what there is: nothing here is called but `get` and `append`.
    refs: list[int] = []
    stops: list[int] = []
    zeros: list[int] = []
    others: list[tuple[int, int]] = []
    get, add, stop = known.get, refs.append, stops.append
    at, size = 0, len(data)
    while at < size:
        length = data[at + 1]
        begin = at + 2
        if length > 0x7F:
            more = data[begin]
            length = length & 0x7F | more << 7
            begin += 1
        if data[at] != _SERIES_TAG or length > 0x3FFF:
            at = _skip_field(data, at, others)
            continue
        at = begin + length
        ref = get(data[begin : at - SAMPLE])
        if ref is None:
            ref = get(data[begin : at - ZERO])
            if ref is None:
                _add_other(others, begin, at)
                continue
            zeros.append(len(stops))
        add(ref)
        stop(at)
    if at > size:
        raise Malformed("the request is cut off in the middle of a series")
    return ScannedSeries(_ints(refs), _ints(stops), _mask_of(zeros, len(stops)), others)


def next_series(data: bytes, at: int, known: Mapping[bytes, int]) -> ScannedSeries | None:
    """The series at `at`, as `walk` would find it if it is written as usual; None: it is no known
    one, or it is cut off."""
    head = data[at : at + 3]
    if len(head) < 3 or head[0] != _SERIES_TAG or head[1] > 0x7F < head[2]:
        return None
    length, begin = (head[1], at + 2) if head[1] < 0x80 else (head[1] & 0x7F | head[2] << 7, at + 3)
    stop = begin + length
    ref = known.get(data[begin : max(begin, stop - SAMPLE)])
    zero = ref is None
    if ref is None:
        ref = known.get(data[begin : max(begin, stop - ZERO)])
    if ref is None or stop > len(data):
        return None
    return ScannedSeries(_ints([ref]), _ints([stop]), np.array([zero]), [])


def _skip_field(data: bytes, at: int, others: list[tuple[int, int]]) -> int:
    """Past one field that is not written as usual, or not a series: metadata, mostly."""
    field = read_field(data, at, len(data))
    if field[0] == SERIES:
        expect(field, LENGTH, "a time series")
        _add_other(others, field[2], field[3])
    return field[3]


def _add_other(others: list[tuple[int, int]], begin: int, stop: int) -> None:
    if len(others) >= MOST_SERIES:
        raise RequestTooLarge(f"more than {MOST_SERIES} new or unusual series in one request")
    if stop - begin > MOST_SERIES_BYTES:
        raise RequestTooLarge(f"a series of more than {MOST_SERIES_BYTES >> 20} MiB in one request")
    others.append((begin, stop))


def _scan_strictly(data: bytes) -> ScannedSeries:
    others: list[tuple[int, int]] = []
    for begin, stop in series_spans(data):
        _add_other(others, begin, stop)
    return ScannedSeries(_ints([]), _ints([]), _mask_of([], 0), others)


def _mask_of(places: list[int], count: int) -> Mask:
    mask = np.zeros(count, np.bool_)
    mask[places] = True
    return mask


def _ints(refs: list[int]) -> Ints:
    return np.array(refs, np.int64)
