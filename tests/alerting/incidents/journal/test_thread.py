"""The journal's thread: it comes when it can be had."""

import asyncio
import gc
import threading
import weakref
from pathlib import Path

import pytest

from support.exhausted import no_threads
from tocsin_alerting.incidents.errors import JournalDown
from tocsin_alerting.incidents.journal.sqlite import SqliteJournal
from tocsin_alerting.incidents.journal.thread import JournalThread


async def test_a_thread_that_could_not_be_started_is_tried_again() -> None:
    writer = JournalThread("journal")
    with no_threads(), pytest.raises(RuntimeError, match="can't start new thread"):
        await writer.call(lambda: 1)
    assert await writer.call(lambda: 2) == 2
    writer.stop()


class Lost(Exception):
    """What work raised."""


def fails() -> None:
    raise Lost


async def _gone(event: threading.Event) -> bool:
    async with asyncio.timeout(20):
        while not event.is_set():
            gc.collect()  # who asked is in a ring with an error
            await asyncio.sleep(0.001)
    return True


async def test_a_thread_that_waits_keeps_no_result_and_no_error() -> None:
    writer, result, error = JournalThread("journal"), threading.Event(), threading.Event()
    weakref.finalize(await writer.call(Lost), result.set)
    assert await _gone(result)
    with pytest.raises(Lost) as raised:
        await writer.call(fails)
    weakref.finalize(raised.value, error.set)
    del raised
    assert await _gone(error)
    writer.stop()


async def test_a_journal_without_its_thread_is_down_and_comes_back(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "incidents.db")
    with no_threads(), pytest.raises(JournalDown, match="can't start new thread"):
        await journal.load()
    assert (await journal.load()).incidents == ()
    await journal.close()
