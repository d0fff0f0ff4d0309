"""One thread that does blocking work in the order in which it was asked for.

A daemon: a disk that hangs must not keep the process from ending.
"""

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
Job = tuple[Callable[[], Any], "asyncio.Future[Any]"]


class JournalThread:
    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    async def call(self, work: Callable[[], T]) -> T:
        """The result of `work`, or what it raised. Cancelling does not stop it. Raises RuntimeError
        where there is no room for the thread."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            thread.start()  # one that could not be started is tried again with the next call
            self._thread = thread
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._jobs.put((work, answer))
        return await answer

    def stop(self) -> None:
        """End when everything asked for is done."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread = None

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            if not _run_job(*job):
                return
            del job  # a thread that waits keeps nothing


def _run_job(work: Callable[[], Any], answer: "asyncio.Future[Any]") -> bool:
    """False where the loop is closed, and nobody waits any more."""
    result: Any = None
    error: BaseException | None = None
    try:
        result = work()
    except BaseException as raised:  # why: it belongs to the caller, whatever it is
        error = raised
    try:
        answer.get_loop().call_soon_threadsafe(_set_result, answer, result, error)
    except RuntimeError:
        return False
    return True


def _set_result(answer: "asyncio.Future[Any]", result: Any, error: BaseException | None) -> None:
    if answer.cancelled():
        return
    if error is None:
        answer.set_result(result)
    else:
        answer.set_exception(error)
