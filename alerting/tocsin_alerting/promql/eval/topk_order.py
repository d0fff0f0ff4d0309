"""Which of equal elements topk and bottomk of Prometheus 2.42 keep, and in which order.

A heap holds the k best so far, the worst of them on top. An element that is better than that one
replaces it: among equal ones it is the heap's shape that decides which of them goes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

_INSERTED = 12  # up to so many elements Go's sort is an insertion sort, and that can be told


@dataclass(slots=True)
class TopkHeap:
    """Positions in `keys`, where the higher key is the better one and NaN the worst of all."""

    keys: Sequence[float]
    rows: list[int] = field(default_factory=list)

    def best(self, k: int) -> list[int]:
        """The positions of the k best, the best first."""
        for row, key in enumerate(self.keys):
            if len(self.rows) < k:
                self._push(row)
            elif (worst := self.keys[self.rows[0]]) < key or worst != worst:
                self._replace(row, k)
        if len(self.rows) > _INSERTED:
            return sorted(self.rows, key=self._rank)
        return self._inserted()

    def _rank(self, row: int) -> tuple[bool, float]:
        return self.keys[row] != self.keys[row], -self.keys[row]

    def _replace(self, row: int, k: int) -> None:
        if k == 1:
            self.rows[0] = row
            return
        self.rows[0] = self.rows[-1]
        self.rows.pop()
        self._sink()
        self._push(row)

    def _push(self, row: int) -> None:
        self.rows.append(row)
        at = len(self.rows) - 1
        while at and self._worse(at, (at - 1) // 2):
            self._swap(at, (at - 1) // 2)
            at = (at - 1) // 2

    def _sink(self) -> None:
        at = 0
        while (child := 2 * at + 1) < len(self.rows):
            if child + 1 < len(self.rows) and self._worse(child + 1, child):
                child += 1
            if not self._worse(child, at):
                return
            self._swap(at, child)
            at = child

    def _inserted(self) -> list[int]:
        for end in range(1, len(self.rows)):
            at = end
            while at and self._worse(at - 1, at):
                self._swap(at - 1, at)
                at -= 1
        return self.rows

    def _worse(self, left: int, right: int) -> bool:
        first, second = self.keys[self.rows[left]], self.keys[self.rows[right]]
        return first != first or first < second

    def _swap(self, left: int, right: int) -> None:
        self.rows[left], self.rows[right] = self.rows[right], self.rows[left]
