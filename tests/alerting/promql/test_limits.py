"""What a query may cost in memory: numbers, pairs of series, labels."""

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from tocsin_alerting.promql.engine import QueryEngine
from tocsin_alerting.promql.eval.limits import Budget, QueryError, QueryLimitExceeded
from tocsin_alerting.promql.result import Matrix
from tocsin_alerting.tsdb.query.selection import Selection
from tocsin_alerting.tsdb.store import Store
from tocsin_alerting.tsdb.values import STALE_BITS
from tocsin_exporter.snapshot import Family, Layout, Series, Snapshot, Source, labels

SOURCE = Source("j", "i")
MINUTE = 60_000
STALE = np.array([STALE_BITS], np.int64).view(np.float64)[0].item()


@pytest.mark.parametrize(
    "query", ["m", "rate(m[1m])", "quantile_over_time(0.5, m[1d])", "m or rate(m[1d])"]
)
@pytest.mark.parametrize("scattered", [False, True])
def test_where_nothing_is_nothing_is_too_much(query: str, scattered: bool) -> None:
    """4,000 series at 10,000 steps before the first sample: Prometheus answers with nothing."""
    store = Store(retention_ms=100 * 3_600_000)
    now_ms = 90 * 3_600_000
    if scattered:
        batch = [(labels(__name__="m", i=str(i)), now_ms + i, 1.0) for i in range(4000)]
        assert store.write(batch) == 4000
    else:
        family = Family("m", "gauge", "")
        layout = Layout(tuple(Series(family, "m", labels(i=str(i))) for i in range(4000)))
        store.append(Snapshot(SOURCE, now_ms, True, layout, np.ones(4000)))
    budget = Budget(max_samples=100_000)
    value = QueryEngine(store).evaluate_range(query, 0, 10_000_000, 1000, budget).value
    assert isinstance(value, Matrix)
    assert not value.series


@pytest.mark.parametrize("query", ["m", "max_over_time(m[1m])"])
@pytest.mark.parametrize("before", [0, 100], ids=["aligned", "unaligned"])
def test_a_single_sample_in_a_million_cells_is_there(query: str, before: int) -> None:
    """At the last step; of the other series some have ended before, the others come afterwards."""
    store, last_ms = Store(retention_ms=100 * 3_600_000), 40 * MINUTE
    series = [labels(__name__="m", i=str(i)) for i in range(1100)]
    times = [i if i < before else last_ms + i - before for i in range(1100)]
    batch = [(each, at_ms, 7.0) for each, at_ms in zip(series, times, strict=True)]
    assert store.write(batch) == 1100
    value = QueryEngine(store).evaluate_range(query, last_ms - 20 * MINUTE, last_ms, 1000).value
    assert isinstance(value, Matrix)
    (track,) = value.series
    assert dict(track.labels)["i"] == str(before)
    assert (track.times.tolist(), track.values.tolist()) == ([last_ms], [7.0])


def twins(names: int) -> Store:
    """Many metrics of the same labels: without their names they are one."""
    family, store = Family("m", "gauge", ""), Store(retention_ms=100 * 3_600_000)
    layout = Layout(tuple(Series(family, f"m{i}", ()) for i in range(names)))
    for scrape in range(3):
        store.append(Snapshot(SOURCE, 15_000 * (scrape + 1), True, layout, np.ones(names)))
    return store


def peak(work: Callable[[], object]) -> int:
    """The most bytes that `work` held at once."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("semantics", [2, 3])
@pytest.mark.parametrize("operator", ["+", "> bool", "- on (job) group_left ()"])
def test_an_ambiguous_match_is_refused_before_anything_is_built(
    operator: str, semantics: int
) -> None:
    engine, query = QueryEngine(twins(300), 3 if semantics == 3 else 2), '{__name__=~"m.+"}'

    def ask() -> None:
        with pytest.raises(QueryError, match="many-to-many matching not allowed"):
            engine.evaluate_range(f"{query} {operator} {query}", 15_000, 1_515_000, 1000)

    assert peak(ask) < 100 * 2**20


@pytest.mark.parametrize(
    "query",
    [
        "scalar(vector(1))" + " + (scalar(vector(1))" * 40 + ")" * 40,
        'm or label_replace(m, "n", "1", "", "")' + ' or label_replace(m, "n", "2", "", "")' * 40,
        'histogram_quantiles(m, "q"' + ", 0.5" * 10 + ")",
        "m" + " + (m" * 40 + ")" * 40,
    ],
)
def test_values_that_wait_for_their_operator_have_a_bound(query: str) -> None:
    family, store = Family("m", "gauge", ""), Store(retention_ms=100 * 3_600_000)
    bounds = (("i", str(i)) for i in range(50))
    layout = Layout(tuple(Series(family, "m", labels(i=i, le="+Inf")) for _, i in bounds))
    store.append(Snapshot(SOURCE, MINUTE, True, layout, np.ones(50)))
    wide = query if query.startswith("m") or query.startswith("hist") else f"vector({query})"
    inside = f"max_over_time(({wide})[{20 if wide == query else 200}s:1ms])"

    def ask() -> None:
        with pytest.raises(QueryLimitExceeded, match="too many samples into memory in query exe"):
            budget = Budget(max_samples=10**12, max_bytes=16 * 2**20)
            QueryEngine(store).evaluate(inside, 2 * MINUTE, budget)

    assert peak(ask) < 80 * 2**20


@pytest.mark.parametrize("query", ["m" + " + 1" * 50, "-(-(-(-(-(-m)))))", "sum(m) + sum(m)"])
def test_what_an_operator_has_used_waits_no_longer(query: str) -> None:
    """However many operators follow each other: there is room for two of 50 series at 20 steps."""
    store = Store(retention_ms=100 * 3_600_000)
    store.write([(labels(__name__="m", i=str(i)), MINUTE, 1.0) for i in range(50)])
    budget = Budget(max_bytes=2 * 9 * 50 * 20)
    result = QueryEngine(store).evaluate_range(query, MINUTE, MINUTE + 19_000, 1000, budget)
    assert isinstance(result.value, Matrix) and len(result.value)
    assert budget.held_bytes <= 9 * 50 * 20


def test_pairs_of_series_that_come_and_go_are_not_held_beyond_the_bound() -> None:
    """No step is ambiguous, yet each of a hundred series meets each of three hundred."""
    store = Store(retention_ms=100 * 3_600_000)
    store.write([(labels(__name__="m", i=str(i)), MINUTE, 1.0) for i in range(100)])
    for i in range(300):
        series = labels(__name__="n", pod=str(i))
        store.write([(series, MINUTE + i * 1000, 1.0), (series, MINUTE + i * 1000 + 500, STALE)])

    def ask() -> None:
        query = "m * on () group_left (pod) n"
        with pytest.raises(QueryLimitExceeded, match="more than 64 MiB"):
            budget = Budget(max_bytes=64 * 2**20)
            QueryEngine(store).evaluate_range(query, MINUTE, 6 * MINUTE, 500, budget)

    assert peak(ask) < 120 * 2**20


class Exhausted:
    """A reader for which there is no memory."""

    def select(self, *_: object) -> Selection:
        raise MemoryError


def test_a_query_without_memory_is_one_that_costs_too_much() -> None:
    engine = QueryEngine(Exhausted())
    with pytest.raises(QueryLimitExceeded, match="too many samples into memory"):
        engine.evaluate("m", 0)
    with pytest.raises(QueryLimitExceeded, match="too many samples into memory"):
        engine.evaluate_range("m", 0, 1000, 1000)
