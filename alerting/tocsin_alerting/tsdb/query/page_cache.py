"""What was read from disk lately, up to so many bytes."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from numpy.typing import NDArray

Array = TypeVar("Array", bound=NDArray[Any])


LARGE_PAGE_BYTES = 2**18


class PageCache:
    """Arrays by key; the one that was used longest ago goes first. For any number of threads.

    With `large_bytes` those of more than `LARGE` bytes have that room of their own: one query of
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
