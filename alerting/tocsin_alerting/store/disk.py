"""The archive on disk: a thread that writes the log and, every hour, a segment.

    samples/0000000042.seg      sealed columns, never changed
    samples/0000000007.log      what memory holds; there is one, two for a moment in between

Sealing closes all columns before the running hour, writes them to a segment, and begins a new log
with what memory still holds: only then is the old log deleted, so a kill at any moment leaves a
whole one. When the disk does not take it, memory goes on alone, and a new log is begun as soon as
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

from tocsin_alerting.store.archive import (
    Checkpoint,
    Column,
    Entry,
    Live,
    LivePairs,
    Owner,
    Scraps,
    Shift,
)
from tocsin_alerting.store.cell import NEVER_MS, Ints
from tocsin_alerting.store.entry_queue import EntryQueue
from tocsin_alerting.store.files import (
    UNFINISHED,
    next_path,
    numbered,
    remove,
    rename_new,
    same_file,
    sync_directory,
)
from tocsin_alerting.store.held import Stock
from tocsin_alerting.store.instances import renaming
from tocsin_alerting.store.log import HEAD, BrokenLog, LogReader, Writer, joined
from tocsin_alerting.store.matchers import Verdicts
from tocsin_alerting.store.replay import Replay
from tocsin_alerting.store.rows import MatcherSets
from tocsin_alerting.store.selection import Selection
from tocsin_alerting.store.shelf import Shelf
from tocsin_alerting.store.store import HOUR_MS, Store
from tocsin_exporter.files import open_file
from tocsin_exporter.snapshot import Labels, MachineName, Source

log = logging.getLogger(__name__)

SUFFIX = ".log"
GRACE_MS = 60_000  # remote writers send the end of an hour a little later


@dataclass(frozen=True, slots=True)
class Pace:
    """Turns of the writer: how long one waits, and every how many of them it syncs the log, or
    tries again after a failure; and how many late samples are sealed before their time.

    What was written survives a kill of this process: the shorter a turn, the less is lost.
    """

    seconds: float = 0.25
    sync: int = 32
    retry: int = 120
    early: int = 1_000_000


class Extent(Enum):
    """How much of a log was read: with no more than a part, memory lacks some of it."""

    NOTHING = 1
    PART = 2
    WHOLE = 3


@dataclass(frozen=True, slots=True)
class Condition:
    """How the archive is: `failures` counts writes that the disk refused, `lost` entries that
    waited too long for it, `broken` segments and logs of which something was damaged."""

    up: bool
    segments: int
    bytes: int
    failures: int
    lost: int
    broken: int


class DiskArchive:
    """`start` gives the store its history back, `run` writes in a thread, `close` writes the rest.

    Without `run` whoever calls `turn` is the writer. `hold` makes sure that the directory is ours
    before a file is begun or removed in it, or raises OSError.
    """

    def __init__(
        self,
        directory: Path,
        shelf: Shelf,
        pace: Pace | None = None,
        machine: MachineName | None = None,
        wall: Callable[[], float] = lambda: 0.0,
        hold: Callable[[], None] = lambda: None,
    ) -> None:
        self._directory = directory
        self._hold = hold
        self._wall = wall
        self._machine = machine
        self._shelf = shelf
        self._pace = pace or Pace()
        self._queue = EntryQueue()
        self._store: Store | None = None
        self._writer = Writer()
        self._file: FileIO | None = None  # None: the disk does not take it
        self._turn = 0
        self._now_ms = 0
        self._sealed_until_ms = 0
        self._failures = self._broken = 0
        # The log lacks what fell out of the queue, until the one that is begun takes its place.
        self._gap = False
        # Logs whose content memory holds: those that were read to their end, and our own.
        self._obsolete: list[tuple[Path, os.stat_result]] = []
        self._turns_done = 0
        self._asked: Future[None] | None = None  # one for all who wait for the next write
        self._asking = threading.Lock()
        # What a log that is being begun still lacks.
        self._begun: deque[Column | Owner | Scraps | Shift] | None = None
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    # what the store asks

    @property
    def retention_ms(self) -> int:
        return self._shelf.retention_ms

    @property
    def up(self) -> bool:
        return self._file is not None

    @property
    def progress(self) -> int:
        return self._turns_done

    def logged(self) -> Future[None]:
        """Done when all that was handed over is in the log, or the disk takes nothing."""
        with self._asking:
            asked = self._asked = self._asked or Future()
        self._wake.set()
        return asked

    def record(self, entry: Entry) -> None:
        if self._store is None:
            return
        self._queue.add(entry)
        if isinstance(entry, Shift):  # also one that fell out: memory has moved
            self._now_ms += entry.delta_ms
            self._sealed_until_ms = 0  # the hours are others now

    def seal_due(self, now_ms: int) -> None:
        self._now_ms = now_ms

    def newest(self) -> Mapping[Source, int]:
        return self._shelf.newest()

    def newest_pairs(self) -> int | None:
        return self._shelf.newest_pairs()

    def newest_of(self, series: Sequence[Labels], pairs_alone: bool = False) -> tuple[Ints, Ints]:
        return self._shelf.newest_of(series, pairs_alone)

    def join(
        self,
        matcher_sets: MatcherSets,
        live: Sequence[Live],
        pairs: LivePairs | None,
        t0_ms: int,
        t1_ms: int,
        verdicts: Verdicts,
    ) -> Selection:
        return self._shelf.join(matcher_sets, live, pairs, t0_ms, t1_ms, verdicts)

    @property
    def set_aside_s(self) -> float | None:
        """When a file was set aside last, in this run or before it, in Unix seconds."""
        return self._shelf.set_aside.newest()

    # what the application does

    def start(self, store: Store) -> None:
        """Reads what there is into `store` and begins a log; a disk that fails is said, no more."""
        self._attempt(lambda: self._read(store))
        self._store = store
        self._attempt(self._begin_log)

    def run(self, monotonic: Callable[[], float]) -> None:
        work = partial(self._turns, monotonic)
        self._thread = threading.Thread(target=work, name="store writer", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        self.turn()
        self._attempt(self._sync)
        self.let_go()
        self._store = None

    def turn(self) -> None:
        """One round of writing: what waits goes to the log, and an hour that is over is sealed."""
        self._turn += 1
        if self._file is None and not self._queue.overrun:
            with self._answering():
                self._queue.clear()
                if self._turn % self._pace.retry == 0:
                    self._attempt(self._begin_log)
            return
        self.flush()
        if self._turn % self._pace.sync == 0:
            self._attempt(self._sync)
        hour_ms = (self._now_ms - GRACE_MS) // HOUR_MS * HOUR_MS
        if hour_ms > self._sealed_until_ms and self._attempt(lambda: self.seal(hour_ms)):
            self._sealed_until_ms = hour_ms
        self._turns_done += self._file is not None

    def flush(self) -> None:
        """What waits goes to the log; and what is late to a segment, when that is much."""
        with self._answering():
            if self._queue.overrun:
                self._queue.clear()
                self._attempt(self._begin_log)
            elif self._file is not None:
                self._attempt(self._drain)
        if (
            self._file is not None
            and self._store is not None
            and self._store.backlog.samples >= self._pace.early
        ):
            hour_ms = (self._now_ms - GRACE_MS) // HOUR_MS * HOUR_MS
            self._attempt(lambda: self.seal(hour_ms, early=True))

    def seal(self, before_ms: int, early: bool = False) -> None:
        """Everything before that time, as far as memory has it, into a segment. Raises OSError."""
        assert self._store is not None
        self._keep_directory()
        stock = self._store.held(before_ms, early)
        if self._shelf.add(stock, meanwhile=self._meanwhile):
            self._store.sealed(stock)
            self._begin_log()
        self._shelf.prune(self._now_ms)

    @property
    def condition(self) -> Condition:
        return Condition(
            up=self.up,
            segments=len(self._shelf),
            bytes=self._shelf.bytes,
            failures=self._failures,
            lost=self._queue.lost,
            broken=self._broken + self._shelf.broken,
        )

    # reading

    def _read(self, store: Store) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        if self._machine is not None:
            self._shelf.renaming = renaming(self._directory, self._machine)
        self._shelf.open(self._wall)
        pairs_ms = self._shelf.newest_pairs()
        if pairs_ms is not None:  # until a log says how much of that memory has
            store.restore_bounds(pairs_ms + 1, NEVER_MS)
        logs = numbered(self._directory, SUFFIX)
        while logs:
            extent = self._replay(logs[-1], store)
            if extent is Extent.WHOLE:  # it has what those before it had
                self._obsolete += [(one, one.stat()) for one in logs if one.is_file()]
            if extent is not Extent.NOTHING:
                break
            logs.pop()
        store.restored()

    def _replay(self, path: Path, store: Store) -> Extent:
        """As much as is whole; what was torn off by a kill is said, what is none of ours set aside.
        A log that is damaged keeps its name until a new one has what was read of it."""
        replay = None
        try:
            if not path.is_file():
                raise BrokenLog("it is no file")
            with open_file(path) as file:
                if file.read(len(HEAD)) != HEAD:
                    raise BrokenLog("it does not begin as a log of ours")
                reader, replay = LogReader(file), Replay(store, self._shelf.renaming)
                for record in reader.records():
                    replay.apply(record)
        except (BrokenLog, KeyError, OSError, MemoryError) as error:
            self._broken += 1
            if replay is None and isinstance(error, BrokenLog):
                self._shelf.put_aside(path, error, "what came before is served")
            else:
                log.error("%s: it cannot be read: %r; what came before is served", path, error)
        else:
            if reader.whole < reader.size:
                torn = reader.size - reader.whole
                log.warning("%s: its last %d bytes are torn and were cut", path, torn)
            return Extent.WHOLE
        return Extent.NOTHING if replay is None else Extent.PART

    # writing

    def _turns(self, monotonic: Callable[[], float]) -> None:
        due = monotonic() + self._pace.seconds
        while not self._stop.is_set():
            self._wake.wait(max(due - monotonic(), 0.0))
            self._wake.clear()
            try:
                if monotonic() < due:
                    self.flush()
                else:
                    due = monotonic() + self._pace.seconds
                    self.turn()
            except Exception:  # why: nobody else writes, so a fault of ours must not end the thread
                log.exception("the store's writer failed; it begins a new log")
                self.let_go()

    def _attempt(self, work: Callable[[], None]) -> bool:
        """Whether it worked. A failure is said once; memory goes on alone until a log begins."""
        try:
            work()
        except OSError as error:
            if self._failures == 0 or self._file is not None:
                log.error("samples are in memory only, the disk takes none: %s", error)
            self._failures += 1
            self.let_go()
            return False
        return True

    def let_go(self) -> None:
        """Closes the log as it is, without what waits."""
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):  # a disk that fails here has lost no more than it had
                file.close()

    def _meanwhile(self) -> None:
        """Between two pieces of a segment or a log that is begun: those who wait do not."""
        if self._file is None or self._queue.overrun:
            return
        if self._gap:
            self._drain()
        elif self._asked:
            with self._answering(unless_overrun=True) as answered:
                if answered:
                    self._drain()

    def _drain(self) -> None:
        while self._queue:
            data = b"".join(self._waiting(1000))
            if not self._gap:
                _put(self._file, data)

    @contextmanager
    def _answering(self, unless_overrun: bool = False) -> Iterator[bool]:
        """Those who asked before this: their entries are in the queue, and are written in it; False
        where it overran before they asked, and they wait on."""
        asked = None
        with self._asking:
            answered = not (unless_overrun and self._queue.overrun)
            if answered:
                asked, self._asked = self._asked, None
        try:
            yield answered
        finally:
            if asked is not None:
                asked.set_result(None)

    def _waiting(self, most: int) -> Iterator[bytes]:
        for entry in joined(self._entries(most)):
            if self._begun is not None:
                self._begun.append(entry)
            yield self._writer.entry(entry)

    def _entries(self, most: int) -> Iterator[Column | Owner | Scraps | Shift]:
        while self._queue and most:
            most -= 1
            entry = self._queue.pop()
            if not isinstance(entry, Checkpoint):
                yield entry

    def _begin_log(self) -> None:
        """A new log, with all that memory holds, takes the place of the old one."""
        assert self._store is not None
        if self._file is not None and not self._queue.overrun:
            self._drain()  # the old log is whole until the new one has its name
        if self._queue.overrun:
            self._gap, self._queue.overrun = True, False
        self._keep_directory()
        stock = self._store.held()
        self._drain_to_checkpoint()
        path = next_path(self._directory, SUFFIX)
        file, writer = self._written_log(path, stock)
        self._take_up(file, writer)
        self._obsolete.append((path, os.fstat(file.fileno())))
        sync_directory(self._directory)
        *others, own = self._obsolete
        self._obsolete = [*(one for one in others if not remove(*one)), own]

    def _drain_to_checkpoint(self) -> None:
        """What was handed over before the stock was taken is in it. It goes to the old log too: who
        waits for it may be answered before the new one has its name."""
        while self._queue.checkpoints:
            if self._gap:
                self._queue.pop()
            else:
                _put(self._file, b"".join(self._waiting(1)))

    def _put_unread_aside(self) -> None:
        """The next start takes the newest log for all of them, and deletes the others."""
        why = OSError("it was not read to its end")
        for path in numbered(self._directory, SUFFIX):
            if not any(one == path and same_file(path, was) for one, was in self._obsolete):
                self._shelf.put_aside(path, why, "samples go on in a new log")

    def _keep_directory(self) -> None:
        """It is there and ours, also where it was deleted meanwhile. Raises OSError."""
        self._hold()
        self._directory.mkdir(parents=True, exist_ok=True)

    def _written_log(self, path: Path, stock: Stock) -> tuple[FileIO, Writer]:
        """A log of the stock and of what was handed over meanwhile: that is in the old one too."""
        unfinished, writer = path.with_suffix(UNFINISHED), Writer()
        file, self._begun = FileIO(unfinished, "wb"), deque()
        try:
            _put(file, HEAD)
            for data in writer.checkpoint(stock):
                _put(file, data)
                self._meanwhile()
            _put(file, b"".join(writer.entry(one) for one in self._begun))
            os.fsync(file.fileno())
            self._put_unread_aside()
            rename_new(unfinished, path)
        except OSError:
            file.close()
            unfinished.unlink(missing_ok=True)
            raise
        finally:
            self._begun = None
        return file, writer

    def _take_up(self, file: FileIO, writer: Writer) -> None:
        if self._file is None and self._failures:
            log.warning("samples are written to disk again")
        self.let_go()
        self._file, self._writer, self._gap = file, writer, False

    def _sync(self) -> None:
        if self._file is not None:
            os.fsync(self._file.fileno())


def _put(file: FileIO | None, data: bytes) -> None:
    """Writes all of it: a file without a buffer may take a part, and a full one keeps no rest."""
    left = memoryview(data)
    while file is not None and left:
        left = left[file.write(left) :]
