"""Samples of any age in any order, with seals, restarts and kills between, against a dict.

What was acknowledged can be queried, at once and ever after; what was not is counted, by reason.
"""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from support.archives import DAY_MS, Kept, cells_of
from support.examples import examples
from support.small_disk import small_disk
from tocsin_alerting.promql.engine import QueryEngine
from tocsin_alerting.promql.result import InstantVector, Matrix
from tocsin_alerting.tsdb.backlog import Backlogged
from tocsin_alerting.tsdb.block_store import BlockStore
from tocsin_alerting.tsdb.disk_persistence import DiskPersistence, WriterIntervals
from tocsin_alerting.tsdb.head.columns import BLOCK_COLUMNS
from tocsin_alerting.tsdb.head.request_samples import WriteResult
from tocsin_alerting.tsdb.head.snapshot import HeadSnapshot
from tocsin_alerting.tsdb.matchers import Matcher, MatchOp
from tocsin_alerting.tsdb.store import HOUR_MS, Store
from tocsin_alerting.tsdb.values import ABSENT_BITS
from tocsin_exporter.snapshot import Family, Labels, Layout, Series, Snapshot, Source, labels

NOW_MS = 1_700_000_000_000
MINUTE_MS = 60_000
LOOK_BACK_MS = 300_000
EVERY = ((Matcher("__name__", MatchOp.EQUAL, "m"),),)
OWN = Source("node", "box")
FORM = Layout((Series(Family("m", "gauge", ""), "m", labels(s="own")),))
Sample = tuple[str, int, float]

names = st.sampled_from("abcdef")
ages = st.integers(0, 48 * 60)  # minutes
bag = st.lists(st.tuples(names, ages, st.integers(0, 2)), min_size=1, max_size=20)
# Whole series, one after the other; or all series at each time.
block = st.tuples(st.sets(names, min_size=1), ages, st.integers(1, 400), st.booleans())
event = st.sampled_from(["seal", "early", "turn", "hour", "kill", "stop", "own"])
script = st.lists(st.one_of(bag, block, event), max_size=16)


def series(name: str) -> Labels:
    instance = "i" if name < "d" else "k"
    return (("__name__", "m"), ("instance", instance), ("job", "j"), ("s", name))


@dataclass
class Run:
    """A store, and what a dict says must be in it; "own" is what the agent itself appends."""

    kept: Kept
    now_ms: int = NOW_MS
    samples: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)

    def write(self, batch: list[Sample]) -> None:
        expected = Counter(self._take(*sample) for sample in batch)
        found = write(self.kept.store, batch, self.now_ms)
        assert found.accepted == expected.pop("taken", 0)
        assert Counter(found.refused) == expected

    def _take(self, name: str, at_ms: int, value: float) -> str:
        known = self.samples.setdefault(name, [])
        if known and at_ms < known[-1][0]:
            return "out_of_order"
        if known and at_ms == known[-1][0]:
            return "taken" if value == known[-1][1] else "duplicate"
        known.append((at_ms, value))
        return "taken"

    def block(self, chosen: set[str], age: int, count: int, in_time: bool) -> None:
        times = [self.now_ms - (age - at) * MINUTE_MS for at in range(min(count, age + 1))]
        batch = [(name, at_ms, float(at_ms % 97)) for name in sorted(chosen) for at_ms in times]
        if in_time:
            batch.sort(key=lambda sample: sample[1])
        for start in range(0, len(batch), 150):
            self.write(batch[start : start + 150])

    def bag(self, found: list[tuple[str, int, int]]) -> None:
        self.write([(name, self.now_ms - age * MINUTE_MS, float(v)) for name, age, v in found])

    def event(self, what: str) -> None:
        disk, store = self.kept.disk, self.kept.store
        if what in ("seal", "early"):
            disk.flush()
            disk.seal(self.now_ms - 60_000, early=what == "early")
            store.expire(self.now_ms)
        elif what == "turn":
            disk.tick()
        elif what == "hour":
            self.now_ms += HOUR_MS
            store.expire(self.now_ms)
            disk.tick()
        elif what == "own":
            self.now_ms += 15_000
            store.append(Snapshot(OWN, self.now_ms, True, FORM, np.array([1.0])))
            self.samples.setdefault("own", []).append((self.now_ms, 1.0))
        elif what == "stop":
            disk.close()
            self.kept = self.kept.again()
        else:  # what was acknowledged is in the log by then
            disk.flush()
            self.kept = self.kept.again()

    def check(self) -> None:
        found = {
            name: [one for one in zip(*cells, strict=True) if one[1] != ABSENT_BITS]
            for name, cells in cells_of(self.kept.store.select(EVERY, 0, 10**15)).items()
        }
        told = {name: known for name, known in self.samples.items() if known}
        assert {name: [at for at, _ in cells] for name, cells in found.items()} == {
            name: [at for at, _ in known] for name, known in told.items()
        }
        for name, cells in found.items():
            values = np.array([bits for _, bits in cells], np.int64).view(np.float64).tolist()
            assert values == [value for _, value in told[name]]

    def check_queries(self, age: int) -> None:
        """An instant query, and a range query over a day around it."""
        at_ms = self.now_ms - age * MINUTE_MS
        engine = QueryEngine(self.kept.store)
        vector = engine.evaluate("m", at_ms).value
        assert isinstance(vector, InstantVector)
        assert _by_name(vector) == self._seen(at_ms)
        axis = range(at_ms - DAY_MS // 2, at_ms + DAY_MS // 2, 37 * MINUTE_MS)
        matrix = engine.evaluate_range("m", axis.start, axis[-1], axis.step).value
        assert isinstance(matrix, Matrix)
        seen = {at: self._seen(at) for at in axis}
        drawn: dict[int, dict[str, float]] = {at: {} for at in axis}
        for track in matrix:
            for at, value in zip(track.times.tolist(), track.values.tolist(), strict=True):
                drawn[at][dict(track.labels)["s"]] = value
        assert drawn == seen

    def _seen(self, at_ms: int) -> dict[str, float]:
        seen = {}
        for name, known in self.samples.items():
            for when, value in known:
                if at_ms - LOOK_BACK_MS < when <= at_ms:
                    seen[name] = value
        return seen


def _by_name(vector: InstantVector) -> dict[str, float]:
    names = [dict(one)["s"] for one in vector.labels]
    return dict(zip(names, vector.values.tolist(), strict=True))


def write(store: Store, batch: list[Sample], now_ms: int) -> WriteResult:
    while True:
        epoch, numbers = store.register([series(name) for name, _, _ in batch])
        times = np.array([at_ms for _, at_ms, _ in batch], np.int64)
        values = np.array([value for _, _, value in batch])
        found = store.write_refs(epoch, numbers, times, values, now_ms)
        if found is not None:
            return found


YOUNGER_THAN_ITS_BLOCK = [({"d"}, 128, 39, False), "seal", ({"d", "e", "f"}, 89, 90, False)]


@settings(deadline=None, max_examples=examples(150))
@example(what=YOUNGER_THAN_ITS_BLOCK, age=0)
@given(script, ages)
def test_any_order_and_any_age_is_what_a_dict_says(what: list[object], age: int) -> None:
    with TemporaryDirectory() as directory:
        run = Run(Kept(Path(directory)))
        try:
            for one in what:
                if isinstance(one, str):
                    run.event(one)
                elif isinstance(one, tuple):
                    run.block(*one)
                elif isinstance(one, list):
                    run.bag(one)
                run.check()
            run.check_queries(age)
            run.event("stop")
            run.check()
            run.check_queries(age)
        finally:
            run.kept.disk.abandon_wal()


@pytest.mark.parametrize("count", [3, 10])
def test_a_request_may_drive_sealed_columns_out_whose_series_it_has_too(
    tmp_path: Path, count: int
) -> None:
    run = Run(Kept(tmp_path, memory_ms=MINUTE_MS))
    for second in range(BLOCK_COLUMNS):
        run.write([(name, NOW_MS + 1000 * second, 1.0) for name in ("ab" if not second else "a")])
    run.kept.disk.flush()
    run.kept.disk.seal(NOW_MS + 1000 * BLOCK_COLUMNS)
    times = [NOW_MS + 1000 * (BLOCK_COLUMNS + 40 * at) for at in range(1, count + 1)]
    run.write([("a", at, 2.0) for at in times] + [("b", at, 3.0) for at in times[-1:]])
    run.write([("c", times[-1] + 1000, 4.0), ("a", times[-1] + 1000, 5.0)])
    run.check()
    run.event("kill")
    run.check()
    run.kept.disk.abandon_wal()


@pytest.mark.parametrize("in_time", [True, False])
def test_two_days_of_history_are_kept_whatever_their_order(tmp_path: Path, in_time: bool) -> None:
    """Sealed as they come, so that memory holds no more than an hour or two of them."""
    run = Run(Kept(tmp_path))
    run.event("own")
    for age in range(48 * 60, 0, -480):
        run.block(set("abcdef"), age, 480, in_time)
        run.event("early")
    run.check()
    assert run.kept.store.stats().samples < 6 * 480 + 100
    for what in ("kill", "hour", "stop", "hour", "hour"):
        run.event(what)
        run.check()
    run.check_queries(30 * 60)
    run.kept.disk.abandon_wal()


def test_series_are_listed_by_metric_and_then_by_their_labels(tmp_path: Path) -> None:
    """Whichever of them are asked for, and in whatever order they came."""
    kept = Kept(tmp_path)
    found = [
        (("__name__", metric), ("a", value), ("instance", instance), ("job", "j"))
        for metric in ("n", "m")
        for value in ("2", "10", "1")
        for instance in ("k", "i")
    ]
    for at, one in enumerate(found):
        kept.store.write([(one, NOW_MS + at * 1000, 1.0)])
    job = ((Matcher("job", MatchOp.EQUAL, "j"),),)
    for _ in range(2):
        assert kept.store.series(job, 0, 10**15) == sorted(found)
        some = kept.store.series(job, NOW_MS + 3000, NOW_MS + 8000)
        assert some == sorted(found[3:9])
    kept.disk.abandon_wal()


def test_much_that_is_late_is_sealed_before_the_hour(tmp_path: Path) -> None:
    run = Run(Kept(tmp_path, early=1000))
    run.block(set("abc"), 40 * 60, 300, False)
    run.kept.disk.flush()
    assert not run.kept.block_files
    run.block(set("def"), 40 * 60, 300, False)
    run.kept.disk.flush()
    assert run.kept.block_files and run.kept.store.backlog.samples == 0
    run.check()
    run.kept.disk.abandon_wal()


def test_more_than_the_disk_takes_is_not_acknowledged(tmp_path: Path) -> None:
    kept = Kept(tmp_path, most_backlog=2)
    late = [("a", NOW_MS - (3 - at) * HOUR_MS, 1.0) for at in range(3)]
    assert write(kept.store, late[:2], NOW_MS).accepted == 2
    with pytest.raises(Backlogged):
        write(kept.store, [*late, ("b", NOW_MS - 2 * HOUR_MS, 1.0)], NOW_MS)
    assert write(kept.store, [("a", NOW_MS, 1.0)], NOW_MS).accepted == 1
    kept.disk.seal(NOW_MS - 60_000, early=True)
    assert write(kept.store, [("b", NOW_MS - 2 * HOUR_MS, 1.0)], NOW_MS).accepted == 1
    kept.disk.abandon_wal()


def test_without_the_disk_only_what_memory_keeps_is_acknowledged(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        run = Run(Kept(disk.path / "samples"))
        run.block({"a"}, 40 * 60, 100, True)
        disk.fill()
        run.kept.disk.abandon_wal()
        old = write(run.kept.store, [("d", NOW_MS - 4 * HOUR_MS, 1.0)], NOW_MS)
        assert (old.accepted, old.refused) == (0, {"too_old": 1})
        run.write([("e", NOW_MS - 2 * HOUR_MS, 1.0)])
        for minutes in range(0, 170, 10):
            run.kept.store.expire(NOW_MS + minutes * MINUTE_MS)
        run.check()  # what was acknowledged before the disk was full waits for it, too
        disk.free()
        for _ in range(WriterIntervals().ticks_per_retry):
            run.kept.disk.tick()
        run.event("kill")
        run.check()
        run.kept.disk.abandon_wal()


class Busy(Store):
    """Something is written whenever it was asked what it holds."""

    meanwhile: Callable[[], None] | None = None

    def snapshot(self, close_before_ms: int | None = None, early: bool = False) -> HeadSnapshot:
        stock = super().snapshot(close_before_ms, early)
        if self.meanwhile is not None:
            self.meanwhile()
        return stock


def test_an_acknowledgement_waits_for_the_log_and_for_nothing_else(tmp_path: Path) -> None:
    """Also while a segment or a new log is being written."""
    blocks = BlockStore(tmp_path, 15 * DAY_MS, 2**30)
    disk = DiskPersistence(tmp_path, blocks)
    store = Busy(persistence=disk)
    disk.start(store)
    run = Run(Kept(tmp_path / "unused"))
    run.kept.disk.abandon_wal()
    run.kept.disk, run.kept.store, run.kept.directory = disk, store, tmp_path
    run.block(set("abc"), 40 * 60, 300, False)
    asked = run.kept.disk.logged()
    assert not asked.done()
    run.kept.disk.flush()
    assert asked.done()
    seen: list[Future[None]] = []

    def meanwhile() -> None:
        run.write([("f", run.now_ms + len(seen), 1.0)])
        seen.append(disk.logged())

    store.meanwhile = meanwhile
    run.kept.disk.seal(run.now_ms - HOUR_MS)
    assert len(seen) == 2 and all(one.done() for one in seen)
    run.kept = run.kept.again()
    run.check()
    run.kept.disk.abandon_wal()
    assert run.kept.disk.logged().done() is False
    run.kept.disk.tick()  # without a disk nobody waits
    assert not run.kept.disk._wal._next_logged
