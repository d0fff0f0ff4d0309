"""Where probes run: an event loop in a thread of its own.

What a server sends, a handshake, an expression on a large body take time; the loop of the agent,
which pages, has none of it, and what the agent does is no part of a measured latency.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from tocsin_exporter.probes.addresses import Resolver
from tocsin_exporter.probes.modules import ProbeModule
from tocsin_exporter.probes.prober import NotProbed, ProbeResult, run_probe

T = TypeVar("T")
MOST_AT_ONCE = 200  # each has a connection


class ProbeLoop:
    """`monotonic` gives seconds. The thread begins with the first probe."""

    def __init__(self, monotonic: Callable[[], float], most: int = MOST_AT_ONCE) -> None:
        self.monotonic = monotonic
        self.resolver = Resolver()
        self._free = asyncio.Semaphore(most)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    async def probe(self, target: str, module: ProbeModule, seconds: float) -> ProbeResult:
        """Raises NotProbed where we could not ask."""
        return await asyncio.wrap_future(self.begin(self._probe(target, module, seconds)))

    def begin(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        """Run `work` in the thread; cancel what is returned to end it. Raises NotProbed."""
        if self._loop is None:
            loop = _new_loop(work)
            thread = threading.Thread(target=_serve, args=(loop,), name="probes", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # tried again with the next probe
                loop.close()
                work.close()
                raise NotProbed(str(error)) from None
            self._loop, self._thread = loop, thread
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _probe(self, target: str, module: ProbeModule, seconds: float) -> ProbeResult:
        try:
            async with asyncio.timeout(seconds):
                await self._free.acquire()
        except TimeoutError:
            raise NotProbed("too many probes are under way") from None
        try:
            return await run_probe(target, module, seconds, self.resolver, self.monotonic)
        finally:
            self._free.release()

    def close(self, wait: float = 0.0) -> None:
        """What runs in the thread is given up, and it ends; `wait` for that so many seconds."""
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(wait)


def _new_loop(work: Coroutine[Any, Any, Any]) -> asyncio.AbstractEventLoop:
    """Raises NotProbed without a descriptor for it."""
    try:
        return asyncio.SelectorEventLoop()
    except OSError as error:
        work.close()
        raise NotProbed(error.strerror or str(error)) from None


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    if tasks := asyncio.all_tasks(loop):
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.wait(tasks))
    loop.close()
