"""Series that come again in the order in which they came, so that one look finds many of them.

A sender writes its series in the same order each time, the same bytes but for values and times;
where its requests begin and end may wander. What was walked once is kept as a layout. A request is
found piece by piece: its next series tells the layout, and comparing bytes how far that goes.
"""

from collections import OrderedDict
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from tocsin_alerting.remote_write.batch import usual
from tocsin_alerting.remote_write.walk import SHORTEST, Walk, next_series
from tocsin_alerting.store.cell import Ints, Mask

MOST_BYTES = 8 << 20
_IDLE = 4  # rounds: a layout that was not used for so many may make room
_MISSES = 16  # series that were not as in their layout, before it is made anew
_RELEARN = 16  # requests in another order than known, of which one is learned
# Bytes that are compared at first, and then twice as many: of a request in another order only the
# next series are as in the layout.
_CHUNK = 16 << 10
_AHEAD, _PACE = 4, 4096  # pieces that may be short; bytes that the others must have on average


class Layout:
    """Usual series as they followed each other in a request. `bytes` is the memory that it takes,
    `used` when it was last of use, in requests, `misses` how often a series was not as here."""

    def __init__(self, data: bytes, walked: Walk) -> None:
        self.numbers, self.stops, self.zeros = walked.numbers, walked.stops, walked.zeros
        size = int(walked.stops[-1])
        self._mask = _fixed(size, walked.stops, walked.zeros)
        self._template = np.frombuffer(data, np.uint8, size) & self._mask
        self.bytes = 2 * size + 17 * len(walked.stops)
        self.used = self.misses = 0

    def begin(self, first: int) -> int:
        return int(self.stops[first - 1]) if first else 0

    def matched(self, data: bytes, at: int, first: int) -> int:
        """How many series, from `first` on, stand in data[at:] with other values and times."""
        begin = self.begin(first)
        length = min(len(data) - at, len(self._mask) - begin)
        same, chunk = 0, _CHUNK
        while same < length:
            more = min(chunk, length - same)
            alike = self._alike(data, at + same, begin + same, more)
            same += alike
            if alike < more:
                break
            chunk *= 2
        return int(self.stops.searchsorted(begin + same, "right")) - first

    def _alike(self, data: bytes, at: int, begin: int, length: int) -> int:
        """How many bytes of data[at:] are as in the layout from `begin` on, of so many."""
        here = slice(begin, begin + length)
        seen = np.frombuffer(data, np.uint8, length, at) & self._mask[here]
        differs = seen != self._template[here]
        return int(differs.argmax()) if differs.any() else length

    def piece(self, first: int, count: int, at: int) -> Walk:
        """As if these series had been walked, from `at` on."""
        here = slice(first, first + count)
        stops = self.stops[here] + (at - self.begin(first))
        return Walk(self.numbers[here], stops, self.zeros[here], [])


class Layouts:
    """Those that were of use lately, `most_bytes` at most."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._bytes = self._requests = self._walked = self._made = 0
        self._kept: OrderedDict[int, Layout] = OrderedDict()
        # By the number of a series: in which layout it was seen last, and where.
        self._layout, self._place = np.empty(0, np.int64), np.empty(0, np.int64)

    def find(self, data: bytes, known: Mapping[bytes, int]) -> Walk | None:
        """What a walk would find; None: that is to be found by walking."""
        self._requests += 1
        pieces: list[Walk] = []
        alone: list[Walk] = []
        at = 0
        while at < len(data):
            one = next_series(data, at, known)
            if one is None or at < (len(pieces) - _AHEAD) * _PACE:
                return None
            piece = self._piece(data, at, int(one.numbers[0]))
            if piece is None:
                return None
            if not len(piece.numbers):
                piece = one
                alone.append(one)
            pieces.append(piece)
            at = int(piece.stops[-1])
        if not pieces or not _all_usual(data, alone):
            return None
        return _joined(pieces)

    def learn(self, data: bytes, walked: Walk) -> None:
        """A request that was walked, because it was not found."""
        if walked.others or not len(walked.stops):
            return
        self._walked += 1
        self._fit(int(walked.numbers.max()) + 1)
        placed = all(at in self._kept for at in np.unique(self._layout[walked.numbers]).tolist())
        if placed and self._walked % _RELEARN:
            return
        layout = Layout(data, walked)
        layout.used = self._requests
        if self._room_for(layout):
            self._made += 1
            self._kept[self._made] = layout
            self._bytes += layout.bytes
            self._layout[walked.numbers] = self._made
            self._place[walked.numbers] = np.arange(len(walked.numbers))

    def _piece(self, data: bytes, at: int, number: int) -> Walk | None:
        """The series at `at` and those that follow it in its layout, none if it is not as there;
        None: it has no layout."""
        which = int(self._layout[number]) if number < len(self._layout) else 0
        layout = self._kept.get(which)
        if layout is None:
            return None
        first = int(self._place[number])
        count = layout.matched(data, at, first)
        self._kept.move_to_end(which)
        layout.used = self._requests
        layout.misses += not count
        if layout.misses > _MISSES:
            self._forget(which)
        return layout.piece(first, count, at)

    def _room_for(self, layout: Layout) -> bool:
        """Makes room. One in use makes none: a round of more requests would find none of them."""
        while self._kept and self._bytes + layout.bytes > self._most_bytes:
            oldest = next(iter(self._kept))
            idle = self._requests - self._kept[oldest].used
            if idle < _IDLE * len(self._kept):
                return False
            self._forget(oldest)
        return layout.bytes <= self._most_bytes

    def _forget(self, which: int) -> None:
        self._bytes -= self._kept.pop(which).bytes

    def _fit(self, count: int) -> None:
        """Room for so many series."""
        more = count - len(self._layout)
        if more > 0:
            blank = np.zeros(more + count // 8, np.int64)
            self._layout = np.concatenate([self._layout, blank])
            self._place = np.concatenate([self._place, blank])


def _all_usual(data: bytes, alone: list[Walk]) -> bool:
    """Whether series that were found by their labels alone end as usual."""
    if not alone:
        return True
    stops = np.concatenate([one.stops for one in alone])
    zeros = np.concatenate([one.zeros for one in alone])
    return int(stops[0]) >= SHORTEST and usual(data, stops, zeros)


def _joined(pieces: list[Walk]) -> Walk:
    if len(pieces) == 1:
        return pieces[0]
    return Walk(
        np.concatenate([one.numbers for one in pieces]),
        np.concatenate([one.stops for one in pieces]),
        np.concatenate([one.zeros for one in pieces]),
        [],
    )


def _fixed(size: int, stops: Ints, zeros: Mask) -> NDArray[np.uint8]:
    """The bits (size,) in which two requests of one layout are the same."""
    mask = np.full(size, 0xFF, np.uint8)
    mask[stops[~zeros, None] - 15 + np.arange(8)] = 0
    mask[stops[:, None] - 6 + np.arange(6)] = 0x80
    return mask
