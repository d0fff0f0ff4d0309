"""sum, avg, stddev and stdvar as Prometheus 2.42 has them: element after element, uncompensated.

What rounding loses on the way shows where great numbers cancel, and every step of the way decides
what comes of infinities. (promql/engine.go of 2.42, aggregation)
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tocsin_alerting.promql.eval.grouping import Grouping
from tocsin_alerting.promql.eval.vector import Vector
from tocsin_alerting.tsdb.values import Floats, Ints, Mask


@dataclass(frozen=True, slots=True, eq=False)
class _Turn:
    """The n-th series of each group that has so many: all (steps, groups that have)."""

    groups: Ints
    values: Floats
    here: Mask
    counts: Floats  # of the group's elements so far, this one included


def _turns(groups: Grouping, vector: Vector) -> Iterator[_Turn]:
    members = groups.members()
    here = vector.here
    counts = np.zeros((len(here), len(members)))
    for place in range(max(map(len, members), default=0)):
        having = [number for number, rows in enumerate(members) if place < len(rows)]
        rows = [int(members[number][place]) for number in having]
        numbers = np.array(having, np.int64)
        counts[:, numbers] += here[:, rows]
        yield _Turn(numbers, vector.values[:, rows], here[:, rows], counts[:, numbers])


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
        mean[:, turn.groups] = np.where(turn.here, after, before)
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
        mean[:, turn.groups] = np.where(turn.here, after, before)
        squares[:, turn.groups] = np.where(turn.here, grown, so_far)
        counts[:, turn.groups] = turn.counts
    return squares / counts


def deviations(groups: Grouping, vector: Vector) -> Floats:
    return np.sqrt(variances(groups, vector))
