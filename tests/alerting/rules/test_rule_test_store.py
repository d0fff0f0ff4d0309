"""The bench on which rules are tested: gaps and stale markers, nothing forgotten."""

import numpy as np

from tocsin_alerting.promql.result import InstantVector
from tocsin_alerting.rules.rule_test_store import make_test_store
from tocsin_alerting.rules.series_notation import STALE
from tocsin_exporter.snapshot import labels

UP = labels(__name__="up", job="a")
YEAR = 365 * 86_400_000


async def _values(bench: object, query: str, at_ms: int) -> list[float]:
    vector = (await bench.engine.instant(query, at_ms)).value  # type: ignore[attr-defined]
    assert isinstance(vector, InstantVector)
    return [value for _, value in vector]


async def test_samples_are_there_until_they_go_stale() -> None:
    bench = make_test_store(60_000)
    bench.append(0, [(UP, 1.0)])
    bench.append(60_000, [(UP, 7.0)])
    bench.append(120_000, [(UP, STALE)])
    assert await _values(bench, "up", 30_000) == [1.0]
    assert await _values(bench, "up", 100_000) == [7.0]
    assert await _values(bench, "up", 120_000) == []
    assert await _values(bench, "count_over_time(up[10m])", 120_000) == [2.0]


async def test_nothing_is_forgotten() -> None:
    bench = make_test_store(60_000)
    bench.append(0, [(UP, 1.0)])
    bench.append(YEAR, [(UP, 2.0)])
    assert await _values(bench, "up", 60_000) == [1.0]
    assert await _values(bench, "up", YEAR) == [2.0]


async def test_a_test_may_last_as_long_as_one_of_promtool() -> None:
    bench = make_test_store(60_000)
    bench.write_series([UP], np.zeros(2, np.int64), np.array([0, 290 * YEAR]), np.array([1.0, 2.0]))
    assert await _values(bench, "timestamp(up)", 0) == [0.0]
    assert await _values(bench, "up", 290 * YEAR) == [2.0]
