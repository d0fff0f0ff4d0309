"""Queries of rules: on the loop what is known to be quick, in a thread what may take long."""

from collections.abc import Callable
from dataclasses import dataclass

from tocsin_alerting.api.threads import Threads
from tocsin_alerting.promql.ast import Expr
from tocsin_alerting.promql.engine import Engine
from tocsin_alerting.promql.result import Result
from tocsin_alerting.rules.unknown import reach_ms
from tocsin_exporter.tasks import in_thread

SLOW_SECONDS = 0.005
_MOST_KNOWN = 100_000


@dataclass(slots=True)
class _Known:
    """A query, how far back it reaches, and how long it took the last time."""

    query: Expr
    reach_ms: int
    seconds: float


class RuleQueries:
    """An engine for rules. A query that was quick the last time and needs memory only is evaluated
    at once: going to a thread and back takes longer. `sealed(at_ms)` says whether samples of that
    time lie on the disk, which may be slow, or hang.
    """

    def __init__(
        self,
        engine: Engine,
        threads: Threads,
        sealed: Callable[[int], bool],
        seconds: Callable[[], float],
    ) -> None:
        self._engine = engine
        self._threads = threads
        self._sealed = sealed
        self._seconds = seconds
        self._known: dict[int, _Known] = {}

    async def instant(self, query: str | Expr, at_ms: int) -> Result:
        """As Engine.instant; text, which only templates ask, is always asked in a thread."""
        if isinstance(query, str):
            return await self._apart(query, at_ms)
        known = self._of(query)
        if known.seconds >= SLOW_SECONDS or self._sealed(at_ms - known.reach_ms):
            return await self._apart(query, at_ms, known)
        return self._timed(query, at_ms, known)

    async def _apart(self, query: str | Expr, at_ms: int, known: _Known | None = None) -> Result:
        return await in_thread(lambda: self._timed(query, at_ms, known), self._threads)

    def _timed(self, query: str | Expr, at_ms: int, known: _Known | None) -> Result:
        began = self._seconds()
        try:
            return self._engine.evaluate(query, at_ms)
        finally:
            if known is not None:
                known.seconds = self._seconds() - began

    def _of(self, query: Expr) -> _Known:
        """By identity: rules keep their queries, and to hash one takes as long as to evaluate it.
        One that is new has never been quick."""
        known = self._known.get(id(query))
        if known is None:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            known = self._known[id(query)] = _Known(query, reach_ms(query), SLOW_SECONDS)
        return known
