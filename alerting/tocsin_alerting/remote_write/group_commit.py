"""Group commit: requests that wait at the same time are received in one go by a thread, and share
one write of the log. Each way between threads costs as much as some hundred samples."""

import asyncio
import logging
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from tocsin_alerting.remote_write.receipt import Receipt
from tocsin_alerting.store.senders import UNKNOWN, Sender

log = logging.getLogger(__name__)

LOG_SECONDS = 2.0  # a disk that is slower must not hold up what rules are to see
GROUP_BYTES = 1 << 20  # of bodies: the first of a group waits until the last is received


@dataclass(slots=True, eq=False)
class _Request:
    """`outcome` is set once the store has, or has refused, its samples; then `body` is empty.
    `committed_at` (of the loop's clock) is set when nothing but the log is waited for."""

    body: bytes
    now_ms: int
    sender: Sender
    answer: "asyncio.Future[Receipt]"
    outcome: Receipt | BaseException | None = None
    committed_at: float | None = None
    timer: asyncio.TimerHandle | None = None

    def settle(self) -> None:
        if self.answer.done():  # whoever asked has gone
            return
        if isinstance(self.outcome, Receipt):
            self.answer.set_result(self.outcome)
        elif self.outcome is not None:
            self.answer.set_exception(self.outcome)


class _Waiting:
    """Requests that wait, by sender. In turn the next is the shortest, and that of the sender that
    was served longest ago: a flood of long ones holds up no short one, nor one sender another.

    A sender's own stay in their order: of a series the older samples would be refused after the
    newer ones.
    """

    def __init__(self) -> None:
        self._by_sender: dict[Sender, list[_Request]] = {}
        self._shortest = True  # is the next one

    def __len__(self) -> int:
        return sum(map(len, self._by_sender.values()))

    def add(self, request: _Request) -> None:
        self._by_sender.setdefault(request.sender, []).append(request)

    def next(self) -> _Request | None:
        """It stays among them."""
        oldest = (requests[0] for requests in self._by_sender.values())
        if not self._shortest:
            return next(oldest, None)
        return min(oldest, key=lambda one: len(one.body), default=None)

    def take(self, request: _Request) -> None:
        self._shortest = not self._shortest
        self.remove(request)

    def remove(self, request: _Request) -> None:
        requests = self._by_sender.pop(request.sender)
        requests.remove(request)
        if requests:
            self._by_sender[request.sender] = requests  # after all others


class GroupCommit:
    """`receive` is called by `executor`, for one request after the other; `logged` is done when all
    that was taken so far would outlive the process (None: it never would). While the log does not
    move it may give the same future again.
    """

    def __init__(
        self,
        receive: Callable[[bytes, int, Sender], Receipt],
        executor: Executor,
        logged: Callable[[], "Future[None]"] | None = None,
        log_seconds: float = LOG_SECONDS,
    ) -> None:
        self._receive, self._executor, self._logged = receive, executor, logged
        self._log_seconds = log_seconds
        self._waiting = _Waiting()
        self._unlogged: dict[Future[None], set[_Request]] = {}
        self._lock = threading.Lock()
        self._at_work = False

    async def receipt(self, body: bytes, now_ms: int, sender: Sender = UNKNOWN) -> Receipt:
        """What became of a request, once its samples are in the log; or are not although they
        have waited for `log_seconds` since the store has them. Raises what `receive` raises."""
        loop = asyncio.get_running_loop()
        request = _Request(body, now_ms, sender, loop.create_future())
        with self._lock:
            self._waiting.add(request)
            idle, self._at_work = not self._at_work, True
        if idle:
            self._begin(loop, request)
        self._overdue(loop, request)
        try:
            return await request.answer
        finally:
            self._forget(request)

    def _begin(self, loop: asyncio.AbstractEventLoop, request: _Request) -> None:
        try:
            self._executor.submit(self._work, loop)
        except BaseException:  # why: without a thread or memory for one, the next request tries
            with self._lock:
                self._at_work = False
                self._waiting.remove(request)  # its sender hears that it was not taken
            raise

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            while self._serve(loop):
                pass
        except BaseException:  # why: the next request must find that nobody is at work
            with self._lock:
                self._at_work = False
            log.exception("remote write: the thread failed; the next request begins another")

    def _serve(self, loop: asyncio.AbstractEventLoop) -> bool:
        """One group; whether there was any."""
        group: list[_Request] = []
        try:
            self._receive_group(group)
            if group:
                self._commit(loop, group)
        except BaseException as error:  # why: nobody else would answer these, nor those that wait
            if not group:
                raise
            self._fail(loop, group, error)
        return bool(group)

    def _fail(
        self, loop: asyncio.AbstractEventLoop, group: Sequence[_Request], error: BaseException
    ) -> None:
        """Nobody waits for the log to have these, so none is told that it has: they come again."""
        for one in group:
            if one.outcome is None or isinstance(one.outcome, Receipt):
                one.outcome = error
            one.committed_at = loop.time()  # if they cannot be told now, they are when it is due
        with self._lock:
            for asked in [one for one, waiting in self._unlogged.items() if waiting <= set(group)]:
                del self._unlogged[asked]
        _tell(loop, group)
        log.error("remote write: %d requests failed", len(group), exc_info=error)

    def _receive_group(self, group: list[_Request]) -> None:
        """Receives those that wait, as many as may wait for each other; who comes meanwhile may be
        among them. Without any the work is done."""
        with self._lock:
            size, most = 0, max(1, len(self._waiting))
        while len(group) < most and (one := self._take(size if group else None)) is not None:
            size += len(one.body)
            group.append(one)
            try:
                one.outcome = self._receive(one.body, one.now_ms, one.sender)
            except BaseException as error:  # why: whatever it is, the others are received
                one.outcome = error
            one.body = b""  # it may wait for the log as long as a disk hangs

    def _take(self, group_bytes: int | None) -> _Request | None:
        """The next of a group with so many bytes, or of one that has none yet; None: it is done."""
        with self._lock:
            one, begun = self._waiting.next(), group_bytes is not None
            if one is None or (begun and (group_bytes or 0) + len(one.body) >= GROUP_BYTES):
                self._at_work = begun
                return None
            self._waiting.take(one)
            return one

    def _commit(self, loop: asyncio.AbstractEventLoop, group: Sequence[_Request]) -> None:
        outcomes = [one.outcome for one in group]
        taken = any(isinstance(one, Receipt) and one.taken for one in outcomes)
        if not taken or self._logged is None:
            _tell(loop, group)
            return
        asked, now = self._logged(), loop.time()
        with self._lock:
            new = asked not in self._unlogged
            unlogged = self._unlogged.setdefault(asked, set())
            for one in group:
                one.committed_at = now
                if not one.answer.done():
                    unlogged.add(one)
        if new:
            asked.add_done_callback(partial(self._is_logged, loop))

    def _is_logged(self, loop: asyncio.AbstractEventLoop, asked: "Future[None]") -> None:
        with self._lock:
            group = self._unlogged.pop(asked, set())
        _tell(loop, group)

    def _overdue(self, loop: asyncio.AbstractEventLoop, request: _Request) -> None:
        """Settles a request that has waited long enough for the log alone; looks again if not."""
        since, now = request.committed_at, loop.time()
        due = now + self._log_seconds if since is None else since + self._log_seconds
        if due <= now:
            request.settle()
        else:
            request.timer = loop.call_at(due, self._overdue, loop, request)

    def _forget(self, request: _Request) -> None:
        """It was answered, or whoever asked has gone."""
        if request.timer is not None:
            request.timer.cancel()
        with self._lock:
            for unlogged in self._unlogged.values():
                unlogged.discard(request)


def _tell(loop: asyncio.AbstractEventLoop, group: Collection[_Request]) -> None:
    with suppress(RuntimeError):  # the loop has ended, and with it whoever asked
        loop.call_soon_threadsafe(_settle, group)


def _settle(group: Collection[_Request]) -> None:
    for one in group:
        one.settle()
