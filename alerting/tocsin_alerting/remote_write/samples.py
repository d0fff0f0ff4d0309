"""The samples of a request as columns, and how those of usual series are read at once.

A series of one sample, as Prometheus and vmagent write it, ends with 18 bytes:

    12 10  09 vv vv vv vv vv vv vv vv  10 tt tt tt tt tt tt

that is field 2 of 16 bytes with the float64 v as its field 1 and the varint t, Unix ms, as its
field 2. From 1971 to 2109 t has six bytes. A value of 0 is not written at all:

    12 07  10 tt tt tt tt tt tt
"""

from dataclasses import dataclass

import numpy as np

from tocsin_alerting.tsdb.values import Floats, Ints, Mask

SAMPLE, ZERO = 18, 9  # bytes
_SAMPLE_HEAD, _ZERO_HEAD, _HEAD = 0x09_10_12, 0x10_07_12, 0xFF_FF_FF
# The last eight bytes of a series as one little-endian number: a byte of the value or the length,
# 10, and the six bytes of the time, of which all but the last have their highest bit set.
_TIME_MARKS, _TIME_MARKED = 0x80_80_80_80_80_80_FF_00 - (1 << 64), 0x00_80_80_80_80_80_10_00


@dataclass(frozen=True, slots=True, eq=False)
class RequestSamples:
    """Sample i is of series numbers[i] (of the store), at times[i] (Unix ms).

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
