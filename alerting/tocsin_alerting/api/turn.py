"""One query's turn: off the loop, a few at once, under a budget, answered piece by piece.

A query must not delay a page, neither by the processor nor by memory. It runs in a thread, gives
the processor away between slices of its work, and ends when its time is over or its client has
gone. A large answer becomes text only as fast as its client reads: ten million numbers as Python
objects take gigabytes. A client that reads slowly keeps no other query waiting.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TypeVar

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from tocsin_alerting.api.answers import ApiError
from tocsin_alerting.api.gzipped import WORTH_BYTES, gzipped
from tocsin_alerting.api.places import SLOW_SECONDS, Place, QueryGate
from tocsin_alerting.promql.engine import Engine
from tocsin_alerting.promql.evaluation.budget import (
    Budget,
    QueryError,
    QueryLimitExceeded,
    QueryTimeout,
)
from tocsin_alerting.promql.fault import ParseError
from tocsin_alerting.settings import duration_text
from tocsin_alerting.store.store import Store
from tocsin_exporter.negotiation import accepts_gzip

log = logging.getLogger(__name__)

T = TypeVar("T")
LONGEST_MS = 120_000
_PATIENCE_SECONDS = 0.02  # before a client is watched: a task for each would take longer than they
_READ_SECONDS = 0.02  # for all pieces; who takes longer has no place any more
_LESS = "ask for fewer series, a shorter range or a wider step"
Work = Callable[[Budget], Iterator[bytes]]
Headings = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one query may cost; `at_once` is how many run, `waiting` how many wait for their turn,
    and whoever comes then is sent away. `timeout_ms` is for its turn and its evaluation, as in
    Prometheus: what was evaluated in time is not lost, its client has `sending_ms` to read it."""

    max_samples: int = 10_000_000
    max_points: int = 11_000
    timeout_ms: int = 30_000
    sending_ms: int = 120_000
    at_once: int = 2
    waiting: int = 200


@dataclass(frozen=True, slots=True)
class Queries:
    """What the handlers need; `monotonic` gives seconds."""

    store: Store
    engine: Engine
    executor: Executor
    now_ms: Callable[[], int]
    monotonic: Callable[[], float]
    limits: Limits
    places: QueryGate


class Turn:
    """A response: `work` evaluates in a thread and gives the body in pieces, made there too, and
    compressed there for clients that take gzip.

    Raises ApiError before anything is sent. `asked` is what the log says of it.
    """

    def __init__(
        self,
        queries: Queries,
        work: Work,
        timeout_ms: int | None = None,
        asked: Mapping[str, str] | None = None,
    ) -> None:
        self._queries = queries
        self._asked = asked or {}
        self._work = work
        wanted_ms = queries.limits.timeout_ms if timeout_ms is None else timeout_ms
        self._seconds = max(0, min(wanted_ms, LONGEST_MS)) / 1000
        self._over = False
        self._left = False
        self._evaluates = False
        self._begun = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = self._queries.monotonic()
        headers = Headers(raw=list(scope.get("headers", ())))
        zipped = accepts_gzip(headers.get("accept-encoding", ""))
        try:
            await self._answer(receive, send, zipped)
        finally:
            self._over = True  # the thread of a client that has gone ends at its next slice
            if log.isEnabledFor(logging.DEBUG):
                seconds = round(self._queries.monotonic() - began, 6)
                log.debug("a query", extra={**self._asked, "seconds": seconds})

    async def _answer(self, receive: Receive, send: Send, zipped: bool) -> None:
        try:
            if not self._seconds:
                raise TimeoutError
            async with asyncio.timeout(self._seconds) as deadline:
                with self._watching(receive, deadline):
                    async with self._queries.places.place(partial(self._cut, deadline)) as place:
                        await self._evaluate(send, zipped, place, deadline)
        except (TimeoutError, QueryTimeout):
            # Otherwise the connection is cut: no half answer passes for whole.
            if not (self._begun or self._left):
                raise ApiError("timeout", self._too_long()) from None
        except ParseError as error:
            raise ApiError("bad_data", f'invalid parameter "query": {error}') from None
        except MemoryError:
            if not self._begun:
                why = f"no memory is left to answer this query: {_LESS}"
                raise ApiError("execution", why) from None
        except QueryLimitExceeded as error:
            most = f"{self._queries.limits.max_samples:,} samples"
            raise ApiError("execution", f"{error}; it may read {most}: {_LESS}") from None
        except QueryError as error:
            raise ApiError("execution", str(error)) from None

    @contextmanager
    def _watching(self, receive: Receive, deadline: asyncio.Timeout) -> Iterator[None]:
        """The time is over, too, when the client closes its connection. Most answers are there
        before anybody need look."""
        watchers = set[asyncio.Task[None]]()

        def begin() -> None:
            watchers.add(asyncio.create_task(self._gone(receive, deadline)))

        timer = asyncio.get_running_loop().call_later(_PATIENCE_SECONDS, begin)
        try:
            yield
        finally:
            timer.cancel()
            for one in watchers:
                one.cancel()

    async def _gone(self, receive: Receive, deadline: asyncio.Timeout) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._cut(deadline)

    def _cut(self, deadline: asyncio.Timeout) -> None:
        if not deadline.expired():
            self._left = True
            deadline.reschedule(0)

    def _too_long(self) -> str:
        time = f"it had {duration_text(round(self._seconds * 1000))}"
        more = f"or for more time with timeout (at most {duration_text(LONGEST_MS)})"
        if self._evaluates:
            return f"query timed out in expression evaluation; {time}: {_LESS}, {more}"
        at_once = self._queries.limits.at_once
        return f"query timed out in query queue; {time}, {at_once} run at once: ask later, {more}"

    async def _evaluate(
        self, send: Send, zipped: bool, place: Place, deadline: asyncio.Timeout
    ) -> None:
        budget = self._budget()
        opened = await self._in_thread(lambda: self._opened(zipped, budget))
        (headers, piece, pieces, whole), place.samples = opened, budget.samples
        loop, place_ends = asyncio.get_running_loop(), deadline.when() or 0
        patience = _READ_SECONDS
        if not self._left:
            self._begun = True
            deadline.reschedule(loop.time() + self._queries.limits.sending_ms / 1000)
        if whole:
            place.leave()
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        while piece and not whole:
            place.sent = loop.time()
            if place.sent > place_ends:
                patience = 0.0
            # The second time there is room: if nobody is slower, this one ends.
            waits = (max(0.0, patience), 2 * SLOW_SECONDS)
            timers = [loop.call_later(s, lambda: place.wait_outside(loop.time())) for s in waits]
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            for timer in timers:
                timer.cancel()
            patience -= loop.time() - place.sent
            place.sent = math.inf
            piece = await self._in_thread(lambda: next(pieces, b""))
        await send({"type": "http.response.body", "body": piece, "more_body": False})

    def _opened(
        self, zipped: bool, budget: Budget
    ) -> tuple[Headings, bytes, Iterator[bytes], bool]:
        """The headers, the first piece of the body, the others, and whether there are none."""
        self._evaluates = True
        pieces = self._work(budget)
        first, second = next(pieces, b""), next(pieces, b"")
        whole = not second
        pieces = chain((first, second), pieces)
        headers = [(b"content-type", b"application/json")]
        if zipped and (len(first) >= WORTH_BYTES or not whole):
            headers.append((b"content-encoding", b"gzip"))
            pieces = gzipped(pieces)
        if whole:
            first = b"".join(pieces)
            headers.append((b"content-length", str(len(first)).encode()))
            return headers, first, iter(()), True
        return headers, next(pieces, b""), pieces, False

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._queries.executor, work)

    def _budget(self) -> Budget:
        limits, monotonic = self._queries.limits, self._queries.monotonic
        ends = monotonic() + self._seconds
        steps = limits.max_points + 1  # as in Prometheus, the first one does not count
        return Budget(limits.max_samples, steps, lambda: self._over or monotonic() > ends)
