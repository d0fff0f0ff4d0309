"""The entries that wait for the writer: bounded, for a disk that hangs must not take the memory."""

from collections import deque

from tocsin_alerting.store.archive import Checkpoint, Column, Entry, Scraps

MOST_ENTRIES = 20_000
MOST_SAMPLES = 4_000_000  # in them, of 16 bytes


class EntryQueue:
    """One thread adds at a time (under the store's lock), and the writer alone takes off.

    When it was full it is `overrun` until the writer says otherwise, and takes nothing: what
    followed a gap would be written to rows whose owner fell out. `lost` counts what did not get in.
    """

    def __init__(self) -> None:
        self.checkpoints = 0  # in it
        self.lost = 0
        self.overrun = False
        self._entries: deque[Entry] = deque()
        self._brought = self._taken_off = 0  # samples: each is counted by one thread

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: Entry) -> bool:
        """Whether it got in; a checkpoint always does."""
        if isinstance(entry, Checkpoint):
            self.checkpoints += 1
        elif self.overrun or self._is_full:
            self.lost += 1
            self.overrun = True
            return False
        self._entries.append(entry)
        self._brought += _samples(entry)
        return True

    @property
    def _is_full(self) -> bool:
        samples = self._brought - self._taken_off
        return len(self._entries) >= MOST_ENTRIES or samples >= MOST_SAMPLES

    def pop(self) -> Entry:
        entry = self._entries.popleft()
        self.checkpoints -= isinstance(entry, Checkpoint)
        self._taken_off += _samples(entry)
        return entry

    def clear(self) -> None:
        while self._entries:
            self.pop()


def _samples(entry: Entry) -> int:
    return len(entry.rows) if isinstance(entry, Column | Scraps) else 0
