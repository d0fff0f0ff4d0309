"""Tasks that end together."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


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


class Turnstile:
    """Open at first; who passes while it is shut waits until it opens."""

    def __init__(self) -> None:
        self._waiting: asyncio.Future[None] | None = None

    def shut(self) -> None:
        if self._waiting is None:
            self._waiting = asyncio.get_running_loop().create_future()

    def open(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
        self._waiting = None

    async def passes(self) -> None:
        if self._waiting is not None:
            await asyncio.shield(self._waiting)
