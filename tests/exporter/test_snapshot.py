import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin_exporter.snapshot import (
    MOST_REMEMBERED,
    DuplicateSeries,
    Exemplar,
    Family,
    LayoutCache,
    LayoutMemo,
    Sample,
    Snapshot,
    Source,
    labels,
    only,
    values_of,
)

UP = Family("up_now", "gauge", "Up.")
TIME = Family("time_seconds", "histogram", "Time.", "seconds")


def test_labels_are_sorted_and_an_empty_value_is_no_label() -> None:
    assert labels(b="2", a="1", c="") == (("a", "1"), ("b", "2"))


def test_the_same_series_keep_their_layout_and_other_series_get_another() -> None:
    cache = LayoutCache()
    first, one = cache.build([Sample(UP, 1, labels(x="a")), Sample(UP, 2, labels(x="b"))])
    again, two = cache.build([Sample(UP, 3, labels(x="a")), Sample(UP, 4, labels(x="b"))])
    assert again is first
    assert (one.tolist(), two.tolist()) == ([1, 2], [3, 4])
    other, _ = cache.build([Sample(UP, 3, labels(x="a"))])
    assert other is not first
    renamed, _ = cache.build([Sample(UP, 3, labels(x="c"))])
    assert [series.labels for series in renamed.series] == [labels(x="c")]


def test_values_cannot_be_changed_behind_a_readers_back() -> None:
    _, values = LayoutCache().build([Sample(UP, 1)])
    with pytest.raises(ValueError, match="read-only"):
        values[0] = 2


def test_parts_of_a_histogram_carry_their_own_names_and_share_the_family() -> None:
    layout, _ = LayoutCache().build(
        [Sample(TIME, 1, labels(le="1.0"), "_bucket"), Sample(TIME, 1, (), "_count")]
    )
    assert [series.name for series in layout.series] == [
        "time_seconds_bucket",
        "time_seconds_count",
    ]
    assert layout.families == {"time_seconds": TIME}


def test_one_name_and_label_set_twice_is_refused_with_its_name() -> None:
    with pytest.raises(DuplicateSeries, match='up_now{x="a"} was collected twice'):
        LayoutCache().build([Sample(UP, 1, labels(x="a")), Sample(UP, 2, labels(x="a"))])


def test_after_a_refusal_the_cache_still_gives_what_is_asked() -> None:
    cache = LayoutCache()
    layout, _ = cache.build([Sample(UP, 1)])
    with pytest.raises(DuplicateSeries):
        cache.build([Sample(UP, 1), Sample(UP, 2)])
    with pytest.raises(DuplicateSeries):
        cache.build([Sample(UP, 1), Sample(UP, 2)])
    again, values = cache.build([Sample(UP, 5)])
    assert (again.series, values.tolist()) == (layout.series, [5])


def test_a_snapshot_shows_its_layout() -> None:
    layout, values = LayoutCache().build([Sample(UP, 1)])
    snapshot = Snapshot(Source("node", "h"), 1_000, True, layout, values)
    assert snapshot.series is layout.series
    assert snapshot.families == {"up_now": UP}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(allow_nan=False)), max_size=3))
def test_values_come_in_the_order_of_their_series(pairs: list[tuple[str, float]]) -> None:
    wanted = dict(pairs)
    layout, values = LayoutCache().build([Sample(UP, v, labels(x=k)) for k, v in wanted.items()])
    found = {dict(s.labels)["x"]: v for s, v in zip(layout.series, values.tolist(), strict=True)}
    assert found == wanted and values.dtype == np.float64


def test_the_values_of_a_name_are_those_of_its_series() -> None:
    layout, values = LayoutCache().build([Sample(UP, 1.0, labels(a="1")), Sample(UP, 2.0)])
    snapshot = Snapshot(Source("j", "i"), 0, True, layout, values)
    assert values_of(snapshot, UP.name) == [1.0, 2.0] and values_of(snapshot, "other") == []


def test_a_part_of_a_snapshot_keeps_values_and_exemplars_with_their_series() -> None:
    samples = [
        Sample(UP, 1),
        Sample(TIME, 2, labels(le="1.0"), "_bucket"),
        Sample(TIME, 3, (), "_count"),
    ]
    layout, values = LayoutCache().build(samples)
    example = Exemplar((), 0.5, 1)
    whole = Snapshot(Source("a", "b"), 1, True, layout, values, exemplars={1: example})
    part = only(whole, frozenset({"time_seconds"}), frozenset())
    assert ([one.name for one in part.series], part.values.tolist()) == (
        ["time_seconds_bucket", "time_seconds_count"],
        [2, 3],
    )
    assert dict(part.exemplars) == {0: example}
    count = only(whole, frozenset(), frozenset({"time_seconds_count"}))
    assert (count.values.tolist(), dict(count.exemplars)) == ([3], {})
    assert only(whole, frozenset({"time_seconds"}), frozenset()).layout is part.layout


def test_many_series_are_built_in_slices_and_a_duplicate_among_them_is_seen() -> None:
    many = [Sample(UP, n, labels(n=str(n))) for n in range(5_000)]
    cache = LayoutCache()
    assert sum(1 for _ in cache.steps(many)) >= 4
    layout, values = cache.build(many)
    assert [dict(one.labels)["n"] for one in layout.series] == [str(n) for n in range(5_000)]
    assert values.tolist() == list(range(5_000))
    assert cache.build(many)[0] is layout
    with pytest.raises(DuplicateSeries):
        cache.build([*many, many[0]])


def test_what_is_remembered_has_a_bound_by_number_and_by_series() -> None:
    kept: LayoutMemo[str, int] = LayoutMemo(3)
    for key in "abcd":
        kept.keep(key, ord(key), 10)
    assert [kept.get(key) for key in "abcd"] == [None, 98, 99, 100]
    kept.get("b")  # was asked for last
    kept.keep("e", 101, MOST_REMEMBERED - 10)
    assert [kept.get(key) for key in "bcde"] == [98, None, None, 101]
    kept.keep("f", 102, 2 * MOST_REMEMBERED)
    assert [kept.get(key) for key in "bef"] == [None, None, 102]
    kept.keep("f", 103, 10)
    kept.keep("g", 104, MOST_REMEMBERED - 10)
    assert [kept.get(key) for key in "fg"] == [103, 104]


def test_a_source_is_shown_in_words() -> None:
    assert f"series of {Source('node', 'h:1')}" == "series of job node, instance h:1"
