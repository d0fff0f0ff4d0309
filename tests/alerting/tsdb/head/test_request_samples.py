"""A request against a naive reading of it, sample after sample."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tocsin_alerting.tsdb.head.request_samples import (
    column_groups,
    distinct,
    has_duplicates,
    newest_per_source,
    sample_order,
)
from tocsin_alerting.tsdb.values import Ints

small = st.integers(0, 4)
samples = st.lists(st.tuples(small, small), min_size=1, max_size=20)


def arrays(pairs: list[tuple[int, int]]) -> tuple[Ints, Ints]:
    both = np.array(pairs, np.int64)
    return both[:, 0].copy(), both[:, 1] + 1_700_000_000_000


@given(samples)
def test_what_is_late_and_what_is_said_twice(pairs: list[tuple[int, int]]) -> None:
    numbers, times = arrays(pairs)
    order = sample_order(numbers, times)
    for at, (number, when) in enumerate(pairs):
        before = [(i, one[1]) for i, one in enumerate(pairs[:at]) if one[0] == number]
        assert order.late[at] == any(other > when for _, other in before)
        if not order.late[at]:
            same = [i for i, other in before if other == when]
            assert order.twin[at] == (same[0] if same else at)
    assert has_duplicates(numbers) == (len({number for number, _ in pairs}) < len(pairs))


@given(samples)
def test_a_column_has_all_samples_of_its_source_and_time(pairs: list[tuple[int, int]]) -> None:
    sources, times = arrays(pairs)
    groups = list(column_groups(np.arange(len(pairs)) * 10, sources, times))
    assert sorted(at for group in groups for at in group.tolist()) == list(
        range(0, 10 * len(pairs), 10)
    )
    found = [{pairs[at // 10] for at in group.tolist()} for group in groups]
    assert all(len(one) == 1 for one in found)
    assert [min(one) for one in found] == sorted(set(pairs))
    latest = {source: max(at for one, at in pairs if one == source) for source, _ in pairs}
    moved = {source: at - 1_700_000_000_000 for source, at in newest_per_source(sources, times)}
    assert moved == latest
    assert sorted(distinct(sources)) == sorted(latest)
