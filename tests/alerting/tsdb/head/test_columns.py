"""Columns against a naive model: whatever is appended comes back, cell by cell."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tocsin_alerting.tsdb.head.columns import AlignedPart
from tocsin_alerting.tsdb.matchers import Matcher, MatchOp
from tocsin_alerting.tsdb.query.aligned_parts import HeadPart, MergedPart
from tocsin_alerting.tsdb.store import Store
from tocsin_alerting.tsdb.values import Ints, is_sample, is_stale
from tocsin_exporter.snapshot import Family, Layout, Series, Snapshot, Source, labels

SOURCE = Source("j", "i")
EVERY = ((Matcher("__name__", MatchOp.EQUAL, "m"),),)
FAMILY = Family("m", "counter", "")
Model = dict[str, list[tuple[int, float]]]

values = st.sampled_from([0.0, 1.0, 2.0, 5.0, -1.0, float("inf"), float("nan")])
rounds = st.tuples(
    st.sets(st.sampled_from("abcdef")),  # which series the page has
    st.integers(1, 60),  # how many rounds it stays so
    st.lists(values, min_size=6, max_size=6),
)


def layout(names: Sequence[str]) -> Layout:
    return Layout(tuple(Series(FAMILY, "m", labels(s=name)) for name in names))


def fill(store: Store, script: list[tuple[set[str], int, list[float]]]) -> Model:
    model: Model = defaultdict(list)
    at_ms = 0
    for names, count, cells in script:
        form = layout(sorted(names))
        for turn in range(count):
            at_ms += 1000
            row = np.array([cells[(i + turn) % 6] for i in range(len(names))])
            store.append(Snapshot(SOURCE, at_ms, True, form, row))
            for name, value in zip(sorted(names), row.tolist(), strict=True):
                model[name].append((at_ms, value))
    return model


def read(part: AlignedPart | MergedPart, row: int) -> list[tuple[int, float]]:
    cells = np.ascontiguousarray(part.cells_in(0, len(part.times))[:, row])
    held = is_sample(cells)
    return list(zip(part.times[held].tolist(), cells[held].tolist(), strict=True))


@settings(deadline=None, max_examples=60)
@given(st.lists(rounds, max_size=12))
def test_the_store_holds_what_the_model_holds(
    script: list[tuple[set[str], int, list[float]]],
) -> None:
    store = Store(retention_ms=10**9)
    model = fill(store, script)
    selection = store.select(EVERY, 0, 10**9)
    names = [dict(one)["s"] for one in selection.series.labels]
    assert sorted(names) == sorted(model)
    for part in selection.parts:
        for row, name in enumerate(names):
            assert repr(read(part, row)) == repr(model[name])


@settings(deadline=None, max_examples=60)
@given(st.lists(rounds, max_size=12), st.integers(50_000, 400_000))
def test_retention_keeps_at_least_the_samples_that_it_promises(
    script: list[tuple[set[str], int, list[float]]], retention_ms: int
) -> None:
    store = Store(retention_ms=retention_ms)
    model = fill(store, script)
    end = 1000 * sum(count for _, count, _ in script)
    selection = store.select(EVERY, 0, end)
    found = {dict(one)["s"]: row for row, one in enumerate(selection.series.labels)}
    for name, samples in model.items():
        kept = [one for one in samples if one[0] >= end - retention_ms]
        if kept:
            assert repr(read(selection.parts[0], found[name])[-len(kept) :]) == repr(kept)


@settings(deadline=None, max_examples=60)
@given(st.lists(rounds, min_size=1, max_size=8), st.data())
def test_what_is_called_gapless_or_rising_is(
    script: list[tuple[set[str], int, list[float]]], data: st.DataObject
) -> None:
    store = Store(retention_ms=10**9)
    if not fill(store, script):
        return
    (part,) = store.select(EVERY, 0, 10**9).parts
    assert isinstance(part, AlignedPart)
    stop = data.draw(st.integers(1, len(part.times)))
    start = data.draw(st.integers(0, stop - 1))
    slab = part.cells_in(start, stop)
    assert not np.isnan(slab[:, part.gapless(start, stop)]).any()
    rising = slab[:, part.rising(start, stop)]
    assert (rising[1:] >= rising[:-1]).all() and not np.isnan(rising).any()


@pytest.mark.parametrize("rising", [True, False])
@settings(deadline=None, max_examples=40)
@given(script=st.lists(rounds, min_size=1, max_size=8), data=st.data())
def test_the_ends_of_some_columns_are_the_first_and_the_last(
    rising: bool, script: list[tuple[set[str], int, list[float]]], data: st.DataObject
) -> None:
    """Of what is in memory, and of the same columns as a part of a longer history."""
    store = Store(retention_ms=10**9)
    if not fill(store, script):
        return
    (part,) = store.select(EVERY, 0, 10**9).parts
    assert isinstance(part, AlignedPart)
    starts, stops = data.draw(windows(len(part.times)))
    for frame in (part, MergedPart([HeadPart(part, part.count)], part.count)):
        first, last, whole = frame.ends(starts, stops, rising)
        for at, (start, stop) in enumerate(zip(starts.tolist(), stops.tolist(), strict=True)):
            columns = np.array([frame.column(start), frame.column(stop - 1)])
            assert (np.array([first[at], last[at]]).view(np.int64) == columns.view(np.int64)).all()
            slab = frame.cells_in(start, stop)
            held = ~np.isnan(slab).any(axis=0)
            rises = held & (slab[1:] >= slab[:-1]).all(axis=0)
            assert (whole[at] <= (rises if rising else held)).all()
            if frame is not part:
                assert (whole[at] == (rises if rising else held)).all()


@st.composite
def windows(draw: st.DrawFn, columns: int) -> tuple[Ints, Ints]:
    """Some whose starts and stops ascend, with columns between them or in several."""
    count = draw(st.integers(1, 8))
    starts = sorted(draw(st.lists(st.integers(0, columns - 1), min_size=count, max_size=count)))
    lengths = draw(st.lists(st.integers(1, columns), min_size=count, max_size=count))
    stops = np.minimum(np.array(starts) + lengths, columns)
    return np.array(starts), np.maximum.accumulate(stops)


def test_a_steady_source_is_gapless_and_rising_as_a_whole() -> None:
    store = Store()
    form = layout("abc")
    for i in range(300):
        store.append(Snapshot(SOURCE, 1000 * i, True, form, np.array([i, 2.0 * i, 1.0])))
    (part,) = store.select(EVERY, 0, 10**9).parts
    assert isinstance(part, AlignedPart)
    assert part.gapless(0, 300).all() and part.rising(0, 300).all()
    assert part.cells_in(100, 300)[:, 1].tolist() == [2.0 * i for i in range(100, 300)]


def test_readers_keep_their_columns_while_the_writer_goes_on() -> None:
    store = Store(retention_ms=20_000)
    store.append(Snapshot(SOURCE, 1000, True, layout("a"), np.array([1.0])))
    (before,) = store.select(EVERY, 0, 10**9).parts
    for i in range(2, 600):
        store.append(
            Snapshot(SOURCE, 1000 * i, True, layout("abcdefghij"[: i % 10]), np.zeros(i % 10))
        )
    assert before.times.tolist() == [1000]
    assert read(before, 0) == [(1000, 1.0)]
    assert not is_stale(np.ascontiguousarray(before.column(0))).any()
