"""A thread for calls that may hang, one guard a device or mount."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from tocsin_exporter.collectors.collector import Stuck, Unread
from tocsin_exporter.threads import Threads, result_of

T = TypeVar("T")


class HangGuard:
    """Runs one call at a time on a thread of its own: one that hangs keeps no other."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._threads = Threads(1, name)
        self.busy = False  # a call has not come back, even if nobody waits for it any more

    async def run(self, call: Callable[[], T]) -> T:
        """The result of `call`, or its exception. Raises Stuck while an earlier call hangs, Unread
        where there is no room for a thread.

        Cancelling (a deadline) stops the waiting, not the call: nothing can stop that.
        """
        if self.busy and self._threads.alive:
            raise Stuck(f"{self._name}: an earlier call still hangs")
        try:
            running = self._threads.submit(call)
        except RuntimeError as error:  # tried again next time
            raise Unread(f"no thread for {self._name}: {error}") from error
        self.busy = True  # of a thread that was killed nothing comes back: another is begun
        running.add_done_callback(self._returned)
        return await result_of(running)

    def close(self) -> None:
        """Let the thread end after the call it is in, if that ever comes back."""
        self._threads.close()

    def _returned(self, _running: Future[Any]) -> None:
        self.busy = False
