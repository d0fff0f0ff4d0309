"""The journal's thread: it comes when it can be had."""

from pathlib import Path

import pytest

from support.exhausted import no_threads
from tocsin_alerting.incidents.errors import JournalDown
from tocsin_alerting.incidents.sqlite_journal import SqliteJournal
from tocsin_alerting.incidents.writer import Writer


async def test_a_thread_that_could_not_be_started_is_tried_again() -> None:
    writer = Writer("journal")
    with no_threads(), pytest.raises(RuntimeError, match="can't start new thread"):
        await writer.call(lambda: 1)
    assert await writer.call(lambda: 2) == 2
    writer.stop()


async def test_a_journal_without_its_thread_is_down_and_comes_back(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "incidents.db")
    with no_threads(), pytest.raises(JournalDown, match="can't start new thread"):
        await journal.load()
    assert (await journal.load()).incidents == ()
    await journal.close()
