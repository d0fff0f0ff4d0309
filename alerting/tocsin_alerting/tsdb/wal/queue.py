"""The entries that wait for the writer: bounded, for a disk that hangs must not take the memory."""

from collections import deque

from tocsin_alerting.tsdb.persistence import Checkpoint, ColumnRecord, UnalignedRecord, WalEntry

MAX_ENTRIES = 20_000
MAX_SAMPLES = 4_000_000  # in them, of 16 bytes


class WalQueue:
    """One thread adds at a time (under the store's lock), and the writer alone takes off.

    When it was full it is `overrun` until the writer says otherwise, and takes nothing: what
    followed a gap would be written to rows whose owner fell out. `lost` counts what did not get in.
    """

    def __init__(self) -> None:
        self.checkpoints = 0  # in it
        self.lost = 0
        self.overrun = False
        self._entries: deque[WalEntry] = deque()
        self._added_samples = self._removed_samples = 0  # samples: each is counted by one thread

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: WalEntry) -> bool:
        """Whether it got in; a checkpoint always does."""
        if isinstance(entry, Checkpoint):
            self.checkpoints += 1
        elif self.overrun or self._is_full:
            self.lost += 1
            self.overrun = True
            return False
        self._entries.append(entry)
        self._added_samples += _samples(entry)
        return True

    @property
    def _is_full(self) -> bool:
        samples = self._added_samples - self._removed_samples
        return len(self._entries) >= MAX_ENTRIES or samples >= MAX_SAMPLES

    def pop(self) -> WalEntry:
        entry = self._entries.popleft()
        self.checkpoints -= isinstance(entry, Checkpoint)
        self._removed_samples += _samples(entry)
        return entry

    def clear(self) -> None:
        while self._entries:
            self.pop()


def _samples(entry: WalEntry) -> int:
    return len(entry.rows) if isinstance(entry, ColumnRecord | UnalignedRecord) else 0
