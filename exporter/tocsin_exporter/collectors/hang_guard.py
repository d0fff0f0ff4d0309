"""A thread for calls that may hang, one guard a device or mount.

A call that hangs keeps its own guard and nothing else. The threads are daemons and never belong to
an executor, which would be joined when the interpreter ends.
"""

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from typing import TypeVar

from tocsin_exporter.collectors.collector import Stuck, Unread

T = TypeVar("T")


class HangGuard:
    """Runs one call at a time on a daemon thread of its own, which starts with the first call."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: Thread | None = None
        self.busy = False  # a call has not come back, even if nobody waits for it any more

    async def run(self, call: Callable[[], T]) -> T:
        """The result of `call`, or its exception. Raises Stuck while an earlier call hangs, Unread
        where there is no room for a thread.

        Cancelling (a deadline) stops the waiting, not the call: nothing can stop that.
        """
        if self.busy:
            raise Stuck(f"{self._name}: an earlier call has not come back")
        if self._thread is None:
            thread = Thread(target=self._work, name=self._name, daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # tried again next time
                raise Unread(f"no thread for {self._name}: {error}") from error
            self._thread = thread
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[T] = loop.create_future()
        self.busy = True
        self._jobs.put(lambda: self._answer(call, reply, loop))
        return await reply

    def close(self) -> None:
        """Let the thread end after the call it is in, if that ever comes back."""
        self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            del job  # a thread that waits keeps nothing

    def _answer(
        self, call: Callable[[], T], reply: "asyncio.Future[T]", loop: asyncio.AbstractEventLoop
    ) -> None:
        outcome: Future[T] = Future()
        try:
            outcome.set_result(call())
        except BaseException as error:  # why: it belongs to whoever asked, whatever it is
            outcome.set_exception(error)
        self.busy = False
        with contextlib.suppress(RuntimeError):  # the loop has been closed: nobody asks any more
            loop.call_soon_threadsafe(_settle, reply, outcome)


def _settle(reply: "asyncio.Future[T]", outcome: "Future[T]") -> None:
    if reply.done():  # its deadline has passed
        return
    if (error := outcome.exception()) is not None:
        reply.set_exception(error)
    else:
        reply.set_result(outcome.result())
