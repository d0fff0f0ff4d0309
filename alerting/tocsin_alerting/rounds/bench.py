"""A store and an engine of their own for the unit tests of rules, as `alertctl test` runs them."""

from collections.abc import Sequence

import numpy as np

from tocsin_alerting.promql.engine import Engine
from tocsin_alerting.promql.values import Semantics
from tocsin_alerting.rules.rule_test import Bench
from tocsin_alerting.rules.series_notation import STALE, Value
from tocsin_alerting.store.cell import STALE_BITS
from tocsin_alerting.store.store import Store
from tocsin_exporter.snapshot import Labels

FOR_EVER_MS = 10 * 365 * 86_400_000
STALE_MARKER = float(np.array([STALE_BITS], np.int64).view(np.float64)[0])
LOOK_BACK_MS = 300_000


def make_bench(subquery_step_ms: int, semantics: Semantics = 3) -> Bench:
    """Input series may have gaps and stale markers; nothing is forgotten."""
    store = Store(retention_ms=FOR_EVER_MS)

    def append(at_ms: int, samples: Sequence[tuple[Labels, Value]]) -> None:
        store.write((labels, at_ms, _cell(value)) for labels, value in samples)

    engine = Engine(store, semantics, LOOK_BACK_MS, subquery_step_ms)
    return Bench(engine, append, store.append_rules)


def _cell(value: Value) -> float:
    return STALE_MARKER if value == STALE else float(value or 0.0)
