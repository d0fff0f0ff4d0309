"""What was read from disk lately, up to so many bytes."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from numpy.typing import NDArray

Array = TypeVar("Array", bound=NDArray[Any])


class Cache:
    """Arrays by key; the one that was used longest ago goes first. For any number of threads."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._arrays: OrderedDict[Hashable, NDArray[Any]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        return self._bytes

    def get(self, key: Hashable, read: Callable[[], Array]) -> Array:
        array = self.known(key)
        if array is None:
            array = read()
            self.keep(key, array)
        return array  # type: ignore[return-value]

    def known(self, key: Hashable) -> NDArray[Any] | None:
        """None when it is not kept, or no longer."""
        with self._lock:
            found = self._arrays.get(key)
            if found is not None:
                self._arrays.move_to_end(key)
            return found

    def keep(self, key: Hashable, array: NDArray[Any]) -> None:
        with self._lock:
            if key not in self._arrays:
                self._arrays[key] = array
                self._bytes += array.nbytes
            while self._bytes > self._max_bytes and self._arrays:
                self._bytes -= self._arrays.popitem(last=False)[1].nbytes
