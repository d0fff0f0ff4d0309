"""Cells of chosen series out of a section, put together from its bundles."""

import mmap
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

import numpy as np

from tocsin_alerting.store.cache import Cache
from tocsin_alerting.store.cell import ABSENT, Floats, Ints, Mask, is_absent, is_sample
from tocsin_alerting.store.codec import Coded, decoded
from tocsin_alerting.store.segment import Section

PAGE_CELLS = 2**19  # 4 MB
_OWN_ROOM = 2**12
_AT_ONCE = 2**16  # cells that are decoded together: a pass of numpy costs some time, however short

ReadBundle = Callable[[Section, int], Coded | None]
Wanted = tuple[int, Ints, Ints]


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """Where (count,) chosen series are in a section, or -1; `key` is a digest of that."""

    at: Ints
    key: bytes

    def bundles(self, per_bundle: int) -> list[Wanted]:
        """Of each bundle that is needed: its number, which series, and their places in it."""
        here = np.flatnonzero(self.at >= 0)
        numbers, within = np.divmod(self.at[here], per_bundle)
        order = np.argsort(numbers, kind="stable")
        here, numbers, within = here[order], numbers[order], within[order]
        begins = np.flatnonzero(np.diff(numbers, prepend=-1)).tolist()
        ends = [*begins[1:], len(numbers)]
        return [
            (int(numbers[first]), here[first:last], within[first:last])
            for first, last in zip(begins, ends, strict=True)
        ]


def places_of(at: Ints) -> Places:
    return Places(at, blake2b(at.tobytes(), digest_size=16).digest())


class _Group(NamedTuple):
    """Some of the chosen series, and their cells (series, columns)."""

    who: Ints
    cells: Floats


class Pages:
    """The cells of a section's series at these `places`; `read` has said what it could not read.

    A page is what a query reads in one go: all columns, or, of very many series, as many as
    `PAGE_CELLS` allow, or a column alone. The next one who asks the same finds it in `cache`.
    """

    __slots__ = ("_bundles", "_cache", "_kept", "_places", "_read", "_section")

    def __init__(self, section: Section, places: Places, read: ReadBundle, cache: Cache) -> None:
        self._section, self._places = section, places
        self._read, self._cache = read, cache
        self._bundles: list[Wanted] | None = None
        self._kept = (0, 0)

    def slab(self, start: int, stop: int, alone: bool) -> Floats:
        """The cells (stop - start, count); `alone`: nothing else of the section is wanted yet."""
        first, last = self._range(start, stop)
        page = self._cache.known(self._key(first, last))
        if page is None and alone and stop - start == 1:
            first, last = start, stop
            page = self._cache.known(self._key(first, last))
        if page is None:
            page = self._page(first, last)
        cells: Floats = page[start - first : stop - first]
        return cells

    def held(self, start: int, stop: int) -> Mask:
        """Which series (count,) have a sample in these columns."""
        count = len(self._places.at)
        if count * self._section.columns <= PAGE_CELLS:
            held: Mask = np.any(is_sample(self.slab(start, stop, False)), axis=0)
            return held
        found = np.zeros(count, np.bool_)
        for who, cells in self._groups(stop, []):
            found[who] = is_sample(cells[:, start:]).any(axis=1)
        return found

    def newest(self) -> tuple[Ints, Ints]:
        """The column (count,) of the newest cell of each series, and its bits; the last column,
        and 0, for those that cannot be read."""
        count, columns = len(self._places.at), self._section.columns
        newest, bits = np.full(count, columns - 1), np.zeros(count, np.int64)
        for who, cells in self._groups(columns, []):
            last = columns - 1 - np.argmax(~is_absent(cells[:, ::-1].copy()), axis=1)
            newest[who] = last
            bits[who] = cells[np.arange(len(who)), last].view(np.int64)
        return newest, bits

    def _range(self, start: int, stop: int) -> tuple[int, int]:
        """The columns of the page that these are read with."""
        columns, count = self._section.columns, len(self._places.at)
        if columns * count <= PAGE_CELLS:
            return 0, columns
        first, last = self._kept
        if not first <= start < stop <= last:
            self._kept = start, min(max(stop, start + PAGE_CELLS // count), columns)
        return self._kept

    def _key(self, first: int, last: int) -> Hashable:
        return self._section, self._places.key, first, last

    def _page(self, first: int, last: int) -> Floats:
        cells = np.full((len(self._places.at), last - first), ABSENT)
        missing: list[int] = []
        for who, found in self._groups(last, missing):
            cells[who] = found[:, first:]
        page = _room(last - first, len(cells))
        page[:] = cells.T
        if not missing:  # what a disk refused once it may give the next time
            self._cache.keep(self._key(first, last), page)
        return page

    def _groups(self, stop: int, missing: list[int]) -> Iterator[_Group]:
        """All series up to a column, a group at a time; of bundles that cannot be read nothing."""
        if self._bundles is None:
            self._bundles = self._places.bundles(self._section.per_bundle)
        taken: list[tuple[Ints, Coded, Ints]] = []
        for number, who, within in self._bundles:
            coded = self._read(self._section, number)
            if coded is None:
                missing.append(number)
                continue
            taken.append((who, coded, within))
            if sum(len(one) for one, _, _ in taken) * stop >= _AT_ONCE:
                yield _decoded(taken, stop)
                taken = []
        if taken:
            yield _decoded(taken, stop)


def _room(columns: int, count: int) -> Floats:
    """Memory (columns, count) that the system gets back at once: pages of all sizes that come and
    go, between what is needed for a moment, would leave the heap in pieces."""
    if columns * count < _OWN_ROOM:
        return np.empty((columns, count))
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    return np.frombuffer(mmap.mmap(-1, 8 * columns * count, private)).reshape(columns, count)


def _decoded(taken: Sequence[tuple[Ints, Coded, Ints]], stop: int) -> _Group:
    who = np.concatenate([one for one, _, _ in taken])
    ways = np.concatenate([coded.ways[within] for _, coded, within in taken])
    words = np.concatenate([coded.words(within, stop) for _, coded, within in taken])
    return _Group(who, decoded(ways, words))
