"""What a query cost, as `stats` asks for it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from tocsin_alerting.api.prometheus.encoding import unix_seconds
from tocsin_alerting.promql.engine import QueryEngine
from tocsin_alerting.promql.eval.limits import Budget, QueryError, QueryTimeout
from tocsin_alerting.promql.parser.ast import (
    AggregateExpr,
    AggregateOp,
    Call,
    Expr,
    MatrixSelector,
    SubqueryExpr,
    VectorSelector,
    children,
)
from tocsin_alerting.promql.parser.parser import parse
from tocsin_alerting.promql.result import Matrix, Result
from tocsin_alerting.tsdb.values import Ints

PER_STEP = "all"


class QueryMeter:
    """Measures one query, from when it was asked on.

    `wanted` is the value of `stats`: nothing measures nothing, PER_STEP counts the samples of each
    step too. `monotonic` gives seconds.
    """

    def __init__(
        self, wanted: str, query: str, engine: QueryEngine, monotonic: Callable[[], float]
    ) -> None:
        self._wanted, self._query, self._engine = wanted, query, engine
        self._monotonic = monotonic
        self._marks = [monotonic()]  # asked, begun, parsed, evaluated

    def measure(self, evaluate: Callable[[], Result]) -> Result:
        """The result, with its times taken. Raises what `evaluate` raises, and ParseError."""
        if not self._wanted:
            return evaluate()
        self._mark()
        parse(self._query, self._engine.semantics)
        self._mark()
        result = evaluate()
        self._mark()
        return result

    def stats(self, steps: range, budget: Budget) -> dict[str, Any] | None:
        """Prometheus's object of a query at these Unix ms; None when nobody asked.

        `peakSamples` is what our engine has read, which is what it may hold at once.
        """
        if not self._wanted:
            return None
        read = budget.samples
        counted = self._samples_per_step(steps, budget)
        samples: dict[str, Any] = {}
        if counted is not None:
            if self._wanted == PER_STEP:
                pairs = zip(steps, counted.tolist(), strict=True)
                samples["totalQueryableSamplesPerStep"] = [(unix_seconds(at), n) for at, n in pairs]
            samples["totalQueryableSamples"] = int(counted.sum())
        return {"timings": self._timings(), "samples": {**samples, "peakSamples": read}}

    def _mark(self) -> None:
        self._marks.append(self._monotonic())

    def _timings(self) -> dict[str, float]:
        """Seconds. Sorting is a part of the evaluation here, and has no time of its own."""
        wanted, begun, parsed, evaluated = self._marks
        return {
            "evalTotalTime": evaluated - begun,
            "resultSortTime": 0.0,
            "queryPreparationTime": parsed - begun,
            "innerEvalTime": evaluated - parsed,
            "execQueueTime": begun - wanted,
            "execTotalTime": evaluated - wanted,
        }

    def _samples_per_step(self, steps: range, budget: Budget) -> Ints | None:
        """How many samples each step looks at, as Prometheus counts: those in every window, and
        one a series of an instant selector. None for what no query can count, such as equal series
        under semantics 2.
        """
        counts = np.zeros(len(steps), np.int64)
        own = Budget(budget.max_samples, budget.max_points, budget.expired)
        try:
            for count in _sample_counts(parse(self._query, self._engine.semantics)):
                matrix = self._engine.evaluate_range(
                    count, steps.start, steps[-1], steps.step, own
                ).value
                assert isinstance(matrix, Matrix)
                for track in matrix:
                    counts[(track.times - steps.start) // steps.step] += track.values.astype(
                        np.int64
                    )
        except QueryTimeout:
            raise
        except QueryError:
            return None
        return counts


def _sample_counts(expr: Expr) -> Iterator[Expr]:
    """An expression for each selector that gives the number of samples it looks at."""
    match expr:
        case VectorSelector():
            yield AggregateExpr(AggregateOp.COUNT, replace(expr, anchored=False, smoothed=False))
        case MatrixSelector(vector=vector):
            plain = replace(expr, vector=replace(vector, anchored=False, smoothed=False))
            yield _in_windows(plain)
        case SubqueryExpr():  # what it made counts, not what it was made from
            yield _in_windows(expr)
        case Call(function="info", args=args):  # the second argument selects labels
            yield from _sample_counts(args[0])
        case _:
            for child in children(expr):
                yield from _sample_counts(child)


def _in_windows(expr: Expr) -> Expr:
    return AggregateExpr(AggregateOp.SUM, Call("count_over_time", (expr,)))
