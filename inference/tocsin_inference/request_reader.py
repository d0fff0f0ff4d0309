"""What clients send, read beside the event loop: bodies are parsed, long prompts tokenized."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from tocsin_exporter.threads import Threads
from tocsin_inference.errors import Exhausted

T = TypeVar("T")


class RequestReader:
    """One piece of work at a time, on a thread of its own: together they would take memory without
    bound, and hold the interpreter so long that nobody could read `/metrics`."""

    def __init__(self, name: str = "reading") -> None:
        self._thread = Threads(1, name)

    async def run(self, work: Callable[[], T]) -> T:
        """The result of `work`, when its turn comes; a cancelled caller gives its turn up. Raises
        Exhausted, and lets go of the work, without a thread for it, or memory."""
        try:
            job = self._thread.submit(work)
        except (RuntimeError, MemoryError) as error:
            raise Exhausted("thread") from error
        try:
            return await asyncio.wrap_future(job)
        except MemoryError as error:
            raise Exhausted("memory") from error
