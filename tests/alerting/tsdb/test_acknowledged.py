"""What a sender was told is taken is in a file: at any moment, whatever the disk refuses."""

import errno
import logging
import os
import shutil
import threading
from collections.abc import Callable
from functools import partial
from io import FileIO
from pathlib import Path

import numpy as np
import pytest

from support.archives import Kept, cells_of
from support.faults import in_child
from tocsin_alerting.tsdb.backlog import Backlogged
from tocsin_alerting.tsdb.block.format import read_sections
from tocsin_alerting.tsdb.block_store import BlockStore
from tocsin_alerting.tsdb.disk_persistence import DiskPersistence, WriterIntervals
from tocsin_alerting.tsdb.files import ASIDE
from tocsin_alerting.tsdb.head.snapshot import HeadSnapshot
from tocsin_alerting.tsdb.matchers import Matcher, MatchOp
from tocsin_alerting.tsdb.store import HOUR_MS, Store
from tocsin_alerting.tsdb.wal.codec import FRAME, HEAD
from tocsin_alerting.tsdb.wal.writer import MAX_ENTRIES
from tocsin_exporter.snapshot import Family, Labels, Layout, Series, Snapshot, Source, labels

NODE = Source("node", "box")
EVERY = ((Matcher("__name__", MatchOp.EQUAL, "m"),),)
START_MS = 1_700_000_000_000 // HOUR_MS * HOUR_MS
STEP_MS = 15_000
FORM = Layout(tuple(Series(Family("m", "counter", ""), "m", labels(s=name)) for name in "01"))
LATE = (("__name__", "m"), ("instance", "far"), ("job", "remote"), ("s", "late"))


def append(kept: Kept, at_ms: int) -> None:
    kept.store.append(Snapshot(NODE, at_ms, True, FORM, np.array([at_ms % 997, 1.0])))


def hours(kept: Kept, first: int, last: int) -> None:
    """Columns of these hours after START_MS; each hour is sealed when it is over."""
    for at_ms in range(START_MS + first * HOUR_MS, START_MS + last * HOUR_MS, STEP_MS):
        append(kept, at_ms)
        if at_ms % HOUR_MS == 60_000:
            kept.store.expire(at_ms)
            kept.disk.tick()
    kept.disk.tick()


def times_of(kept: Kept, name: str = "1") -> list[int]:
    """In ms after START_MS, where the series has a sample."""
    times, _ = cells_of(kept.store.select(EVERY, 0, 10**15)).get(name, ([], []))
    return [at - START_MS for at in times]


def contents(directory: Path, pattern: str) -> list[bytes]:
    return [one.read_bytes() for one in sorted(directory.glob(pattern)) if one.is_file()]


class Overtaken:
    """A lock that somebody else has a moment before its holder, the `turn`th time it is taken."""

    def __init__(self, turn: int, first: Callable[[], None]) -> None:
        self._lock, self._left, self._first = threading.Lock(), turn, first

    def __enter__(self) -> None:
        self._left -= 1
        if not self._left:
            self._first()
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


@pytest.mark.parametrize("turn", [1, 2, 3])
def test_who_writes_while_a_new_log_is_begun_is_acknowledged_once_a_log_has_it(
    tmp_path: Path, turn: int
) -> None:
    """The series is new: without its owner in the log, nothing that follows can be read."""
    kept, killed = Kept(tmp_path / "data"), tmp_path / "killed"
    hours(kept, 0, 1)
    begin_ms = START_MS + HOUR_MS

    def write(sample: int, then: Callable[[], object]) -> None:
        series: Labels = LATE
        assert kept.store.write([(series, begin_ms + sample, float(sample))]) == 1
        kept.disk.logged().add_done_callback(lambda _: then())

    def kill() -> None:
        shutil.copytree(kept.directory, killed)

    kept.store._lock = Overtaken(  # type: ignore[assignment]
        turn, lambda: write(1, lambda: write(2, kill))
    )
    kept.disk.seal(begin_ms)
    kept.disk.tick()
    kept.disk.abandon_wal()
    again = Kept(killed)
    assert times_of(again, "late") == [HOUR_MS + 1, HOUR_MS + 2]
    assert again.disk.status.broken == 0
    again.disk.abandon_wal()


class Disturbed(FileIO):
    """A log: before each write there is `meanwhile`, once each."""

    def __init__(self, path: Path, *meanwhile: Callable[[], None]) -> None:
        super().__init__(path, "ab")
        self._meanwhile = list(meanwhile)

    def write(self, data: object) -> int:
        if self._meanwhile:
            self._meanwhile.pop(0)()
        return super().write(data)  # type: ignore[arg-type]


def test_nothing_is_written_of_a_series_whose_owner_fell_out_of_the_queue(tmp_path: Path) -> None:
    kept, killed = Kept(tmp_path / "data"), tmp_path / "killed"
    hours(kept, 0, 1)
    first_ms = START_MS + HOUR_MS

    def overrun() -> None:
        while not kept.disk.status.lost:
            append(kept, next(times))
        kept.store.write([(LATE, first_ms, 1.0)])

    def more() -> None:
        kept.store.write([(LATE, first_ms + 1, 2.0)])

    def kill() -> None:
        shutil.copytree(kept.directory, killed)

    times = iter(range(first_ms, first_ms + 10 * MAX_ENTRIES))
    for _ in range(MAX_ENTRIES):
        append(kept, next(times))
    parts = [lambda: None] * (MAX_ENTRIES // 1000 - 1)
    kept.disk.abandon_wal()
    kept.disk._wal._file = Disturbed(kept.wal, overrun, more, *parts, kill)
    kept.disk.flush()
    if not killed.exists():  # nothing came after the overrun
        kill()
    kept.disk.flush()
    kept.disk.abandon_wal()
    again = Kept(killed)
    assert again.disk.status.broken == 0
    assert len(times_of(again)) == 240 + MAX_ENTRIES + 1000  # all before the gap
    again.disk.abandon_wal()
    whole = kept.again()
    assert times_of(whole, "late") == [HOUR_MS, HOUR_MS + 1]
    whole.disk.abandon_wal()


class Busy(Store):
    """Something is written once it was asked what it holds."""

    meanwhile: Callable[[], object] | None = None

    def snapshot(self, close_before_ms: int | None = None, early: bool = False) -> HeadSnapshot:
        head = super().snapshot(close_before_ms, early)
        if self.meanwhile is not None:
            self.meanwhile()
        return head


class Recorded(FileIO):
    """A log that says what was written to it."""

    def __init__(self, path: Path, written: list[int]) -> None:
        super().__init__(path, "ab")
        self._written = written

    def write(self, data: object) -> int:
        self._written.append(super().write(data))  # type: ignore[arg-type]
        return self._written[-1]


def test_after_a_gap_only_the_new_log_goes_on(tmp_path: Path) -> None:
    """A kill may still leave the old one, and its rows are of others by then."""
    disk = DiskPersistence(tmp_path, BlockStore(tmp_path, 10**12, 2**30))
    store, written = Busy(persistence=disk), list[int]()
    disk.start(store)
    for number in range(MAX_ENTRIES + 10):
        store.append(Snapshot(NODE, START_MS + number, True, FORM, np.array([1.0, 2.0])))
    assert disk.status.lost > 0
    disk.abandon_wal()
    (path,) = tmp_path.glob("*.log")
    disk._wal._file = Recorded(path, written)
    store.meanwhile = lambda: store.write([(LATE, START_MS, 1.0)])
    disk.flush()
    store.meanwhile = None
    assert written == [] and disk.status.failures == 0
    disk.abandon_wal()
    again = Kept(tmp_path)
    assert times_of(again, "late") == [0] and again.disk.status.broken == 0
    again.disk.abandon_wal()


def no_descriptor(event: str, path: str) -> OSError | None:
    """Logs that are there cannot be opened."""
    lacking = event == "open" and path.endswith(".log")
    return OSError(errno.EMFILE, os.strerror(errno.EMFILE), path) if lacking else None


def _written(directory: Path, last: int) -> tuple[list[int], bytes]:
    """A directory with so many hours: the times, and its log."""
    kept = Kept(directory)
    hours(kept, 0, last)
    kept.disk.abandon_wal()
    return times_of(kept), kept.wal.read_bytes()


def test_a_kill_at_no_moment_deletes_a_log_that_nobody_has_read(tmp_path: Path) -> None:
    before, log = _written(tmp_path / "data", 1)
    for change in range(1, 20):
        directory = tmp_path / f"killed before {change}"
        shutil.copytree(tmp_path / "data", directory)
        ended = in_child(partial(Kept, directory), no_descriptor, change)
        again = Kept(directory)
        assert times_of(again) == before or log in contents(directory, "*")
        again.disk.abandon_wal()
        if ended:
            break
    assert ended and change > 2


def test_a_directory_that_cannot_be_synced_costs_no_log_that_nobody_has_read(
    tmp_path: Path,
) -> None:
    before, log = _written(tmp_path, 1)

    def refused(event: str, path: str) -> OSError | None:
        if event == "open" and path == str(tmp_path):
            return OSError(errno.EIO, os.strerror(errno.EIO), path)
        return no_descriptor(event, path)

    assert in_child(partial(Kept, tmp_path), refused)
    again = Kept(tmp_path)
    assert times_of(again) == before or log in contents(tmp_path, f"*{ASIDE}")
    again.disk.abandon_wal()


def test_a_log_of_ours_that_could_not_be_synced_is_not_set_aside(tmp_path: Path) -> None:
    before, _ = _written(tmp_path, 1)
    failing = [True]

    def refused(event: str, path: str) -> OSError | None:
        if event == "open" and path == str(tmp_path) and failing:
            failing.pop()
            return OSError(errno.EIO, os.strerror(errno.EIO), path)
        return None

    def work() -> None:
        kept = Kept(tmp_path)
        assert not kept.disk.up and not failing
        for _ in range(WriterIntervals().ticks_per_retry):
            kept.disk.tick()
        assert kept.disk.up

    assert in_child(work, refused)
    assert not contents(tmp_path, f"*{ASIDE}") and len(contents(tmp_path, "*.log")) == 1
    again = Kept(tmp_path)
    assert times_of(again) == before
    again.disk.abandon_wal()


def test_a_directory_that_cannot_be_listed_at_the_start_loses_no_file(tmp_path: Path) -> None:
    """It was mended while the agent ran."""
    _, log = _written(tmp_path, 4)
    segments = {one.name: one.read_bytes() for one in tmp_path.glob("*.seg")}
    listable: list[bool] = []

    def refused(event: str, path: str) -> OSError | None:
        unlisted = event == "os.scandir" and path == str(tmp_path) and not listable
        return PermissionError(errno.EACCES, os.strerror(errno.EACCES), path) if unlisted else None

    def work() -> None:
        kept = Kept(tmp_path)
        listable.append(True)
        for _ in range(WriterIntervals().ticks_per_retry):
            kept.disk.tick()
        assert kept.disk.up
        hours(kept, 4, 7)

    assert len(segments) == 3
    assert in_child(work, refused)
    again = Kept(tmp_path)
    assert {one: (tmp_path / one).read_bytes() for one in segments} == segments
    assert log in contents(tmp_path, f"*{ASIDE}")
    assert times_of(again)[-1] == 7 * HOUR_MS - STEP_MS and len(again.block_files) > 3
    again.disk.abandon_wal()


def test_an_hour_that_could_not_be_synced_is_sealed_once(tmp_path: Path) -> None:
    failing: list[bool] = []

    def refused(event: str, path: str) -> OSError | None:
        if event == "open" and path == str(tmp_path) and failing:
            failing.pop()
            return OSError(errno.EIO, os.strerror(errno.EIO), path)
        return None

    def work() -> None:
        kept = Kept(tmp_path)
        hours(kept, 0, 2)
        failing.append(True)
        hours(kept, 2, 3)  # what is sealed first is refused
        assert not kept.disk.up and not failing
        for _ in range(WriterIntervals().ticks_per_retry + 1):
            kept.disk.tick()
        assert kept.disk.up
        hours(kept, 3, 5)

    assert in_child(work, refused)
    again = Kept(tmp_path)
    assert times_of(again) == list(range(0, 5 * HOUR_MS, STEP_MS))
    firsts = [one.first_ms for each in again.blocks._blocks for one in each.sections]
    assert len(firsts) == len(set(firsts))
    again.disk.abandon_wal()


def test_an_hour_that_could_not_be_looked_at_is_sealed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Kept(tmp_path)
    hours(kept, 0, 2)
    before = kept.block_files

    def lacking(path: Path) -> object:
        if path.suffix == ".seg":
            raise MemoryError
        return read_sections(path)

    with monkeypatch.context() as patch:
        patch.setattr("tocsin_alerting.tsdb.block_store.read_sections", lacking)
        with pytest.raises(MemoryError):
            kept.disk.seal(START_MS + 2 * HOUR_MS)
    assert kept.block_files == before
    kept.disk.abandon_wal()


@pytest.mark.parametrize("place", [6, -2000])
def test_a_damaged_log_that_cannot_be_moved_is_not_deleted(tmp_path: Path, place: int) -> None:
    _, whole = _written(tmp_path, 1)
    (path,) = tmp_path.glob("*.log")
    damaged = bytearray(whole)
    damaged[place] ^= 1
    path.write_bytes(damaged)

    def refused(event: str, name: str) -> OSError | None:
        if event == "os.rename" and name == str(path):
            return PermissionError(errno.EPERM, os.strerror(errno.EPERM), name)
        return None

    def work() -> None:
        kept = Kept(tmp_path)
        assert kept.disk.up and kept.disk.status.broken == 1
        hours(kept, 1, 4)

    assert in_child(work, refused)
    assert path.read_bytes() == damaged


def _records(log: bytes) -> list[tuple[int, int]]:
    """(offset, length of the payload) of each record."""
    found, at = [], len(HEAD)
    while at < len(log):
        found.append((at, FRAME.unpack_from(log, at)[0]))
        at += FRAME.size + found[-1][1]
    return found


@pytest.mark.parametrize("place", [0, 2, 3, 4, 7, 8, 12])
def test_a_flipped_bit_in_a_log_deletes_nothing_that_follows_it(
    tmp_path: Path, place: int, caplog: pytest.LogCaptureFixture
) -> None:
    """In the length, the CRC, the kind, what it says: what came before is served, all is kept."""
    before, log = _written(tmp_path, 1)
    (path,) = tmp_path.glob("*.log")
    at, _ = _records(log)[120]
    data = bytearray(log)
    data[at + place] ^= 0x40
    path.write_bytes(data)
    kept = Kept(tmp_path)
    found = times_of(kept)
    assert found == before[: len(found)] and 50 < len(found) < len(before) - 50
    assert kept.disk.status.broken == 1 and kept.disk.set_aside_s is not None
    assert bytes(data) in contents(tmp_path, f"*{ASIDE}")
    assert "is damaged, and more follows it" in caplog.text
    kept.disk.abandon_wal()


def test_an_older_log_is_kept_when_the_newest_is_damaged(tmp_path: Path) -> None:
    """A kill left both; the newest repeats what the older has, up to where it is damaged."""
    _, log = _written(tmp_path, 1)
    (path,) = tmp_path.glob("*.log")
    data = bytearray(log)
    data[_records(log)[120][0] + 9] ^= 1
    (tmp_path / "0000000009.log").write_bytes(data)
    kept = Kept(tmp_path)
    asides = contents(tmp_path, f"*{ASIDE}")
    assert log in asides and bytes(data) in asides and not path.exists()
    kept.disk.abandon_wal()


def test_the_newest_log_is_that_with_the_highest_number(tmp_path: Path) -> None:
    before, _ = _written(tmp_path, 1)
    (path,) = tmp_path.glob("*.log")
    path.rename(tmp_path / "10000000000.log")
    empty = tmp_path / "empty"
    Kept(empty).disk.close()
    (older,) = empty.glob("*.log")
    older.rename(tmp_path / "9999999999.log")
    kept = Kept(tmp_path)
    assert times_of(kept) == before
    kept.disk.abandon_wal()


def test_a_directory_that_is_not_ours_is_asked_for_no_more_often_after_an_overrun(
    tmp_path: Path,
) -> None:
    asked, ours = [], [True]

    def hold() -> None:
        asked.append(1)
        if not ours:
            raise OSError(errno.EROFS, "Read-only file system")

    kept = Kept(tmp_path, hold=hold)
    for number in range(MAX_ENTRIES + 10):
        append(kept, START_MS + number)
    assert kept.disk.status.lost > 0
    ours.clear()
    asked.clear()
    for _ in range(3 * WriterIntervals().ticks_per_retry):
        kept.disk.tick()
    assert len(asked) <= 5 and not kept.disk.up
    ours.append(True)
    for _ in range(WriterIntervals().ticks_per_retry):
        kept.disk.tick()
    assert kept.disk.up
    again = kept.again()
    assert len(times_of(again)) == MAX_ENTRIES + 10
    again.disk.abandon_wal()


def _unremovable(name: str, event: str, path: str) -> OSError | None:
    if event == "os.remove" and path.endswith(name):
        return PermissionError(errno.EPERM, os.strerror(errno.EPERM), path)
    return None


def test_an_old_log_that_cannot_be_removed_ends_no_new_one(tmp_path: Path) -> None:
    """Each half minute another one was begun, for ever, and let go at once."""
    before, _ = _written(tmp_path, 1)
    (old,) = tmp_path.glob("*.log")

    def work() -> None:
        kept = Kept(tmp_path)
        assert kept.disk.up
        hours(kept, 1, 4)
        assert kept.disk.up and len(list(tmp_path.glob("*.log"))) == 2

    assert in_child(work, partial(_unremovable, old.name))
    again = Kept(tmp_path)
    assert times_of(again) == list(range(0, 4 * HOUR_MS, STEP_MS))
    assert len(list(tmp_path.glob("*.log"))) == 1 and not contents(tmp_path, f"*{ASIDE}")
    again.disk.abandon_wal()


def test_a_segment_that_cannot_be_removed_ends_no_log(tmp_path: Path) -> None:
    def work() -> None:
        kept = Kept(tmp_path, retention_ms=2 * HOUR_MS)
        hours(kept, 0, 6)
        assert kept.disk.up and kept.disk.status.failures == 0

    assert in_child(work, partial(_unremovable, "0000000001.seg"))
    names = [one.name for one in sorted(tmp_path.glob("*.seg"))]
    assert "0000000001.seg" in names and "0000000002.seg" not in names


def test_what_was_read_of_a_damaged_log_stays_readable_until_a_new_log_has_it(
    tmp_path: Path,
) -> None:
    _, log = _written(tmp_path, 1)
    (path,) = tmp_path.glob("*.log")
    data = bytearray(log)
    data[_records(log)[120][0] + 12] ^= 1
    path.write_bytes(data)

    def full(event: str, name: str) -> OSError | None:
        lacking = event == "open" and name.endswith(".tmp")
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name) if lacking else None

    def work() -> None:
        kept = Kept(tmp_path)
        assert len(times_of(kept)) > 50 and not kept.disk.up

    for _ in range(2):
        assert in_child(work, full)
    again = Kept(tmp_path)
    assert len(times_of(again)) > 50
    assert bytes(data) in contents(tmp_path, f"*{ASIDE}")
    again.disk.abandon_wal()


def test_a_clock_that_was_set_back_while_the_queue_overran_seals_its_hours(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    hours(kept, 30, 32)
    for number in range(MAX_ENTRIES + 1):
        append(kept, START_MS + 32 * HOUR_MS + number)
    kept.store.shift_clock(-24 * HOUR_MS, START_MS + 8 * HOUR_MS + MAX_ENTRIES)
    before = len(kept.block_files)
    hours(kept, 9, 12)
    assert len(kept.block_files) >= before + 3
    kept.disk.abandon_wal()


@pytest.mark.parametrize("delta_ms", [-24 * HOUR_MS, -30 * 60_000, 5 * HOUR_MS])
def test_a_clock_that_is_set_while_an_hour_is_sealed_seals_the_next_ones(
    tmp_path: Path, delta_ms: int
) -> None:
    steps: list[int] = []

    def step() -> None:
        """Called by the writer at the begin of a seal, after it has decided on the hour."""
        if steps:
            kept.store.shift_clock(steps.pop(), START_MS + 32 * HOUR_MS + 60_000 + delta_ms)

    kept = Kept(tmp_path, hold=step)
    hours(kept, 30, 32)
    steps.append(delta_ms)
    kept.store.expire(START_MS + 32 * HOUR_MS + 60_000)
    kept.disk.tick()
    assert not steps
    after_ms = 32 * HOUR_MS + 60_000 + delta_ms
    next_hour = after_ms // HOUR_MS + 1
    append(kept, START_MS + after_ms)
    before = len(kept.block_files)
    hours(kept, next_hour, next_hour + 3)
    assert len(kept.block_files) >= before + 2
    kept.disk.abandon_wal()


def test_an_unaligned_series_gives_the_same_samples_by_any_interval(tmp_path: Path) -> None:
    """After a step back a block may begin before the end of one that was written before it."""
    kept, minute_ms = Kept(tmp_path), 60_000
    other: Labels = (("__name__", "m"), ("instance", "far"), ("job", "remote"), ("s", "other"))
    kept.store.write([(other, START_MS, 1.0), (other, START_MS + 1, 1.0)])

    def write(first: int, last: int) -> None:
        for at in range(first, last):
            assert kept.store.write([(LATE, START_MS + at * minute_ms, 1.0)]) == 1

    write(-1, 60)
    kept.disk.seal(START_MS + HOUR_MS)
    write(61, 90)
    kept.store.shift_clock(-45 * minute_ms, START_MS + 45 * minute_ms)
    kept.disk.seal(START_MS + HOUR_MS)
    assert len(kept.block_files) == 2

    def minutes(t0: int, t1: int) -> list[int]:
        selection = kept.store.select(EVERY, START_MS + t0 * minute_ms, START_MS + t1 * minute_ms)
        (part,) = selection.unaligned
        samples = part.between(START_MS + t0 * minute_ms, START_MS + t1 * minute_ms)
        return [(at_ms - START_MS) // minute_ms for at_ms in samples.times.tolist()]

    kept.store.expire(START_MS + 4 * HOUR_MS)
    everything = minutes(-1, 90)
    assert everything == list(range(-1, 45))
    for first in range(-1, 55, 10):
        assert minutes(first, first + 9) == [at for at in everything if first <= at <= first + 9]
    kept.disk.abandon_wal()


def test_a_request_from_before_a_step_of_the_clock_closes_no_hour(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    hours(kept, 30, 32)
    before_ms = START_MS + 32 * HOUR_MS + 2 * 60_000
    kept.store.expire(before_ms)
    kept.disk.tick()
    kept.store.shift_clock(-90 * 60_000, before_ms - 90 * 60_000)
    kept.disk.tick()
    segments = kept.block_files
    epoch, refs = kept.store.register([LATE])
    late = np.array([before_ms - 3 * HOUR_MS])
    assert kept.store.write_refs(epoch, refs, late, np.ones(1), before_ms)
    kept.disk.tick()
    assert kept.block_files == segments
    kept.disk.abandon_wal()


def test_late_samples_wait_on_when_they_could_not_be_sealed(tmp_path: Path) -> None:
    """Each time that the disk refused a block, as many again were acknowledged."""
    failing: list[bool] = []

    def refused(event: str, path: str) -> OSError | None:
        full = event == "open" and path.endswith(".tmp") and failing
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path) if full else None

    def work() -> None:
        kept = Kept(tmp_path, most_backlog=2)
        now_ms = START_MS + 30 * HOUR_MS

        def write(sample: int) -> None:
            epoch, refs = kept.store.register([LATE])
            late = np.array([START_MS + sample])
            assert kept.store.write_refs(epoch, refs, late, np.ones(1), now_ms)

        write(1)
        write(2)
        failing.append(True)
        with pytest.raises(OSError, match="No space"):
            kept.disk.seal(now_ms)
        with pytest.raises(Backlogged):
            write(3)
        failing.clear()
        kept.disk.seal(now_ms)
        write(3)

    assert in_child(work, refused)


def test_memory_waits_no_shorter_for_the_disk_because_the_clock_was_set(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    now_ms = START_MS + 30 * HOUR_MS
    kept.store.expire(now_ms)
    epoch, refs = kept.store.register([LATE])
    assert kept.store.write_refs(epoch, refs, np.array([START_MS]), np.ones(1), now_ms)
    kept.disk.abandon_wal()
    for minutes in range(1, 10):
        kept.store.expire(now_ms + minutes * 60_000)
    delta_ms = 5 * HOUR_MS
    kept.store.shift_clock(delta_ms, now_ms + 10 * 60_000 + delta_ms)
    kept.store.expire(now_ms + 10 * 60_000 + delta_ms)
    assert times_of(kept, "late") == [delta_ms]
    kept.store.expire(now_ms + 4 * HOUR_MS + delta_ms)
    assert times_of(kept, "late") == []


class Unclosed(FileIO):
    """As on a network's disk, which says only now that it has no room."""

    def close(self) -> None:
        super().close()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_log_that_fails_when_it_is_closed_ends_no_writer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    kept = Kept(tmp_path)
    kept.disk.abandon_wal()
    kept.disk._wal._file = Unclosed(kept.wal, "ab")
    hours(kept, 0, 2)  # with a new log
    assert kept.disk.up
    again = kept.again()
    assert times_of(again) == list(range(0, 2 * HOUR_MS, STEP_MS))
    again.disk.abandon_wal()
