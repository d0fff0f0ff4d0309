"""The cache: what it has is not read again, and it never has more than it may."""

import numpy as np

from tocsin_alerting.store.cache import Cache


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
