"""Sums and means under semantics 3: to the last digit those of Prometheus 3's loops."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tocsin_alerting.promql.engine import QueryEngine
from tocsin_alerting.promql.eval.grouping import grouped
from tocsin_alerting.promql.eval.summing import column_means, column_sums, group_means, group_sums
from tocsin_alerting.promql.result import InstantVector
from tocsin_alerting.tsdb.store import Store
from tocsin_alerting.tsdb.values import Floats

NUMBERS = st.lists(
    st.one_of(
        st.floats(-1e300, 1e300),
        st.floats(-1, 1),
        st.sampled_from([1e16, -1e16, 1.0, 0.1, 1.7e308, math.inf, math.nan]),
    ),
    min_size=1,
    max_size=40,
)


def all_same(ours: Floats, theirs: Sequence[float]) -> bool:
    """To the last digit; NaN is NaN."""
    return np.array_equal(ours, theirs, equal_nan=True)


def increased(more: float, total: float, lost: float) -> tuple[float, float]:
    """kahanSumInc of promql/functions.go."""
    both = total + more
    if math.isinf(both):
        lost = 0.0
    elif abs(total) >= abs(more):
        lost += (total - both) + more
    else:
        lost += (more - both) + total
    return both, lost


def their_sum(values: Sequence[float]) -> float:
    total = lost = 0.0
    for value in values:
        total, lost = increased(value, total, lost)
    return total if math.isinf(total) else total + lost


def their_mean(values: Sequence[float]) -> float:
    """funcAvgOverTime of Prometheus 3."""
    total, lost, mean, incremental = values[0], 0.0, 0.0, False
    for count, value in enumerate(values[1:], start=2):
        if not incremental:
            both, error = increased(value, total, lost)
            if not math.isinf(both):
                total, lost = both, error
                continue
            incremental, mean = True, total / (count - 1)
            lost /= count - 1
        share = (count - 1) / count
        mean, lost = increased(value / count, share * mean, share * lost)
    return mean + lost if incremental else total / len(values) + lost / len(values)


def same(ours: float, theirs: float) -> bool:
    return ours == theirs or (math.isnan(ours) and math.isnan(theirs))


@example([0.2] * 30)
@example([1e308, 1e308, -1e308, 3.0])
@given(NUMBERS)
def test_over_time_they_are_prometheuss_to_the_last_digit(values: list[float]) -> None:
    cells = np.array(values).reshape(-1, 1)
    with np.errstate(all="ignore"):
        assert same(column_sums(cells)[0], their_sum(values))
        assert same(column_means(cells, np.array([float(len(values))]))[0], their_mean(values))


@pytest.mark.parametrize("width", [3, 300])
def test_many_at_once_are_added_alike(width: int) -> None:
    scales = 10.0 ** (np.arange(50) % 17)[:, None]
    cells = np.random.default_rng(width).normal(size=(50, width)) * scales
    sizes = np.full(width, 50.0)
    assert column_sums(cells).tolist() == [their_sum(column) for column in cells.T.tolist()]
    assert column_means(cells, sizes).tolist() == [
        their_mean(column) for column in cells.T.tolist()
    ]


Shape = tuple[int, int]
KINDS: Mapping[str, Callable[[np.random.Generator, Shape], Any]] = {
    "gauges": lambda random, shape: random.uniform(10, 80, shape[1]) + random.normal(size=shape),
    "integers": lambda random, shape: random.integers(-(10**9), 10**9, shape) * 1.0,
    "counters past 2**53 in sum": lambda random, shape: random.integers(2**48, 2**53, shape) * 1.0,
    "ratios with zeros": lambda random, shape: random.integers(0, 3, shape) / 7.0,
    "both signs": lambda random, shape: random.normal(size=shape) * 1e6,
    "that cancel": lambda random, shape: random.permuted(np.repeat([1e9, -1e9, 0.1], 300))[
        random.integers(0, 900, shape)
    ],
    "debts": lambda random, shape: -(10.0 ** random.uniform(0, 6, shape)),
    "that cancel and leave what was lost": lambda random, shape: np.where(
        (np.arange(shape[0]) % 3 < 2)[:, None],
        (1e22 * (-1.0) ** (np.arange(shape[0]) % 3))[:, None],
        random.normal(size=shape) * 10.0 ** random.uniform(-12, 5, shape),
    ),
    "every column of its own size": lambda random, shape: (
        random.normal(size=shape) * 10.0 ** (np.arange(shape[1]) ** 2 % 11 * 5)
    ),
    "a range too wide": lambda random, shape: 10.0 ** random.uniform(-30, 30, shape),
    "a little too fine": lambda random, shape: random.choice([1e6, 1e-9 / 3, 1.0 / 3], shape),
    "zeros": lambda random, shape: np.zeros(shape),
    "minus zeros": lambda random, shape: np.full(shape, -0.0),
    "near the end of the range": lambda random, shape: random.uniform(-1.0, 1.7, shape) * 1e308,
    "below the least normal one": lambda random, shape: random.integers(-9, 9, shape) * 5e-324,
    "no numbers": lambda random, shape: random.choice([1.5, math.nan, math.inf], shape),
}
"""What the sums may be of; some of it can be added without rounding in two halves, some not."""
LAYOUTS: Mapping[str, Callable[[Floats], Floats]] = {
    "rows": lambda cells: cells,
    "columns": np.asfortranarray,
    "some of wider rows": lambda cells: np.pad(cells, ((0, 0), (3, 5)))[:, 3:-5],
    "backwards": lambda cells: np.ascontiguousarray(cells[::-1])[::-1],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(1, 1100), (2, 501), (33, 300), (200, 129), (60, 40), (1100, 1)])
def test_whatever_is_added_and_however_it_lies_the_last_digit_is_theirs(
    kind: str, layout: str, shape: Shape
) -> None:
    cells = KINDS[kind](np.random.default_rng(shape), shape)
    columns = cells.T.tolist()
    laid = LAYOUTS[layout](cells)
    with np.errstate(all="ignore"):
        sums, means = column_sums(laid), column_means(laid, np.full(shape[1], float(shape[0])))
    assert all_same(sums, [their_sum(column) for column in columns])
    assert all_same(means, [their_mean(column) for column in columns])


def test_the_mean_of_one_long_series_is_theirs() -> None:
    cells = KINDS["gauges"](np.random.default_rng(3), (1500, 30))
    means = [column_means(cells[:, [place]], np.array([1500.0]))[0] for place in range(30)]
    assert means == [their_mean(column) for column in cells.T.tolist()]


@given(
    st.lists(st.sampled_from(["gauges", "both signs", "integers"]), min_size=1, max_size=4),
    st.integers(-60, 60),
    st.integers(2, 40),
    st.integers(0, 2**32),
)
def test_no_mixture_of_scales_is_added_otherwise(
    kinds: list[str], exponent: int, depth: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    parts = [KINDS[kind](random, (depth, 600)) for kind in kinds]
    parts = [part * 2.0 ** (exponent * place) for place, part in enumerate(parts)]
    cells = np.hstack([part[:, :3] for part in parts] + [parts[0][:, 3:]])
    sizes = np.full(cells.shape[1], float(depth))
    chosen = range(0, 3 * len(parts))
    columns = [cells[:, place].tolist() for place in chosen]
    assert column_sums(cells)[: len(chosen)].tolist() == [their_sum(column) for column in columns]
    means = column_means(cells, sizes)[: len(chosen)]
    assert means.tolist() == [their_mean(column) for column in columns]


@pytest.mark.parametrize("kind", KINDS)
def test_groups_over_many_steps_are_theirs_too(kind: str) -> None:
    series, steps = 300, 120
    cells = KINDS[kind](np.random.default_rng(steps), (steps, series))
    groups = grouped([(("g", str(place * place % 11)),) for place in range(series)])
    counts = groups.count(None, steps)
    present = np.ones(cells.shape, np.bool_)
    with np.errstate(all="ignore"):
        sums, means = group_sums(groups, cells), group_means(groups, cells, counts, present)
    for group, rows in enumerate(groups.members()):
        theirs = [their_sum(row) for row in cells[:, rows].tolist()]
        assert all_same(sums[:, group], theirs)
        theirs = [their_mean(row) for row in cells[:, rows].tolist()]
        assert all_same(means[:, group], theirs)


@given(NUMBERS, st.integers(1, 4))
def test_over_groups_they_are_too_whatever_is_absent(values: list[float], number: int) -> None:
    keys = [(("g", str(place * 7 % number)),) for place in range(len(values))]
    sampled = np.array([[place % 5 != 3 for place in range(len(values))]])
    groups = grouped(keys)
    cells = np.where(sampled, np.array([values]), 0.0)
    counts = groups.count(sampled, 1)
    with np.errstate(all="ignore"):
        sums, means = group_sums(groups, cells), group_means(groups, cells, counts, sampled)
    for group, rows in enumerate(groups.members()):
        present = [values[row] for row in rows.tolist() if sampled[0, row]]
        if present:
            assert same(sums[0, group], their_sum(present))
            assert same(means[0, group], their_mean(present))


@pytest.mark.parametrize(
    ("query", "value"),
    [
        ("avg_over_time(m[15m])", 0.2),
        ("sum_over_time(m[15m])", 6.0),
        ("avg(n)", 0.2),
        ("sum(n)", 2),
    ],
)
def test_a_fifth_thirty_times_is_a_fifth_in_the_mean(query: str, value: float) -> None:
    store, now = Store(), 10**12
    store.write([((("__name__", "m"),), now - 30_000 * place, 0.2) for place in range(30)][::-1])
    store.write([((("__name__", "n"), ("i", str(i))), now, 0.2) for i in range(10)])
    result = QueryEngine(store, 3).evaluate(query, now).value
    assert isinstance(result, InstantVector)
    assert result.values.tolist() == [value]
