"""The cache: what it has is not read again, and it never has more than it may."""

import numpy as np

from tocsin_alerting.tsdb.query.page_cache import LARGE_PAGE_BYTES, PageCache


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
