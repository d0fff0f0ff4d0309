"""Loose series on disk, by example: restart, damage, the clock, what a query reads."""

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from support.archives import Kept, cells_of
from tocsin_alerting.promql.engine import QueryEngine
from tocsin_alerting.promql.result import InstantVector
from tocsin_alerting.tsdb.block.unaligned import UnalignedSection
from tocsin_alerting.tsdb.head.sorted_run import RunState, concatenated
from tocsin_alerting.tsdb.head.unaligned import UnalignedHead
from tocsin_alerting.tsdb.matchers import Matcher, MatchOp
from tocsin_alerting.tsdb.series_index import NO_LIMIT, SeriesIndex
from tocsin_alerting.tsdb.source_health import LastSeen
from tocsin_alerting.tsdb.store import HOUR_MS
from tocsin_alerting.tsdb.values import ABSENT_BITS, NEVER_MS, STALE_BITS, Floats, Ints
from tocsin_exporter.snapshot import Labels, Source

EVERY = ((Matcher("__name__", MatchOp.EQUAL, "m"),),)
START_MS = 1_700_000_000_000 // HOUR_MS * HOUR_MS
STEP_MS = 15_000
END_OF_TIME = 10**15
FAR = Source("j", "i")
COUNT = 40
STALE = float(np.array([STALE_BITS], np.int64).view(np.float64)[0])


def series(name: object, metric: str = "m") -> Labels:
    return (("__name__", metric), ("instance", "i"), ("job", "j"), ("s", str(name)))


def own_time(name: int, turn: int) -> int:
    """Other times for each series, in another order in each turn."""
    return START_MS + turn * STEP_MS + (name * 7 + turn) % COUNT * 300


def hours(kept: Kept, first: int, last: int, names: Iterable[int] = range(COUNT)) -> None:
    """Samples of these hours after START_MS; each hour is sealed when it is over."""
    for turn in range(first * 240, last * 240):
        batch = [(series(name), own_time(name, turn), float(turn)) for name in names]
        kept.store.write(batch[::2])
        kept.store.write(batch[1::2])
        if turn % 240 == 4:
            kept.store.expire(START_MS + turn * STEP_MS)
            kept.disk.tick()
    kept.disk.tick()


def samples_of(kept: Kept, name: int, t0_ms: int = 0) -> list[tuple[int, float]]:
    times, bits = cells_of(kept.store.select(EVERY, t0_ms, END_OF_TIME)).get(str(name), ([], []))
    here = [one for one in zip(times, bits, strict=True) if one[1] != ABSENT_BITS]
    return [(at, float(np.int64(bit).view(np.float64))) for at, bit in here]


def told(name: int, first: int, last: int) -> list[tuple[int, float]]:
    return [(own_time(name, turn), float(turn)) for turn in range(first * 240, last * 240)]


def test_a_restart_brings_back_what_was_sealed_and_what_was_not(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    hours(kept, 0, 5)
    for _ in range(2):
        for name in (0, 17, COUNT - 1):
            assert samples_of(kept, name) == told(name, 0, 5)
        found = QueryEngine(kept.store).evaluate("count(m)", START_MS + 5 * HOUR_MS).value
        assert isinstance(found, InstantVector) and found.values.tolist() == [COUNT]
        kept = kept.again()
    kept.disk.abandon_wal()


def test_memory_keeps_its_span_and_a_query_of_that_reads_no_segment(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    hours(kept, 0, 5)
    assert kept.store.stats().samples < 2.5 * 240 * COUNT
    for path in kept.block_files:
        path.unlink()
    since_ms = START_MS + 4 * HOUR_MS
    recent = [one for one in samples_of(kept, 3, since_ms) if one[0] >= since_ms]
    assert recent == [one for one in told(3, 0, 5) if one[0] >= since_ms]
    kept.disk.abandon_wal()


def test_a_series_with_a_sheaf_and_columns_is_one_series(tmp_path: Path) -> None:
    """In columns first, then loose, then silent until it is forgotten, then in columns again."""
    kept = Kept(tmp_path)
    axis = [series(name) for name in range(COUNT)]
    expected = []

    def aligned(first: int, last: int) -> None:
        for turn in range(first, last):
            at_ms = START_MS + turn * STEP_MS
            kept.store.write([(one, at_ms, float(turn)) for one in axis])
            expected.append((at_ms, float(turn)))
            if turn % 240 == 4:
                kept.store.expire(at_ms)
                kept.disk.tick()

    aligned(0, 200)
    hours(kept, 1, 2)
    expected += told(5, 1, 2)
    for turn in range(480, 480 + 4 * 240):
        at_ms = START_MS + turn * STEP_MS
        kept.store.write([(series("another"), at_ms, 1.0)])
        if turn % 240 == 4:
            kept.store.expire(at_ms)
            kept.disk.tick()
    assert kept.store.stats().unaligned == 1  # the other one
    aligned(6 * 240, 6 * 240 + 100)
    assert samples_of(kept, 5) == expected
    kept.disk.close()
    kept = kept.again()
    assert samples_of(kept, 5) == expected
    kept.disk.abandon_wal()


def test_a_damaged_bundle_of_pairs_costs_its_own_samples(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = Kept(tmp_path)
    hours(kept, 0, 5)
    kept.disk.close()
    kept = kept.again()
    victim = kept.block_files[1]
    (sheaf,) = [one for one in kept.blocks._blocks[1].sections if isinstance(one, UnalignedSection)]
    data = bytearray(victim.read_bytes())
    data[int(sheaf.chunks[0, 0]) + 9] ^= 1
    victim.write_bytes(data)
    lost = [name for name in range(COUNT) if samples_of(kept, name) != told(name, 0, 5)]
    assert lost
    for name in lost:
        left = [one for one in told(name, 0, 5) if not sheaf.first_ms <= one[0] <= sheaf.last_ms]
        assert set(left) <= set(samples_of(kept, name))
    assert caplog.text.count("serving the rest of it") == 1
    kept.disk.abandon_wal()


def test_any_cut_of_the_log_leaves_what_came_before(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    hours(kept, 0, 1, range(20))
    kept.disk.abandon_wal()
    whole, last = kept.wal.read_bytes(), -1
    for size in range(len(whole) // 4, len(whole), len(whole) // 9):
        kept.wal.write_bytes(whole[:size])
        again = kept.again()
        found = [samples_of(again, name) for name in range(20)]
        assert found == [told(name, 0, 1)[: len(one)] for name, one in enumerate(found)]
        assert (count := sum(map(len, found))) > last
        last = count
        again.disk.abandon_wal()


@pytest.mark.parametrize("delta_ms", [-HOUR_MS, -10 * 60_000, HOUR_MS])
def test_the_wall_clock_moves_what_is_not_sealed(tmp_path: Path, delta_ms: int) -> None:
    kept = Kept(tmp_path)
    hours(kept, 0, 3)
    sealed_ms = kept.blocks.newest_unaligned_ms()
    assert sealed_ms is not None
    before = samples_of(kept, 3)
    now_ms = START_MS + 3 * HOUR_MS + delta_ms
    kept.store.shift_clock(delta_ms, now_ms)
    moved = [(at + delta_ms, value) for at, value in before if at > sealed_ms]
    stays = [one for one in before if one[0] <= sealed_ms and one[0] < moved[0][0]]
    for _ in range(3):
        assert samples_of(kept, 3) == stays + moved
        kept.disk.tick()
        kept = kept.again()
    assert kept.store.write([(series(3), now_ms + 1, -1.0)]) == 1
    assert samples_of(kept, 3) == [*stays, *moved, (now_ms + 1, -1.0)]
    kept.disk.abandon_wal()


@pytest.mark.parametrize("off_ms", [0, -7])
@pytest.mark.parametrize(("value", "last"), [(1.0, True), (0.0, False), (STALE, None)])
def test_a_restart_knows_what_a_remote_source_said_last(
    tmp_path: Path, off_ms: int, value: float, last: bool | None
) -> None:
    kept = Kept(tmp_path)
    up = series("", metric="up")
    kept.store.write([(series("m"), START_MS, 1.0), (up, START_MS, 1.0)])
    kept.store.write([(series("m"), START_MS + 1000, STALE if math.isnan(value) else 1.0)])
    kept.store.write([(up, START_MS + 1000 + off_ms, value)])
    expected = None if last is None else LastSeen(START_MS + 1000, last)
    for _ in range(2):
        assert kept.store.last_seen(FAR) == expected
        kept.disk.tick()
        kept = kept.again()
    kept.disk.abandon_wal()


def test_memory_lets_go_of_a_series_from_its_oldest_sample_on() -> None:
    """Or a query would miss those between: it reads segments up to the first sample in memory."""
    loose = UnalignedHead(SeriesIndex(NO_LIMIT, lambda: None))
    late, current = (loose.index.ensure(series(name)) for name in ("late", "current"))

    def sealed(row: int, *times: int) -> tuple[Ints, Ints, Floats]:
        return np.full(len(times), row), np.array(times, np.int64), np.zeros(len(times))

    mixed = zip(sealed(late, *range(40)), sealed(current, *range(1000, 1060)), strict=True)
    rows, times, values = (np.concatenate(pair) for pair in mixed)
    loose.restore(rows, times, values, RunState.SEALED)
    loose.restore(*sealed(late, *range(40, 50)), RunState.SEALED)
    loose.restore(*sealed(late, *range(1000, 1003)), RunState.SEALED)
    assert loose.expire(500, NEVER_MS)
    found = concatenated(loose.runs.find(np.array([late]), 0, END_OF_TIME))
    assert found.times.tolist() == [1000, 1001, 1002]
    assert loose.begins_ms == 50


def test_a_source_that_was_silent_does_not_begin_before_what_is_sealed(tmp_path: Path) -> None:
    """Memory no longer knows its samples, and columns from then on would hide those sealed."""
    kept = Kept(tmp_path)
    for turn in range(10):
        kept.store.write([(series(s), START_MS + turn * STEP_MS, float(turn)) for s in range(4)])
    for _ in range(2):
        kept.store.expire(START_MS + 2 * HOUR_MS)
        kept.disk.tick()
    kept.store.expire(START_MS + 2 * HOUR_MS)
    assert kept.store.stats().series == 0 and kept.block_files
    for _ in range(2):
        assert kept.store.write([(series(s), START_MS + 4 * STEP_MS, 7.0) for s in range(4)]) == 0
        assert kept.store.write([(series(0), START_MS + 9 * STEP_MS, 7.0)]) == 0
        assert sum(kept.store.stats().refused.values()) == 5
        times, cells = cells_of(kept.store.select(EVERY, 0, END_OF_TIME))["0"]
        assert times == [START_MS + turn * STEP_MS for turn in range(10)]
        assert np.array(cells).view(np.float64).tolist() == list(range(10))
        kept = kept.again()
    assert kept.store.write([(series(0), START_MS + 10 * STEP_MS, 7.0)]) == 1
    assert len(samples_of(kept, 0)) == 11
    kept.disk.abandon_wal()


def test_a_series_whose_pairs_were_dropped_is_still_older_in_its_columns(tmp_path: Path) -> None:
    """What it sends next is measured by its newest sample, not by the newest in columns."""
    kept = Kept(tmp_path)
    for turn in range(30):
        kept.store.write([(series(s), START_MS + turn * STEP_MS, float(turn)) for s in range(4)])
    for at in (40, 50):
        kept.store.write([(series(0), START_MS + at * STEP_MS + 1, 1.0)])
    for minute in range(20, 121):
        kept.store.write([(series(s), START_MS + minute * 60_000, 1.0) for s in (1, 2, 3)])
    for _ in range(2):
        kept.store.expire(START_MS + 2 * HOUR_MS)
        kept.disk.tick()
    kept.store.expire(START_MS + 2 * HOUR_MS)
    before = samples_of(kept, 0)
    assert kept.store.stats().unaligned == 0 and len(before) == 32
    assert kept.store.write([(series(0), START_MS + 45 * STEP_MS, 7.0)]) == 0
    assert kept.store.stats().refused == {"out_of_order": 1}
    assert samples_of(kept, 0) == before
    kept.disk.abandon_wal()
