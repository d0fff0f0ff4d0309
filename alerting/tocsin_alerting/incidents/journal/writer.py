"""Writes changesets to the journal, and keeps them in memory while it cannot.

The disk must not silence the pager. `record` waits for its changeset, but never longer than it is
told to. What comes while the journal writes is merged, and is its next transaction. A journal that
fails, or takes longer than `limit_s`, is down: `flush` writes what was kept when it is back.
"""

import asyncio
import logging
from collections.abc import Callable

from tocsin_alerting.incidents.changeset import Changeset, HistoryEntry
from tocsin_alerting.incidents.errors import JournalError, JournalReplaced
from tocsin_alerting.incidents.journal.protocol import Journal

log = logging.getLogger(__name__)

WRITE_WAIT_S = 0.15  # and 0.05 for the mark that a message is on its way: 200 ms in all
NO_WAIT_S = 0.0
SENDER_WAIT_S = 6.0  # of a sender, while the journal writes; senders give up after 10 s
TIMEOUT_S = 2.0
FIRST_RETRY_MS = 1_000
MAX_RETRY_MS = 30_000
MAX_ROWS = 1_000  # of a transaction, about 50 ms


class JournalWriter:
    """`recorded` is called with each changeset that is on the disk; `last_error` is "" while all
    is well."""

    def __init__(
        self,
        journal: Journal,
        recorded: Callable[[Changeset], None],
        patience_s: float = WRITE_WAIT_S,
        limit_s: float = TIMEOUT_S,
    ) -> None:
        self.journal = journal
        self.backlog = Changeset()  # what the journal has not been given
        self.last_error = ""
        self.down_since_ms = 0
        self.retry_at_ms = 0
        self.replaced = False  # what is down is broken, and another one will begin
        self.unawaited = 0  # changesets that nobody waited for any longer
        self._recorded = recorded
        self._wait_s = patience_s
        self._timeout_s = limit_s
        self._writing = Changeset()
        self._begun_s: float | None = None
        self._asked = self._written = 0
        self._progress = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._retry_ms = FIRST_RETRY_MS
        self._overdue_commit: asyncio.Future[None] | None = None

    @property
    def down(self) -> bool:
        return bool(self.last_error)

    @property
    def unwritten(self) -> list[HistoryEntry]:
        """The lines of the history that are not known to be on the disk."""
        return [*self._writing.history, *self.backlog.history]

    def incident_waits(self, number: int) -> bool:
        """Whether the incident as it stands is not known to be on the disk."""
        return any(number in changeset.incidents for changeset in (self._writing, self.backlog))

    def silence_waits(self, name: str) -> bool:
        """Whether the silence as it stands is not known to be on the disk."""
        return any(name in changeset.silences for changeset in (self._writing, self.backlog))

    def unrecorded_engine(self, target: str) -> str | None:
        """Why what is to be remembered of an engine, or forgotten, is not on the disk, "" where it
        is on its way; None when it is there."""
        waits = any(target in changeset.engines for changeset in (self._writing, self.backlog))
        return self.last_error if waits else None

    def _writes_for_s(self) -> float:
        if self._begun_s is None:
            return 0.0
        return asyncio.get_running_loop().time() - self._begun_s

    async def record(
        self, changeset: Changeset, now_ms: int, patience_s: float | None = None
    ) -> bool:
        """Whether the changeset is on the disk. They are written in the order of the calls."""
        if not changeset:
            return not self.down
        self.backlog.merge(changeset)
        if self.down:
            return False
        self._asked += 1
        if self._task is None:
            self._task = asyncio.create_task(self._write(now_ms))
        patience_s = self._wait_s if patience_s is None else patience_s
        done = await self._wait_for(self._asked, patience_s)
        self.unawaited += not done and patience_s > NO_WAIT_S
        return done

    async def wait(self, patience_s: float | None = None) -> bool:
        """Whether all that was recorded so far is on the disk, as far as one waits for it."""
        patience_s = self._wait_s if patience_s is None else patience_s
        return await self._wait_for(self._asked, patience_s)

    async def _wait_for(self, number: int, patience_s: float) -> bool:
        """Whether that many are written; not at once when it has taken so long already."""
        if self._writes_for_s() < patience_s:
            try:
                async with asyncio.timeout(patience_s):
                    while self._written < number and not self.down:
                        await self._progress.wait()
            except TimeoutError:
                pass
        return self._written >= number

    async def _write(self, now_ms: int) -> None:
        """All that waits, and what comes meanwhile."""
        try:
            while self.backlog and not self.down:
                self._writing, self.backlog = self.backlog.split(MAX_ROWS)
                number = self._written if self.backlog else self._asked
                self._begun_s = asyncio.get_running_loop().time()
                trouble = await self._commit(self._writing)
                waited_ms, self._begun_s = round(1000 * self._writes_for_s()), None
                if trouble:
                    failed_ms = max(now_ms, self._writing.at_ms) + waited_ms
                    self.mark_down(trouble, failed_ms, soon=self.replaced)
                else:
                    self._recorded(self._writing)
                    self._written, self._writing = number, Changeset()
                self._wake_waiters()
        finally:
            self._begun_s, self._task = None, None
            self._requeue()
            self._wake_waiters()

    async def _commit(self, changeset: Changeset) -> str:
        """Why it is not written; "" if it is. Writing it twice does no harm."""
        commit = asyncio.ensure_future(self.journal.commit(changeset))
        try:
            async with asyncio.timeout(self._timeout_s):
                await asyncio.shield(commit)
        except TimeoutError:
            self._overdue_commit = commit
            return f"journal write took longer than {self._timeout_s:g} s"
        except JournalError as error:
            self.replaced = isinstance(error, JournalReplaced)
            return str(error)
        return ""

    def _requeue(self) -> None:
        """What may not be written waits again, before what came after it."""
        taken, self._writing = self._writing, Changeset()
        taken.merge(self.backlog)
        self.backlog = taken

    def _wake_waiters(self) -> None:
        moved, self._progress = self._progress, asyncio.Event()
        moved.set()

    def mark_down(self, trouble: str, now_ms: int, *, soon: bool = False) -> None:
        """`soon`: it is worth trying at once."""
        if not self.down:
            log.error("journal write failed; incidents not recorded, paging continues: %s", trouble)
            self.down_since_ms = now_ms
            self._retry_ms = FIRST_RETRY_MS
        self.last_error = trouble
        self.retry_at_ms = now_ms + (0 if soon else self._retry_ms)
        self._retry_ms = min(2 * self._retry_ms, MAX_RETRY_MS)

    def start_over(self, everything: Changeset) -> None:
        """The journal is another one and empty: all of this goes first."""
        everything.merge(self.backlog)
        self.backlog, self.replaced = everything, False

    async def flush(self, now_ms: int) -> bool:
        """Write what was kept. Whether all of it is on the disk now."""
        try:
            if self._task is not None:
                await asyncio.shield(self._task)
            await self._await_overdue()
            while self.backlog:
                self._writing, self.backlog = self.backlog.split(MAX_ROWS)
                try:
                    await self.journal.commit(self._writing)
                except BaseException:  # why: what is not written is kept, also when cancelled
                    self._requeue()
                    raise
                self._recorded(self._writing)
                self._writing = Changeset()
        except JournalError as error:
            self.replaced = isinstance(error, JournalReplaced)
            self.mark_down(str(error), now_ms, soon=self.replaced)
            return False
        self.last_error = ""
        return True

    async def _await_overdue(self) -> None:
        late, self._overdue_commit = self._overdue_commit, None
        if late is not None:
            try:
                await asyncio.shield(late)
            except JournalError:
                pass  # its changeset is in the backlog, and is about to be tried again
            except asyncio.CancelledError:
                self._overdue_commit = late
                raise

    def shift(self, delta_ms: int) -> None:
        self.down_since_ms += delta_ms
        self.retry_at_ms += delta_ms
