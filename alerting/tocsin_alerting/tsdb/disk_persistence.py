"""The persistence on disk: a thread that writes the WAL and, every hour, seals a block.

    samples/0000000042.seg      sealed columns, never changed
    samples/0000000007.log      the WAL: what memory holds; one, two for a moment in between

Sealing closes all columns before the running hour, writes them to a block, and begins a new WAL
with what memory still holds: only then is the old WAL deleted, so a kill at any moment leaves a
whole one. When the disk does not take it, memory goes on alone, and a new WAL is begun as soon as
the disk does.

Much that is late, of a sender that was cut off for hours, is sealed at once: memory does not wait
for the hour.
"""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from tocsin_alerting.tsdb.block_store import BlockStore
from tocsin_alerting.tsdb.machine_names import renaming
from tocsin_alerting.tsdb.persistence import ClockShift, QueueEntry
from tocsin_alerting.tsdb.query.querier import Querier
from tocsin_alerting.tsdb.store import HOUR_MS, Store
from tocsin_alerting.tsdb.values import NEVER_MS
from tocsin_alerting.tsdb.wal.replay import replay_newest
from tocsin_alerting.tsdb.wal.writer import WalWriter
from tocsin_exporter.snapshot import MachineName

log = logging.getLogger(__name__)

GRACE_MS = 60_000  # remote writers send the end of an hour a little later


@dataclass(frozen=True, slots=True)
class WriterIntervals:
    """Ticks of the writer: how long one waits, and every how many of them it syncs the WAL, or
    tries again after a failure; and how many late samples are sealed before their time.

    What was written survives a kill of this process: the shorter a tick, the less is lost.
    """

    tick_seconds: float = 0.25
    ticks_per_sync: int = 32
    ticks_per_retry: int = 120
    early_seal_samples: int = 1_000_000


@dataclass(frozen=True, slots=True)
class DiskStatus:
    """How the persistence is: `failures` counts writes that the disk refused, `lost` entries that
    waited too long for it, `broken` blocks and WALs of which something was damaged."""

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
        self._blocks, self._querier = blocks, Querier(blocks)
        self.newest_sealed = blocks.newest_sealed
        self.newest_unaligned_ms = blocks.newest_unaligned_ms
        self.newest_samples, self.join = self._querier.newest_samples, self._querier.join
        self._intervals = intervals or WriterIntervals()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._wal = WalWriter(directory, self._keep_directory, blocks.put_aside, self._wake.set)
        self._now_ms: int | None = None  # whoever sets it has the store's lock
        # The writer's alone, and that of `start` and `close` while it does not run. Others may read
        # a field, not two that must fit each other.
        self._store: Store | None = None
        self._tick_count = self._ticks_done = 0
        self._sealed_hour_ms: int | None = None
        self._failures = self._broken = 0

    # what the store asks

    def limit(self, retention_ms: int, max_bytes: int) -> None:
        """Other limits hold from the next time that blocks are removed."""
        self._blocks.limit(retention_ms, max_bytes)

    @property
    def retention_ms(self) -> int:
        return self._blocks.retention_ms

    @property
    def up(self) -> bool:
        return self._wal.up

    @property
    def progress(self) -> int:
        return self._ticks_done

    def logged(self) -> Future[None]:
        """Done when all that was handed over is in the WAL, or the disk takes nothing."""
        return self._wal.logged()

    def record(self, entry: QueueEntry) -> None:
        if self._store is None:
            return
        self._wal.queue.add(entry)
        if isinstance(entry, ClockShift) and self._now_ms is not None:
            self._now_ms += entry.delta_ms  # also where it fell out: memory has moved

    def seal_due(self, now_ms: int) -> None:
        self._now_ms = now_ms

    @property
    def set_aside_s(self) -> float | None:
        """When a file was set aside last, in this run or before it, in Unix seconds."""
        return self._blocks.set_aside.newest()

    # what the application does

    def start(self, store: Store) -> None:
        """Reads what there is into `store` and begins a WAL; a disk that fails is only logged."""
        self._attempt(lambda: self._read(store))
        self._store = store
        self._attempt(self._begin_wal)

    def run(self, monotonic: Callable[[], float]) -> None:
        self._thread = threading.Thread(
            target=self._run_ticks, args=(monotonic,), name="store writer", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        self.tick()
        self._attempt(self._wal.sync)
        self._wal.abandon()
        self._store = None

    def tick(self) -> None:
        """One round of writing: what waits goes to the WAL, and an hour that is over is sealed."""
        self._tick_count += 1
        if not self._wal.up and not self._wal.queue.overrun:
            with self._wal.resolving_logged():
                self._wal.queue.clear()
                if self._tick_count % self._intervals.ticks_per_retry == 0:
                    self._attempt(self._begin_wal)
            return
        self.flush()
        if self._tick_count % self._intervals.ticks_per_sync == 0:
            self._attempt(self._wal.sync)
        self._seal_hour()
        self._ticks_done += self._wal.up

    def _seal_hour(self) -> None:
        """Any other than the last one: after a step of the clock also an earlier one."""
        hour_ms = self._closed_hour_ms()
        if hour_ms is not None and hour_ms != self._sealed_hour_ms:
            if self._attempt(lambda: self.seal(hour_ms)):
                self._sealed_hour_ms = hour_ms

    def _closed_hour_ms(self) -> int | None:
        """Where the running hour begins, or, shortly after that, the one before."""
        now_ms = self._now_ms
        return None if now_ms is None else (now_ms - GRACE_MS) // HOUR_MS * HOUR_MS

    def flush(self) -> None:
        """What waits goes to the WAL; and what is late to a block, when that is much."""
        with self._wal.resolving_logged():
            if self._wal.queue.overrun:
                self._wal.queue.clear()
                self._attempt(self._begin_wal)
            elif self._wal.up:
                self._attempt(self._wal.write_queued)
        if not self._wal.up or self._store is None:
            return
        hour_ms, late = self._closed_hour_ms(), self._store.backlog.samples
        if hour_ms is not None and late >= self._intervals.early_seal_samples:
            self._attempt(lambda: self.seal(hour_ms, early=True))

    def seal(self, before_ms: int, early: bool = False) -> None:
        """Everything before that time, as far as memory has it, into a block. Raises OSError."""
        assert self._store is not None
        self._keep_directory()
        snapshot = self._store.snapshot(before_ms, early)
        added = self._blocks.add(snapshot, between_pieces=self._wal.between_pieces)
        self._store.mark_sealed(snapshot)
        if added:
            self._begin_wal()
        if self._now_ms is not None:
            self._blocks.prune(self._now_ms)

    @property
    def status(self) -> DiskStatus:
        return DiskStatus(
            up=self.up,
            blocks=len(self._blocks),
            bytes=self._blocks.bytes,
            failures=self._failures,
            lost=self._wal.queue.lost,
            broken=self._broken + self._blocks.broken + self._querier.broken,
        )

    # reading

    def _read(self, store: Store) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        if self._machine is not None:
            self._blocks.renaming = renaming(self._directory, self._machine)
        self._blocks.open(self._wall)
        newest_ms = self._blocks.newest_unaligned_ms()
        if newest_ms is not None:  # until a WAL says how much of that memory has
            store.restore_unaligned_bounds(newest_ms + 1, NEVER_MS)
        self._wal.obsolete, self._broken = replay_newest(
            self._directory, store, self._blocks.renaming, self._blocks.put_aside
        )
        store.finish_restore()

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
                log.exception("store writer failed; starting a new WAL")
                self.abandon_wal()

    def _attempt(self, work: Callable[[], None]) -> bool:
        """Whether it worked. A failure is logged once; memory goes on alone until a WAL begins."""
        try:
            work()
        except OSError as error:
            if self._failures == 0 or self._wal.up:
                log.error("disk write failed; keeping samples in memory, retrying: %s", error)
            self._failures += 1
            self.abandon_wal()
            return False
        return True

    def abandon_wal(self) -> None:
        """Closes the WAL as it is, without what waits."""
        self._wal.abandon()

    def _begin_wal(self) -> None:
        assert self._store is not None
        again = self._failures and not self._wal.up
        self._wal.begin(self._store.snapshot)
        if again:
            log.warning("disk write recovered; samples are on disk again")

    def _keep_directory(self) -> None:
        """It is there and ours, also where it was deleted meanwhile. Raises OSError."""
        self._claim()
        self._directory.mkdir(parents=True, exist_ok=True)
