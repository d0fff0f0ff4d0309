"""Sums and means under semantics 3: to the last digit those of Prometheus 3's loops."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tocsin_alerting.promql.engine import Engine
from tocsin_alerting.promql.evaluation.grouping import grouped
from tocsin_alerting.promql.evaluation.summing import (
    column_means,
    column_sums,
    group_means,
    group_sums,
)
from tocsin_alerting.promql.result import InstantVector
from tocsin_alerting.store.store import Store

NUMBERS = st.lists(
    st.one_of(
        st.floats(-1e300, 1e300),
        st.floats(-1, 1),
        st.sampled_from([1e16, -1e16, 1.0, 0.1, 1.7e308, math.inf, math.nan]),
    ),
    min_size=1,
    max_size=40,
)


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
    assert column_sums(cells).tolist() == [their_sum(one) for one in cells.T.tolist()]
    assert column_means(cells, sizes).tolist() == [their_mean(one) for one in cells.T.tolist()]


@given(NUMBERS, st.integers(1, 4))
def test_over_groups_they_are_too_whatever_is_absent(values: list[float], number: int) -> None:
    keys = [(("g", str(place * 7 % number)),) for place in range(len(values))]
    here = np.array([[place % 5 != 3 for place in range(len(values))]])
    groups = grouped(keys)
    cells = np.where(here, np.array([values]), 0.0)
    counts = groups.count(here, 1)
    with np.errstate(all="ignore"):
        sums, means = group_sums(groups, cells), group_means(groups, cells, counts, here)
    for group, rows in enumerate(groups.members()):
        present = [values[row] for row in rows.tolist() if here[0, row]]
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
    result = Engine(store, 3).evaluate(query, now).value
    assert isinstance(result, InstantVector)
    assert result.values.tolist() == [value]
