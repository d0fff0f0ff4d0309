"""Group commit: requests that wait at the same time are received in one go by a thread, and share
one write of the WAL. Each way between threads costs as much as some hundred samples."""

import asyncio
import logging
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from tocsin_alerting.remote_write.result import ReceiveResult
from tocsin_alerting.tsdb.senders import UNKNOWN, Sender

log = logging.getLogger(__name__)

LOG_SECONDS = 2.0  # a disk that is slower must not hold up what rules are to see
# The first of a group waits until the last is received.
GROUP_BYTES = 1 << 20  # of bodies
GROUP_SECONDS = 0.1  # 20 KB may be 2,500 new series, which take as long


Receive = Callable[[bytes, int, Sender], ReceiveResult]


@dataclass(slots=True, eq=False)
class _Request:
    """`outcome` is set once the store has, or has refused, its samples; then `body` is empty.
    `committed_at` (of the loop's clock) is set when nothing but the WAL is waited for."""

    body: bytes
    now_ms: int
    sender: Sender
    receive: Receive
    answer: "asyncio.Future[ReceiveResult]"
    outcome: ReceiveResult | BaseException | None = None
    committed_at: float | None = None
    timer: asyncio.TimerHandle | None = None

    def settle(self) -> None:
        if self.answer.done():  # whoever asked has gone
            return
        if isinstance(self.outcome, ReceiveResult):
            self.answer.set_result(self.outcome)
        elif self.outcome is not None:
            self.answer.set_exception(self.outcome)


class _WaitingRequests:
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
        return min(oldest, key=lambda request: len(request.body), default=None)

    def take(self, request: _Request) -> None:
        self._shortest = not self._shortest
        self.remove(request)

    def remove(self, request: _Request) -> None:
        requests = self._by_sender.pop(request.sender)
        requests.remove(request)
        if requests:
            self._by_sender[request.sender] = requests  # after all others


class GroupCommit:
    """`receive` (or what a request brings in its place) is called by `executor`, for one request
    after the other; `logged` is done when all
    that was taken so far would outlive the process (None: it never would). While the WAL does not
    move it may give the same future again.
    """

    def __init__(
        self,
        receive: Receive,
        executor: Executor,
        logged: Callable[[], "Future[None]"] | None = None,
        log_seconds: float = LOG_SECONDS,
        group_seconds: float = GROUP_SECONDS,
    ) -> None:
        self._receive, self._executor, self._logged = receive, executor, logged
        self._log_seconds, self._group_seconds = log_seconds, group_seconds
        self._waiting = _WaitingRequests()
        self._unlogged: dict[Future[None], set[_Request]] = {}
        self._lock = threading.Lock()
        self._is_working = False

    async def commit(
        self,
        body: bytes,
        now_ms: int,
        sender: Sender = UNKNOWN,
        receive: Receive | None = None,
    ) -> ReceiveResult:
        """What became of a request, once its samples are in the WAL; or are not although they
        have waited for `log_seconds` since the store has them. Raises what `receive` raises."""
        loop = asyncio.get_running_loop()
        request = _Request(body, now_ms, sender, receive or self._receive, loop.create_future())
        with self._lock:
            self._waiting.add(request)
            idle, self._is_working = not self._is_working, True
        if idle:
            self._start_worker(loop, request)
        self._settle_when_overdue(loop, request)
        try:
            return await request.answer
        finally:
            self._forget(request)

    def _start_worker(self, loop: asyncio.AbstractEventLoop, request: _Request) -> None:
        try:
            self._executor.submit(self._run, loop)
        except BaseException:  # why: without a thread or memory for one, the next request tries
            with self._lock:
                self._is_working = False
                self._waiting.remove(request)  # its sender hears that it was not taken
            raise

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            while self._serve_group(loop):
                pass
        except BaseException:  # why: the next request must find that nobody is at work
            with self._lock:
                self._is_working = False
            log.exception("remote write thread failed; the next request starts a new one")

    def _serve_group(self, loop: asyncio.AbstractEventLoop) -> bool:
        """One group; whether there was any."""
        group: list[_Request] = []
        try:
            self._receive_group(loop, group)
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
        """Nobody waits for the WAL to have these, so none is told that it has: they come again."""
        for request in group:
            if request.outcome is None or isinstance(request.outcome, ReceiveResult):
                request.outcome = error
            request.committed_at = (
                loop.time()
            )  # if they cannot be told now, they are when it is due
        with self._lock:
            for asked in [
                logged for logged, waiting in self._unlogged.items() if waiting <= set(group)
            ]:
                del self._unlogged[asked]
        _settle_on_loop(loop, group)
        log.error("remote write: %d requests failed", len(group), exc_info=error)

    def _receive_group(self, loop: asyncio.AbstractEventLoop, group: list[_Request]) -> None:
        """Receives those that wait, as many as may wait for each other; who comes meanwhile may be
        among them. Without any the work is done."""
        with self._lock:
            size, most = 0, max(1, len(self._waiting))
        until = loop.time() + self._group_seconds
        while len(group) < most and (request := self._take(size if group else None)) is not None:
            size += len(request.body)
            group.append(request)
            try:
                request.outcome = request.receive(request.body, request.now_ms, request.sender)
            except BaseException as error:  # why: whatever it is, the others are received
                request.outcome = error
            request.body = b""  # it may wait for the WAL as long as a disk hangs
            if loop.time() >= until:
                break

    def _take(self, group_bytes: int | None) -> _Request | None:
        """The next of a group with so many bytes, or of one that has none yet; None: it is done."""
        with self._lock:
            request, begun = self._waiting.next(), group_bytes is not None
            if request is None or (begun and (group_bytes or 0) + len(request.body) >= GROUP_BYTES):
                self._is_working = begun
                return None
            self._waiting.take(request)
            return request

    def _commit(self, loop: asyncio.AbstractEventLoop, group: Sequence[_Request]) -> None:
        outcomes = [request.outcome for request in group]
        taken = any(isinstance(outcome, ReceiveResult) and outcome.accepted for outcome in outcomes)
        if not taken or self._logged is None:
            _settle_on_loop(loop, group)
            return
        asked, now = self._logged(), loop.time()
        with self._lock:
            new = asked not in self._unlogged
            unlogged = self._unlogged.setdefault(asked, set())
            for request in group:
                request.committed_at = now
                if not request.answer.done():
                    unlogged.add(request)
        if new:
            asked.add_done_callback(partial(self._on_logged, loop))

    def _on_logged(self, loop: asyncio.AbstractEventLoop, asked: "Future[None]") -> None:
        with self._lock:
            group = self._unlogged.pop(asked, set())
        _settle_on_loop(loop, group)

    def _settle_when_overdue(self, loop: asyncio.AbstractEventLoop, request: _Request) -> None:
        """Settles a request that has waited long enough for the WAL alone; looks again if not."""
        since, now = request.committed_at, loop.time()
        due = now + self._log_seconds if since is None else since + self._log_seconds
        if due <= now:
            request.settle()
        else:
            request.timer = loop.call_at(due, self._settle_when_overdue, loop, request)

    def _forget(self, request: _Request) -> None:
        """It was answered, or whoever asked has gone."""
        if request.timer is not None:
            request.timer.cancel()
        with self._lock:
            for unlogged in self._unlogged.values():
                unlogged.discard(request)


def _settle_on_loop(loop: asyncio.AbstractEventLoop, group: Collection[_Request]) -> None:
    with suppress(RuntimeError):  # the loop has ended, and with it whoever asked
        loop.call_soon_threadsafe(_settle_all, group)


def _settle_all(group: Collection[_Request]) -> None:
    for request in group:
        request.settle()
