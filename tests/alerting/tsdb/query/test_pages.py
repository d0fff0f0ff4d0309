"""Pages give what the bundles hold, however they are asked, and keep no failure."""

from pathlib import Path

import numpy as np
import pytest

from tocsin_alerting.tsdb.block.codec import EncodedChunk, encode, open_chunk
from tocsin_alerting.tsdb.block.extent import Extent
from tocsin_alerting.tsdb.block.format import AlignedSection
from tocsin_alerting.tsdb.query.pages import LARGE_PAGE_BYTES, PageCache, PageReader, row_positions
from tocsin_alerting.tsdb.values import ABSENT_BITS, STALE_BITS, Floats, Ints, is_sample
from tocsin_exporter.snapshot import Source

COLUMNS, PER_BUNDLE = 240, 64
NOWHERE = Extent(0, 0, 0)


class Bundles:
    """A section of `count` series, each written in its own way, that counts what is read of it."""

    def __init__(self, count: int) -> None:
        chance = np.random.default_rng(count)
        self.cells = np.cumsum(chance.integers(0, 50, (COLUMNS, count)), axis=0) / 1.0
        self.cells[:, ::3] += chance.random((COLUMNS, len(range(0, count, 3))))
        bits = self.cells.view(np.int64)
        bits[chance.random(bits.shape) < 0.01] = ABSENT_BITS
        bits[chance.random(bits.shape) < 0.01] = STALE_BITS
        bits[: COLUMNS // 2, 1] = ABSENT_BITS
        firsts = range(0, count, PER_BUNDLE)
        self._data = [encode(self.cells[:, at : at + PER_BUNDLE]) for at in firsts]
        none = np.empty((0, 3), np.int64)
        self.section = AlignedSection(
            Path("s"), Source("j", "i"), 0, COLUMNS - 1, COLUMNS, count, PER_BUNDLE,
            NOWHERE, NOWHERE, b"", none, np.empty(0, np.int64),
        )  # fmt: skip
        self.reads = 0
        self.broken: set[int] = set()

    def read(self, section: AlignedSection, number: int) -> EncodedChunk | None:
        self.reads += 1
        if number in self.broken:
            return None
        count = min(PER_BUNDLE, section.count - number * PER_BUNDLE)
        return open_chunk(self._data[number], COLUMNS, count)

    def pages(self, at: Ints, cache: PageCache) -> PageReader:
        return PageReader(self.section, row_positions(at), self.read, cache)

    def expected(self, at: Ints) -> Floats:
        cells = np.where(at >= 0, self.cells.view(np.int64)[:, at], ABSENT_BITS)
        return cells.view(np.float64)


def same(found: Floats, expected: Floats) -> bool:
    return bool((np.ascontiguousarray(found).view(np.int64) == expected.view(np.int64)).all())


@pytest.mark.parametrize("count", [200, 2400])  # more than a page has are read by columns
@pytest.mark.parametrize("cache_bytes", [0, 2**26])
def test_any_columns_of_any_series(count: int, cache_bytes: int) -> None:
    bundles = Bundles(count)
    at = np.random.default_rng(1).permutation(np.arange(-3, count)).clip(min=-1)
    expected, cache = bundles.expected(at), PageCache(cache_bytes)
    pages = bundles.pages(at, cache)
    for start, stop, alone in [(7, 8, True), (239, 240, True), (7, 9, False), (0, 240, False),
                               (100, 130, False), (90, 131, False), (0, 1, False)]:  # fmt: skip
        assert same(pages.cells_in(start, stop, alone), expected[start:stop])
    for start, stop in [(0, 240), (0, 60), (239, 240)]:
        held = is_sample(expected[start:stop]).any(axis=0)
        assert (pages.has_samples(start, stop) == held).all()


def test_whoever_asks_the_same_series_reads_nothing_again() -> None:
    bundles, cache, at = Bundles(200), PageCache(2**26), np.array([3, 150, -1, 9])
    assert same(bundles.pages(at, cache).cells_in(5, 6, True), bundles.expected(at)[5:6])
    assert bundles.reads == 2  # those of the bundles that these are in
    bundles.pages(at, cache).cells_in(5, 6, True)
    assert bundles.reads == 2
    bundles.pages(at, cache).cells_in(5, 7, False)
    bundles.pages(at, cache).cells_in(90, 91, True)
    assert bundles.reads == 4
    other = at[::-1].copy()
    assert same(bundles.pages(other, cache).cells_in(90, 91, True), bundles.expected(other)[90:91])
    assert bundles.reads == 6


def test_what_could_not_be_read_is_tried_again() -> None:
    bundles, cache, at = Bundles(200), PageCache(2**26), np.array([3, 150])
    bundles.broken = {2}
    cells = bundles.pages(at, cache).cells_in(0, 240, False)
    assert same(cells[:, :1], bundles.expected(at)[:, :1])
    assert not is_sample(cells[:, 1]).any()
    bundles.broken = set()
    assert same(bundles.pages(at, cache).cells_in(0, 240, False), bundles.expected(at))


def test_it_forgets_what_was_used_longest_ago() -> None:
    cache, read = PageCache(max_bytes=24), list[str]()

    def get(key: str, size: int = 1) -> None:
        def load() -> np.ndarray[tuple[int], np.dtype[np.float64]]:
            read.append(key)
            return np.zeros(size)

        assert len(cache.get_or_read(key, load)) == size
        assert cache.bytes <= 24

    for key in "abcabc":
        get(key)
    assert read == ["a", "b", "c"]
    get("a")
    get("d")
    get("a")
    get("b")
    assert read == ["a", "b", "c", "d", "b"]
    get("large", 9)
    assert cache.bytes == 0


def test_what_is_large_drives_out_nothing_small() -> None:
    cache, small, large = (
        PageCache(24, 3 * LARGE_PAGE_BYTES),
        np.zeros(3),
        np.zeros(LARGE_PAGE_BYTES // 8 + 1),
    )
    cache.put("small", small)
    for key in "abcde":
        cache.put(key, large)
        assert cache.bytes <= 24 + 3 * LARGE_PAGE_BYTES
    assert cache.get("small") is small
    assert [key for key in "abcde" if cache.get(key) is not None] == ["d", "e"]
