"""Writes batches to the journal, and keeps them when it cannot.

The disk must not silence the pager. While the journal is up, `record` waits for the commit, for
`patience_s` at most. Once it failed or was too slow nothing waits any more: batches are kept in
memory, merged, and `flush` writes them when the journal is back.
"""

import asyncio
import logging
from collections.abc import Callable

from tocsin_alerting.incidents.batch import Batch
from tocsin_alerting.incidents.errors import JournalError
from tocsin_alerting.incidents.journal import Journal

log = logging.getLogger(__name__)

PATIENCE_S = 2.0
FIRST_RETRY_MS = 1_000
LONGEST_RETRY_MS = 30_000


class Recorder:
    """`recorded` is called with each batch on the disk; `trouble` is "" while all is well."""

    def __init__(
        self, journal: Journal, recorded: Callable[[Batch], None], patience_s: float = PATIENCE_S
    ) -> None:
        self.journal = journal
        self.backlog = Batch()
        self.trouble = ""
        self.since_ms = 0
        self.retry_at_ms = 0
        self._recorded = recorded
        self._patience_s = patience_s
        self._turn = asyncio.Lock()
        self._retry_ms = FIRST_RETRY_MS
        self._late: asyncio.Task[None] | None = None

    @property
    def down(self) -> bool:
        return bool(self.trouble)

    async def record(self, batch: Batch, now_ms: int) -> bool:
        """Whether the batch is on the disk. Batches are written in the order of the calls."""
        async with self._turn:
            if self.down:
                self.backlog.merge(batch)
                return False
            return not batch or await self._commit(batch, now_ms)

    async def _commit(self, batch: Batch, now_ms: int) -> bool:
        writing = asyncio.ensure_future(self.journal.commit(batch))
        try:
            async with asyncio.timeout(self._patience_s):
                await asyncio.shield(writing)
        except TimeoutError:
            self._late = writing
            self.backlog.merge(batch)
            self.fail(f"the journal took longer than {self._patience_s:g} s", now_ms)
            return False
        except JournalError as error:
            self.backlog.merge(batch)
            self.fail(str(error), now_ms)
            return False
        except asyncio.CancelledError:  # unknown how it ends; writing it twice does no harm
            self._late = writing
            self.backlog.merge(batch)
            raise
        self._recorded(batch)
        return True

    def fail(self, trouble: str, now_ms: int) -> None:
        if not self.down:
            log.error("incidents are not recorded, people are paged all the same: %s", trouble)
            self.since_ms = now_ms
            self._retry_ms = FIRST_RETRY_MS
        self.trouble = trouble
        self.retry_at_ms = now_ms + self._retry_ms
        self._retry_ms = min(2 * self._retry_ms, LONGEST_RETRY_MS)

    async def flush(self, now_ms: int) -> bool:
        """Write what was kept. Whether all of it is on the disk now."""
        try:
            await self._late_end()
            while self.backlog:
                batch, self.backlog = self.backlog, Batch()
                try:
                    await self.journal.commit(batch)
                except BaseException:  # why: what is not written is kept, also when cancelled
                    batch.merge(self.backlog)
                    self.backlog = batch
                    raise
                self._recorded(batch)
        except JournalError as error:
            self.fail(str(error), now_ms)
            return False
        self.trouble = ""
        return True

    async def _late_end(self) -> None:
        late, self._late = self._late, None
        if late is not None:
            try:
                await asyncio.shield(late)
            except JournalError:
                pass  # its batch is in the backlog, and is about to be tried again
            except asyncio.CancelledError:
                self._late = late
                raise

    def shift(self, delta_ms: int) -> None:
        self.since_ms += delta_ms
        self.retry_at_ms += delta_ms
