"""A request's way through the series that are known already, by the bytes of their labels.

Only label bytes that were parsed and checked once are ever known, so finding them at the beginning
of a series proves that they are its labels and where its sample begins.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tocsin_alerting.remote_write.batch import SAMPLE, ZERO, usual
from tocsin_alerting.remote_write.message import SERIES, spans
from tocsin_alerting.remote_write.wire import LENGTH, Malformed, RequestTooLarge, expect, field
from tocsin_alerting.store.cell import Ints, Mask

# A series may take two bytes of a request, and some hundred of memory.
MOST_SERIES = 100_000
MOST_SERIES_BYTES = 1 << 20
_SERIES_TAG = SERIES << 3 | LENGTH
# A first series that stops earlier has no room for labels and a sample: what was found was not it.
SHORTEST = SAMPLE + 2


@dataclass(frozen=True, slots=True, eq=False)
class Walk:
    """`numbers` and `stops` of the known series with one sample; `zeros` (n,) are those whose
    value is 0. `others` is where all other series begin and stop."""

    numbers: Ints
    stops: Ints
    zeros: Mask
    others: list[tuple[int, int]]


def walk(data: bytes, known: Mapping[bytes, int]) -> Walk:
    """Raises Malformed when `data` is no sequence of fields, RequestTooLarge for too many."""
    try:
        found = _walk(data, known)
    except IndexError:
        raise Malformed("the request is cut off in the middle of a series") from None
    if len(found.stops) and (
        found.stops[0] < SHORTEST or not usual(data, found.stops, found.zeros)
    ):
        return _walk_strictly(data)
    return found


def _walk(data: bytes, known: Mapping[bytes, int]) -> Walk:
    # Half a microsecond a series is what there is: nothing here is called but `get` and `append`.
    numbers: list[int] = []
    stops: list[int] = []
    zeros: list[int] = []
    others: list[tuple[int, int]] = []
    get, add, stop = known.get, numbers.append, stops.append
    at, size = 0, len(data)
    while at < size:
        length = data[at + 1]
        begin = at + 2
        if length > 0x7F:
            more = data[begin]
            length = length & 0x7F | more << 7
            begin += 1
        if data[at] != _SERIES_TAG or length > 0x3FFF:
            at = _pass(data, at, others)
            continue
        at = begin + length
        number = get(data[begin : at - SAMPLE])
        if number is None:
            number = get(data[begin : at - ZERO])
            if number is None:
                _note(others, begin, at)
                continue
            zeros.append(len(stops))
        add(number)
        stop(at)
    if at > size:
        raise Malformed("the request is cut off in the middle of a series")
    return Walk(_ints(numbers), _ints(stops), _marked(zeros, len(stops)), others)


def next_series(data: bytes, at: int, known: Mapping[bytes, int]) -> Walk | None:
    """The series at `at`, as `walk` would find it if it is written as usual; None: it is no known
    one, or it is cut off."""
    head = data[at : at + 3]
    if len(head) < 3 or head[0] != _SERIES_TAG or head[1] > 0x7F < head[2]:
        return None
    length, begin = (head[1], at + 2) if head[1] < 0x80 else (head[1] & 0x7F | head[2] << 7, at + 3)
    stop = begin + length
    number = known.get(data[begin : max(begin, stop - SAMPLE)])
    zero = number is None
    if number is None:
        number = known.get(data[begin : max(begin, stop - ZERO)])
    if number is None or stop > len(data):
        return None
    return Walk(_ints([number]), _ints([stop]), np.array([zero]), [])


def _pass(data: bytes, at: int, others: list[tuple[int, int]]) -> int:
    """Past one field that is not written as usual, or not a series: metadata, mostly."""
    found = field(data, at, len(data))
    if found[0] == SERIES:
        expect(found, LENGTH, "a time series")
        _note(others, found[2], found[3])
    return found[3]


def _note(others: list[tuple[int, int]], begin: int, stop: int) -> None:
    if len(others) >= MOST_SERIES:
        raise RequestTooLarge(f"more than {MOST_SERIES} new or unusual series in one request")
    if stop - begin > MOST_SERIES_BYTES:
        raise RequestTooLarge(f"a series of more than {MOST_SERIES_BYTES >> 20} MiB in one request")
    others.append((begin, stop))


def _walk_strictly(data: bytes) -> Walk:
    others: list[tuple[int, int]] = []
    for begin, stop in spans(data):
        _note(others, begin, stop)
    return Walk(_ints([]), _ints([]), _marked([], 0), others)


def _marked(places: list[int], count: int) -> Mask:
    mask = np.zeros(count, np.bool_)
    mask[places] = True
    return mask


def _ints(numbers: list[int]) -> Ints:
    return np.array(numbers, np.int64)
