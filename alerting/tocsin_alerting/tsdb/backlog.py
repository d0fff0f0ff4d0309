"""How long memory waits for the persistence, and how much for it."""

import numpy as np

from tocsin_alerting.tsdb.persistence import Persistence
from tocsin_alerting.tsdb.values import NEVER_MS, Ints

UNSEALED_RETENTIONS = 3
MAX_LATE_SAMPLES = 8_000_000


class Backlogged(Exception):
    """So many late samples wait for the disk that no more are taken: to be sent again."""


class Backlog:
    """`samples` are those that memory has, not sealed, which were older than the `memory_ms` that
    it keeps when they came; there are at most `most`.

    What is older than `unsealed_before_ms` goes, sealed or not. Whoever changes anything here has
    the store's lock; `samples` may be read without it.
    """

    def __init__(
        self, persistence: Persistence | None, memory_ms: int, most: int = MAX_LATE_SAMPLES
    ) -> None:
        self.samples = 0
        self.unsealed_before_ms = NEVER_MS
        self._archive, self._memory_ms, self._most = persistence, memory_ms, most
        self._progress: tuple[int, int] | None = None

    def late(self, times: Ints, now_ms: int) -> int:
        """How many of these samples would wait here; this needs no lock."""
        if self._archive is None:
            return 0
        return int(np.count_nonzero(times < now_ms - self._memory_ms))

    def admit(self, late: int) -> None:
        """Raises Backlogged when there is no room for so many late samples."""
        if late and self.samples + late > self._most:
            raise Backlogged(f"{self.samples} late samples wait for the disk; send it again")

    def max_age_ms(self) -> int | None:
        """How old a sample may be that somebody keeps; None: as old as the persistence allows."""
        if self._archive is None or self._archive.up:
            return None
        return UNSEALED_RETENTIONS * self._memory_ms

    def observe_progress(self, now_ms: int) -> None:
        """Memory waits for persistence that has done anything in the last hours."""
        if self._archive is None:
            return
        if self._progress is None or self._progress[0] != self._archive.progress:
            self._progress = self._archive.progress, now_ms
        most_ms = UNSEALED_RETENTIONS * self._memory_ms
        outwaited = now_ms - self._progress[1] > most_ms
        self.unsealed_before_ms = now_ms - most_ms if outwaited else NEVER_MS

    def shift_clock(self, delta_ms: int) -> None:
        """The wall clock was set: nobody has waited longer for that."""
        if self._progress is not None:
            self._progress = self._progress[0], self._progress[1] + delta_ms
