"""Group commit: requests that wait at the same time are received in one go by a thread, and share
one write of the log. Each way between threads costs as much as some hundred samples."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass

from tocsin_alerting.remote_write.receipt import Receipt
from tocsin_alerting.store.senders import UNKNOWN, Sender

LOG_SECONDS = 2.0  # a disk that is slower must not hold up what rules are to see
GROUP_BYTES = 1 << 20  # of bodies: the first of a group waits until the last is received


@dataclass(slots=True, eq=False)
class _Request:
    """`outcome` is set once the store has, or has refused, its samples."""

    body: bytes
    now_ms: int
    sender: Sender
    answer: "asyncio.Future[Receipt]"
    outcome: Receipt | BaseException | None = None

    def settle(self) -> None:
        if self.answer.done():  # whoever asked has gone
            return
        if isinstance(self.outcome, Receipt):
            self.answer.set_result(self.outcome)
        elif self.outcome is not None:
            self.answer.set_exception(self.outcome)


class GroupCommit:
    """`receive` is called by `executor`, for one request after the other in their order; `logged`
    is done when all that was taken so far would outlive the process (None: it never would)."""

    def __init__(
        self,
        receive: Callable[[bytes, int, Sender], Receipt],
        executor: Executor,
        logged: Callable[[], "Future[None]"] | None = None,
        log_seconds: float = LOG_SECONDS,
    ) -> None:
        self._receive, self._executor, self._logged = receive, executor, logged
        self._log_seconds = log_seconds
        self._waiting: deque[_Request] = deque()
        self._lock = threading.Lock()
        self._at_work = False

    async def receipt(self, body: bytes, now_ms: int, sender: Sender = UNKNOWN) -> Receipt:
        """What became of a request, once its samples are in the log; or are not although they
        wait for `log_seconds`, twice that at most. Raises what `receive` raises."""
        loop = asyncio.get_running_loop()
        request = _Request(body, now_ms, sender, loop.create_future())
        with self._lock:
            self._waiting.append(request)
            idle, self._at_work = not self._at_work, True
        if idle:
            self._begin(loop)
        timer = loop.call_later(self._log_seconds, self._overdue, loop, request)
        try:
            return await request.answer
        finally:
            timer.cancel()

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            self._executor.submit(self._work, loop)
        except RuntimeError:  # the machine has no thread for us: the next request tries again
            with self._lock:
                self._at_work = False
            raise

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        while group := self._group():
            for one in group:
                try:
                    one.outcome = self._receive(one.body, one.now_ms, one.sender)
                except BaseException as error:  # why: whatever it is, the others are received
                    one.outcome = error
            self._commit(loop, group)

    def _group(self) -> list[_Request]:
        """Those that wait, as many as may wait for each other. Without any the work is done."""
        group: list[_Request] = []
        size = 0
        with self._lock:
            while self._waiting and (not group or size + len(self._waiting[0].body) < GROUP_BYTES):
                group.append(self._waiting.popleft())
                size += len(group[-1].body)
            self._at_work = bool(group)
        return group

    def _commit(self, loop: asyncio.AbstractEventLoop, group: Sequence[_Request]) -> None:
        def told(_: object = None) -> None:
            with suppress(RuntimeError):  # the loop has ended, and with it whoever asked
                loop.call_soon_threadsafe(_settle, group)

        outcomes = [one.outcome for one in group]
        taken = any(isinstance(one, Receipt) and one.taken for one in outcomes)
        if taken and self._logged is not None:
            self._logged().add_done_callback(told)
        else:
            told()

    def _overdue(self, loop: asyncio.AbstractEventLoop, request: _Request) -> None:
        request.settle()
        if not request.answer.done():  # it was not received yet
            loop.call_later(self._log_seconds, self._overdue, loop, request)


def _settle(group: Sequence[_Request]) -> None:
    for one in group:
        one.settle()
