"""The cache: what it has is not read again, and it never has more than it may."""

import numpy as np

from tocsin_alerting.store.cache import LARGE, Cache


def test_it_forgets_what_was_used_longest_ago() -> None:
    cache, read = Cache(max_bytes=24), list[str]()

    def get(key: str, size: int = 1) -> None:
        def load() -> np.ndarray[tuple[int], np.dtype[np.float64]]:
            read.append(key)
            return np.zeros(size)

        assert len(cache.get(key, load)) == size
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
    cache, small, large = Cache(24, 3 * LARGE), np.zeros(3), np.zeros(LARGE // 8 + 1)
    cache.keep("small", small)
    for key in "abcde":
        cache.keep(key, large)
        assert cache.bytes <= 24 + 3 * LARGE
    assert cache.known("small") is small
    assert [key for key in "abcde" if cache.known(key) is not None] == ["d", "e"]
