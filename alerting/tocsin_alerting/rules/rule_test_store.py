"""A store and an engine of their own for the unit tests of rules, as `alertctl test` runs them."""

from collections.abc import Sequence

import numpy as np

from tocsin_alerting.promql.engine import QueryEngine
from tocsin_alerting.promql.parser.signatures import Semantics
from tocsin_alerting.rules.rule_test import RuleTestStore
from tocsin_alerting.rules.series_notation import STALE, Value
from tocsin_alerting.tsdb.store import Store
from tocsin_alerting.tsdb.values import STALE_BITS
from tocsin_exporter.snapshot import Labels

RETENTION_MS = 10 * 365 * 86_400_000
STALE_MARKER = float(np.array([STALE_BITS], np.int64).view(np.float64)[0])
LOOK_BACK_MS = 300_000


def make_test_store(subquery_step_ms: int, semantics: Semantics = 3) -> RuleTestStore:
    """Input series may have gaps and stale markers; nothing is forgotten."""
    return bench_on(Store(retention_ms=RETENTION_MS), subquery_step_ms, semantics)


def bench_on(store: Store, subquery_step_ms: int, semantics: Semantics = 3) -> RuleTestStore:
    """The same on a store that others look into, too."""

    def append(at_ms: int, samples: Sequence[tuple[Labels, Value]]) -> None:
        store.write((labels, at_ms, _cell(value)) for labels, value in samples)

    engine = QueryEngine(store, semantics, LOOK_BACK_MS, subquery_step_ms)
    return RuleTestStore(engine, append, store.append_rule_samples)


def _cell(value: Value) -> float:
    return STALE_MARKER if value == STALE else float(value or 0.0)
