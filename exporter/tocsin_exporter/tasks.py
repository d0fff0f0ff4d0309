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
