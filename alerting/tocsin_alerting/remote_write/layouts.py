"""Requests that come again with other numbers: what stood where, so that one look is enough.

A sender that cuts its series into requests in the same way each time writes the same bytes but
for values and times. Comparing those bytes takes a fraction of finding each series.
"""

from collections import OrderedDict
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from tocsin_alerting.remote_write.batch import SAMPLE, ZERO, Batch, read
from tocsin_alerting.remote_write.walk import Walk
from tocsin_alerting.store.cell import Ints

MOST_BYTES = 8 << 20
_NOTED = 4096  # requests that were seen once
_IDLE = 4  # rounds: a layout that was not used for so many may make room
Signature = tuple[int, int]
"""(bytes of a request, number of its first series)."""


class Layout:
    """A request of usual series alone. `bytes` is the memory that it takes, `used` when it was
    last found, in requests."""

    def __init__(self, data: bytes, walked: Walk) -> None:
        self._numbers, self._stops, self._zeros = walked.numbers, walked.stops, walked.zeros
        mask = _fixed(len(data), walked.stops, walked.zeros).tobytes()
        self._mask = _words(mask), _last(mask)
        self._template = _words(data) & self._mask[0], _last(data) & self._mask[1]
        self.bytes = 2 * len(data) + 8 * (2 * len(walked.stops) + len(walked.zeros))
        self.used = 0

    def fits(self, data: bytes) -> bool:
        """Whether `data`, of the same length, differs in values and times alone."""
        words, last = self._template
        if _last(data) & self._mask[1] != last:
            return False
        return not ((_words(data) & self._mask[0]) != words).any()

    def batch(self, data: bytes) -> Batch:
        return read(data, self._numbers, self._stops, self._zeros)


class Layouts:
    """Those of the last requests, `most_bytes` at most.

    One is made when a request's signature comes the second time: most requests of a sender whose
    cuts wander never come again.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._bytes = self._requests = 0
        self._noted: set[Signature] = set()
        self._layouts: OrderedDict[Signature, Layout] = OrderedDict()

    def find(self, data: bytes, known: Mapping[bytes, int]) -> Batch | None:
        """The samples of a request that came before with other numbers."""
        self._requests += 1
        signature = _signature(data, known)
        layout = self._layouts.get(signature) if signature else None
        if signature is None or layout is None or not layout.fits(data):
            return None
        self._layouts.move_to_end(signature)
        layout.used = self._requests
        return layout.batch(data)

    def note(self, data: bytes, known: Mapping[bytes, int], walked: Walk) -> None:
        """A request that was not found."""
        signature = _signature(data, known)
        if signature is None or walked.others:
            return
        if signature not in self._noted:
            if len(self._noted) >= _NOTED:
                self._noted.clear()
            self._noted.add(signature)
            return
        layout = Layout(data, walked)
        layout.used = self._requests
        self._forget(signature)
        if self._room_for(layout):
            self._layouts[signature] = layout
            self._bytes += layout.bytes

    def _room_for(self, layout: Layout) -> bool:
        """Makes room. One in use makes none: a round of more requests would find none of them."""
        while self._layouts and self._bytes + layout.bytes > self._most_bytes:
            oldest = next(iter(self._layouts))
            idle = self._requests - self._layouts[oldest].used
            if idle < _IDLE * len(self._layouts):
                return False
            self._forget(oldest)
        return layout.bytes <= self._most_bytes

    def _forget(self, signature: Signature) -> None:
        layout = self._layouts.pop(signature, None)
        self._bytes -= layout.bytes if layout else 0


def _signature(data: bytes, known: Mapping[bytes, int]) -> Signature | None:
    """None when the first series is not a known one, with one sample, as usual."""
    if len(data) < 2 * SAMPLE:
        return None
    length, begin = data[1], 2
    if length > 0x7F:
        length, begin = length & 0x7F | data[2] << 7, 3
    stop = begin + length
    number = known.get(data[begin : max(begin, stop - SAMPLE)])
    if number is None:
        number = known.get(data[begin : max(begin, stop - ZERO)])
    return None if number is None else (len(data), number)


def _fixed(size: int, stops: Ints, zeros: Ints) -> NDArray[np.uint8]:
    """The bits (size,) in which two requests of one layout are the same."""
    mask = np.full(size, 0xFF, np.uint8)
    valued = np.delete(stops, zeros)
    mask[valued[:, None] - 15 + np.arange(8)] = 0
    mask[stops[:, None] - 6 + np.arange(6)] = 0x80
    return mask


def _words(data: bytes) -> NDArray[np.uint64]:
    return np.frombuffer(data, np.uint64, len(data) // 8)


def _last(data: bytes) -> int:
    """The last eight bytes, since those that fill no word are part of no other comparison."""
    return int.from_bytes(data[-8:], "little")
