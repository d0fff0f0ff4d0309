"""What is to be written is written once the journal takes it, whoever was cancelled meanwhile."""

import asyncio

import pytest

from tocsin_alerting.incidents.changeset import Changeset
from tocsin_alerting.incidents.errors import JournalDown
from tocsin_alerting.incidents.journal.memory import MemoryJournal
from tocsin_alerting.incidents.journal.writer import JournalWriter

BEFORE = Changeset(meta={"a": "1", "b": "1"})
MEANWHILE = Changeset(meta={"b": "2"})


class Gated(MemoryJournal):
    """Its commits wait for `gate`; `begun` says that one does. It is down while `trouble` says."""

    def __init__(self, trouble: str = "") -> None:
        super().__init__()
        self.trouble = trouble
        self.begun, self.gate = asyncio.Event(), asyncio.Event()

    async def commit(self, changeset: Changeset) -> None:
        if self.trouble:
            raise JournalDown(self.trouble)
        self.begun.set()
        await self.gate.wait()
        await super().commit(changeset)


async def _cancel(task: asyncio.Task[bool]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def _is_whole(writer: JournalWriter, journal: Gated, seen: list[Changeset]) -> bool:
    """Whether all of it is written now, the newest value last, and said to be."""
    journal.gate.set()
    assert await writer.flush(0) and not writer.down
    noted: dict[str, str] = {}
    for changeset in seen:
        noted |= changeset.meta
    return noted == (await journal.load()).meta == {"a": "1", "b": "2"}


async def test_a_flush_that_is_cancelled_keeps_what_it_was_writing() -> None:
    """So it is when the agent ends while it takes up a journal that has come back."""
    seen: list[Changeset] = []
    journal = Gated("no space left on device")
    writer = JournalWriter(journal, seen.append)
    assert not await writer.record(BEFORE, 0)
    journal.trouble = ""
    flushing = asyncio.create_task(writer.flush(0))
    await asyncio.wait_for(journal.begun.wait(), 30)
    assert not await writer.record(MEANWHILE, 0)
    await _cancel(flushing)
    assert not seen and writer.backlog.meta == {"a": "1", "b": "2"}
    assert await _is_whole(writer, journal, seen)


async def test_a_write_that_is_cancelled_keeps_what_it_was_writing() -> None:
    seen: list[Changeset] = []
    journal = Gated()
    writer = JournalWriter(journal, seen.append)
    recording = asyncio.create_task(writer.record(BEFORE, 0, 60.0))
    await asyncio.wait_for(journal.begun.wait(), 30)
    (writing,) = (
        task for task in asyncio.all_tasks() if getattr(task.get_coro(), "__name__", "") == "_write"
    )
    assert not await writer.record(MEANWHILE, 0, 0.0)
    writing.cancel()
    await asyncio.wait([writing])
    recording.cancel()
    assert not seen and writer.backlog.meta == {"a": "1", "b": "2"}
    assert await _is_whole(writer, journal, seen)
