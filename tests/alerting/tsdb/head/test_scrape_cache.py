"""Series of which there are many are placed in slices before they are appended, and alike."""

import gc
import weakref
from dataclasses import replace

import pytest

from support.snapshots import snapshot
from tocsin_alerting.tsdb.matchers import Matcher, MatchOp
from tocsin_alerting.tsdb.series_index import BYTES_PER_SERIES
from tocsin_alerting.tsdb.store import Store
from tocsin_exporter.slices import at_once
from tocsin_exporter.snapshot import Family, Labels, Sample, Snapshot, Source

X, UP = Family("x", "gauge", "X."), Family("up", "gauge", "Up.")
SOURCE = Source("llm", "h:1")
EVERY = ((Matcher("job", MatchOp.EQUAL, "llm"),),)


def taken(at_ms: int, count: int, first: int = 0, text: str = "") -> Snapshot:
    samples = [Sample(X, float(n), (("i", f"{n}{text}"),)) for n in range(first, first + count)]
    return replace(snapshot([*samples, Sample(UP, 7.0)], "llm", "h:1"), at_ms=at_ms)


def stored(store: Store, at_ms: int) -> set[Labels]:
    return set(store.series(EVERY, at_ms, at_ms))


def slices(store: Store, one: Snapshot) -> int:
    return sum(1 for _ in store.prepare(one))


@pytest.mark.parametrize("limit", [100_000, 700, 5])
def test_it_is_the_same_with_and_without(limit: int) -> None:
    stores = [Store(max_series_per_source=limit) for _ in range(2)]
    rounds = [taken(1000, 1200), taken(2000, 1200, 600), taken(3000, 3), taken(4000, 1200)]
    for one in rounds:
        at_once(stores[0].prepare(one))
        found = []
        for store in stores:
            assert store.append(one)
            found.append(stored(store, one.at_ms))
        assert found[0] == found[1]
        assert len(found[0]) <= limit
    assert stores[0].stats().refused == stores[1].stats().refused


def test_only_new_layouts_of_many_series_take_slices() -> None:
    store, many = Store(), taken(1000, 1200)
    assert slices(store, taken(500, 10)) == 0
    assert slices(store, many) == 3
    store.append(many)
    again = Snapshot(SOURCE, 2000, True, many.layout, many.values)
    assert slices(store, again) == 0
    assert store.append(again)
    assert len(stored(store, 2000)) == 1200 + 3


def test_what_was_found_does_not_hold_once_a_row_has_changed_hands() -> None:
    store = Store(retention_ms=1000)
    store.append(taken(0, 1200))
    for at_ms in range(100, 13_001, 100):  # more than a block of columns
        store.append(taken(at_ms, 5, 50_000))
    late = taken(14_000, 1200, 10_000)
    at_once(store.prepare(late))
    store.expire(13_900)  # the first block goes, and with it rows that hold no sample
    assert store.append(late)
    assert len(stored(store, 14_000)) == 1200 + 3


def test_nobody_waits_for_the_store_between_two_slices() -> None:
    store = Store()
    work = store.prepare(taken(1000, 5000))
    next(work)
    assert store.append(snapshot([Sample(X, 1.0)]))  # would hang on the lock


@pytest.mark.parametrize("limit", [100_000, 700])
def test_what_a_rule_will_write_finds_its_rows_in_slices(limit: int) -> None:
    samples = [((("__name__", "ALERTS"), ("i", str(number))), 1.0) for number in range(1200)]
    rules, stores = Source("rules", "g"), [Store(max_series_per_source=limit) for _ in range(2)]
    assert sum(1 for _ in stores[0].prepare.rule_series(rules, samples)) == 3
    for store in stores:
        assert store.append_rule_samples(rules, 1000, samples)
    after = [store.stats() for store in stores]
    assert after[0].series == after[1].series == min(limit, 1200)
    assert after[0].series_refused == after[1].series_refused


def test_labels_without_end_are_refused_before_they_fill_the_memory() -> None:
    store = Store(max_series_per_source=100)
    store.append(taken(1000, 90, text="x" * BYTES_PER_SERIES * 10))
    assert len(stored(store, 1000)) < 15


def test_nothing_stays_of_a_source_that_is_removed() -> None:
    """Nor of one that is removed before it appended."""
    store, kept = Store(), []
    for number in range(200):
        one = replace(taken(1000, 600), source=Source("llm", f"h:{number}"))
        at_once(store.prepare(one))
        if number % 2:
            store.append(one)
        store.end_source(one.source, 2000)
        kept.append(weakref.ref(one.layout))
    store.expire(10**9)
    del one
    gc.collect()
    assert sum(ref() is not None for ref in kept) < 100
