"""A set of series: labels once, with everything that was ever computed from them alone."""

import threading
from collections.abc import Callable, Hashable
from typing import TypeVar, cast

from tocsin_exporter.snapshot import Labels

T = TypeVar("T")

# A set that outlives its partners (a stable source matched against a flapping one) must not
# gather a memory of each of them.
MAX_MEMOS = 64


class LabelSets:
    """Label sets in the order of their rows; compared by identity, so never change one.

    Grouping, matching and label dropping depend on the labels alone. `memo` computes such a
    thing once and keeps it as long as the set lives: a set lives while its selection is cached.
    Any number of threads may ask: two that ask at once may both compute, and get the same object.
    """

    __slots__ = ("_lock", "_memos", "labels")

    def __init__(self, labels: tuple[Labels, ...]) -> None:
        self.labels = labels
        self._memos: dict[Hashable, object] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.labels)

    def memo(
        self,
        key: Hashable,
        compute: Callable[[], T],
        keep_if: Callable[[T], bool] = lambda _: True,
    ) -> T:
        """`compute()`, or what it gave under the same `key` before, if that was `keep_if`."""
        memo = self._memos.get(key)  # one step of the interpreter: no lock
        if memo is None:
            computed = compute()
            if not keep_if(computed):
                return computed
            with self._lock:
                memo = self._memos.setdefault(key, computed)
                if len(self._memos) > MAX_MEMOS:
                    del self._memos[next(iter(self._memos))]
        return cast(T, memo)
