"""Tasks that end together, and calls in threads of their own."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from typing import TypeVar

T = TypeVar("T")


@asynccontextmanager
async def task_group() -> AsyncIterator[asyncio.TaskGroup]:
    """A TaskGroup that raises its first failure as it is.

    None of the tasks outlives it. Of a `gather`, the others run on when one fails: a request
    that nobody answers would keep its socket for ever.
    """
    first: BaseException | None = None
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as failed:
        first = failed.exceptions[0]
    if first is not None:  # raised up there, its context would be the group that holds it
        raise first


async def in_thread(call: Callable[[], T], executor: Executor | None = None) -> T:
    """The result of `call` from a thread of `executor`, of the loop's own by default; at once
    where there is no room for a thread: the loop waits a moment, and nothing is lost."""
    calls = deque([call])  # an executor keeps what it could not begin, and may begin it later

    def run() -> T:
        return calls.pop()()

    try:
        running = asyncio.get_running_loop().run_in_executor(executor, run)
    except RuntimeError:
        return run()
    return await running
