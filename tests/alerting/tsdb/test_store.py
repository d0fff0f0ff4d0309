"""The store, by example: labels from the target, staleness, order, limits, retention, the clock."""

import math
import threading
from dataclasses import replace

import numpy as np
import pytest

from tocsin_alerting.tsdb.matchers import Matcher, MatchOp
from tocsin_alerting.tsdb.source_health import LastSeen
from tocsin_alerting.tsdb.store import HOUR_MS, Store
from tocsin_alerting.tsdb.values import STALE_BITS, is_absent, is_sample, is_stale
from tocsin_exporter.snapshot import Family, Labels, Layout, Series, Snapshot, Source, labels

NODE = Source("node", "box:9100")
STALE = np.array([STALE_BITS], np.int64).view(np.float64)[0]


def layout(*series: tuple[str, Labels]) -> Layout:
    return Layout(tuple(Series(Family(name, "gauge", ""), name, own) for name, own in series))


def snapshot(at_ms: int, form: Layout, *values: float, ok: bool = True) -> Snapshot:
    return Snapshot(NODE, at_ms, ok, form, np.array(values, np.float64), 0.25)


def named(name: str, **others: str) -> tuple[tuple[Matcher, ...], ...]:
    matchers = [Matcher("__name__", MatchOp.EQUAL, name)]
    return ((*(Matcher(k, MatchOp.EQUAL, v) for k, v in others.items()), *matchers),)


def cells(store: Store, name: str) -> list[float]:
    (part,) = store.select(named(name), 0, 10**15).parts
    cells: list[float] = part.cells_in(0, len(part.times))[:, 0].tolist()
    return cells


LOAD = layout(("node_load1", ()))


def test_a_sample_gets_job_and_instance_and_keeps_its_own_under_another_name() -> None:
    store = Store()
    own = labels(job="batch", instance="x", exported_job="older", target="y")
    store.append(snapshot(1000, layout(("m", own)), 1.0))
    (series,) = store.select(named("m"), 0, 2000).series.labels
    assert dict(series) == {
        "__name__": "m",
        "job": "node",
        "instance": "box:9100",
        "exported_job": "older",
        "exported_exported_job": "batch",
        "exported_instance": "x",
        "target": "y",
    }
    assert list(series) == sorted(series)


def test_a_source_says_whether_it_is_up_how_long_it_took_and_how_much_it_said() -> None:
    store = Store()
    store.append(snapshot(1000, LOAD, 1.5))
    store.append(snapshot(2000, layout(), ok=False))
    assert cells(store, "up") == [1.0, 0.0]
    assert cells(store, "scrape_duration_seconds") == [0.25, 0.25]
    assert cells(store, "scrape_samples_scraped") == [1.0, 0.0]
    assert store.last_seen(NODE) == LastSeen(2000, False)


def test_a_page_cannot_say_that_it_is_up() -> None:
    store = Store()
    store.append(snapshot(1000, layout(("up", ()), ("m", ())), 7.0, 2.0))
    assert cells(store, "up") == [1.0]
    assert cells(store, "m") == [2.0]


def test_a_reading_of_two_snapshots_is_up_once() -> None:
    store = Store()
    store.append(snapshot(1000, LOAD, 1.5))
    store.append(replace(snapshot(2000, LOAD, 2.5), report=False))
    up = np.array(cells(store, "up"))
    assert up[0] == 1.0
    assert is_stale(up[1:]).all()
    assert cells(store, "node_load1") == [1.5, 2.5]
    store.append(snapshot(3000, LOAD, 3.5))
    assert cells(store, "up")[2] == 1.0


def test_what_vanishes_goes_stale_and_what_returns_is_there_again() -> None:
    store = Store()
    both = layout(("a", ()), ("b", ()))
    store.append(snapshot(1000, both, 1.0, 2.0))
    store.append(snapshot(2000, LOAD, 3.0))
    store.append(snapshot(3000, both, 4.0, 5.0))
    (part,) = store.select(named("b"), 0, 9000).parts
    column = part.cells_in(0, 3)[:, 0]
    assert is_stale(column).tolist() == [False, True, False]
    assert column[[0, 2]].tolist() == [2.0, 5.0]
    (late,) = store.select(named("node_load1"), 0, 9000).parts
    column = np.ascontiguousarray(late.cells_in(0, 3)[:, 0])
    assert is_absent(column).tolist() == [True, False, False]
    assert is_stale(column).tolist() == [False, False, True]


def test_a_real_nan_of_any_bits_is_a_sample() -> None:
    store = Store()
    odd = np.array([0x7FF8DEADBEEF0001], np.int64).view(np.float64)[0]
    store.append(snapshot(1000, layout(("a", ()), ("b", ())), odd, math.nan))
    (part,) = store.select(named("a"), 0, 9000).parts
    assert is_sample(part.cells_in(0, 1)).all()
    assert math.isnan(cells(store, "b")[0])


@pytest.mark.parametrize(("at_ms", "reason"), [(1000, "duplicate"), (999, "out_of_order")])
def test_a_column_that_is_not_later_is_refused_and_counted(at_ms: int, reason: str) -> None:
    store = Store()
    assert store.append(snapshot(1000, LOAD, 1.0))
    assert not store.append(snapshot(at_ms, LOAD, 2.0))
    assert cells(store, "node_load1") == [1.0]
    assert store.stats().refused == {reason: 4}


def test_equal_selectors_share_one_set_that_survives_changes_elsewhere() -> None:
    store = Store()
    store.append(snapshot(1000, LOAD, 1.0))
    before = store.select(named("node_load1"), 0, 9000).series
    assert before.memo("key", lambda: 17) == 17
    store.append_rule_samples(Source("rules", "g"), 1500, [((("__name__", "ALERTS"),), 1.0)])
    store.append(snapshot(2000, layout(("node_load1", ()), ("other", ())), 2.0, 3.0))
    after = store.select(named("node_load1"), 0, 9000).series
    assert after is before
    assert after.memo("key", lambda: 18) == 17


def test_matchers_of_every_kind_choose_series() -> None:
    store = Store()
    form = layout(("m", labels(a="x")), ("m", labels(a="y", b="1")), ("n", ()))
    store.append(snapshot(1000, form, 1.0, 2.0, 3.0))

    def found(*matchers: tuple[str, MatchOp, str]) -> list[float]:
        parts = store.select((tuple(Matcher(*m) for m in matchers),), 0, 9000).parts
        return [cell for part in parts for cell in part.column(0).tolist()]

    assert found(("__name__", MatchOp.EQUAL, "m"), ("a", MatchOp.NOT_EQUAL, "x")) == [2.0]
    assert found(("__name__", MatchOp.REGEX, "m|n"), ("b", MatchOp.EQUAL, "")) == [1.0, 3.0]
    assert found(("a", MatchOp.REGEX, ".+")) == [1.0, 2.0]
    assert found(("__name__", MatchOp.NOT_REGEX, "m|up|scrape.*")) == [3.0]
    assert found(("__name__", MatchOp.EQUAL, "absent")) == []


def test_series_over_the_limit_are_cut_and_counted_and_up_is_never_one_of_them() -> None:
    store = Store(max_series_per_source=5)
    form = layout(*(("m", labels(i=str(i))) for i in range(4)))
    store.append(snapshot(1000, form, 0.0, 1.0, 2.0, 3.0))
    store.append(snapshot(2000, form, 0.0, 1.0, 2.0, 3.0))
    assert len(store.select(named("m"), 0, 9000).series) == 2
    assert cells(store, "up") == [1.0, 1.0]
    size = store.stats()
    assert (size.series, size.series_refused["per_source"]) == (5, 2)


def test_retention_drops_columns_and_gives_dead_rows_to_new_series() -> None:
    store = Store(retention_ms=10_000)
    for i in range(1000):
        form = layout(("m", labels(i=str(i // 10))))
        store.append(snapshot(1000 * i, form, float(i)))
    (part,) = store.select(named("up"), 0, 10**9).parts
    assert 10 <= len(part.times) <= 10 + 128
    assert part.times[-1] == 999_000
    size = store.stats()
    assert size.series < 40
    assert size.samples < 4 * 140
    assert len(store.series(named("m"), 990_000, 999_000)) == 1


def test_a_source_that_fell_silent_is_forgotten_after_the_retention() -> None:
    store = Store()
    store.append(snapshot(1000, LOAD, 1.0))
    store.expire(1000 + HOUR_MS)
    assert store.matching_sources(named("node_load1")) == {NODE}
    store.expire(1001 + HOUR_MS)
    assert store.matching_sources(named("node_load1")) == frozenset()
    assert store.last_seen(NODE) is None
    assert store.stats().samples == 0


def test_rules_write_as_a_source_of_their_own_and_their_series_vanish() -> None:
    store = Store()
    group = Source("rules", "file;group")
    one = (("__name__", "job:rate"), ("job", "x"))
    two = (("__name__", "ALERTS"), ("alertname", "Down"))
    store.append_rule_samples(group, 1000, [(one, 1.0), (two, 1.0)])
    store.append_rule_samples(group, 2000, [(one, 2.0)])
    assert store.select(named("job:rate"), 0, 9000).series.labels == (one,)
    assert cells(store, "job:rate") == [1.0, 2.0]
    (part,) = store.select(named("ALERTS"), 0, 9000).parts
    assert is_stale(part.cells_in(0, 2)[:, 0]).tolist() == [False, True]


def test_rules_that_give_the_same_series_again_or_in_another_order() -> None:
    store, group = Store(), Source("rules", "file;group")
    one, two = ((("__name__", "m"), ("a", name)) for name in "12")
    for at_ms, batch in enumerate(
        [[(one, 1.0), (two, 2.0)], [(one, 3.0), (two, 4.0)], [(two, 6.0), (one, 5.0)], []]
    ):
        assert store.append_rule_samples(group, at_ms, batch)
    selection = store.select(named("m"), 0, 9000)
    (part,) = selection.parts
    assert selection.series.labels == (one, two)
    assert part.cells_in(0, 3).tolist() == [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
    assert is_stale(part.cells_in(3, 4)).all()


def test_a_source_that_is_taken_out_of_the_configuration_ends() -> None:
    store = Store()
    store.append(snapshot(1000, LOAD, 1.0))
    store.end_source(NODE, 1500)
    (part,) = store.select(named("up"), 0, 9000).parts
    assert is_stale(part.cells_in(0, 2)[:, 0]).tolist() == [False, True]
    assert NODE not in store.sources()


def test_remote_samples_come_in_pieces() -> None:
    store = Store()
    a = (("__name__", "a"), ("instance", "i"), ("job", "j"))
    b = (("__name__", "b"), ("instance", "i"), ("job", "j"))
    assert store.write([(a, 1000, 1.0)]) == 1
    assert store.write([(b, 1000, 2.0)]) == 1
    assert store.write([(a, 2000, 3.0), (b, 2000, STALE)]) == 2
    assert store.write([(a, 2000, 3.0)]) == 1  # sent again
    assert store.write([(a, 2000, 4.0), (a, 1000, 9.0), (b, 1500, 5.0)]) == 0
    assert cells(store, "a") == [1.0, 3.0]
    assert store.stats().refused == {"out_of_order": 2, "duplicate": 1}
    assert store.stats().samples == 3


@pytest.mark.parametrize("delta_ms", [-HOUR_MS, HOUR_MS])
def test_a_step_of_the_wall_clock_moves_what_is_stored(delta_ms: int) -> None:
    store = Store()
    for at in (10, 20, 30):
        store.append(snapshot(10 * HOUR_MS + at, LOAD, float(at)))
    store.shift_clock(delta_ms, 10 * HOUR_MS + 35 + delta_ms)
    assert store.append(snapshot(10 * HOUR_MS + 40 + delta_ms, LOAD, 40.0))
    (part,) = store.select(named("node_load1"), 0, 10**15).parts
    assert (part.times - 10 * HOUR_MS - delta_ms).tolist() == [10, 20, 30, 40]
    assert cells(store, "node_load1") == [10.0, 20.0, 30.0, 40.0]


def test_only_series_with_a_sample_in_the_interval_are_listed() -> None:
    store = Store()
    store.append(snapshot(1000, layout(("a", ())), 1.0))
    store.append(snapshot(2000, layout(("b", ())), 1.0))
    everything = ((Matcher("__name__", MatchOp.REGEX, "a|b"),),)

    def names(t0: int, t1: int) -> list[str]:
        return [dict(one)["__name__"] for one in store.series(everything, t0, t1)]

    assert names(0, 999) == []
    assert names(0, 1000) == ["a"]
    assert names(1001, 3000) == ["b"]
    assert names(0, 3000) == ["a", "b"]


def test_labels_are_those_of_series_with_a_sample_in_the_interval() -> None:
    store = Store()
    store.append(snapshot(1000, layout(("m", (("a", "1"),))), 1.0))
    for at_ms in range(2000, 302_000, 1000):  # more columns than are looked at in one go
        store.append(snapshot(at_ms, layout(("m", (("b", "2"),))), 1.0))
    chosen = ((Matcher("__name__", MatchOp.EQUAL, "m"),),)
    target = {"__name__", "instance", "job"}
    for _ in range(2):
        assert store.label_names(chosen, 0, 400_000) == target | {"a", "b"}
        assert store.label_names(chosen, 0, 1999) == target | {"a"}
        assert store.label_values("b", chosen, 0, 400_000) == {"2"}
        assert store.label_values("a", chosen, 2000, 400_000) == set()
        assert store.label_values("none", chosen, 0, 400_000) == set()
    store.append(snapshot(302_000, layout(("m", (("b", "3"),))), 1.0))
    assert store.label_values("b", chosen, 0, 400_000) == {"2", "3"}


def pattern(text: str) -> tuple[tuple[Matcher, ...], ...]:
    return ((Matcher("__name__", MatchOp.REGEX, text),),)


def differs(**others: str) -> tuple[tuple[Matcher, ...], ...]:
    return (tuple(Matcher(name, MatchOp.NOT_EQUAL, text) for name, text in others.items()),)


EQUAL = tuple((Matcher("extra", MatchOp.EQUAL, ""), *one) for m in "123" for one in named(f"m{m}"))


@pytest.mark.parametrize(
    "chosen", [pattern("m[1-3]"), differs(__name__="m9", job="x"), EQUAL], ids=["=~", "!=", "="]
)
def test_series_are_looked_for_while_others_use_the_store(
    chosen: tuple[tuple[Matcher, ...], ...],
) -> None:
    """And what they change in the meantime counts."""
    store, asked = Store(), []
    store.append(replace(snapshot(1000, layout(("m1", ()), ("m2", ())), 1, 2), report=False))

    def check() -> None:
        asked.append(True)
        if len(asked) == 1:
            form = layout(("m2", ()), ("m3", ()))
            late = replace(snapshot(2000, form, 3, 4), report=False)
            other = threading.Thread(target=store.append, args=[late])
            other.start()
            other.join(10)
            assert not other.is_alive()

    selection = store.select(chosen, 0, 3000, check)
    names = [dict(one)["__name__"] for one in selection.series.labels]
    assert names == ["m1", "m2", "m3"]
    assert [cells(store, name)[-1] for name in names][1:] == [3, 4]
    asked_so_far = len(asked)
    store.select(chosen, 0, 3000, check)
    assert len(asked) == asked_so_far  # what was found is known


def test_a_search_ends_though_series_come_all_the_time() -> None:
    """Nobody waits for it, and it misses none that was there before."""
    store, numbers = Store(), iter(range(1, 1000))
    store.append(snapshot(1000, layout(("m0", ())), 0))

    def check() -> None:
        number = next(numbers)
        store.append(snapshot(1000 + number, layout(("m0", ()), (f"m{number}", ())), 0, 1))

    found = store.select(differs(__name__="x", a="1"), 0, 3000, check).series.labels
    assert "m0" in {dict(one)["__name__"] for one in found}
    assert next(numbers) < 100


@pytest.mark.parametrize("chosen", [pattern("m.*"), differs(a="1"), named("m", job="node")])
def test_a_selection_ends_when_its_time_is_over(chosen: tuple[tuple[Matcher, ...], ...]) -> None:
    store = Store()
    store.append(snapshot(1000, layout(("m", ())), 1))

    def over() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        store.select(chosen, 0, 3000, over)
    assert len(store.select((*chosen, *named("m")), 0, 3000).series) >= 1
