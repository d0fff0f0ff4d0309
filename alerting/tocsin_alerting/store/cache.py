"""What was read from disk lately, up to so many bytes."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import numpy as np
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
        with self._lock:
            found = self._arrays.get(key)
            if found is not None:
                self._arrays.move_to_end(key)
                return found  # type: ignore[return-value]
        array = read()
        self._keep(key, array)
        return array

    def _keep(self, key: Hashable, array: NDArray[np.generic]) -> None:
        with self._lock:
            if key not in self._arrays:
                self._arrays[key] = array
                self._bytes += array.nbytes
            while self._bytes > self._max_bytes and self._arrays:
                self._bytes -= self._arrays.popitem(last=False)[1].nbytes
