"""One query's turn: off the loop, a few at once, under a budget, answered piece by piece.

A query must not delay a page, neither by the processor nor by memory. It runs in a thread, gives
the processor away between slices of its work, and ends when its time is over or its client has
gone. A large answer becomes text only as fast as its client reads: ten million numbers as Python
objects take gigabytes. That has a thread of its own: who reads waits for no evaluation, and no
evaluation for who reads.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TypeVar

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from tocsin_alerting.api.http.envelope import ApiError
from tocsin_alerting.api.http.gzip_stream import MIN_GZIP_BYTES, gzip_stream
from tocsin_alerting.api.prometheus.encoding import ResponseBody
from tocsin_alerting.api.prometheus.query_gate import QueryGate, QuerySlot
from tocsin_alerting.promql.engine import QueryEngine
from tocsin_alerting.promql.errors import ParseError
from tocsin_alerting.promql.eval.limits import Budget, QueryError, QueryLimitExceeded, QueryTimeout
from tocsin_alerting.time_format import format_duration
from tocsin_alerting.tsdb.store import Store
from tocsin_exporter.negotiation import accepts_gzip

log = logging.getLogger(__name__)

T = TypeVar("T")
MAX_TIMEOUT_MS = 120_000
_PATIENCE_SECONDS = 0.02  # before a client is watched: a task for each would take longer than they
_RETRY_SECONDS = 0.05  # to find room for an answer that has none
_ASK_FOR_LESS = "ask for fewer series, a shorter range or a wider step"
QueryWork = Callable[[Budget], ResponseBody]


@dataclass(frozen=True, slots=True)
class QueryLimits:
    """What one query may cost; `at_once` is how many run, `waiting` how many wait for their turn,
    and whoever comes then is sent away. `timeout_ms` is for its turn and its evaluation, as in
    Prometheus: what was evaluated in time is not lost, its client may take `sending_ms` to read it.
    """

    max_samples: int = 10_000_000
    max_points: int = 11_000
    timeout_ms: int = 30_000
    sending_ms: int = 120_000
    at_once: int = 2
    waiting: int = 200


@dataclass(frozen=True, slots=True)
class QueryContext:
    """What the handlers need; `monotonic` gives seconds. `evaluating` has a thread for each place,
    `sending` the one for the rest of large answers."""

    store: Store
    engine: QueryEngine
    evaluating: Executor
    sending: Executor
    now_ms: Callable[[], int]
    monotonic: Callable[[], float]
    limits: QueryLimits
    gate: QueryGate


@dataclass(frozen=True, slots=True)
class _Opened:
    """An answer's headers and the first piece of its body; of a large one also the other `pieces`,
    and the bytes of what is to become these."""

    headers: list[tuple[bytes, bytes]]
    first: bytes
    pieces: Iterator[bytes] | None = None
    size: int = 0


class QueryResponse:
    """A response: `work` evaluates in a thread and gives the body in pieces, made in threads too,
    and compressed there for clients that take gzip.

    Raises ApiError before anything is sent. `log_fields` is what the log says of it.
    """

    def __init__(
        self,
        context: QueryContext,
        work: QueryWork,
        timeout_ms: int | None = None,
        log_fields: Mapping[str, str] | None = None,
    ) -> None:
        self._queries = context
        self._log_fields = log_fields or {}
        self._work = work
        wanted_ms = context.limits.timeout_ms if timeout_ms is None else timeout_ms
        self._seconds = max(0, min(wanted_ms, MAX_TIMEOUT_MS)) / 1000
        self._finished = False
        self._client_left = False
        self._is_evaluating = False
        self._has_begun = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = self._queries.monotonic()
        headers = Headers(raw=list(scope.get("headers", ())))
        zipped = accepts_gzip(headers.get("accept-encoding", ""))
        try:
            await self._respond(receive, send, zipped)
        finally:
            self._finished = True  # the thread of a client that has gone ends at its next slice
            if log.isEnabledFor(logging.DEBUG):
                seconds = round(self._queries.monotonic() - began, 6)
                log.debug("query finished", extra={**self._log_fields, "seconds": seconds})

    async def _respond(self, receive: Receive, send: Send, zipped: bool) -> None:
        try:
            if not self._seconds:
                raise TimeoutError
            async with asyncio.timeout(self._seconds) as deadline:
                with self._watching(receive, deadline):
                    async with self._queries.gate.slot(partial(self._cancel, deadline)) as slot:
                        await self._evaluate(send, zipped, slot, deadline)
        except (TimeoutError, QueryTimeout):
            # Otherwise the connection is cut: no half answer passes for whole.
            if not (self._has_begun or self._client_left):
                raise ApiError("timeout", self._timeout_text()) from None
        except ParseError as error:
            raise ApiError("bad_data", f'invalid parameter "query": {error}') from None
        except MemoryError:
            if not self._has_begun:
                why = f"no memory is left to answer this query: {_ASK_FOR_LESS}"
                raise ApiError("execution", why) from None
        except QueryLimitExceeded as error:
            most = f"{self._queries.limits.max_samples:,} samples"
            raise ApiError("execution", f"{error}; it may read {most}: {_ASK_FOR_LESS}") from None
        except QueryError as error:
            raise ApiError("execution", str(error)) from None

    @contextmanager
    def _watching(self, receive: Receive, deadline: asyncio.Timeout) -> Iterator[None]:
        """The time is over, too, when the client closes its connection. Most answers are there
        before anybody need look."""
        watchers = set[asyncio.Task[None]]()

        def begin() -> None:
            watchers.add(asyncio.create_task(self._wait_for_disconnect(receive, deadline)))

        timer = asyncio.get_running_loop().call_later(_PATIENCE_SECONDS, begin)
        try:
            yield
        finally:
            timer.cancel()
            for watcher in watchers:
                watcher.cancel()

    async def _wait_for_disconnect(self, receive: Receive, deadline: asyncio.Timeout) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._cancel(deadline)

    def _cancel(self, deadline: asyncio.Timeout) -> None:
        if not deadline.expired():
            self._client_left = True
            deadline.reschedule(0)

    def _timeout_text(self) -> str:
        time = f"it had {format_duration(round(self._seconds * 1000))}"
        more = f"or for more time with timeout (at most {format_duration(MAX_TIMEOUT_MS)})"
        if self._is_evaluating:
            return f"query timed out in expression evaluation; {time}: {_ASK_FOR_LESS}, {more}"
        at_once = self._queries.limits.at_once
        return f"query timed out in query queue; {time}, {at_once} run at once: ask later, {more}"

    async def _evaluate(
        self, send: Send, zipped: bool, slot: QuerySlot, deadline: asyncio.Timeout
    ) -> None:
        opened = await _in_thread(self._queries.evaluating, lambda: self._first_piece(zipped))
        self._has_begun = not self._client_left
        if not opened.pieces:
            slot.release()
        self._allow(deadline, self._queries.limits.sending_ms / 1000)
        start = {"type": "http.response.start", "status": 200, "headers": opened.headers}
        await send(start)
        if not opened.pieces:
            await send({"type": "http.response.body", "body": opened.first, "more_body": False})
            return
        slot.size = opened.size + 2 * len(opened.first)
        with _leaving(slot):
            await self._send_pieces(send, opened, slot, deadline)

    async def _send_pieces(
        self, send: Send, opened: "_Opened", slot: QuerySlot, deadline: asyncio.Timeout
    ) -> None:
        """Of `sending_ms` only what the client takes is counted: it does not wait for itself."""
        loop, seconds = asyncio.get_running_loop(), self._queries.limits.sending_ms / 1000
        piece, pieces = opened.first, opened.pieces or iter(())
        while piece:
            # the one before it may still be on its encoding
            slot.size = opened.size + 2 * len(piece)
            slot.sends(loop.time())
            self._allow(deadline, seconds)
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            self._allow(deadline, None)
            seconds -= slot.taken(loop.time())
            piece = await _in_thread(self._queries.sending, lambda: next(pieces, b""))
        self._allow(deadline, seconds)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _allow(self, deadline: asyncio.Timeout, seconds: float | None) -> None:
        """From now on; who has gone, or was cut, gets no time."""
        if not self._client_left:
            now = asyncio.get_running_loop().time()
            deadline.reschedule(None if seconds is None else now + seconds)

    def _first_piece(self, zipped: bool) -> "_Opened":
        self._is_evaluating = True
        body = self._work(self._budget())
        pieces = iter(body)
        first, second = next(pieces, b""), next(pieces, b"")
        headers = [(b"content-type", body.content_type.encode())]
        whole = not second
        pieces = chain((first, second), pieces)
        if body.encoding:
            headers.append((b"content-encoding", body.encoding.encode()))
        if body.encoding is None and zipped and (len(first) >= MIN_GZIP_BYTES or not whole):
            headers.append((b"content-encoding", b"gzip"))
            pieces = gzip_stream(pieces)
        if whole:
            first = b"".join(pieces)
            headers.append((b"content-length", str(len(first)).encode()))
            return _Opened(headers, first)
        return _Opened(headers, next(pieces, b""), pieces, body.size())

    def _budget(self) -> Budget:
        limits, monotonic = self._queries.limits, self._queries.monotonic
        ends = monotonic() + self._seconds
        steps = limits.max_points + 1  # as in Prometheus, the first one does not count
        return Budget(limits.max_samples, steps, lambda: self._finished or monotonic() > ends)


@contextmanager
def _leaving(slot: QuerySlot) -> Iterator[None]:
    """The place is left as soon as there is room for the answer."""
    loop, timers = asyncio.get_running_loop(), list[asyncio.TimerHandle]()

    def leave() -> None:
        if not slot.leave_to_send(loop.time()):
            timers[:] = [loop.call_later(_RETRY_SECONDS, leave)]

    leave()
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()


async def _in_thread(executor: Executor, work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(executor, work)
