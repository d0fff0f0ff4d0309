"""An empty store and an engine on it, for one unit test of rules."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from tocsin_alerting.promql.engine import Engine
from tocsin_alerting.promql.values import Semantics
from tocsin_alerting.rules.rule_test import Bench, MakeBench
from tocsin_alerting.rules.series_notation import Value
from tocsin_alerting.store.cell import STALE_BITS
from tocsin_alerting.store.store import Store
from tocsin_exporter.snapshot import Labels

_FOR_EVER_MS = 100 * 365 * 86_400_000
_STALE_MARKER = float(np.array([STALE_BITS], np.int64).view(np.float64)[0])


def benches(semantics: Semantics = 3) -> MakeBench:
    """Makes benches whose PromQL is that of Prometheus 3.x or of 2.42."""
    return partial(_bench, semantics)


def _bench(semantics: Semantics, subquery_step_ms: int) -> Bench:
    store = Store(retention_ms=_FOR_EVER_MS)

    def append(at_ms: int, samples: Sequence[tuple[Labels, Value]]) -> None:
        store.write((labels, at_ms, _cell(value)) for labels, value in samples)

    engine = Engine(store, semantics, subquery_step_ms=subquery_step_ms)
    return Bench(engine, append, store.append_rules)


def _cell(value: Value) -> float:
    return _STALE_MARKER if isinstance(value, str) else float(value or 0.0)
