"""A loop that must not end: what breaks it is told, and it begins anew."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)

RESTART_PAUSE_SECONDS = 1.0


async def restart_on_error(name: str, run: Callable[[], Awaitable[None]]) -> None:
    """`run` until it returns or is cancelled. A fault of ours costs one round, not the pager."""
    while True:
        try:
            await run()
            return
        except Exception:  # why: whatever it is, nobody is paged by a loop that has ended
            log.exception("loop failed; restarting", extra={"loop": name})
        await asyncio.sleep(RESTART_PAUSE_SECONDS)
