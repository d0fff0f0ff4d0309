"""One piece of work at a time, beside the event loop."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time

import pytest

from support.exhausted import no_threads
from tocsin_inference.errors import Exhausted
from tocsin_inference.request_reader import RequestReader

HANGS = """
import asyncio, time
from tocsin_inference.request_reader import RequestReader

async def main():
    asyncio.create_task(RequestReader().run(lambda: time.sleep(600)))
    await asyncio.sleep(0.1)

asyncio.run(main())
"""


async def test_one_at_a_time_and_what_is_given_up_never_runs() -> None:
    reader, go, begun = RequestReader(), threading.Event(), []

    def first() -> str:
        begun.append("first")
        go.wait(10)
        return "done"

    tasks = [asyncio.create_task(reader.run(work)) for work in (first, lambda: begun.append("b"))]
    last = asyncio.create_task(reader.run(lambda: begun.append("last")))
    async with asyncio.timeout(10):
        while not begun:
            await asyncio.sleep(0)
        tasks[1].cancel()
        with pytest.raises(asyncio.CancelledError):
            await tasks[1]
        assert begun == ["first"]
        go.set()
        assert await tasks[0] == "done"
        await last
    assert begun == ["first", "last"]


async def test_an_error_is_the_callers() -> None:
    def fails() -> None:
        raise ValueError("no")

    reader = RequestReader()
    with pytest.raises(ValueError, match="no"):
        await reader.run(fails)


@pytest.mark.parametrize("error", [RuntimeError, MemoryError])
async def test_work_that_no_thread_can_be_had_for_is_not_done_later(
    error: type[Exception],
) -> None:
    reader, done = RequestReader(), list[str]()
    with no_threads(error), pytest.raises(Exhausted, match="no thread left"):
        await reader.run(lambda: done.append("refused"))
    await reader.run(lambda: done.append("next"))
    assert done == ["next"]


def test_a_process_ends_in_the_middle_of_a_piece() -> None:
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", HANGS], check=True, timeout=60)
    assert time.monotonic() - began < 40
