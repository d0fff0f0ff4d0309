"""Series that come again in the order in which they came, so that one look finds many of them.

A sender writes its series in the same order each time, the same bytes but for values and times;
where its requests begin and end may wander. What was walked once is kept as a layout. A request is
found piece by piece: its next series tells the layout, and comparing bytes how far that goes.
"""

from collections import OrderedDict
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from tocsin_alerting.remote_write.fast_scan import SHORTEST, ScannedSeries, all_usual, next_series
from tocsin_alerting.tsdb.values import Ints, Mask

MOST_BYTES = 8 << 20
_IDLE = 4  # rounds: a layout that was not used for so many may make room
_MISSES = 16  # series that were not as in their layout, before it is made anew
_RELEARN = 16  # requests in another order than known, of which one is learned
# Bytes that are compared at first, and then twice as many: of a request in another order only the
# next series are as in the layout.
_CHUNK = 16 << 10
_AHEAD, _PACE = 4, 4096  # pieces that may be short; bytes that the others must have on average


class RequestTemplate:
    """Usual series as they followed each other in a request. `bytes` is the memory that it takes,
    `last_used` when it was last of use, in requests, `misses` how often a series was not as
    here."""

    def __init__(self, data: bytes, scanned: ScannedSeries) -> None:
        self.refs, self.stops, self.zeros = scanned.refs, scanned.stops, scanned.zeros
        size = int(scanned.stops[-1])
        self._mask = _fixed_bits(size, scanned.stops, scanned.zeros)
        self._template = np.frombuffer(data, np.uint8, size) & self._mask
        self.bytes = 2 * size + 17 * len(scanned.stops)
        self.last_used = self.misses = 0

    def begin(self, first: int) -> int:
        return int(self.stops[first - 1]) if first else 0

    def matching_series(self, data: bytes, at: int, first: int) -> int:
        """How many series, from `first` on, stand in data[at:] with other values and times."""
        begin = self.begin(first)
        length = min(len(data) - at, len(self._mask) - begin)
        same, chunk = 0, _CHUNK
        while same < length:
            more = min(chunk, length - same)
            alike = self._equal_bytes(data, at + same, begin + same, more)
            same += alike
            if alike < more:
                break
            chunk *= 2
        return int(self.stops.searchsorted(begin + same, "right")) - first

    def _equal_bytes(self, data: bytes, at: int, begin: int, length: int) -> int:
        """How many bytes of data[at:] are as in the layout from `begin` on, of so many."""
        span = slice(begin, begin + length)
        seen = np.frombuffer(data, np.uint8, length, at) & self._mask[span]
        differs = seen != self._template[span]
        return int(differs.argmax()) if differs.any() else length

    def scanned(self, first: int, count: int, at: int) -> ScannedSeries:
        """As if these series had been walked, from `at` on."""
        span = slice(first, first + count)
        stops = self.stops[span] + (at - self.begin(first))
        return ScannedSeries(self.refs[span], stops, self.zeros[span], [])


class RequestCache:
    """Those that were of use lately, `most_bytes` at most."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._bytes = self._requests = self._scans = self._last_template = 0
        self._templates: OrderedDict[int, RequestTemplate] = OrderedDict()
        # By the number of a series: in which layout it was seen last, and where.
        self._template_of, self._position_in = np.empty(0, np.int64), np.empty(0, np.int64)

    def find(self, data: bytes, known: Mapping[bytes, int]) -> ScannedSeries | None:
        """What a walk would find; None: that is to be found by walking."""
        self._requests += 1
        pieces: list[ScannedSeries] = []
        alone: list[ScannedSeries] = []
        at = 0
        while at < len(data):
            series = next_series(data, at, known)
            if series is None or at < (len(pieces) - _AHEAD) * _PACE:
                return None
            piece = self._next_piece(data, at, int(series.refs[0]))
            if piece is None:
                return None
            if not len(piece.refs):
                piece = series
                alone.append(series)
            pieces.append(piece)
            at = int(piece.stops[-1])
        if not pieces or not _all_usual(data, alone):
            return None
        return _concatenated(pieces)

    def learn(self, data: bytes, scanned: ScannedSeries) -> None:
        """A request that was walked, because it was not found."""
        if scanned.others or not len(scanned.stops):
            return
        self._scans += 1
        self._fit(int(scanned.refs.max()) + 1)
        placed = all(
            at in self._templates for at in np.unique(self._template_of[scanned.refs]).tolist()
        )
        if placed and self._scans % _RELEARN:
            return
        layout = RequestTemplate(data, scanned)
        layout.last_used = self._requests
        if self._make_room(layout):
            self._last_template += 1
            self._templates[self._last_template] = layout
            self._bytes += layout.bytes
            self._template_of[scanned.refs] = self._last_template
            self._position_in[scanned.refs] = np.arange(len(scanned.refs))

    def _next_piece(self, data: bytes, at: int, ref: int) -> ScannedSeries | None:
        """The series at `at` and those that follow it in its layout, none if it is not as there;
        None: it has no layout."""
        which = int(self._template_of[ref]) if ref < len(self._template_of) else 0
        layout = self._templates.get(which)
        if layout is None:
            return None
        first = int(self._position_in[ref])
        count = layout.matching_series(data, at, first)
        self._templates.move_to_end(which)
        layout.last_used = self._requests
        layout.misses += not count
        if layout.misses > _MISSES:
            self._forget(which)
        return layout.scanned(first, count, at)

    def _make_room(self, layout: RequestTemplate) -> bool:
        """Makes room. One in use makes none: a round of more requests would find none of them."""
        while self._templates and self._bytes + layout.bytes > self._most_bytes:
            oldest = next(iter(self._templates))
            idle = self._requests - self._templates[oldest].last_used
            if idle < _IDLE * len(self._templates):
                return False
            self._forget(oldest)
        return layout.bytes <= self._most_bytes

    def _forget(self, which: int) -> None:
        self._bytes -= self._templates.pop(which).bytes

    def _fit(self, count: int) -> None:
        """Room for so many series."""
        more = count - len(self._template_of)
        if more > 0:
            blank = np.zeros(more + count // 8, np.int64)
            self._template_of = np.concatenate([self._template_of, blank])
            self._position_in = np.concatenate([self._position_in, blank])


def _all_usual(data: bytes, alone: list[ScannedSeries]) -> bool:
    """Whether series that were found by their labels alone end as usual."""
    if not alone:
        return True
    stops = np.concatenate([scanned.stops for scanned in alone])
    zeros = np.concatenate([scanned.zeros for scanned in alone])
    return int(stops[0]) >= SHORTEST and all_usual(data, stops, zeros)


def _concatenated(pieces: list[ScannedSeries]) -> ScannedSeries:
    if len(pieces) == 1:
        return pieces[0]
    return ScannedSeries(
        np.concatenate([piece.refs for piece in pieces]),
        np.concatenate([piece.stops for piece in pieces]),
        np.concatenate([piece.zeros for piece in pieces]),
        [],
    )


def _fixed_bits(size: int, stops: Ints, zeros: Mask) -> NDArray[np.uint8]:
    """The bits (size,) in which two requests of one layout are the same."""
    mask = np.full(size, 0xFF, np.uint8)
    mask[stops[~zeros, None] - 15 + np.arange(8)] = 0
    mask[stops[:, None] - 6 + np.arange(6)] = 0x80
    return mask
