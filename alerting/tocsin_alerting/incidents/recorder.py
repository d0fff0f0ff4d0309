"""Writes batches to the journal, and keeps them when it cannot.

The disk must not silence the pager. `record` waits for its batch, but never longer than it is told
to. What comes while the journal writes is merged, and is its next transaction. A journal that
fails, or takes longer than `limit_s`, is down: batches are kept in memory, and `flush` writes them
when it is back.
"""

import asyncio
import logging
from collections.abc import Callable

from tocsin_alerting.incidents.batch import Batch, Entry
from tocsin_alerting.incidents.errors import JournalError, JournalReplaced
from tocsin_alerting.incidents.journal import Journal

log = logging.getLogger(__name__)

PATIENCE_S = 0.15  # and 0.05 for the mark that a message is on its way: 200 ms in all
NOT_AT_ALL_S = 0.0
LIMIT_S = 2.0
FIRST_RETRY_MS = 1_000
LONGEST_RETRY_MS = 30_000
MOST_ROWS = 1_000  # of a transaction, about 50 ms


class Recorder:
    """`recorded` is called with each batch on the disk; `trouble` is "" while all is well."""

    def __init__(
        self,
        journal: Journal,
        recorded: Callable[[Batch], None],
        patience_s: float = PATIENCE_S,
        limit_s: float = LIMIT_S,
    ) -> None:
        self.journal = journal
        self.backlog = Batch()  # what the journal has not been given
        self.trouble = ""
        self.since_ms = 0
        self.retry_at_ms = 0
        self.replaced = False  # what is down is broken, and another one will begin
        self.late = 0  # batches that nobody waited for any longer
        self._recorded = recorded
        self._patience_s = patience_s
        self._limit_s = limit_s
        self._writing = Batch()
        self._begun_s: float | None = None
        self._asked = self._written = 0
        self._moved = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._retry_ms = FIRST_RETRY_MS
        self._late: asyncio.Future[None] | None = None

    @property
    def down(self) -> bool:
        return bool(self.trouble)

    @property
    def unwritten(self) -> list[Entry]:
        """The lines of the history that are not known to be on the disk."""
        return [*self._writing.history, *self.backlog.history]

    def incident_waits(self, number: int) -> bool:
        """Whether the incident as it stands is not known to be on the disk."""
        return any(number in one.incidents for one in (self._writing, self.backlog))

    def unrecorded_engine(self, target: str) -> str | None:
        """Why what is to be remembered of an engine, or forgotten, is not on the disk, "" where it
        is on its way; None when it is there."""
        waits = any(target in one.engines for one in (self._writing, self.backlog))
        return self.trouble if waits else None

    def _writes_for_s(self) -> float:
        if self._begun_s is None:
            return 0.0
        return asyncio.get_running_loop().time() - self._begun_s

    async def record(self, batch: Batch, now_ms: int, patience_s: float | None = None) -> bool:
        """Whether the batch is on the disk. Batches are written in the order of the calls."""
        if not batch:
            return not self.down
        self.backlog.merge(batch)
        if self.down:
            return False
        self._asked += 1
        if self._task is None:
            self._task = asyncio.create_task(self._write(now_ms))
        patience_s = self._patience_s if patience_s is None else patience_s
        done = await self._waited(self._asked, patience_s)
        self.late += not done and patience_s > NOT_AT_ALL_S
        return done

    async def wait(self) -> bool:
        """Whether all that was recorded so far is on the disk, as far as one waits for it."""
        return await self._waited(self._asked, self._patience_s)

    async def _waited(self, number: int, patience_s: float) -> bool:
        """Whether that many batches are written; not at once when it has taken so long already."""
        if self._writes_for_s() < patience_s:
            try:
                async with asyncio.timeout(patience_s):
                    while self._written < number and not self.down:
                        await self._moved.wait()
            except TimeoutError:
                pass
        return self._written >= number

    async def _write(self, now_ms: int) -> None:
        """All that waits, and what comes meanwhile."""
        try:
            while self.backlog and not self.down:
                self._writing, self.backlog = self.backlog.split(MOST_ROWS)
                number = self._written if self.backlog else self._asked
                self._begun_s = asyncio.get_running_loop().time()
                trouble = await self._committed(self._writing)
                waited_ms, self._begun_s = round(1000 * self._writes_for_s()), None
                if trouble:
                    failed_ms = max(now_ms, self._writing.at_ms) + waited_ms
                    self.fail(trouble, failed_ms, soon=self.replaced)
                else:
                    self._recorded(self._writing)
                    self._written, self._writing = number, Batch()
                self._tell()
        finally:
            self._begun_s, self._task = None, None
            self._take_back()
            self._tell()

    async def _committed(self, batch: Batch) -> str:
        """Why it is not written; "" if it is. Writing it twice does no harm."""
        commit = asyncio.ensure_future(self.journal.commit(batch))
        try:
            async with asyncio.timeout(self._limit_s):
                await asyncio.shield(commit)
        except TimeoutError:
            self._late = commit
            return f"the journal took longer than {self._limit_s:g} s"
        except JournalError as error:
            self.replaced = isinstance(error, JournalReplaced)
            return str(error)
        return ""

    def _take_back(self) -> None:
        """What may not be written waits again, before what came after it."""
        taken, self._writing = self._writing, Batch()
        taken.merge(self.backlog)
        self.backlog = taken

    def _tell(self) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    def fail(self, trouble: str, now_ms: int, *, soon: bool = False) -> None:
        """`soon`: it is worth trying at once."""
        if not self.down:
            log.error("incidents are not recorded, people are paged all the same: %s", trouble)
            self.since_ms = now_ms
            self._retry_ms = FIRST_RETRY_MS
        self.trouble = trouble
        self.retry_at_ms = now_ms + (0 if soon else self._retry_ms)
        self._retry_ms = min(2 * self._retry_ms, LONGEST_RETRY_MS)

    def begin_anew(self, everything: Batch) -> None:
        """The journal is another one and empty: all of this goes first."""
        everything.merge(self.backlog)
        self.backlog, self.replaced = everything, False

    async def flush(self, now_ms: int) -> bool:
        """Write what was kept. Whether all of it is on the disk now."""
        try:
            if self._task is not None:
                await asyncio.shield(self._task)
            await self._late_end()
            while self.backlog:
                self._writing, self.backlog = self.backlog.split(MOST_ROWS)
                try:
                    await self.journal.commit(self._writing)
                except BaseException:  # why: what is not written is kept, also when cancelled
                    self._take_back()
                    raise
                self._recorded(self._writing)
                self._writing = Batch()
        except JournalError as error:
            self.replaced = isinstance(error, JournalReplaced)
            self.fail(str(error), now_ms, soon=self.replaced)
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
