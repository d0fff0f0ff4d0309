"""What topk of Prometheus 2.42 keeps of equal elements; each row was asked of it."""

import math

import pytest

from tocsin_alerting.promql.eval.aggregations_v2 import TopkHeap

NAN = math.nan


@pytest.mark.parametrize(
    ("keys", "k", "kept"),
    [
        ([1, 1, 2], 2, [2, 1]),
        ([1, 1, 1, 1], 2, [0, 1]),
        ([1, 2, 3], 1, [2]),
        ([3, 1, 2], 5, [0, 2, 1]),
        ([NAN, NAN, 1], 2, [2, 0]),
        ([5, 5, 5, 7, 5, 7], 3, [3, 5, 1]),
        ([1, 1, 1, 2, 2], 3, [3, 4, 1]),
        ([NAN, 2, NAN], 1, [1]),
    ],
)
def test_the_best_first(keys: list[float], k: int, kept: list[int]) -> None:
    assert TopkHeap(keys).best(k) == kept
