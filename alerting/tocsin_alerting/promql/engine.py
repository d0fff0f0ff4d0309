"""The query engine: expressions and moments in, values out."""

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from tocsin_alerting.promql.eval.annotations import Annotations
from tocsin_alerting.promql.eval.answer import at_once, over_steps, samples
from tocsin_alerting.promql.eval.context import Context, Reader, Steps, instant
from tocsin_alerting.promql.eval.limits import Budget, within_memory
from tocsin_alerting.promql.eval.selectors import NewestSamples, select_newest
from tocsin_alerting.promql.evaluate import evaluate, range_vector
from tocsin_alerting.promql.parser.ast import Expr
from tocsin_alerting.promql.parser.parser import parse
from tocsin_alerting.promql.parser.signatures import Semantics
from tocsin_alerting.promql.result import QueryValue, Result
from tocsin_alerting.tsdb.native_histograms import NativeHistograms
from tocsin_alerting.tsdb.series_index import MatcherSets

_LONGEST_KEPT = 4096  # characters: what is parsed takes many times that, and somebody else's memory
_kept = lru_cache(maxsize=512)(parse)


@dataclass(frozen=True, slots=True)
class QueryEngine:
    """Evaluates queries over what `reader` has.

    `evaluate` and `evaluate_range` may run in any thread. Each raises ParseError for text that is
    no PromQL, QueryError for what has no answer, and its subclasses QueryLimitExceeded and
    QueryTimeout when the budget is spent.
    """

    reader: Reader
    semantics: Semantics = 3
    lookback_ms: int = 300_000
    subquery_step_ms: int = 60_000
    natives: NativeHistograms = field(default_factory=NativeHistograms)

    async def instant(self, query: str | Expr, at_ms: int) -> Result:
        """The value at one moment. Async because other engines are remote."""
        return self.evaluate(query, at_ms)

    def evaluate(self, query: str | Expr, at_ms: int, budget: Budget | None = None) -> Result:
        context = self._context(query, instant(at_ms), budget)
        with np.errstate(all="ignore"), within_memory():
            expr = self._expression(query)
            windows = range_vector(expr, context)
            if windows is not None:
                return _result(samples(windows, context), context)
            return _result(at_once(evaluate(expr, context), context), context)

    def evaluate_range(
        self,
        query: str | Expr,
        start_ms: int,
        end_ms: int,
        step_ms: int,
        budget: Budget | None = None,
    ) -> Result:
        steps = Steps(start_ms, step_ms, end_ms)
        context = self._context(query, steps, budget)
        context.budget.check_points(steps.count)
        with np.errstate(all="ignore"), within_memory():
            value = evaluate(self._expression(query), context)
            return _result(over_steps(value, context), context)

    def newest(
        self, matcher_sets: MatcherSets, at_ms: int, budget: Budget | None = None
    ) -> NewestSamples:
        """The newest sample of each series, no older than the look-back, with its own time."""
        context = self._context("", instant(at_ms), budget)
        with np.errstate(all="ignore"), within_memory():
            return select_newest(matcher_sets, context)

    def _expression(self, query: str | Expr) -> Expr:
        if not isinstance(query, str):
            return query
        parsed = _kept if len(query) <= _LONGEST_KEPT else parse
        return parsed(query, self.semantics)

    def _context(self, query: str | Expr, steps: Steps, budget: Budget | None) -> Context:
        return Context(
            self.reader,
            steps,
            steps,
            self.semantics,
            self.lookback_ms,
            self.subquery_step_ms,
            budget or Budget(),
            Annotations(query if isinstance(query, str) else ""),
            self.natives,
        )


def _result(value: QueryValue, context: Context) -> Result:
    if context.semantics == 2:  # which had nothing to say yet
        return Result(value)
    return Result(value, tuple(context.notes.warnings), tuple(context.notes.infos))
