"""Aggregations as Prometheus 2.42 has them. (promql/engine.go of 2.42, aggregation)

sum, avg, stddev and stdvar go element after element, uncompensated: what rounding loses on the way
shows where great numbers cancel, and every step of the way decides what comes of infinities. Of
equal elements, topk and bottomk keep those that the shape of a heap keeps.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from tocsin_alerting.promql.eval.grouping import Grouping
from tocsin_alerting.promql.eval.vector import Vector
from tocsin_alerting.tsdb.values import Floats, Ints, Mask


@dataclass(frozen=True, slots=True, eq=False)
class _Turn:
    """The n-th series of each group that has so many: all (steps, groups that have)."""

    groups: Ints
    values: Floats
    present: Mask
    counts: Floats  # of the group's elements so far, this one included


def _turns(groups: Grouping, vector: Vector) -> Iterator[_Turn]:
    members = groups.members()
    present = vector.present_mask
    counts = np.zeros((len(present), len(members)))
    for place in range(max(map(len, members), default=0)):
        having = [number for number, rows in enumerate(members) if place < len(rows)]
        rows = [int(members[number][place]) for number in having]
        numbers = np.array(having, np.int64)
        counts[:, numbers] += present[:, rows]
        yield _Turn(numbers, vector.values[:, rows], present[:, rows], counts[:, numbers])


def sums(groups: Grouping, vector: Vector) -> Floats:
    """(steps, groups). Begins with -0, which alone changes nothing that is added to it."""
    total = np.full((len(vector.values), len(groups.groups)), -0.0)
    columns = np.broadcast_to(groups.ids, vector.values.shape)
    steps = np.broadcast_to(np.arange(len(total))[:, None], vector.values.shape)
    np.add.at(total, (steps, columns), vector.filled(-0.0))
    return total


def means(groups: Grouping, vector: Vector) -> Floats:
    """(steps, groups). Once infinite, a mean stays so for all but NaN and the other infinity."""
    mean = np.zeros((len(vector.values), len(groups.groups)))
    for turn in _turns(groups, vector):
        before = mean[:, turn.groups]
        value, counts = turn.values, turn.counts
        after = before + (value / counts - before / counts)
        stays = np.isinf(before) & ~np.isnan(value) & (np.isfinite(value) | (value == before))
        after = np.where(stays, before, np.where(counts == 1, value, after))
        mean[:, turn.groups] = np.where(turn.present, after, before)
    return mean


def variances(groups: Grouping, vector: Vector) -> Floats:
    """(steps, groups), by Welford's recurrence, which does not look at a single element."""
    shape = (len(vector.values), len(groups.groups))
    mean, squares, counts = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for turn in _turns(groups, vector):
        before, so_far = mean[:, turn.groups], squares[:, turn.groups]
        first = turn.counts == 1
        delta = turn.values - before
        after = np.where(first, turn.values, before + delta / turn.counts)
        grown = np.where(first, 0.0, so_far + delta * (turn.values - after))
        mean[:, turn.groups] = np.where(turn.present, after, before)
        squares[:, turn.groups] = np.where(turn.present, grown, so_far)
        counts[:, turn.groups] = turn.counts
    return squares / counts


def deviations(groups: Grouping, vector: Vector) -> Floats:
    return np.sqrt(variances(groups, vector))


_INSERTED = 12  # up to so many elements Go's sort is an insertion sort, and that can be told


@dataclass(slots=True)
class TopkHeap:
    """Positions in `keys`, where the higher key is the better one and NaN the worst of all.

    The heap holds the k best so far, the worst of them on top. An element that is better than that
    one replaces it: among equal ones it is the heap's shape that decides which of them goes.
    """

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
