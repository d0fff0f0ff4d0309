"""Queries of rules: on the loop what is known to be quick, in a thread what may take long."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tocsin_alerting.promql.engine import QueryEngine
from tocsin_alerting.promql.eval.limits import QueryTimeout
from tocsin_alerting.promql.parser.ast import Expr
from tocsin_alerting.promql.result import Result
from tocsin_alerting.rules.inputs import reach_ms
from tocsin_exporter.threads import Threads, in_thread

SLOW_SECONDS = 0.005
MAX_SECONDS = 120.0  # of a query in a thread, as Prometheus's
DISK_SECONDS = 30.0  # of one that needs the disk: while that hangs, the group's other rules wait
_MAX_TIMED = 100_000


@dataclass(slots=True)
class _TimedQuery:
    """A query, how far back it reaches, and how long it took the last time."""

    query: Expr
    reach_ms: int
    seconds: float


@dataclass(slots=True, eq=False)
class _RunningQuery:
    """How far a thread is with a query."""

    query: str | Expr
    began: float | None = None
    ended: bool = False


def _never() -> bool:
    return False


class RuleQueries:
    """An engine for rules. A query that was quick the last time and needs memory only is evaluated
    at once: going to a thread and back takes longer. `sealed(at_ms)` says whether samples of that
    time lie on the disk, which may be slow, or hang: of the `threads` the second ones are for those
    that need it and the third ones for templates, so that neither keep the first from the others.
    `busy()` says whether somebody holds the store, as one who writes ten thousand series does for
    as much as a second: no query waits for that on the loop.
    """

    def __init__(
        self,
        engine: QueryEngine,
        threads: Sequence[Threads],
        sealed: Callable[[int], bool],
        seconds: Callable[[], float],
        most_seconds: float = MAX_SECONDS,
        disk_seconds: float = DISK_SECONDS,
        busy: Callable[[], bool] = _never,
    ) -> None:
        self._engine = engine
        self._memory, self._disk, self._texts = threads
        self._sealed, self._busy = sealed, busy
        self._seconds = seconds
        self._most_seconds = {self._memory: most_seconds, self._texts: most_seconds}
        self._most_seconds[self._disk] = disk_seconds
        self._stuck: dict[Threads, set[_RunningQuery]] = {pool: set() for pool in threads}
        self._timed_queries: dict[int, _TimedQuery] = {}

    async def instant(self, query: str | Expr, at_ms: int) -> Result:
        """As that of the engine; text, which only templates ask, is always asked in a thread.
        Raises QueryTimeout when that does not answer, and at once while none of its kind does, or
        while it has no answer from before."""
        if isinstance(query, str):
            return await self._in_thread(self._texts, query, at_ms)
        known = self._timed_query(query)
        if self._sealed(at_ms - known.reach_ms):
            return await self._in_thread(self._disk, query, at_ms, known)
        if known.seconds >= SLOW_SECONDS or self._busy():
            return await self._in_thread(self._memory, query, at_ms, known)
        return self._timed(query, at_ms, known)

    async def _in_thread(
        self, threads: Threads, query: str | Expr, at_ms: int, known: _TimedQuery | None = None
    ) -> Result:
        stuck = self._stuck[threads]
        if len(stuck) >= threads.most:
            raise QueryTimeout("earlier queries have not finished; does the disk hang?")
        if any(_is_same(pending.query, query) for pending in tuple(stuck)):
            raise QueryTimeout("its previous run has not finished; does the disk hang?")
        asked, most_seconds = _RunningQuery(query), self._most_seconds[threads]

        def answer() -> Result:
            asked.began = self._seconds()
            try:
                return self._timed(query, at_ms, known)
            finally:
                asked.ended = True
                stuck.discard(asked)

        work = asyncio.ensure_future(in_thread(answer, threads))
        try:
            while not work.done() and (left := most_seconds - self._running_seconds(asked)) > 0:
                await asyncio.wait([work], timeout=left)
                if asked.began is None and len(stuck) >= threads.most:
                    break  # those before it are not slow: they hang
            if work.done():
                return work.result()
            raise QueryTimeout(f"no answer within {most_seconds:g} s: does the disk hang?")
        finally:
            work.cancel()
            if asked.began is not None:
                stuck.add(asked)
            if asked.ended:
                stuck.discard(asked)

    def _running_seconds(self, asked: _RunningQuery) -> float:
        """For how many seconds; waiting for a thread is not counted."""
        return 0.0 if asked.began is None else self._seconds() - asked.began

    def _timed(self, query: str | Expr, at_ms: int, known: _TimedQuery | None) -> Result:
        began = self._seconds()
        try:
            return self._engine.evaluate(query, at_ms)
        finally:
            if known is not None:
                known.seconds = self._seconds() - began

    def _timed_query(self, query: Expr) -> _TimedQuery:
        """By identity: rules keep their queries, and to hash one takes as long as to evaluate it.
        One that is new has never been quick."""
        known = self._timed_queries.get(id(query))
        if known is None:
            if len(self._timed_queries) >= _MAX_TIMED:
                self._timed_queries.clear()
            known = self._timed_queries[id(query)] = _TimedQuery(
                query, reach_ms(query), SLOW_SECONDS
            )
        return known


def _is_same(query: str | Expr, other: str | Expr) -> bool:
    """Rules keep their queries; a template's text is made anew each time."""
    return query is other or (isinstance(query, str) and isinstance(other, str) and query == other)
