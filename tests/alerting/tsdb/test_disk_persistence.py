"""The persistence, by example: damage, a full disk, retention, the clock, what memory answers."""

import errno
import logging
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from support.archives import Kept, cells_of
from support.exhausted import little_memory, no_descriptors
from support.small_disk import small_disk
from tocsin_alerting.local.data_lock import DataLock, DirectoryInUse, lock_directory
from tocsin_alerting.promql.engine import QueryEngine
from tocsin_alerting.promql.result import InstantVector, Matrix
from tocsin_alerting.tsdb.block.format import END, FOOT
from tocsin_alerting.tsdb.disk_persistence import WriterIntervals
from tocsin_alerting.tsdb.files import ASIDE, UNFINISHED
from tocsin_alerting.tsdb.matchers import Matcher, MatchOp
from tocsin_alerting.tsdb.store import HOUR_MS
from tocsin_alerting.tsdb.values import is_sample
from tocsin_alerting.tsdb.wal.codec import FRAME
from tocsin_exporter.snapshot import Family, Layout, Series, Snapshot, Source, labels

NODE = Source("node", "box")
EVERY = ((Matcher("__name__", MatchOp.EQUAL, "m"),),)
ONE = ((Matcher("__name__", MatchOp.EQUAL, "m"), Matcher("s", MatchOp.EQUAL, "1")),)
START_MS = 1_700_000_000_000 // HOUR_MS * HOUR_MS
STEP_MS = 15_000
FAMILY = Family("m", "counter", "")
END_OF_TIME = 10**15
FAR_TOO_LONG = 3 << 30


def layout(*names: str) -> Layout:
    return Layout(tuple(Series(FAMILY, "m", labels(s=name)) for name in names))


TWO = layout("0", "1")


def hours(kept: Kept, first: int, last: int, form: Layout = TWO) -> None:
    """Columns of these hours after START_MS; each hour is sealed when it is over."""
    for at_ms in range(START_MS + first * HOUR_MS, START_MS + last * HOUR_MS, STEP_MS):
        turn = (at_ms - START_MS) // STEP_MS
        row = np.array([1000.0 * i + turn for i in range(len(form.series))])
        kept.store.append(Snapshot(NODE, at_ms, True, form, row))
        if at_ms % HOUR_MS == 60_000:
            kept.store.expire(at_ms)
            kept.disk.tick()
    kept.disk.tick()


def times_of(kept: Kept, name: str = "1") -> list[int]:
    """The times, in steps after START_MS, at which the series has a sample."""
    times, bits = cells_of(kept.store.select(EVERY, 0, END_OF_TIME))[name]
    held = is_sample(np.array(bits).view(np.float64))
    return [(at - START_MS) // STEP_MS for at in np.array(times)[held].tolist()]


def test_a_query_reads_what_memory_has_no_longer(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    hours(kept, 0, 5)
    engine = QueryEngine(kept.store)
    found = engine.evaluate("sum(increase(m[4h]))", START_MS + 5 * HOUR_MS - STEP_MS).value
    assert isinstance(found, InstantVector)
    assert float(found.values[0]) == pytest.approx(2 * 4 * 240)
    tracks = engine.evaluate_range("m", START_MS, START_MS + 5 * HOUR_MS - 1, 60_000).value
    assert isinstance(tracks, Matrix)
    assert [one.values.tolist() for one in tracks.series] == [
        [float(4 * i + 1000 * s) for i in range(300)] for s in range(2)
    ]
    kept.disk.abandon_wal()


def test_segments_are_searched_while_others_use_them(tmp_path: Path) -> None:
    """The store itself asks them what is newest, and whoever writes waits for the store."""
    kept = Kept(tmp_path)
    hours(kept, 0, 5)
    looks: list[bool] = []

    def check() -> None:
        other = threading.Thread(target=lambda: looks.append(NODE in kept.blocks.newest_sealed()))
        other.start()
        other.join(10)
        assert not other.is_alive()

    chosen = ((*EVERY[0], *(Matcher("a", MatchOp.NOT_EQUAL, str(at)) for at in range(20))),)
    selection = kept.store.select(chosen, 0, END_OF_TIME, check)
    assert len(selection.series) == 2
    assert all(looks)
    assert len(looks) >= 3 * 20  # columns, pairs and segments
    kept.disk.abandon_wal()


def test_a_query_of_what_memory_has_reads_no_segment(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    hours(kept, 0, 5)
    for path in kept.block_files:
        path.unlink()
    selection = kept.store.select(EVERY, START_MS + 4 * HOUR_MS, END_OF_TIME)
    assert selection is not None and len(selection.series) == 2
    assert kept.store.select(EVERY, START_MS + 4 * HOUR_MS, END_OF_TIME).series is selection.series
    kept.disk.abandon_wal()


def test_what_was_not_there_after_a_restart_is_stale(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    hours(kept, 0, 1)
    kept.disk.close()
    kept = kept.again()
    kept.store.append(Snapshot(NODE, START_MS + HOUR_MS, True, layout("0"), np.array([1.0])))
    found = QueryEngine(kept.store).evaluate("m", START_MS + HOUR_MS).value
    assert isinstance(found, InstantVector)
    assert [dict(one)["s"] for one in found.labels] == ["0"]
    kept.disk.abandon_wal()


def test_a_damaged_index_sets_the_segment_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = Kept(tmp_path)
    hours(kept, 0, 6)
    before = times_of(kept)
    kept.disk.close()
    victim = kept.block_files[1]
    data = bytearray(victim.read_bytes())
    data[-40] ^= 1
    victim.write_bytes(data)
    kept = kept.again()
    assert victim.with_name(victim.name + ".broken").exists()
    assert str(victim) in caplog.text and "set aside" in caplog.text
    assert times_of(kept) == [at for at in before if not 240 <= at < 480]
    assert kept.disk.status.broken == 1
    kept.disk.abandon_wal()


@pytest.mark.parametrize(("offset", "length"), [(2**64 - 1, 9), (2**63 - 1, 9), (9, 2**32 - 1)])
def test_a_segment_whose_foot_leads_nowhere_is_set_aside_and_prevents_no_start(
    tmp_path: Path, offset: int, length: int
) -> None:
    kept = Kept(tmp_path)
    hours(kept, 0, 4)
    before = times_of(kept)
    kept.disk.close()
    victim = kept.block_files[0]
    whole = victim.read_bytes()
    victim.write_bytes(whole[: -FOOT.size] + FOOT.pack(offset, length, 0, END))
    with little_memory(1 << 30):
        kept = kept.again()
    assert victim.with_name(victim.name + ASIDE).exists()
    assert times_of(kept) == [at for at in before if at >= 240]
    kept.disk.abandon_wal()


def test_a_damaged_bundle_costs_its_own_cells(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = Kept(tmp_path)
    hours(kept, 0, 6)
    before = times_of(kept)
    kept.disk.close()
    victim = kept.block_files[2]
    kept = kept.again()
    section = kept.blocks._blocks[2].sections[0]
    data = bytearray(victim.read_bytes())
    data[int(section.chunks[0, 0]) + 9] ^= 1
    victim.write_bytes(data)
    assert times_of(kept) == [at for at in before if not 480 <= at < 720]
    times_of(kept)
    assert caplog.text.count("serving the rest of it") == 1
    kept.disk.abandon_wal()


def test_a_segment_that_is_cut_off_prevents_no_start(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    hours(kept, 0, 4)
    kept.disk.close()
    whole = kept.block_files[0].read_bytes()
    for size in (0, 7, 30, len(whole) // 2, len(whole) - 1):
        for aside in tmp_path.glob("*.broken"):
            aside.unlink()
        kept.block_files[0].write_bytes(whole[:size])
        again = kept.again()
        assert times_of(again)[-1] == 4 * 240 - 1
        again.disk.abandon_wal()
        (aside,) = tmp_path.glob("*.broken")
        aside.write_bytes(whole)
        aside.rename(aside.with_suffix(""))


def test_what_cannot_be_tidied_up_at_the_start_costs_no_history(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    hours(kept, 0, 6)
    before = times_of(kept)
    kept.disk.close()
    unreadable, broken = kept.block_files[1:3]
    broken.write_bytes(b"no segment")
    for path in (
        broken.with_name(broken.name + ASIDE),
        tmp_path / f"9{UNFINISHED}",
        tmp_path / "aside",
    ):
        (path / "in the way").mkdir(parents=True)
    unreadable.rename(tmp_path / "aside" / unreadable.name)
    unreadable.mkdir()
    kept = kept.again()
    assert times_of(kept) == [at for at in before if not 240 <= at < 720]
    kept.disk.abandon_wal()
    unreadable.rmdir()
    (tmp_path / "aside" / unreadable.name).rename(unreadable)
    kept = kept.again()
    assert times_of(kept) == [at for at in before if not 480 <= at < 720]
    kept.disk.abandon_wal()


def test_any_cut_of_the_log_leaves_what_came_before(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    hours(kept, 0, 1)
    kept.disk.abandon_wal()
    whole, last = kept.wal.read_bytes(), -2
    for size in range(0, len(whole), 997):
        (path,) = tmp_path.glob("*.log")
        path.write_bytes(whole[:size])
        again = kept.again()
        found = times_of(again) if again.store.stats().samples else []
        assert found == list(range(len(found))) and len(found) - 1 >= last
        last = len(found) - 1
        again.disk.abandon_wal()
    assert last > 200


def test_retention_deletes_by_time_and_by_size(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "time", retention_ms=3 * HOUR_MS)
    hours(kept, 0, 8)
    assert len(kept.block_files) == 3
    assert times_of(kept)[0] == 4 * 240
    kept.disk.abandon_wal()
    size = sum(path.stat().st_size for path in kept.block_files)
    small = Kept(tmp_path / "size", max_bytes=size)
    hours(small, 0, 8)
    assert small.blocks.bytes <= size
    assert 2 <= len(small.block_files) <= 3
    assert small.store.series(EVERY, 0, END_OF_TIME)
    small.disk.abandon_wal()


def test_a_full_disk_costs_nothing_once_it_is_free(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with small_disk(tmp_path / "disk") as disk:
        kept = Kept(disk.path / "samples")
        hours(kept, 0, 1)
        disk.fill()
        hours(kept, 1, 3)
        assert not kept.disk.up
        assert caplog.text.count("keeping samples in memory") == 1
        assert kept.disk.status.failures > 0
        assert times_of(kept) == list(range(3 * 240))
        disk.free()
        for _ in range(WriterIntervals().ticks_per_retry):
            kept.disk.tick()
        assert kept.disk.up
        assert "disk write recovered" in caplog.text
        again = kept.again()
        assert times_of(again) == list(range(3 * 240))
        again.disk.abandon_wal()


def test_a_directory_that_another_agent_has_by_now_is_left_to_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its log was removed, and a segment and a log of ours put beside it."""
    data, samples = tmp_path / "data", tmp_path / "data" / "samples"
    held = DataLock(data)
    held.acquire()
    kept = Kept(samples, hold=held.keep)
    hours(kept, 0, 1)
    name = kept.wal.name
    data.rename(tmp_path / "gone")
    theirs = lock_directory(data)
    samples.mkdir()
    (samples / name).write_text("of the other agent")
    hours(kept, 1, 3)
    assert [one.name for one in samples.iterdir()] == [name]
    assert (samples / name).read_text() == "of the other agent"
    assert caplog.text.count("data is locked by") + caplog.text.count("data is in use by") == 1
    assert not kept.disk.up
    os.close(theirs)
    for _ in range(WriterIntervals().ticks_per_retry):
        kept.disk.tick()
    (aside,) = samples.glob(f"*{ASIDE}")  # it is gone: a start would take our log for its own
    assert kept.disk.up and aside.read_text() == "of the other agent"
    with pytest.raises(DirectoryInUse):
        lock_directory(data)
    kept.disk.abandon_wal()


def test_a_directory_that_was_deleted_is_made_again_with_the_next_hour(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = Kept(tmp_path / "data" / "samples")
    hours(kept, 0, 1)
    (tmp_path / "data").rename(tmp_path / "gone")
    hours(kept, 1, 3)
    assert kept.disk.up and kept.wal.is_file() and kept.block_files
    assert "keeping samples in memory" not in caplog.text
    kept.disk.abandon_wal()


def test_who_waits_for_the_log_gets_it_though_the_queue_overran(tmp_path: Path) -> None:
    kept, form = Kept(tmp_path), layout("0")
    for number in range(20_010):  # more than wait for the writer
        kept.store.append(Snapshot(NODE, START_MS + number, True, form, np.array([1.0])))
    asked = [kept.disk.logged() for _ in range(3)]
    kept.disk.tick()
    assert [one.done() for one in asked] == [True] * 3
    assert kept.disk.up and kept.disk.status.lost > 0
    again = kept.again()
    assert len(cells_of(again.store.select(EVERY, 0, END_OF_TIME))["0"][0]) == 20_010
    again.disk.abandon_wal()


class Overtaken:
    """A lock that somebody else has a moment before: `first` is done by then, once."""

    def __init__(self, first: Callable[[], None]) -> None:
        self._lock, self._first = threading.Lock(), [first]

    def __enter__(self) -> None:
        if self._first:
            self._first.pop()()
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def test_nobody_is_answered_whose_samples_fell_out_of_the_queue_while_a_segment_is_written(
    tmp_path: Path,
) -> None:
    kept, form, killed = Kept(tmp_path / "data"), layout("0"), tmp_path / "killed"
    hours(kept, 0, 1, form)
    first_ms = START_MS + HOUR_MS
    early = kept.disk.logged()

    def overrun() -> None:
        for number in range(20_010):  # more than wait for the writer
            kept.store.append(Snapshot(NODE, first_ms + number, True, form, np.array([1.0])))
        late = kept.disk.logged()
        late.add_done_callback(lambda _: shutil.copytree(kept.directory, killed))

    kept.disk._wal._logged_lock = Overtaken(overrun)  # type: ignore[assignment]
    kept.disk.seal(first_ms)
    kept.disk.tick()
    assert early.done() and kept.disk.status.lost > 0
    kept.disk.abandon_wal()
    again = Kept(killed)
    assert len(cells_of(again.store.select(EVERY, 0, END_OF_TIME))["0"][0]) == 240 + 20_010
    again.disk.abandon_wal()


def test_no_file_that_is_set_aside_takes_the_place_of_another(tmp_path: Path) -> None:
    """A segment and a log have the same number, and a number may come again."""
    kept = Kept(tmp_path)
    kept.disk.abandon_wal()
    (tmp_path / "0000000007.log").unlink(missing_ok=True)
    contents = []
    for turn in range(3):
        for suffix in (".seg", ".log"):
            contents.append(f"{suffix} {turn}".encode())
            (tmp_path / f"0000000007{suffix}").write_bytes(contents[-1])
        kept = kept.again()
        kept.disk.abandon_wal()
    asides = [one.read_bytes() for one in tmp_path.glob("*.broken")]
    assert sorted(asides) == sorted(contents)


def test_few_large_entries_may_not_fill_the_memory_either(tmp_path: Path) -> None:
    """While the disk hangs: they are in memory, from where a new log takes them."""
    kept, form = Kept(tmp_path), layout(*map(str, range(20_000)))
    for number in range(210):
        kept.store.append(Snapshot(NODE, START_MS + number, True, form, np.ones(20_000)))
        if not number:
            kept.disk.tick()
    assert 0 < kept.disk.status.lost < 50
    kept.disk.tick()
    again = kept.again()
    assert again.store.stats().samples == 210 * 20_003
    again.disk.abandon_wal()


def test_a_directory_that_is_none_lets_the_store_go_on_in_memory(tmp_path: Path) -> None:
    (tmp_path / "samples").write_text("a file")
    kept = Kept(tmp_path / "samples")
    hours(kept, 0, 1)
    assert times_of(kept) == list(range(240))
    (tmp_path / "samples").unlink()
    for _ in range(WriterIntervals().ticks_per_retry):
        kept.disk.tick()
    kept = kept.again()
    assert times_of(kept) == list(range(240))
    kept.disk.abandon_wal()


@pytest.mark.parametrize("delta_ms", [-HOUR_MS, -10 * 60_000, HOUR_MS, -3 * HOUR_MS])
def test_the_wall_clock_moves_memory_and_leaves_what_is_sealed(
    tmp_path: Path, delta_ms: int
) -> None:
    kept = Kept(tmp_path)
    hours(kept, 0, 4)
    before = cells_of(kept.store.select(EVERY, 0, END_OF_TIME))["1"]
    in_memory = int(kept.store.snapshot().sources[0].columns.times[0])
    now_ms = START_MS + 4 * HOUR_MS + delta_ms
    kept.store.shift_clock(delta_ms, now_ms)
    kept.store.append(Snapshot(NODE, now_ms, True, TWO, np.array([7.0, 8.0])))
    expected = [at for at in before[0] if at < in_memory + min(delta_ms, 0)]
    expected += [at + delta_ms for at in before[0] if at >= in_memory]
    for _ in range(3):
        times, _ = cells_of(kept.store.select(EVERY, 0, END_OF_TIME))["1"]
        assert times == [*expected, now_ms]
        kept.disk.tick()
        kept = kept.again()
    kept.disk.abandon_wal()


def test_blocks_that_overlap_after_a_clock_step_give_each_time_once(tmp_path: Path) -> None:
    """To the millisecond: where a block begins that was written later, the one before it ends."""
    kept = Kept(tmp_path)
    hours(kept, 0, 4)
    delta_ms = -90 * 60_000
    kept.store.shift_clock(delta_ms, START_MS + 4 * HOUR_MS + delta_ms)
    hours(kept, 3, 7)
    sections = [section for block in kept.blocks._blocks for section in block.sections]
    first_ms = {section.first_ms for section in sections}
    overlapping = [
        one for one in sections if any(one.first_ms < at <= one.last_ms for at in first_ms)
    ]
    assert overlapping and START_MS + HOUR_MS + 30 * 60_000 in first_ms
    times = times_of(kept)
    assert times == sorted(set(times))
    assert times == [*range(150 * 4), *range(180 * 4, 7 * 240)]
    kept.disk.abandon_wal()


def test_series_does_not_list_what_had_ended_before(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    hours(kept, 0, 1)
    hours(kept, 1, 6, layout("0"))  # all that hour 1 has of the other one are stale markers
    after = START_MS + HOUR_MS, START_MS + 2 * HOUR_MS - 1
    assert [dict(one)["s"] for one in kept.store.series(EVERY, *after)] == ["0"]
    assert kept.store.label_values("s", EVERY, *after) == {"0"}
    whole = START_MS, START_MS + 6 * HOUR_MS
    assert kept.store.label_values("s", EVERY, *whole) == {"0", "1"}
    kept.disk.abandon_wal()


def test_series_lists_what_is_only_in_segments(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    hours(kept, 0, 2, layout("gone"))
    hours(kept, 2, 6)

    def names(t0_ms: int, t1_ms: int) -> list[str]:
        return sorted(dict(one)["s"] for one in kept.store.series(EVERY, t0_ms, t1_ms))

    assert names(0, END_OF_TIME) == ["0", "1", "gone"]
    assert names(START_MS, START_MS + HOUR_MS) == ["gone"]
    assert names(START_MS + 3 * HOUR_MS, END_OF_TIME) == ["0", "1"]
    assert names(START_MS + HOUR_MS - 1, START_MS + HOUR_MS + 1) == ["gone"]
    assert kept.store.label_values("s", EVERY, 0, END_OF_TIME) == {"0", "1", "gone"}
    assert kept.store.label_values("s", EVERY, START_MS, START_MS + HOUR_MS) == {"gone"}
    assert len(kept.store.select(ONE, 0, END_OF_TIME).series) == 1
    kept.disk.abandon_wal()


def test_files_that_are_not_ours_and_odd_things_in_our_places_prevent_no_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = Kept(tmp_path)
    hours(kept, 0, 3)
    kept.disk.close()
    before = times_of(kept)
    strange = [tmp_path / name for name in ("notes.seg", "my.log", "x.tmp", "9" * 40 + ".seg")]
    for path in strange:
        path.write_text("mine")
    (tmp_path / "0000000900.seg").mkdir()
    (tmp_path / "0000000901.tmp").mkdir()
    kept = kept.again()
    assert times_of(kept) == before
    assert {path.read_text() for path in strange} == {"mine"}
    assert "0000000900.seg" in caplog.text and kept.disk.up
    assert kept.disk.status.broken == 1
    kept.disk.abandon_wal()


@pytest.mark.parametrize("content", [b"", b"TOCLOG9\n" + bytes(500), None])
def test_a_log_that_is_none_of_ours_is_set_aside(tmp_path: Path, content: bytes | None) -> None:
    kept = Kept(tmp_path)
    hours(kept, 0, 1)
    kept.disk.close()
    path = kept.wal
    path.unlink()
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    kept = kept.again()
    aside = path.with_name(path.name + ".broken")
    assert aside.is_dir() if content is None else aside.read_bytes() == content
    assert kept.disk.status.broken == 1 and kept.disk.up
    kept.disk.abandon_wal()
    again = kept.again()
    assert again.disk.set_aside_s is not None and again.disk.status.broken == 0
    os.utime(aside, (2**33, 2**33))
    later = again.again()
    assert later.disk.set_aside_s is None  # the clock was ahead then
    later.disk.abandon_wal()


def test_a_newer_log_that_is_none_costs_nothing_of_the_one_before(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    hours(kept, 0, 1)
    kept.disk.close()
    kept.disk.abandon_wal()
    before = times_of(kept)
    pipe = kept.wal.with_name("9999999999.log")
    os.mkfifo(pipe)
    again = kept.again()
    assert times_of(again) == before
    (aside,) = tmp_path.glob(f"9999999999*{ASIDE}")
    assert aside.is_fifo() and again.disk.status.broken == 1
    again.disk.abandon_wal()


def test_a_log_is_read_however_long_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A million series fill two GiB in little more than an hour. What a power cut left behind the
    last record is cut."""
    kept = Kept(tmp_path)
    hours(kept, 0, 1)
    kept.disk.abandon_wal()
    before, whole = times_of(kept), kept.wal.stat().st_size
    os.truncate(kept.wal, FAR_TOO_LONG)
    again = kept.again()
    assert times_of(again) == before
    assert again.disk.status.broken == 0 and again.disk.up
    assert f"{FAR_TOO_LONG - whole} incomplete bytes" in caplog.text
    assert again.wal.stat().st_size < FAR_TOO_LONG
    again.disk.abandon_wal()


@pytest.mark.parametrize(
    ("cut", "end"), [(20, bytes(20)), (0, FRAME.pack(2**32 - 1, 0) + bytes(9))]
)
def test_an_end_that_the_disk_had_not_yet_is_cut(
    tmp_path: Path, cut: int, end: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """After a power failure a file may have its length already, and not yet what it holds."""
    kept = Kept(tmp_path)
    hours(kept, 0, 1)
    kept.disk.abandon_wal()
    before, data = times_of(kept), kept.wal.read_bytes()
    kept.wal.write_bytes(data[: len(data) - cut] + end)
    with little_memory(1 << 30):
        again = kept.again()
    assert times_of(again) == before[: len(before) - bool(cut)]
    assert "incomplete bytes at the end dropped" in caplog.text and again.disk.status.broken == 0
    again.disk.abandon_wal()


def test_a_log_that_the_memory_has_no_room_for_is_served_up_to_there_and_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = Kept(tmp_path)
    hours(kept, 0, 1)
    kept.disk.abandon_wal()
    before, log = times_of(kept), kept.wal
    with log.open("ab") as file:
        file.write(FRAME.pack(FAR_TOO_LONG // 2, 0))
    os.truncate(log, FAR_TOO_LONG)
    with little_memory(1 << 30):
        again = kept.again()
    assert times_of(again) == before
    assert "MemoryError" in caplog.text and again.disk.status.broken == 1
    (aside,) = tmp_path.glob(f"*{ASIDE}")
    assert aside.name.startswith(log.name) and aside.stat().st_size == FAR_TOO_LONG
    assert again.wal != log
    again.disk.abandon_wal()


def test_a_log_that_cannot_be_opened_is_read_by_the_next_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = Kept(tmp_path)
    hours(kept, 0, 1)
    kept.disk.abandon_wal()
    before, log = times_of(kept), kept.wal
    with no_descriptors():
        again = kept.again()
    assert not again.disk.up and again.wal == log
    again.disk.abandon_wal()
    later = again.again()
    assert times_of(later) == before
    later.disk.abandon_wal()


def test_a_log_that_the_disk_does_not_give_stays_until_a_new_one_has_begun(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    hours(kept, 0, 1)
    kept.disk.abandon_wal()
    before, log = times_of(kept), kept.wal
    newer = tmp_path / "0000000009.log"
    newer.symlink_to("/proc/self/mem")  # a file whose first byte is an I/O error

    def refuse() -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    again = Kept(tmp_path, hold=refuse)
    assert times_of(again) == before and again.disk.status.broken == 1
    assert sorted(tmp_path.glob("*.log")) == [log, newer]
    later = again.again()
    assert times_of(later) == before
    assert later.wal.name > newer.name
    (aside,) = tmp_path.glob(f"*{ASIDE}")
    assert aside.is_symlink()
    later.disk.abandon_wal()


def test_a_log_that_nobody_has_read_is_deleted_for_no_new_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = Kept(tmp_path)
    hours(kept, 0, 1)
    kept.disk.abandon_wal()
    content = kept.wal.read_bytes()
    with no_descriptors():
        again = kept.again()
    for _ in range(WriterIntervals().ticks_per_retry):
        again.disk.tick()
    assert again.disk.up
    hours(again, 1, 3)
    after = times_of(again)
    later = again.again()
    (aside,) = tmp_path.glob(f"*{ASIDE}")
    assert aside.read_bytes() == content and "setting it aside failed" not in caplog.text
    assert times_of(later) == after
    later.disk.abandon_wal()
