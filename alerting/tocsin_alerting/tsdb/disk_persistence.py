"""The persistence on disk: a thread that writes the WAL and, every hour, a block.

    samples/0000000042.seg      sealed columns, never changed
    samples/0000000007.log      what memory holds; there is one, two for a moment in between

Sealing closes all columns before the running hour, writes them to a block, and begins a new WAL
with what memory still holds: only then is the old WAL deleted, so a kill at any moment leaves a
whole one. When the disk does not take it, memory goes on alone, and a new WAL is begun as soon as
the disk does.

Much that is late, of a sender that was cut off for hours, is sealed at once: memory does not wait
for the hour. Whoever has acknowledged something asks `logged` first: a kill then costs nothing of
it, whatever the writer does at the moment.
"""

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from functools import partial
from io import FileIO
from pathlib import Path

from tocsin_alerting.tsdb.block_store import BlockStore
from tocsin_alerting.tsdb.files import (
    UNFINISHED,
    next_path,
    numbered_files,
    remove_same,
    rename_new,
    same_file,
    sync_directory,
)
from tocsin_alerting.tsdb.head.snapshot import HeadSnapshot
from tocsin_alerting.tsdb.machine_names import renaming
from tocsin_alerting.tsdb.matchers import MatchMemo
from tocsin_alerting.tsdb.persistence import (
    Checkpoint,
    ClockShift,
    ColumnRecord,
    SeriesRecord,
    UnalignedRecord,
    WalEntry,
)
from tocsin_alerting.tsdb.query.selection import HeadSlice, Selection, UnalignedSlice
from tocsin_alerting.tsdb.series_index import MatcherSets
from tocsin_alerting.tsdb.store import HOUR_MS, Store
from tocsin_alerting.tsdb.values import NEVER_MS, Ints
from tocsin_alerting.tsdb.wal.codec import HEAD, CorruptWal, WalEncoder, WalReader, merge_columns
from tocsin_alerting.tsdb.wal.queue import WalQueue
from tocsin_alerting.tsdb.wal.replay import WalReplay
from tocsin_exporter.files import open_file
from tocsin_exporter.snapshot import Labels, MachineName, Source

log = logging.getLogger(__name__)

WAL_SUFFIX = ".log"
GRACE_MS = 60_000  # remote writers send the end of an hour a little later


@dataclass(frozen=True, slots=True)
class WriterIntervals:
    """Turns of the writer: how long one waits, and every how many of them it syncs the WAL, or
    tries again after a failure; and how many late samples are sealed before their time.

    What was written survives a kill of this process: the shorter a turn, the less is lost.
    """

    tick_seconds: float = 0.25
    ticks_per_sync: int = 32
    ticks_per_retry: int = 120
    early_seal_samples: int = 1_000_000


class Replayed(Enum):
    """How much of a WAL was read: with no more than a part, memory lacks some of it."""

    NOTHING = 1
    PART = 2
    WHOLE = 3


@dataclass(frozen=True, slots=True)
class DiskStatus:
    """How the persistence is: `failures` counts writes that the disk refused, `lost` entries that
    waited too long for it, `broken` blocks and logs of which something was damaged."""

    up: bool
    blocks: int
    bytes: int
    failures: int
    lost: int
    broken: int


class DiskPersistence:
    """`start` gives the store its history back, `run` writes in a thread, `close` writes the rest.

    Without `run` whoever calls `tick` is the writer. `claim` makes sure that the directory is ours
    before a file is begun or removed in it, or raises OSError.
    """

    def __init__(
        self,
        directory: Path,
        blocks: BlockStore,
        intervals: WriterIntervals | None = None,
        machine: MachineName | None = None,
        wall: Callable[[], float] = lambda: 0.0,
        claim: Callable[[], None] = lambda: None,
    ) -> None:
        self._directory = directory
        self._claim = claim
        self._wall = wall
        self._machine = machine
        self._blocks = blocks
        self._intervals = intervals or WriterIntervals()
        self._queue = WalQueue()
        self._store: Store | None = None
        self._encoder = WalEncoder()
        self._file: FileIO | None = None  # None: the disk does not take it
        self._tick_count = 0
        self._now_ms = 0
        self._sealed_until_ms = 0
        self._failures = self._broken = 0
        # The WAL lacks what fell out of the queue, until the one that is begun takes its place.
        self._gap = False
        # Logs whose content memory holds: those that were read to their end, and our own.
        self._obsolete: list[tuple[Path, os.stat_result]] = []
        self._ticks_done = 0
        self._next_logged: Future[None] | None = None  # one for all who wait for the next write
        self._logged_lock = threading.Lock()
        # What a WAL that is being begun still lacks.
        self._written_meanwhile: (
            deque[ColumnRecord | SeriesRecord | UnalignedRecord | ClockShift] | None
        ) = None
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    # what the store asks

    @property
    def retention_ms(self) -> int:
        return self._blocks.retention_ms

    @property
    def up(self) -> bool:
        return self._file is not None

    @property
    def progress(self) -> int:
        return self._ticks_done

    def logged(self) -> Future[None]:
        """Done when all that was handed over is in the WAL, or the disk takes nothing."""
        with self._logged_lock:
            asked = self._next_logged = self._next_logged or Future()
        self._wake.set()
        return asked

    def record(self, entry: WalEntry) -> None:
        if self._store is None:
            return
        self._queue.add(entry)
        if isinstance(entry, ClockShift):  # also one that fell out: memory has moved
            self._now_ms += entry.delta_ms
            self._sealed_until_ms = 0  # the hours are others now

    def seal_due(self, now_ms: int) -> None:
        self._now_ms = now_ms

    def newest_sealed(self) -> Mapping[Source, int]:
        return self._blocks.newest_sealed()

    def newest_unaligned_ms(self) -> int | None:
        return self._blocks.newest_unaligned_ms()

    def newest_samples(
        self, series: Sequence[Labels], unaligned_only: bool = False
    ) -> tuple[Ints, Ints]:
        return self._blocks.newest_samples(series, unaligned_only)

    def join(
        self,
        matcher_sets: MatcherSets,
        aligned: Sequence[HeadSlice],
        unaligned: UnalignedSlice | None,
        t0_ms: int,
        t1_ms: int,
        memo: MatchMemo,
    ) -> Selection:
        return self._blocks.join(matcher_sets, aligned, unaligned, t0_ms, t1_ms, memo)

    @property
    def set_aside_s(self) -> float | None:
        """When a file was set aside last, in this run or before it, in Unix seconds."""
        return self._blocks.set_aside.newest()

    # what the application does

    def start(self, store: Store) -> None:
        """Reads what there is into `store` and begins a WAL; a disk that fails is said, no more."""
        self._attempt(lambda: self._read(store))
        self._store = store
        self._attempt(self._begin_wal)

    def run(self, monotonic: Callable[[], float]) -> None:
        work = partial(self._run_ticks, monotonic)
        self._thread = threading.Thread(target=work, name="store writer", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        self.tick()
        self._attempt(self._sync)
        self.abandon_wal()
        self._store = None

    def tick(self) -> None:
        """One round of writing: what waits goes to the WAL, and an hour that is over is sealed."""
        self._tick_count += 1
        if self._file is None and not self._queue.overrun:
            with self._resolving_logged():
                self._queue.clear()
                if self._tick_count % self._intervals.ticks_per_retry == 0:
                    self._attempt(self._begin_wal)
            return
        self.flush()
        if self._tick_count % self._intervals.ticks_per_sync == 0:
            self._attempt(self._sync)
        hour_ms = (self._now_ms - GRACE_MS) // HOUR_MS * HOUR_MS
        if hour_ms > self._sealed_until_ms and self._attempt(lambda: self.seal(hour_ms)):
            self._sealed_until_ms = hour_ms
        self._ticks_done += self._file is not None

    def flush(self) -> None:
        """What waits goes to the WAL; and what is late to a block, when that is much."""
        with self._resolving_logged():
            if self._queue.overrun:
                self._queue.clear()
                self._attempt(self._begin_wal)
            elif self._file is not None:
                self._attempt(self._drain)
        if (
            self._file is not None
            and self._store is not None
            and self._store.backlog.samples >= self._intervals.early_seal_samples
        ):
            hour_ms = (self._now_ms - GRACE_MS) // HOUR_MS * HOUR_MS
            self._attempt(lambda: self.seal(hour_ms, early=True))

    def seal(self, before_ms: int, early: bool = False) -> None:
        """Everything before that time, as far as memory has it, into a block. Raises OSError."""
        assert self._store is not None
        self._keep_directory()
        snapshot = self._store.snapshot(before_ms, early)
        if self._blocks.add(snapshot, between_pieces=self._between_pieces):
            self._store.mark_sealed(snapshot)
            self._begin_wal()
        self._blocks.prune(self._now_ms)

    @property
    def status(self) -> DiskStatus:
        return DiskStatus(
            up=self.up,
            blocks=len(self._blocks),
            bytes=self._blocks.bytes,
            failures=self._failures,
            lost=self._queue.lost,
            broken=self._broken + self._blocks.broken,
        )

    # reading

    def _read(self, store: Store) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        if self._machine is not None:
            self._blocks.renaming = renaming(self._directory, self._machine)
        self._blocks.open(self._wall)
        pairs_ms = self._blocks.newest_unaligned_ms()
        if pairs_ms is not None:  # until a WAL says how much of that memory has
            store.restore_unaligned_bounds(pairs_ms + 1, NEVER_MS)
        logs = numbered_files(self._directory, WAL_SUFFIX)
        while logs:
            extent = self._replay(logs[-1], store)
            if extent is Replayed.WHOLE:  # it has what those before it had
                self._obsolete += [(path, path.stat()) for path in logs if path.is_file()]
            if extent is not Replayed.NOTHING:
                break
            logs.pop()
        store.finish_restore()

    def _replay(self, path: Path, store: Store) -> Replayed:
        """As much as is whole; what was torn off by a kill is said, what is none of ours set aside.
        A WAL that is damaged keeps its name until a new one has what was read of it."""
        replay = None
        try:
            if not path.is_file():
                raise CorruptWal("it is no file")
            with open_file(path) as file:
                if file.read(len(HEAD)) != HEAD:
                    raise CorruptWal("it does not begin as a log of ours")
                reader, replay = WalReader(file), WalReplay(store, self._blocks.renaming)
                for record in reader.records():
                    replay.apply(record)
        except (CorruptWal, KeyError, OSError, MemoryError) as error:
            self._broken += 1
            if replay is None and isinstance(error, CorruptWal):
                self._blocks.put_aside(path, error, "what came before is served")
            else:
                log.error("%s: it cannot be read: %r; what came before is served", path, error)
        else:
            if reader.whole_bytes < reader.size:
                torn = reader.size - reader.whole_bytes
                log.warning("%s: its last %d bytes are torn and were cut", path, torn)
            return Replayed.WHOLE
        return Replayed.NOTHING if replay is None else Replayed.PART

    # writing

    def _run_ticks(self, monotonic: Callable[[], float]) -> None:
        due = monotonic() + self._intervals.tick_seconds
        while not self._stop.is_set():
            self._wake.wait(max(due - monotonic(), 0.0))
            self._wake.clear()
            try:
                if monotonic() < due:
                    self.flush()
                else:
                    due = monotonic() + self._intervals.tick_seconds
                    self.tick()
            except Exception:  # why: nobody else writes, so a fault of ours must not end the thread
                log.exception("the store's writer failed; it begins a new log")
                self.abandon_wal()

    def _attempt(self, work: Callable[[], None]) -> bool:
        """Whether it worked. A failure is said once; memory goes on alone until a WAL begins."""
        try:
            work()
        except OSError as error:
            if self._failures == 0 or self._file is not None:
                log.error("samples are in memory only, the disk takes none: %s", error)
            self._failures += 1
            self.abandon_wal()
            return False
        return True

    def abandon_wal(self) -> None:
        """Closes the WAL as it is, without what waits."""
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):  # a disk that fails here has lost no more than it had
                file.close()

    def _between_pieces(self) -> None:
        """Between two pieces of a block or a WAL that is begun: those who wait do not."""
        if self._file is None or self._queue.overrun:
            return
        if self._gap:
            self._drain()
        elif self._next_logged:
            with self._resolving_logged(unless_overrun=True) as answered:
                if answered:
                    self._drain()

    def _drain(self) -> None:
        while self._queue:
            data = b"".join(self._encoded_entries(1000))
            if not self._gap:
                _write_all(self._file, data)

    @contextmanager
    def _resolving_logged(self, unless_overrun: bool = False) -> Iterator[bool]:
        """Those who asked before this: their entries are in the queue, and are written in it; False
        where it overran before they asked, and they wait on."""
        asked = None
        with self._logged_lock:
            answered = not (unless_overrun and self._queue.overrun)
            if answered:
                asked, self._next_logged = self._next_logged, None
        try:
            yield answered
        finally:
            if asked is not None:
                asked.set_result(None)

    def _encoded_entries(self, most: int) -> Iterator[bytes]:
        for entry in merge_columns(self._queued_entries(most)):
            if self._written_meanwhile is not None:
                self._written_meanwhile.append(entry)
            yield self._encoder.encode(entry)

    def _queued_entries(
        self, most: int
    ) -> Iterator[ColumnRecord | SeriesRecord | UnalignedRecord | ClockShift]:
        while self._queue and most:
            most -= 1
            entry = self._queue.pop()
            if not isinstance(entry, Checkpoint):
                yield entry

    def _begin_wal(self) -> None:
        """A new WAL, with all that memory holds, takes the place of the old one."""
        assert self._store is not None
        if self._file is not None and not self._queue.overrun:
            self._drain()  # the old WAL is whole until the new one has its name
        if self._queue.overrun:
            self._gap, self._queue.overrun = True, False
        self._keep_directory()
        snapshot = self._store.snapshot()
        self._drain_to_checkpoint()
        path = next_path(self._directory, WAL_SUFFIX)
        file, encoder = self._write_new_wal(path, snapshot)
        self._switch_to(file, encoder)
        self._obsolete.append((path, os.fstat(file.fileno())))
        sync_directory(self._directory)
        *others, own = self._obsolete
        self._obsolete = [*(one for one in others if not remove_same(*one)), own]

    def _drain_to_checkpoint(self) -> None:
        """What was handed over before the snapshot was taken is in it. It goes to the old WAL too:
        who waits for it may be answered before the new one has its name."""
        while self._queue.checkpoints:
            if self._gap:
                self._queue.pop()
            else:
                _write_all(self._file, b"".join(self._encoded_entries(1)))

    def _set_unread_aside(self) -> None:
        """The next start takes the newest log for all of them, and deletes the others."""
        why = OSError("it was not read to its end")
        for path in numbered_files(self._directory, WAL_SUFFIX):
            if not any(
                obsolete == path and same_file(path, was) for obsolete, was in self._obsolete
            ):
                self._blocks.put_aside(path, why, "samples go on in a new log")

    def _keep_directory(self) -> None:
        """It is there and ours, also where it was deleted meanwhile. Raises OSError."""
        self._claim()
        self._directory.mkdir(parents=True, exist_ok=True)

    def _write_new_wal(self, path: Path, snapshot: HeadSnapshot) -> tuple[FileIO, WalEncoder]:
        """A WAL of the snapshot and of what was handed over meanwhile: that is in the old one
        too."""
        unfinished, encoder = path.with_suffix(UNFINISHED), WalEncoder()
        file, self._written_meanwhile = FileIO(unfinished, "wb"), deque()
        try:
            _write_all(file, HEAD)
            for data in encoder.checkpoint(snapshot):
                _write_all(file, data)
                self._between_pieces()
            _write_all(file, b"".join(encoder.encode(entry) for entry in self._written_meanwhile))
            os.fsync(file.fileno())
            self._set_unread_aside()
            rename_new(unfinished, path)
        except OSError:
            file.close()
            unfinished.unlink(missing_ok=True)
            raise
        finally:
            self._written_meanwhile = None
        return file, encoder

    def _switch_to(self, file: FileIO, encoder: WalEncoder) -> None:
        if self._file is None and self._failures:
            log.warning("samples are written to disk again")
        self.abandon_wal()
        self._file, self._encoder, self._gap = file, encoder, False

    def _sync(self) -> None:
        if self._file is not None:
            os.fsync(self._file.fileno())


def _write_all(file: FileIO | None, data: bytes) -> None:
    """Writes all of it: a file without a buffer may take a part, and a full one keeps no rest."""
    left = memoryview(data)
    while file is not None and left:
        left = left[file.write(left) :]
