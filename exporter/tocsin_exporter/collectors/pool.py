"""A few threads for many calls that may hang, such as statvfs on each of a thousand mounts.

A call that hangs keeps a thread, and another one takes that thread's place as long as there are
spare ones. The threads are daemons and never belong to an executor, which would be joined when the
interpreter ends.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from threading import Condition, Thread, current_thread
from typing import Generic, TypeVar

from tocsin_exporter.collectors.collector import CollectorError

K = TypeVar("K")
T = TypeVar("T")

_LOOKS = 10  # at what runs, in the time of a call


class Pool(Generic[K, T]):
    """Runs calls by their keys on at most `threads` threads, and up to `spare` that hang.

    `hung` are the keys of calls that have not come back; they are not called again until they do.
    """

    def __init__(self, name: str, threads: int, spare: int) -> None:
        self.hung: set[K] = set()
        self._name = name
        self._most = threads
        self._spare = spare
        self._todo: deque[tuple[K, Callable[[], T]]] = deque()
        self._running: dict[Thread, K] = {}
        self._since: dict[tuple[Thread, K], float] = {}  # when it was first seen to run
        self._answers: dict[K, T | Exception] = {}
        self._threads: set[Thread] = set()  # without those that hang
        self._closed = False
        self._changed = Condition()
        self._over: Callable[[], object] = lambda: None  # called when nothing is left to do

    async def run(
        self, calls: Iterable[tuple[K, Callable[[], T]]], patience: float, budget: float
    ) -> Mapping[K, T | Exception]:
        """What came back. The calls are begun in their order; no two `run` at a time.

        A call may take `patience` seconds and all together `budget`. A key without an answer hangs,
        or was not reached in time. Raises CollectorError when there is no thread to be had.
        """
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        until = loop.time() + budget
        try:
            with self._changed:
                self._over = lambda: _from_thread(loop, over)
                self._answers, self._since = {}, {}
                self._todo.extend(call for call in calls if call[0] not in self.hung)
                self._start_threads()
                self._changed.notify_all()
            while self._look(loop.time(), patience) and (left := until - loop.time()) > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(left, patience / _LOOKS)):
                        await over.wait()
        finally:
            with self._changed:
                self._todo.clear()
                self._give_up(self._running)
        return self._answers

    def close(self) -> None:
        """Let the threads end, each after the call that it is in, if that ever comes back."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _look(self, now: float, patience: float) -> bool:
        """Give up what takes too long; whether there is something to wait for."""
        with self._changed:
            self._since = {job: self._since.get(job, now) for job in self._running.items()}
            late = [thread for (thread, _), at in self._since.items() if now - at >= patience]
            if late:
                self._give_up(late)
                self._start_threads()
            return bool(self._running or (self._todo and self._threads))

    def _give_up(self, threads: Iterable[Thread]) -> None:
        """Each ends when its call comes back; until then its key hangs. Of a thread that was killed
        nothing comes back."""
        for thread in list(threads):
            self._threads.discard(thread)
            key = self._running.pop(thread)
            if thread.is_alive():
                self.hung.add(key)

    def _start_threads(self) -> None:
        self._threads = {thread for thread in self._threads if thread.is_alive()}
        most = min(self._most, len(self._todo), self._most + self._spare - len(self.hung))
        while len(self._threads) < most:
            thread = Thread(target=self._work, name=self._name, daemon=True)
            self._threads.add(thread)
            try:
                thread.start()
            except RuntimeError as error:  # no memory, or a limit of processes
                self._threads.discard(thread)
                if not self._threads:
                    raise CollectorError(f"no thread for {self._name}: {error}") from error
                return

    def _work(self) -> None:
        me = current_thread()
        while (job := self._next(me)) is not None:
            key, call = job
            answer: T | Exception
            try:
                answer = call()
            except Exception as error:  # why: it belongs to whoever asked, whatever it is
                answer = error
            if not self._note(me, key, answer):
                return

    def _next(self, me: Thread) -> tuple[K, Callable[[], T]] | None:
        with self._changed:
            while not self._todo and not self._closed:
                self._changed.wait()
            if self._closed:
                return None
            job = self._todo.popleft()
            self._running[me] = job[0]
            return job

    def _note(self, me: Thread, key: K, answer: T | Exception) -> bool:
        """False when nobody waits for the answer any more: another thread has taken the place."""
        with self._changed:
            if me not in self._threads:
                self.hung.discard(key)
                return False
            del self._running[me]
            self._answers[key] = answer
            if not self._todo and not self._running:
                self._over()
            return True


def _from_thread(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has been closed: nobody asks any more
        loop.call_soon_threadsafe(event.set)
