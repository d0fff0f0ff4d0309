"""What a query cost, under the semantics of 3.x; test_conformance.py asks a real Prometheus."""

from collections.abc import Iterator
from typing import Any

import pytest

from tocsin_alerting.api.prometheus.query_stats import QueryMeter
from tocsin_alerting.promql.engine import QueryEngine
from tocsin_alerting.promql.eval.limits import Budget, QueryTimeout
from tocsin_alerting.tsdb.store import Store
from tocsin_exporter.snapshot import labels

AT_MS = 1_700_000_000_000
STEPS = range(AT_MS + 60_000, AT_MS + 120_001, 30_000)


@pytest.fixture
def engine() -> QueryEngine:
    """Two series, every 10 s for 3 minutes."""
    store = Store()
    for number in ("1", "2"):
        one = labels(__name__="m", n=number)
        store.write((one, AT_MS + at * 10_000, float(at)) for at in range(18))
    return QueryEngine(store)


def ticking() -> Iterator[float]:
    yield from (float(at) for at in range(100))


def measured(engine: QueryEngine, query: str, asked: str, budget: Budget | None = None) -> Any:
    meter = QueryMeter(asked, query, engine, ticking().__next__)
    spent = budget or Budget()
    first, last, step = STEPS[0], STEPS[-1], STEPS.step
    meter.measure(lambda: engine.evaluate_range(query, first, last, step, Budget()))
    return meter.stats(STEPS, spent)


def test_nobody_asked(engine: QueryEngine) -> None:
    assert measured(engine, "m", "") is None


@pytest.mark.parametrize(
    ("query", "per_step"),
    [
        ("m", [2, 2, 2]),
        ("m + m", [4, 4, 4]),
        ("rate(m[30s])", [6, 6, 6]),  # the left edge is no part of the window in 3.x
        ("rate(m[30s] smoothed)", [6, 6, 6]),
        ("increase(m[30s] anchored)", [6, 6, 6]),
        ("m smoothed", [2, 2, 2]),
        ("max_over_time(rate(m[30s])[1m:20s])", [6, 6, 6]),
        ("info(m, {n=~'.+'})", [2, 2, 2]),
        ("time()", [0, 0, 0]),
        ("m @ 1700000000", [2, 2, 2]),
    ],
)
def test_samples_are_counted_at_each_step(
    engine: QueryEngine, query: str, per_step: list[int]
) -> None:
    samples = measured(engine, query, "all")["samples"]
    times = [at / 1000 for at in STEPS]
    assert samples["totalQueryableSamplesPerStep"] == list(zip(times, per_step, strict=True))
    assert samples["totalQueryableSamples"] == sum(per_step)
    only = measured(engine, query, "true")["samples"]
    assert only == {"totalQueryableSamples": sum(per_step), "peakSamples": 0}


def test_times_are_between_the_marks(engine: QueryEngine) -> None:
    """The clock ticks once for asked, begun, parsed and evaluated."""
    assert measured(engine, "m", "true")["timings"] == {
        "evalTotalTime": 2.0,
        "resultSortTime": 0.0,
        "queryPreparationTime": 1.0,
        "innerEvalTime": 1.0,
        "execQueueTime": 1.0,
        "execTotalTime": 3.0,
    }


def test_what_the_engine_read_is_told(engine: QueryEngine) -> None:
    budget = Budget()
    budget.spend(17)
    assert measured(engine, "m", "true", budget)["samples"]["peakSamples"] == 17


def test_counting_ends_with_the_time_of_the_query(engine: QueryEngine) -> None:
    with pytest.raises(QueryTimeout):
        measured(engine, "m", "all", Budget(expired=lambda: True))


def test_what_cannot_be_counted_is_left_out() -> None:
    """Equal series without their names are an error of 2.42's `count_over_time`."""
    store = Store()
    for name in ("a", "b"):
        store.write(
            (labels(__name__=name, n="1"), AT_MS + at, 1.0) for at in range(0, 90_000, 9000)
        )
    engine = QueryEngine(store, semantics=2)
    query = 'last_over_time({__name__=~"a|b"}[1m])'
    assert measured(engine, query, "all")["samples"].keys() == {"peakSamples"}
