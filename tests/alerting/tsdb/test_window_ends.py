"""Which windows are read together."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tocsin_alerting.tsdb import window_ends


def runs(starts: list[int], length: int, count: int) -> list[tuple[int, int]]:
    return list(window_ends.read_groups(np.array(starts), np.array(starts) + length, count))


def test_neighbours_are_read_together() -> None:
    assert runs([0, 60, 120, 180], 60, 45) == [(0, 4)]
    assert runs([0, 15, 30, 45], 60, 45) == [(0, 4)]


def test_windows_with_more_columns_between_them_than_in_them_are_not() -> None:
    assert runs([0, 60, 120], 5, 45) == [(0, 1), (1, 2), (2, 3)]
    assert runs([0, 60, 66, 600], 5, 45) == [(0, 1), (1, 3), (3, 4)]


def test_of_very_many_series_few_columns_are_read_together() -> None:
    assert runs([0, 60, 120, 180], 60, 2**17 // 120) == [(0, 2), (2, 4)]
    assert runs([0, 60, 120], 60, 10**6) == [(0, 1), (1, 2), (2, 3)]


@given(
    st.lists(st.integers(0, 10_000), min_size=1, max_size=30).map(sorted),
    st.integers(1, 500),
    st.integers(0, 20_000),
)
def test_every_window_is_read_once(starts: list[int], length: int, count: int) -> None:
    found = [at for begin, end in runs(starts, length, count) for at in range(begin, end)]
    assert found == list(range(len(starts)))
