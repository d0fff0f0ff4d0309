"""A store and an engine of their own for the unit tests of rules, as `alertctl test` runs them."""

from collections.abc import Sequence
from functools import partial

from tocsin_alerting.promql.engine import QueryEngine
from tocsin_alerting.promql.parser.ast import Expr
from tocsin_alerting.promql.parser.signatures import Semantics
from tocsin_alerting.promql.result import Matrix
from tocsin_alerting.rules.instant_query import NotAVector
from tocsin_alerting.rules.rule_test import RuleTestStore
from tocsin_alerting.rules.series_notation import STALE as STALE_WORD
from tocsin_alerting.rules.series_notation import Value
from tocsin_alerting.tsdb.store import Store
from tocsin_alerting.tsdb.values import STALE, Floats, Ints
from tocsin_exporter.snapshot import Labels

RETENTION_MS = 300 * 365 * 86_400_000  # as long as durations of Go, which promtool takes
LOOK_BACK_MS = 300_000


def make_test_store(subquery_step_ms: int, semantics: Semantics = 3) -> RuleTestStore:
    """Input series may have gaps and stale markers; nothing is forgotten."""
    return bench_on(Store(retention_ms=RETENTION_MS), subquery_step_ms, semantics)


def bench_on(store: Store, subquery_step_ms: int, semantics: Semantics = 3) -> RuleTestStore:
    """The same on a store that others look into, too."""

    def append(at_ms: int, samples: Sequence[tuple[Labels, Value]]) -> None:
        store.write((labels, at_ms, _cell(value)) for labels, value in samples)

    def ask(query: Expr, start_ms: int, end_ms: int, step_ms: int) -> Matrix:
        answer = engine.evaluate_range(query, start_ms, end_ms, step_ms).value
        if not isinstance(answer, Matrix):
            raise NotAVector
        return answer

    engine = QueryEngine(store, semantics, LOOK_BACK_MS, subquery_step_ms)
    return RuleTestStore(
        engine, append, store.append_rule_samples, ask, partial(_write_series, store), semantics
    )


def _write_series(
    store: Store, series: Sequence[Labels], of: Ints, times: Ints, values: Floats
) -> None:
    written = None
    while written is None and len(of):  # an epoch may end between the two
        epoch, refs = store.register(series)
        kept = refs[of] >= 0
        samples = refs[of][kept], times[kept], values[kept]
        written = store.write_refs(epoch, *samples, int(times[-1]))


def _cell(value: Value) -> float:
    return STALE if value == STALE_WORD else float(value or 0.0)
