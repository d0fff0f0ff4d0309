"""Cells of chosen series out of a section, put together from its chunks."""

import mmap
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from tocsin_alerting.tsdb.block.codec import EncodedChunk, decode_series
from tocsin_alerting.tsdb.block.format import AlignedSection
from tocsin_alerting.tsdb.values import ABSENT, Floats, Ints, Mask, is_absent, is_sample

LARGE_PAGE_BYTES = 2**18
PAGE_CELLS = 2**19  # 4 MB
_OWN_MAPPING_CELLS = 2**12
_DECODE_CELLS = 2**16  # decoded together: a pass of numpy costs some time, however short

ReadChunk = Callable[[AlignedSection, int], EncodedChunk | None]
ChunkRows = tuple[int, Ints, Ints]
Array = TypeVar("Array", bound=NDArray[Any])


class PageCache:
    """Arrays by key; the one that was used longest ago goes first. For any number of threads.

    With `large_bytes` those of more than LARGE_PAGE_BYTES have that room of their own: one query of
    very many series would drive out all others otherwise, and not fit even then.
    """

    def __init__(self, max_bytes: int, large_bytes: int = 0) -> None:
        self._max_bytes = max_bytes
        self._large = PageCache(large_bytes) if large_bytes else None
        self._bytes = 0
        self._arrays: OrderedDict[Hashable, NDArray[Any]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        return self._bytes + (self._large.bytes if self._large else 0)

    def get_or_read(self, key: Hashable, read: Callable[[], Array]) -> Array:
        array = self.get(key)
        if array is None:
            array = read()
            self.put(key, array)
        return array  # type: ignore[return-value]

    def get(self, key: Hashable) -> NDArray[Any] | None:
        """None when it is not kept, or no longer."""
        with self._lock:
            array = self._arrays.get(key)
            if array is not None:
                self._arrays.move_to_end(key)
                return array
        return self._large.get(key) if self._large else None

    def put(self, key: Hashable, array: NDArray[Any]) -> None:
        if self._large and array.nbytes > LARGE_PAGE_BYTES:
            self._large.put(key, array)
            return
        with self._lock:
            if key not in self._arrays:
                self._arrays[key] = array
                self._bytes += array.nbytes
            while self._bytes > self._max_bytes and self._arrays:
                self._bytes -= self._arrays.popitem(last=False)[1].nbytes


@dataclass(frozen=True, slots=True, eq=False)
class RowPositions:
    """Where (count,) chosen series are in a section, or -1; `key` is a digest of that."""

    positions: Ints
    key: bytes

    def chunks(self, per_chunk: int) -> list[ChunkRows]:
        """Of each chunk that is needed: its number, which series, and their places in it."""
        series = np.flatnonzero(self.positions >= 0)
        numbers, within = np.divmod(self.positions[series], per_chunk)
        order = np.argsort(numbers, kind="stable")
        series, numbers, within = series[order], numbers[order], within[order]
        begins = np.flatnonzero(np.diff(numbers, prepend=-1)).tolist()
        ends = [*begins[1:], len(numbers)]
        return [
            (int(numbers[first]), series[first:last], within[first:last])
            for first, last in zip(begins, ends, strict=True)
        ]


def row_positions(at: Ints) -> RowPositions:
    return RowPositions(at, blake2b(at.tobytes(), digest_size=16).digest())


class _DecodedSeries(NamedTuple):
    """Some of the chosen series, and their cells (series, columns)."""

    series: Ints
    cells: Floats


class PageReader:
    """The cells of a section's series at these `places`; `read` has logged what it could not read.

    A page is what a query reads in one go: all columns, or, of very many series, as many as
    `PAGE_CELLS` allow, or a column alone. The next one who asks the same finds it in `cache`.
    """

    __slots__ = ("_cache", "_chunks", "_page_range", "_positions", "_read", "_section")

    def __init__(
        self, section: AlignedSection, places: RowPositions, read: ReadChunk, cache: PageCache
    ) -> None:
        self._section, self._positions = section, places
        self._read, self._cache = read, cache
        self._chunks: list[ChunkRows] | None = None
        self._page_range = (0, 0)

    def cells_in(self, start: int, stop: int, alone: bool) -> Floats:
        """The cells (stop - start, count); `alone`: nothing else of the section is wanted yet."""
        first, last = self._page_columns(start, stop)
        page = self._cache.get(self._key(first, last))
        if page is None and alone and stop - start == 1:
            first, last = start, stop
            page = self._cache.get(self._key(first, last))
        if page is None:
            page = self._read_page(first, last)
        cells: Floats = page[start - first : stop - first]
        return cells

    def has_samples(self, start: int, stop: int) -> Mask:
        """Which series (count,) have a sample in these columns."""
        count = len(self._positions.positions)
        if count * self._section.columns <= PAGE_CELLS:
            present: Mask = np.any(is_sample(self.cells_in(start, stop, False)), axis=0)
            return present
        mask = np.zeros(count, np.bool_)
        for who, cells in self._decoded(stop, []):
            mask[who] = is_sample(cells[:, start:]).any(axis=1)
        return mask

    def newest(self) -> tuple[Ints, Ints]:
        """The column (count,) of the newest cell of each series, and its bits; the last column,
        and 0, for those that cannot be read."""
        count, columns = len(self._positions.positions), self._section.columns
        newest, bits = np.full(count, columns - 1), np.zeros(count, np.int64)
        for who, cells in self._decoded(columns, []):
            last = columns - 1 - np.argmax(~is_absent(cells[:, ::-1].copy()), axis=1)
            newest[who] = last
            bits[who] = cells[np.arange(len(who)), last].view(np.int64)
        return newest, bits

    def _page_columns(self, start: int, stop: int) -> tuple[int, int]:
        """The columns of the page that these are read with."""
        columns, count = self._section.columns, len(self._positions.positions)
        if columns * count <= PAGE_CELLS:
            return 0, columns
        first, last = self._page_range
        if not first <= start < stop <= last:
            self._page_range = start, min(max(stop, start + PAGE_CELLS // count), columns)
        return self._page_range

    def _key(self, first: int, last: int) -> Hashable:
        return self._section, self._positions.key, first, last

    def _read_page(self, first: int, last: int) -> Floats:
        cells = np.full((len(self._positions.positions), last - first), ABSENT)
        missing: list[int] = []
        for who, group_cells in self._decoded(last, missing):
            cells[who] = group_cells[:, first:]
        page = _page_memory(last - first, len(cells))
        page[:] = cells.T
        if not missing:  # what a disk refused once it may give the next time
            self._cache.put(self._key(first, last), page)
        return page

    def _decoded(self, stop: int, missing: list[int]) -> Iterator[_DecodedSeries]:
        """All series up to a column, a group at a time; of chunks that cannot be read nothing."""
        if self._chunks is None:
            self._chunks = self._positions.chunks(self._section.series_per_chunk)
        taken: list[tuple[Ints, EncodedChunk, Ints]] = []
        for number, who, within in self._chunks:
            coded = self._read(self._section, number)
            if coded is None:
                missing.append(number)
                continue
            taken.append((who, coded, within))
            if sum(len(series) for series, _, _ in taken) * stop >= _DECODE_CELLS:
                yield _decode(taken, stop)
                taken = []
        if taken:
            yield _decode(taken, stop)


def _page_memory(columns: int, count: int) -> Floats:
    """Memory (columns, count) that the system gets back at once: pages of all sizes that come and
    go, between what is needed for a moment, would leave the heap in pieces."""
    if columns * count < _OWN_MAPPING_CELLS:
        return np.empty((columns, count))
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    return np.frombuffer(mmap.mmap(-1, 8 * columns * count, private)).reshape(columns, count)


def _decode(taken: Sequence[tuple[Ints, EncodedChunk, Ints]], stop: int) -> _DecodedSeries:
    who = np.concatenate([series for series, _, _ in taken])
    encodings = np.concatenate([coded.encodings[within] for _, coded, within in taken])
    words = np.concatenate([coded.words(within, stop) for _, coded, within in taken])
    return _DecodedSeries(who, decode_series(encodings, words))


def positions_in(owners: Ints, rows: Ints, width: int) -> Ints:
    """For each of `rows`, which may be -1, its place among `owners`, or -1."""
    places = np.full(width + 1, -1, np.int64)
    places[owners] = np.arange(len(owners))
    positions: Ints = places[rows]  # -1 is the last place, which is nobody's
    return positions
