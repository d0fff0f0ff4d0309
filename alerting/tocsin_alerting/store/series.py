"""A set of series: labels once, with everything that was ever computed from them alone."""

from collections.abc import Callable, Hashable
from typing import TypeVar, cast

from tocsin_exporter.snapshot import Labels

T = TypeVar("T")

# A set that outlives its partners (a stable source matched against a flapping one) must not
# gather a memory of each of them.
MEMORIES = 64


class SeriesSet:
    """Label sets in the order of their rows; compared by identity, so never change one.

    Grouping, matching and label dropping depend on the labels alone. `remember` computes such a
    thing once and keeps it as long as the set lives: a set lives while its selection is cached.
    """

    __slots__ = ("_memory", "labels")

    def __init__(self, labels: tuple[Labels, ...]) -> None:
        self.labels = labels
        self._memory: dict[Hashable, object] = {}

    def __len__(self) -> int:
        return len(self.labels)

    def remember(self, key: Hashable, compute: Callable[[], T]) -> T:
        """`compute()`, or what it gave under the same `key` before."""
        found = self._memory.get(key)
        if found is None:
            found = compute()
            if len(self._memory) >= MEMORIES:
                self._memory.pop(next(iter(self._memory)), None)
            self._memory[key] = found
        return cast(T, found)
