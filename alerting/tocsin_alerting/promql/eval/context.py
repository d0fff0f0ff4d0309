"""What an evaluation knows beside its expression: where to read, when, by whose rules."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Protocol, TypeAlias

import numpy as np

from tocsin_alerting.promql.eval.annotations import Annotations
from tocsin_alerting.promql.eval.label_ops import equals, nameless, sorted_rows
from tocsin_alerting.promql.eval.limits import Budget, QueryError
from tocsin_alerting.promql.eval.vector import Value, Vector
from tocsin_alerting.promql.parser.ast import Call
from tocsin_alerting.promql.parser.signatures import Semantics
from tocsin_alerting.tsdb.matchers import DeadlineCheck, MatchOp, no_deadline
from tocsin_alerting.tsdb.native_histograms import NOT_STORED, NativeHistograms
from tocsin_alerting.tsdb.query.selection import Selection
from tocsin_alerting.tsdb.series_index import MatcherSets
from tocsin_alerting.tsdb.target_labels import METRIC_NAME
from tocsin_alerting.tsdb.values import Ints

SAME_LABELS = "vector cannot contain metrics with the same labelset"


@dataclass(frozen=True, slots=True)
class Steps:
    """When an expression is evaluated: at `start_ms` and every `step_ms` after it, up to `end_ms`.

    An instant query has one step.
    """

    start_ms: int
    step_ms: int
    end_ms: int

    @property
    def count(self) -> int:
        return max(0, (self.end_ms - self.start_ms) // self.step_ms + 1)

    @property
    def times(self) -> Ints:
        """(count,) in Unix ms."""
        return self.start_ms + np.arange(self.count, dtype=np.int64) * self.step_ms


def instant(at_ms: int) -> Steps:
    return Steps(at_ms, 1, at_ms)


class Reader(Protocol):
    """Where samples come from: the store, or one that has more than fits in memory."""

    def select(
        self, matcher_sets: MatcherSets, t0_ms: int, t1_ms: int, check: DeadlineCheck = no_deadline
    ) -> Selection:
        """`check` is called while this takes its time, and may raise."""
        ...


@dataclass(frozen=True, slots=True)
class Context:
    """`query` are the steps of the whole query, `steps` those of this part: a subquery has its own.

    Under semantics 3 windows are open on the left and names are dropped at the very end.
    """

    reader: Reader
    query: Steps
    steps: Steps
    semantics: Semantics = 3
    lookback_ms: int = 300_000
    subquery_step_ms: int = 60_000
    budget: Budget = field(default_factory=Budget)
    notes: Annotations = field(default_factory=Annotations)
    natives: NativeHistograms = field(default_factory=NativeHistograms)

    def select(self, matcher_sets: MatcherSets, t0_ms: int, t1_ms: int) -> Selection:
        """Raises QueryError where there is nothing but native histograms."""
        chosen = self.reader.select(matcher_sets, t0_ms, t1_ms, self.budget.check_time)
        if not len(chosen.series):
            for matcher in chain.from_iterable(matcher_sets):
                named = matcher.name == METRIC_NAME and matcher.op is MatchOp.EQUAL
                if named and self.natives.holds(matcher.value):
                    raise QueryError(NOT_STORED.format(matcher.value))
        return chosen

    def at(self, steps: Steps) -> "Context":
        return replace(self, steps=steps)

    @property
    def is_range(self) -> bool:
        return self.query.count > 1

    def unnamed(self, vector: Vector) -> Vector:
        """The vector as a function gives it: its names do not count any more."""
        values, present, order = vector.values, vector.present, vector.order
        if self.semantics == 3:
            return Vector(vector.series, values, present, True, order)
        series = nameless(vector.series)
        return distinct(Vector(series, values, present, vector.unnamed, order))


Function: TypeAlias = Callable[[Call, Sequence[Value], Context], Value]
"""Gets the call and its evaluated arguments; vectors lose their names where their meaning ends."""


def distinct(vector: Vector) -> Vector:
    """`vector`; raises QueryError when at a step two series of it have equal labels."""
    same = equals(vector.series)
    if same is not None:
        counts = same.count(vector.present, len(vector.values))
        if (counts > 1).any():
            raise QueryError(SAME_LABELS)
    return vector


def in_order(vector: Vector) -> Vector:
    """What was read from the store by its labels, as Prometheus reads it.

    The order shows in instant queries, in which of equal elements `topk` keeps, in sums.
    """
    if (order := sorted_rows(vector.series)) is None:
        return vector
    series, rows = order
    present = None if vector.present is None else vector.present[:, rows]
    unnamed = vector.unnamed if isinstance(vector.unnamed, bool) else vector.unnamed[rows]
    return Vector(series, vector.values.take(rows, axis=1), present, unnamed)


def merged(vector: Vector) -> Vector:
    """The same with series of equal labels made one; raises QueryError where both are present."""
    same = equals(vector.series)
    if same is None:
        return vector
    distinct(vector)
    values = np.maximum.reduceat(same.arranged(vector.filled(-np.inf)), same.starts, axis=1)
    lost = same.sum(vector.unnamed_rows[None, :].astype(np.float64))[0] > 0
    return Vector(same.groups, values, same.any(vector.present), lost)
