"""Remote writers, by example and against a naive Prometheus: what is taken, and what is refused."""

import math
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.archives import cells_of
from support.examples import examples
from tocsin_alerting.tsdb.head.columns import BLOCK_COLUMNS
from tocsin_alerting.tsdb.matchers import Matcher, MatchOp
from tocsin_alerting.tsdb.source_health import MOST_ENDED, LastSeen, SourceHealth
from tocsin_alerting.tsdb.store import HOUR_MS, Store
from tocsin_alerting.tsdb.values import ABSENT_BITS, STALE_BITS, Ints
from tocsin_exporter.snapshot import Family, Labels, Layout, Series, Snapshot, Source, labels

EVERY = ((Matcher("__name__", MatchOp.EQUAL, "m"),),)
NOW_MS = 1_700_000_000_000
STALE = float(np.array([STALE_BITS], np.int64).view(np.float64)[0])
FAR = Source("j", "i")

values = st.sampled_from([0.0, 1.0, 2.5, math.inf])
# Scrapes as a request has them: seconds since the one before, and the series that are in it.
members = st.sets(st.integers(0, 5), min_size=1)
scrapes = st.lists(st.tuples(st.sampled_from([1, 1, 1, 40, 90]), members), max_size=20)
steady = st.tuples(
    st.integers(1, BLOCK_COLUMNS + 5), members
)  # so many requests of one scrape each
# One round: how the samples of each of some writers lie on the time axis.
styles = st.sampled_from(["together", "scattered", "late", "nothing"])
rounds = st.tuples(
    st.lists(styles, min_size=2, max_size=2),
    st.lists(st.tuples(st.integers(0, 39), st.integers(-20, 20), values), max_size=60),
    st.integers(0, 15),
)


def series(name: object, source: Source = FAR, metric: str = "m") -> Labels:
    target = {"job": source.job, "instance": source.instance}
    return tuple(sorted({"__name__": metric, "s": str(name), **target}.items()))


class Prometheus:
    """What one takes of samples in their order, and what it says of the others."""

    def __init__(self) -> None:
        self.samples: dict[Labels, list[tuple[int, float]]] = {}
        self.refused: Counter[str] = Counter()

    def write(self, labels: Labels, at_ms: int, value: float) -> bool:
        known = self.samples.setdefault(labels, [])
        if not known or at_ms > known[-1][0]:
            known.append((at_ms, value))
        elif at_ms < known[-1][0]:
            self.refused["out_of_order"] += 1
            return False
        elif value != known[-1][1]:
            self.refused["duplicate"] += 1
            return False
        return True


def test_a_scrape_that_comes_over_several_connections_is_no_reason_to_leave_the_columns() -> None:
    """Each has a quarter of the series and sends when 2,000 samples wait, so one is ahead."""
    store, numbers = Store(), range(5000)
    streams = [
        [(series(one), at_ms, 1.0) for at_ms in range(1000, 9000, 1000) for one in numbers[at::4]]
        for at in range(4)
    ]
    for begin in range(0, len(streams[0]), 2000):
        for stream in streams:
            some = stream[begin : begin + 2000]
            assert store.write(some) == len(some)
    assert (store.stats().samples, store.stats().unaligned) == (40_000, 0)


def _known(count: int) -> tuple[Store, int, Ints]:
    """A store in which so many series have columns up to NOW_MS."""
    store = Store()
    epoch, numbers = store.register([series(one) for one in range(count)])
    for at_ms in (NOW_MS - 1000, NOW_MS):
        times = np.full(count, at_ms)
        assert store.write_refs(epoch, numbers, times, np.ones(count), NOW_MS) is not None
    return store, epoch, numbers


@pytest.mark.parametrize(("off_ms", "why"), [(700_000, "too_far_ahead"), (-7_200_000, "too_old")])
def test_a_scrape_of_another_time_is_refused_as_a_whole_or_in_part(off_ms: int, why: str) -> None:
    store, epoch, numbers = _known(4)
    times = np.array([NOW_MS + 5, NOW_MS + 5, NOW_MS + off_ms, NOW_MS + off_ms])
    for some in ([2, 3], [0, 1, 2, 3]):
        written = store.write_refs(epoch, numbers[some], times[some], np.ones(len(some)), NOW_MS)
        assert written is not None
        assert (written.accepted, written.refused) == (len(some) - 2, {why: 2})
        assert written.first_refused == (len(some) - 2, why)


def test_several_scrapes_in_a_request_of_which_the_last_is_odd() -> None:
    store, epoch, numbers = _known(2)
    times = NOW_MS + np.array([1, 2, 3, 3])
    values = np.array([1.0, 2.0, 3.0, 4.0])
    written = store.write_refs(epoch, numbers[[0, 0, 0, 0]], times, values, NOW_MS)
    assert written is not None
    assert (written.accepted, written.refused) == (3, {"duplicate": 1})
    assert written.first_refused == (3, "duplicate")


def test_what_the_agent_begins_to_append_is_nothing_to_writers_of_other_sources() -> None:
    store, epoch, numbers = _known(2)
    form = Layout((Series(Family("own", "gauge", ""), "own", ()),))
    assert store.append(Snapshot(Source("node", "here"), NOW_MS, True, form, np.ones(1)))
    one, written = np.array([NOW_MS + 1]), np.ones(1)
    assert store.write_refs(epoch, numbers[:1], one, written, NOW_MS) is not None
    assert store.append(Snapshot(FAR, NOW_MS + 2, True, form, np.ones(1)))
    assert store.write_refs(epoch, numbers[:1], one, written, NOW_MS) is None


def test_a_rule_that_begins_to_record_a_series_takes_it_from_a_remote_writer() -> None:
    store, epoch, numbers = _known(2)
    assert store.append_rule_samples(Source("rules", "g"), NOW_MS + 1, [(series(0), 5.0)])
    times = np.full(2, NOW_MS + 2)
    written = store.write_refs(epoch, numbers, times, np.ones(2), NOW_MS)
    assert written is not None
    assert (written.accepted, written.refused) == (1, {"own_source": 1})


def test_the_later_scrape_first_is_no_reason_to_leave_the_columns() -> None:
    store, epoch, numbers = _known(2)
    times = NOW_MS + np.array([2, 1])
    written = store.write_refs(epoch, numbers, times, np.ones(2), NOW_MS)
    assert written is not None and written.accepted == 2
    assert store.stats().unaligned == 0


@settings(deadline=None, max_examples=examples(150))
@given(st.lists(rounds, max_size=12))
def test_what_is_taken_is_what_prometheus_takes(
    script: list[tuple[list[str], list[tuple[int, int, float]], int]],
) -> None:
    store, model = Store(retention_ms=10**12), Prometheus()
    at_ms = 1000
    for lies, samples, pause in script:
        at_ms += pause
        batch = []
        for writer, style in enumerate(lies):
            for which, off, value in samples if style != "nothing" else ():
                own_ms = at_ms if style == "together" else at_ms + off
                own_ms -= 30 if style == "late" else 0
                batch.append((series(f"{which}-{writer}", Source("j", str(writer))), own_ms, value))
        taken = sum(model.write(*sample) for sample in batch)
        assert store.write(batch) == taken
        assert store.stats().refused == model.refused
    kept = {dict(one)["s"]: told for one, told in model.samples.items() if told}
    found = {}
    for name, (times, bits) in cells_of(store.select(EVERY, 0, 10**15)).items():
        here = [one for one in zip(times, bits, strict=True) if one[1] != ABSENT_BITS]
        found[name] = [(at, float(np.int64(bit).view(np.float64))) for at, bit in here]
    assert found == kept
    assert store.stats().samples == sum(map(len, kept.values()))


def _at(start_ms: int, steps: list[tuple[int, set[int]]]) -> Iterator[tuple[Labels, int, float]]:
    for seconds, some in steps:
        start_ms += seconds * 1000
        yield from ((series(one), start_ms, float(start_ms % 89 + one)) for one in sorted(some))


@settings(deadline=None, max_examples=examples(200))
@given(st.lists(st.one_of(scrapes, steady), max_size=8))
def test_requests_over_the_border_of_a_block_are_what_prometheus_takes(
    script: list[list[tuple[int, set[int]]] | tuple[int, set[int]]],
) -> None:
    """Also where the first scrapes of one drive series out of memory that the next ones have."""
    keeps_ms = 60_000
    store, model, now_ms = Store(retention_ms=keeps_ms), Prometheus(), NOW_MS
    for one in script:
        requests = [[(1, one[1])]] * one[0] if isinstance(one, tuple) else [one]
        for steps in requests:
            batch = list(_at(now_ms, steps))
            now_ms += 1000 * sum(seconds for seconds, _ in steps)
            young = [sample for sample in batch if sample[1] >= now_ms - keeps_ms]
            assert all(model.write(*sample) for sample in young)
            assert sum(write(store, *batch, now_ms=now_ms).values()) == len(batch) - len(young)
        for labels_, known in model.samples.items():
            found = samples_of(store, dict(labels_)["s"])
            assert set(found) <= set(known)
            kept = [sample for sample in known if sample[0] >= now_ms - keeps_ms]
            assert found[len(found) - len(kept) :] == kept


def write(store: Store, *samples: tuple[Labels, int, float], now_ms: int = NOW_MS) -> Counter[str]:
    """The reasons for which samples were refused."""
    times = np.array([at_ms for _, at_ms, _ in samples], np.int64)
    cells = np.array([value for _, _, value in samples])
    written = None
    while written is None:
        epoch, numbers = store.register([one for one, _, _ in samples])
        written = store.write_refs(epoch, numbers, times, cells, now_ms)
    assert written.accepted + sum(written.refused.values()) == len(samples)
    return Counter(written.refused)


def samples_of(store: Store, name: str) -> list[tuple[int, float]]:
    times, bits = cells_of(store.select(EVERY, 0, 10**15)).get(name, ([], []))
    pairs = zip(times, np.array(bits, np.int64).view(np.float64).tolist(), strict=True)
    return [one for one in pairs if not math.isnan(one[1])]


def test_times_that_cannot_be_are_refused_with_the_reason() -> None:
    store = Store(retention_ms=HOUR_MS)
    a, b, c = (series(name) for name in "abc")
    reasons = write(
        store,
        (a, NOW_MS - HOUR_MS - 1, 1.0),
        (b, NOW_MS + 600_001, 1.0),
        (c, NOW_MS + 600_000, 1.0),
    )
    assert reasons == {"too_old": 1, "too_far_ahead": 1}
    assert store.stats().refused == reasons
    assert store.stats().samples == 1


def test_order_counts_within_a_request_too() -> None:
    store = Store()
    a = series("a")
    reasons = write(store, (a, 5, 1.0), (a, 3, 1.0), (a, 5, 1.0), (a, 5, 2.0), now_ms=10)
    assert reasons == {"out_of_order": 1, "duplicate": 1}
    assert samples_of(store, "a") == [(5, 1.0)]


def test_only_series_that_we_append_ourselves_are_taken_from_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = Store()
    form = Layout((Series(Family("m", "gauge", ""), "m", labels(s="a")),))
    store.append(Snapshot(FAR, NOW_MS, False, form, np.array([1.0])))
    up = series("", metric="up")[:3]
    for turn in range(2):
        theirs = [(series("b", Source("j", "k")), NOW_MS + turn, 1.0)]
        theirs += [(series("recorded"), NOW_MS + turn, 3.0)]  # of our target, by another evaluator
        assert write(store, (series("a"), NOW_MS + 1, 1.0), *theirs) == {"own_source": 1}
    assert write(store, (up, NOW_MS + 1, 1.0)) == {"own_source": 1}
    assert (
        caplog.text.count(f"remote write for job {FAR.job}, instance {FAR.instance} rejected") == 1
    )
    assert samples_of(store, "recorded") == [(NOW_MS, 3.0), (NOW_MS + 1, 3.0)]
    assert store.last_seen(FAR) == LastSeen(NOW_MS, False)  # nobody else says that our target lives
    recorded = (("__name__", "ours"),)
    assert write(store, (recorded, NOW_MS, 1.0)) == {}
    store.append_rule_samples(Source("rules", "g"), NOW_MS + 1, [(recorded, 2.0)])
    assert write(store, (recorded, NOW_MS + 2, 1.0)) == {"own_source": 1}
    assert write(store, (series("a", Source("rules", "g")), NOW_MS, 1.0)) == {}
    store.end_source(FAR, NOW_MS + 5)
    assert write(store, (series("a"), NOW_MS + 10, 1.0)) == {}


def test_a_sample_that_stands_there_is_no_duplicate_whatever_came_with_it() -> None:
    for step in (0, 3):  # in columns, and loose
        store, one, two = Store(), series("one"), series("two")
        write(store, (one, 1000 + step, 0.0), (two, 1000, 5.0), now_ms=2000)
        at_ms = 1000 + step
        again = [(one, at_ms, 1.0), (one, at_ms, 0.0), (one, at_ms, 1.0), (one, at_ms, 0.0)]
        assert write(store, *again, now_ms=2000) == {"duplicate": 2}
        assert samples_of(store, "one") == [(at_ms, 0.0)]


def test_a_source_with_too_many_series_has_no_place_for_more() -> None:
    store = Store(max_series_per_source=3)
    _, numbers = store.register([series(i) for i in range(5)])
    assert numbers.tolist()[:3] != [-1, -1, -1] and numbers.tolist()[3:] == [-1, -1]
    assert store.register([series(0), series(9, Source("other", ""))])[1].min() >= 0
    assert store.stats().series_refused["per_source"] == 2
    # Two of them are loose, one is in a column: the limit counts all.
    assert store.write([(series(0), 50, 1.0), (series(1), 40, 1.0), (series(2), 60, 1.0)]) == 3
    assert store.register([series(7)])[1].tolist() == [-1]


def test_a_number_is_good_as_long_as_its_series_is_kept() -> None:
    store = Store(retention_ms=10_000)
    gone, stays = series("gone"), series("stays")
    epoch, numbers = store.register([gone, stays])
    ones = np.ones(2)
    for turn in range(400):
        some = slice(0 if turn == 0 else 1, 2)
        times = np.full(2, 1000 * turn)[some]
        assert store.write_refs(epoch, numbers[some], times, ones[some], 1000 * turn)
    assert store.write_refs(epoch, numbers, np.full(2, 400_000), ones, 400_000) is None
    again, numbers = store.register([gone, stays])
    assert again != epoch
    assert store.write_refs(epoch, numbers, np.full(2, 400_000), ones, 400_000) is None
    written = store.write_refs(again, numbers, np.full(2, 400_000), ones, 400_000)
    assert written is not None and written.accepted == 2


def test_numbers_that_nobody_uses_are_given_up_in_the_end() -> None:
    store = Store()
    epoch, _ = store.register([series(i, Source("j", str(i % 50))) for i in range(20_001)])
    store.expire(NOW_MS)
    again, numbers = store.register([series(1)])
    assert again != epoch and numbers.tolist() == [0]
    store.write([(series(1), NOW_MS, 1.0)])
    store.expire(NOW_MS)
    assert store.register([series(1)]) == (again, numbers)


def test_a_loose_series_that_ends_is_forgotten_and_may_come_back() -> None:
    store = Store(retention_ms=1000)
    one, two = series("one"), series("two")
    assert store.write([(one, 100, 1.0), (two, 200, 1.0)]) == 2
    assert store.write([(one, 150, 2.0)]) == 1
    assert store.stats().unaligned == 1
    assert samples_of(store, "one") == [(100, 1.0), (150, 2.0)]
    store.expire(5000)
    assert store.stats().series == 0 and store.last_seen(FAR) is None
    assert store.write([(one, 120, 3.0)]) == 1  # there are no columns, so it opens one
    assert samples_of(store, "one") == [(120, 3.0)]


def test_a_late_sample_of_a_series_that_was_forgotten_is_too_old() -> None:
    """Who knows whether it is older than those that were dropped."""
    store = Store(retention_ms=1000)
    one, two = series("one"), series("two")
    store.write([(two, 9000, 1.0)])
    store.write([(one, 5000, 1.0)])
    assert store.stats().unaligned == 1
    store.expire(9000)
    assert store.stats().unaligned == 0
    assert store.write([(one, 4000, 1.0)]) == 0
    assert store.stats().refused == {"too_old": 1}
    assert store.write([(one, 6000, 1.0)]) == 1


@pytest.mark.parametrize("step", [0, 7])
def test_the_last_word_on_a_source_is_that_of_its_up(step: int) -> None:
    """Whether its `up` is in columns or, with a time of its own, loose."""
    store = Store()
    up = series("", metric="up")
    store.write([(series("m"), 1000, 1.0), (up, 1000 + step, 1.0)])
    assert store.last_seen(FAR) == LastSeen(1000 + step, True)
    store.write([(series("m"), 2000, 1.0), (up, 2000 + step, 0.0)])
    assert store.last_seen(FAR) == LastSeen(2000 + step, False)
    store.write([(series("m"), 2500, 1.0)])
    assert store.last_seen(FAR) == LastSeen(2500, False)
    store.write([(series("m"), 3000, 1.0), (up, 3000 + step, 1.0)])
    assert store.last_seen(FAR) == LastSeen(3000 + step, True)
    store.write([(up, 4000, STALE)])
    assert store.last_seen(FAR) is None
    store.write([(series("m"), 4000, STALE), (series("n"), 3999, 1.0)])
    assert store.last_seen(FAR) is None
    store.write([(series("m"), 5000, 1.0)])
    assert store.last_seen(FAR) == LastSeen(5000, True)


def test_no_number_of_removals_is_kept_for_ever() -> None:
    lasts = SourceHealth()
    every = [Source("j", str(number)) for number in range(MOST_ENDED + 1)]
    for at_ms, source in enumerate([every[1], *every, every[0], FAR]):
        lasts.mark_ended(source, at_ms)
    assert [source for source in (*every, FAR) if not lasts.has_ended(source)] == every[1:3]
    lasts.set(FAR, LastSeen(1, True))
    assert not lasts.has_ended(FAR)


def test_pieces_of_a_scrape_fill_one_column_whatever_their_order() -> None:
    store = Store(retention_ms=10**12)
    names = [series(i) for i in range(1000)]
    epoch, numbers = store.register(names)
    for turn in range(30):
        at_ms = NOW_MS + 15_000 * turn
        for piece in range(11):
            some = numbers[(piece + turn) % 11 :: 11]
            written = store.write_refs(
                epoch, some, np.full(len(some), at_ms), np.full(len(some), 0.5), at_ms
            )
            assert written is not None and written.accepted == len(some)
    size = store.stats()
    assert (size.unaligned, size.samples) == (0, 30_000)
    assert size.bytes < 20 * size.samples
