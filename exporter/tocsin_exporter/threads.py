"""Daemon threads for blocking work: a query, a lookup of a name, the journal, a call to a device.

An executor of the standard library is joined at exit, and a query in the middle of a large slice,
a name server that does not answer, or a disk that hangs, would hold the agent up.
"""

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from functools import partial
from typing import Any, ParamSpec, TypeAlias, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
_Job: TypeAlias = tuple[Future[Any], Callable[[], Any]]


class Threads(Executor):
    """At most `most` daemon threads, begun when they are first needed; as many as can be had.

    Work begins in the order in which it was submitted, and with `most` 1 it also ends in it. The
    threads are called `name-0` and so on, one alone `name`. `submit` raises RuntimeError, and does
    not keep the work, where there is not even one.
    """

    def __init__(self, most: int, name: str) -> None:
        self.most, self._name = most, name
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    def begin(self) -> "Threads":
        """All of them now; raises RuntimeError where they cannot be had."""
        while len(self._threads) < self.most:
            self._begin_one()
        return self

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        if len(self._threads) < self.most:
            try:
                self._begin_one()
            except RuntimeError:  # tried again with the next job; those that there are go on
                if not self._threads:
                    raise
        future: Future[T] = Future()
        self._jobs.put((future, partial(fn, *args, **kwargs)))
        return future

    @property
    def alive(self) -> bool:
        """Whether a thread is there: one may be killed, by a library or a debugger, and its work
        with it."""
        return any(thread.is_alive() for thread in self._threads)

    def close(self) -> None:
        """Each thread ends when what was submitted before is done; nobody waits for that. New work
        begins new threads."""
        for _ in self._threads:
            self._jobs.put(None)
        self._threads = []

    def _begin_one(self) -> None:
        name = self._name if self.most == 1 else f"{self._name}-{len(self._threads)}"
        thread = threading.Thread(target=self._serve, name=name, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            future, work = job
            if future.set_running_or_notify_cancel():
                _settle(future, work)
            del job, future, work  # a thread that waits keeps nothing


def _settle(future: Future[T], work: Callable[[], T]) -> None:
    try:
        result = work()
    except BaseException as error:  # why: it belongs to whoever asked, whatever it is
        future.set_exception(error)
        del future, work  # the error holds this frame, which would keep it alive
    else:
        future.set_result(result)


def room_for(count: int) -> int:
    """How many more threads can be begun, up to `count`."""
    free, begun = threading.Event(), list[threading.Thread]()
    try:
        while len(begun) < count:
            thread = threading.Thread(target=free.wait, name="room", daemon=True)
            thread.start()
            begun.append(thread)
    except RuntimeError:  # "can't start new thread"
        pass
    finally:
        free.set()
    for thread in begun:
        thread.join()
    return len(begun)


async def result_of(work: Future[T]) -> T:
    """The result of work that goes on when this is cancelled, and may outlive the loop."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def settle() -> None:
        if not ended.done():
            ended.set_result(None)

    def wake(_work: Future[T]) -> None:
        with suppress(RuntimeError):  # the loop is gone: nobody waits any more
            loop.call_soon_threadsafe(settle)

    work.add_done_callback(wake)
    await ended
    return work.result()


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
