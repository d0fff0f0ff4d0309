"""Writes the WAL: what waits for it in a queue, in order, or a new one with all that memory holds.

The queue is bounded, for a disk that hangs must not take the memory. Who has acknowledged something
asks `logged` first: a kill then costs nothing of it, whatever the writer does at the moment.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from tocsin_alerting.tsdb.files import (
    UNFINISHED,
    PutAside,
    next_path,
    numbered_files,
    remove_same,
    rename_new,
    same_file,
    sync_directory,
)
from tocsin_alerting.tsdb.head.snapshot import HeadSnapshot
from tocsin_alerting.tsdb.persistence import (
    AlignedRecord,
    Checkpoint,
    QueueEntry,
    UnalignedRecord,
    WalEntry,
)
from tocsin_alerting.tsdb.wal.codec import HEAD, WAL_SUFFIX, WalEncoder, merge_columns

MAX_ENTRIES = 20_000
MAX_SAMPLES = 4_000_000  # in them, of 16 bytes


class WalQueue:
    """Any thread may add and look, and the writer alone takes off; a lock guards all of it.

    When it was full it is `overrun` until the writer calls `reopen`, and takes nothing: what
    followed a gap would be written to rows whose owner fell out. `lost` counts what did not get in.
    `checkpoints` are in it.
    """

    def __init__(self) -> None:
        self.checkpoints = self.lost = 0
        self.overrun = False
        self._entries: deque[QueueEntry] = deque()
        self._samples = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: QueueEntry) -> bool:
        """Whether it got in; a checkpoint always does."""
        samples = _samples(entry)
        with self._lock:
            if isinstance(entry, Checkpoint):
                self.checkpoints += 1
            elif self.overrun or self._is_full:
                self.lost += 1
                self.overrun = True
                return False
            self._entries.append(entry)
            self._samples += samples
            return True

    @property
    def _is_full(self) -> bool:
        return len(self._entries) >= MAX_ENTRIES or self._samples >= MAX_SAMPLES

    def pop(self) -> QueueEntry:
        with self._lock:
            entry = self._entries.popleft()
            self.checkpoints -= isinstance(entry, Checkpoint)
            self._samples -= _samples(entry)
            return entry

    def clear(self) -> None:
        while self._entries:
            self.pop()

    def reopen(self) -> None:
        """It takes entries again: what fell out is written from memory."""
        with self._lock:
            self.overrun = False


def _samples(entry: QueueEntry) -> int:
    if isinstance(entry, AlignedRecord):
        return entry.cells.size
    return len(entry.rows) if isinstance(entry, UnalignedRecord) else 0


class WalWriter:
    """One WAL in `directory` at a time. One thread writes: all is its own but the `queue` and
    `logged`, which any thread may ask.

    `claim` makes sure that the directory is there and ours before a file is begun in it, or raises
    OSError; `put_aside` moves a file out of the way that nobody has read; `wake` has the thread
    write soon.
    """

    def __init__(
        self,
        directory: Path,
        claim: Callable[[], None],
        put_aside: PutAside,
        wake: Callable[[], None],
    ) -> None:
        self.queue = WalQueue()
        # WALs whose content memory has: those that were read to their end, and our own.
        self.obsolete: list[tuple[Path, os.stat_result]] = []
        self._directory = directory
        self._claim, self._put_aside, self._wake = claim, put_aside, wake
        self._encoder = WalEncoder()
        self._file: FileIO | None = None  # None: the disk does not take it
        # The WAL lacks what fell out of the queue, until the one that is begun takes its place.
        self._gap = False
        # What a WAL that is being begun still lacks.
        self._written_meanwhile: deque[WalEntry] | None = None
        self._next_logged: Future[None] | None = None  # one for all who wait for the next write
        self._logged_lock = threading.Lock()

    @property
    def up(self) -> bool:
        return self._file is not None

    def logged(self) -> Future[None]:
        """Done when all that was handed over is in the WAL, or the disk takes nothing."""
        with self._logged_lock:
            asked = self._next_logged = self._next_logged or Future()
        self._wake()
        return asked

    @contextmanager
    def resolving_logged(self, unless_overrun: bool = False) -> Iterator[bool]:
        """Those who asked before this: their entries are in the queue, and are written in it; False
        where it overran before they asked, and they wait on."""
        asked = None
        with self._logged_lock:
            answered = not (unless_overrun and self.queue.overrun)
            if answered:
                asked, self._next_logged = self._next_logged, None
        try:
            yield answered
        finally:
            if asked is not None:
                asked.set_result(None)

    def write_queued(self) -> None:
        """All that waits. Raises OSError."""
        while self.queue:
            data = b"".join(self._encoded_entries(1000))
            if not self._gap:
                _write_all(self._file, data)

    def begin(self, snapshot: Callable[[], HeadSnapshot]) -> None:
        """A new WAL, with all that memory holds, takes the place of the old one. Raises OSError.

        `snapshot` queues a Checkpoint at its moment.
        """
        if self._file is not None and not self.queue.overrun:
            self.write_queued()  # the old WAL is whole until the new one has its name
        if self.queue.overrun:
            self._gap = True
            self.queue.reopen()
        self._claim()
        head = snapshot()
        self._drain_to_checkpoint()
        path = next_path(self._directory, WAL_SUFFIX)
        file, encoder = self._write_new(path, head)
        self.abandon()
        self._file, self._encoder, self._gap = file, encoder, False
        self.obsolete.append((path, os.fstat(file.fileno())))
        sync_directory(self._directory)
        *others, own = self.obsolete
        self.obsolete = [*(wal for wal in others if not remove_same(*wal)), own]

    def between_pieces(self) -> None:
        """Between two pieces of a block or a WAL that is begun: those who wait do not."""
        if self._file is None or self.queue.overrun:
            return
        if self._gap:
            self.write_queued()
        elif self._next_logged:
            with self.resolving_logged(unless_overrun=True) as answered:
                if answered:
                    self.write_queued()

    def sync(self) -> None:
        """Until a power cut can take nothing of it. Raises OSError."""
        if self._file is not None:
            os.fsync(self._file.fileno())

    def abandon(self) -> None:
        """Closes the WAL as it is, without what waits."""
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):  # a disk that fails here has lost no more than it had
                file.close()

    def _encoded_entries(self, most: int) -> Iterator[bytes]:
        for entry in merge_columns(self._queued_entries(most)):
            if self._written_meanwhile is not None:
                self._written_meanwhile.append(entry)
            yield self._encoder.encode(entry)

    def _queued_entries(self, most: int) -> Iterator[WalEntry]:
        while self.queue and most:
            most -= 1
            entry = self.queue.pop()
            if not isinstance(entry, Checkpoint):
                yield entry

    def _drain_to_checkpoint(self) -> None:
        """What was handed over before the snapshot was taken is in it. It goes to the old WAL too:
        who waits for it may be answered before the new one has its name."""
        while self.queue.checkpoints:
            if self._gap:
                self.queue.pop()
            else:
                _write_all(self._file, b"".join(self._encoded_entries(1)))

    def _set_unread_aside(self) -> None:
        """The next start takes the newest WAL for all of them, and deletes the others."""
        why = OSError("not read to its end")
        for path in numbered_files(self._directory, WAL_SUFFIX):
            if not any(read == path and same_file(path, was) for read, was in self.obsolete):
                self._put_aside(path, why, "continuing in a new WAL")

    def _write_new(self, path: Path, head: HeadSnapshot) -> tuple[FileIO, WalEncoder]:
        """A WAL of the snapshot and of what was handed over meanwhile: that is in the old one
        too."""
        unfinished, encoder = path.with_suffix(UNFINISHED), WalEncoder()
        file, self._written_meanwhile = FileIO(unfinished, "wb"), deque()
        try:
            _write_all(file, HEAD)
            for data in encoder.checkpoint(head):
                _write_all(file, data)
                self.between_pieces()
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


def _write_all(file: FileIO | None, data: bytes) -> None:
    """Writes all of it: a file without a buffer may take a part, and a full one keeps no rest."""
    left = memoryview(data)
    while file is not None and left:
        left = left[file.write(left) :]
