"""Series with times of their own get the answers that the same samples get on a shared axis."""

import math
from random import Random

import numpy as np
import pytest

from support.scattered import Samples, ScatteredReader
from tocsin_alerting.promql.engine import QueryEngine
from tocsin_alerting.promql.eval.limits import Budget, QueryLimitExceeded, QueryTimeout
from tocsin_alerting.promql.eval.ranges import RangeFunction
from tocsin_alerting.promql.functions.table import FUNCTIONS
from tocsin_alerting.promql.parser.signatures import Semantics, ValueType, signature
from tocsin_alerting.promql.result import InstantVector, Matrix, Result
from tocsin_alerting.tsdb.store import Store
from tocsin_alerting.tsdb.values import STALE_BITS
from tocsin_exporter.snapshot import Labels, labels

STALE = np.array([STALE_BITS], np.int64).view(np.float64)[0].item()
STEP_MS, SCRAPES = 15_000, 40
END_MS = 1_700_000_000_000
START_MS = END_MS - STEP_MS * SCRAPES
NUMBERS = (0.0, 1.0, 2.5, -3.0, 100.0, 0.1, math.nan, math.inf, -math.inf)

Series = dict[Labels, Samples]
Answer = dict[Labels, list[tuple[int, float]]]


def random_series(seed: int) -> Series:
    """Counters and gauges, dense and sparse, with resets, gaps and stale markers."""
    random = Random(seed)
    times = [START_MS + STEP_MS * i + random.randint(-40, 40) for i in range(SCRAPES)]
    made: Series = {}
    for i, share in enumerate((1.0, 1.0, 0.9, 0.5, 0.05, 0.3)):
        sampled = [at for at in times if random.random() < share]
        value, samples = 0.0, []
        for at in sampled:
            value = 0.0 if random.random() < 0.05 else value + random.choice((0, 1, 3, 0.5))
            number = value if i < 4 else random.choice(NUMBERS)
            samples.append((at, STALE if i > 1 and random.random() < 0.1 else number))
        made[labels(__name__="m_total", i=str(i))] = samples
    return made


def aligned(series: Series) -> Store:
    store = Store(retention_ms=10**12)
    store.write(
        (labels_of, at, value) for labels_of, samples in series.items() for at, value in samples
    )
    return store


def answer(result: Result) -> Answer:
    value = result.value
    if isinstance(value, InstantVector):
        return {series: [(value.at_ms, number)] for series, number in value}
    assert isinstance(value, Matrix)
    return {
        series.labels: list(zip(series.times.tolist(), series.values.tolist(), strict=True))
        for series in value
    }


def same(one: Answer, other: Answer) -> bool:
    return one.keys() == other.keys() and all(
        len(one[key]) == len(other[key])
        and all(
            a[0] == b[0]
            and (math.isclose(a[1], b[1], rel_tol=1e-12) or a[1] != a[1] and b[1] != b[1])
            for a, b in zip(one[key], other[key], strict=True)
        )
        for key in one
    )


BOTH: tuple[Semantics, ...] = (2, 3)
RANGE_FUNCTIONS = [name for name, one in FUNCTIONS.items() if isinstance(one, RangeFunction)]


def call(name: str, window: str) -> str:
    """A call of the function; its scalars, if it has any, are within any bounds."""
    known = signature(name, 3) or signature(name, 2)
    assert known is not None
    args = [window if kind is ValueType.MATRIX else "0.3" for kind in known.args]
    return f"{name}({', '.join(args)})"


SELECTORS = (
    "m_total",
    "m_total offset 3m",
    "m_total @ end()",
    f"m_total @ {END_MS / 1000 - 400:.3f} offset -7s",
    "timestamp(m_total)",
    "timestamp(m_total offset 20s)",
    "sum by (i) (m_total) > 1",
    "absent(m_total)",
    "count_over_time((m_total > 0)[3m:20s])",
)
MODIFIED = (
    "rate(m_total[2m] anchored)",
    "increase(m_total[2m] smoothed)",
    "delta(m_total[1m] anchored)",
    "resets(m_total[2m] anchored)",
    "changes(m_total[2m] anchored)",
    "m_total smoothed",
)


def differing(
    query: str, semantics: Semantics, seed: int, lookback_ms: int = 60_000
) -> list[object]:
    """When the same series, aligned and scattered, answer differently, and how."""
    series = random_series(seed)
    readers = aligned(series), ScatteredReader(series)
    ours, theirs = (QueryEngine(one, semantics, lookback_ms) for one in readers)
    random, found = Random(seed), list[object]()
    for at_ms in (START_MS, *(random.randint(START_MS, END_MS + 90_000) for _ in range(2))):
        one, other = (answer(engine.evaluate(query, at_ms)) for engine in (ours, theirs))
        found += [] if same(one, other) else [(query, at_ms, one, other)]
    for times in ((START_MS - 60_000, END_MS + 90_000, 31_000), (START_MS, END_MS, 500_000)):
        one, other = (answer(engine.evaluate_range(query, *times)) for engine in (ours, theirs))
        found += [] if same(one, other) else [(query, times, one, other)]
    return found


@pytest.mark.parametrize(
    ("name", "semantics"),
    [(name, one) for name in RANGE_FUNCTIONS for one in BOTH if signature(name, one)],
)
def test_every_range_function_gives_the_same(name: str, semantics: Semantics) -> None:
    for seed, window in enumerate(("[1m]", "[150s] offset 10s", "[2m] @ start()", "[3m:25s]")):
        assert differing(call(name, f"m_total{window}"), semantics, seed) == []


@pytest.mark.parametrize("query", SELECTORS)
@pytest.mark.parametrize("semantics", [2, 3])
def test_every_selector_gives_the_same(query: str, semantics: Semantics) -> None:
    assert differing(query, semantics, 11) == []


@pytest.mark.parametrize("query", MODIFIED)
def test_anchored_and_smoothed_windows_give_the_same(query: str) -> None:
    assert differing(query, 3, 12) == []


@pytest.mark.parametrize(
    "selector", ["m_total[2m]", "m_total[2m] anchored", "m_total[1m] smoothed"]
)
def test_raw_samples_are_the_same(selector: str) -> None:
    series = random_series(13)
    engines = [QueryEngine(one, 3) for one in (aligned(series), ScatteredReader(series))]
    one, other = (answer(engine.evaluate(selector, END_MS - 300_000)) for engine in engines)
    assert one and same(one, other)


@pytest.mark.parametrize(("semantics", "edge"), [(3, 1), (2, 0)])
def test_edges_are_those_of_the_semantics(semantics: Semantics, edge: int) -> None:
    series = labels(__name__="m")
    engine = QueryEngine(ScatteredReader({series: [(1_000_000, 5.0)]}), semantics, 300_000)
    newest_ms = 1_000_000 + 300_000 - edge
    assert answer(engine.evaluate("m", newest_ms)) == {series: [(newest_ms, 5.0)]}
    assert answer(engine.evaluate("m", newest_ms + 1)) == {}
    assert answer(engine.evaluate("m", 999_999)) == {}
    assert list(answer(engine.evaluate("m[5m]", newest_ms))) == [series]
    assert answer(engine.evaluate("m[5m]", newest_ms + 1)) == {}


def test_a_stale_marker_ends_a_series_and_is_no_sample_of_a_window() -> None:
    series = labels(__name__="m")
    engine = QueryEngine(ScatteredReader({series: [(1000, 5.0), (2000, STALE)]}))
    assert answer(engine.evaluate("m", 1999)) == {series: [(1999, 5.0)]}
    assert answer(engine.evaluate("m", 2000)) == {}
    assert answer(engine.evaluate("count_over_time(m[1m])", 2000)) == {(): [(2000, 1.0)]}
    assert answer(engine.evaluate("m[1m]", 2000)) == {series: [(1000, 5.0)]}


def days(count: int, step_ms: int) -> ScatteredReader:
    """Fifty series for `count` days."""
    times = range(END_MS - count * 86_400_000, END_MS, step_ms)
    return ScatteredReader(
        {labels(__name__="m", i=str(i)): [(at + i, 1.0) for at in times] for i in range(50)}
    )


def test_days_are_read_in_stretches_and_each_sample_of_a_window_is_paid_for_once() -> None:
    reader, budget = days(15, 60_000), Budget()
    times = (END_MS - 15 * 86_400_000, END_MS, 600_000)
    QueryEngine(reader).evaluate_range("count_over_time(m[15m])", *times, budget)
    answered = 50 * 15 * 144 + 1  # at the first step, one series has its first sample
    assert budget.samples - answered == 50 * 15 * 1440
    assert len(reader.read) > 3
    assert max(stop - start for start, stop in reader.read) < 10 * 86_400_000


@pytest.mark.parametrize("query", ["m[2d]", "sum_over_time(m[2d])", "rate(m[36h] anchored)"])
def test_a_window_of_days_that_the_budget_forbids_is_not_read_to_its_end(query: str) -> None:
    reader = days(2, 60_000)
    with pytest.raises(QueryLimitExceeded):
        QueryEngine(reader).evaluate(query, END_MS, Budget(max_samples=20_000))
    assert max(stop for _, stop in reader.read) < END_MS - 3_600_000


def test_a_long_window_read_in_pieces_is_whole() -> None:
    reader = days(2, 60_000)
    sums = answer(QueryEngine(reader).evaluate("sum_over_time(m[49h])", END_MS))
    assert [value for ((_, value),) in sums.values()] == [2880.0] * 50
    assert len(reader.read) == 4
    raw = answer(QueryEngine(reader).evaluate("m[49h]", END_MS))
    first_ms = END_MS - 2 * 86_400_000
    for i, samples in enumerate(raw[labels(__name__="m", i=str(i))] for i in range(50)):
        assert samples == [(first_ms + i + 60_000 * n, 1.0) for n in range(2880)]


@pytest.mark.parametrize("query", ["m", "rate(m[5m])"])
def test_time_is_asked_for_on_the_way(query: str) -> None:
    asked = iter([False, False])
    budget = Budget(expired=lambda: next(asked, True))
    with pytest.raises(QueryTimeout):
        QueryEngine(days(1, 600_000)).evaluate_range(
            query, END_MS - 86_400_000, END_MS, 60_000, budget
        )
