"""PromQL evaluated elsewhere: by the query API of a Prometheus, Thanos, Mimir or VictoriaMetrics.

What an engine refuses is the rule's fault and is told of the rule. An engine that does not answer,
or answers with a part of its data, says nothing of any rule: all that it evaluates is unknown until
it answers, and whoever watches over engines hears of it once.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from tocsin_alerting.loops.remote_client import (
    MOST_AT_ONCE,
    RemoteAnswer,
    RemoteClient,
    RequestFailed,
)
from tocsin_alerting.promql.eval.limits import QueryTimeout
from tocsin_alerting.promql.parser.ast import Expr
from tocsin_alerting.promql.parser.printer import print_expr
from tocsin_alerting.promql.result import InstantVector, Matrix, Result, ScalarValue, StringValue
from tocsin_alerting.rules.instant_query import EngineUnreachable
from tocsin_exporter.engine_access import EngineAccess
from tocsin_exporter.snapshot import Labels, sorted_labels
from tocsin_exporter.threads import Threads, in_thread

_LARGE_ANSWER = 256 << 10  # characters, which a thread reads: some milliseconds
PAUSE_SECONDS = 4.0  # after a failure, before the next query tries it
CALM_SECONDS = 60.0  # without a failure, after which a refused query is an answer as any other
MOST_OUTAGES = 20  # remembered
_FIRST_QUERY = "vector(1)"
_GRACE_S = 2.0  # at most, after its own time limit: the engine says then that it was reached
_MOST_PRINTED = 10_000
# What the other side says of who asks and where, or that it is busy; nothing about the query.
_NOT_OF_THE_QUERY = frozenset((401, 403, 404, 405, 407, 408, 429))
# Thanos and VictoriaMetrics answer with what they have while a part of them is away; the others
# take no notice. What is not there would have cleared.
_WHOLE_ANSWERS = {"partial_response": "false", "deny_partial_response": "1"}


class QueryRefused(ValueError):
    """The engine says that this query has no answer."""


class QueryFailed(ValueError):
    """The engine has no answer to this query again and again, and answers others."""


@dataclass(slots=True)
class QueryCounts:
    """`answered` and `refused` are answers; `failed` had none."""

    answered: int = 0
    refused: int = 0
    failed: int = 0


@dataclass(slots=True)
class Reachability:
    """Since when an engine has answered nothing, and what it said last; None while it answers.
    Before `ask_again` it is not asked. `outages` are those that are over, from the first query
    without an answer to the next answer; `first` is when it answered first, and `failed` when it
    last did not. `failing` had no answer last, and `waiting` was not asked for that."""

    down_since: float | None = None
    outages: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=MOST_OUTAGES))
    first: float | None = None
    failed: float = float("-inf")
    failing: str = ""
    waiting: str = ""
    error: str = ""
    answered: float = float("-inf")
    probing: bool = False
    ask_again: float = float("-inf")
    counts: QueryCounts = field(default_factory=QueryCounts)

    @property
    def answers(self) -> bool:
        """Whether it did the last time; not before it was asked."""
        return self.down_since is None and self.answered > float("-inf")


Tell = Callable[[str], Awaitable[None]]
"""Takes why an engine did not answer, "" when it did."""


class RemoteEngine:
    """One datasource as rules ask it. `seconds` is a monotonic clock; `tell` hears of every answer
    and of every failure. `threads` read large answers.

    While it answers nothing, one query at a time tries whether it does again, some seconds after
    the last, and all others fail at once: an engine that hangs must not cost each rule of a group
    the whole time limit. A refused query ends no outage until the failures are a while ago: the
    refusal may be a proxy's. A query that alone has no answer, twice, is at fault itself.
    """

    def __init__(
        self,
        access: EngineAccess,
        timeout_s: float,
        seconds: Callable[[], float],
        threads: Threads,
        tell: Tell,
    ) -> None:
        self.address, self.target = access.url, access.target
        self.state = Reachability()
        self._timeout_s, self._seconds = timeout_s, seconds
        self._threads, self._tell = threads, tell
        self._places = asyncio.Semaphore(MOST_AT_ONCE)
        self._printed: dict[int, tuple[Expr, str]] = {}
        self._unanswered: dict[str, float] = {}  # queries, and when they had no answer last
        self._client = RemoteClient(access)

    def __repr__(self) -> str:
        return f"RemoteEngine({self.address})"

    async def instant(self, query: str | Expr, at_ms: int) -> Result:
        """Raises QueryRefused, QueryTimeout for one that took too long, QueryFailed, and
        EngineUnreachable."""
        state, text = self.state, query if isinstance(query, str) else self._text(query)
        began = self._seconds()
        if state.down_since is not None and (state.probing or began < state.ask_again):
            state.waiting = text
            raise EngineUnreachable(state.error)
        probes, state.probing = state.down_since is not None, True
        try:
            result = await self._asked(text, at_ms)
        except EngineUnreachable as error:
            await self._failed(error, text, began)
            raise
        except QueryRefused:
            await self._refused()
            raise
        finally:
            if probes:
                state.probing = False
        state.counts.answered += 1
        self._unanswered.pop(text, None)
        await self._answered()
        return result

    async def probe(self, at_ms: int) -> None:
        """Find out whether it answers, by a query of a rule that was not asked, or had no answer:
        an engine without its samples may answer what needs none. Raises as `instant`."""
        waiting, self.state.waiting = self.state.waiting, ""
        await self.instant(waiting or self.state.failing or _FIRST_QUERY, at_ms)

    async def close(self) -> None:
        await self._client.close()

    async def _failed(self, error: EngineUnreachable, text: str, began: float) -> None:
        """One that answered others meanwhile is there: it was this query that took too long, or has
        no answer at all."""
        state = self.state
        state.counts.failed += 1
        before = self._unanswered.pop(text, None)
        if len(self._unanswered) >= _MOST_PRINTED:
            self._unanswered.clear()
        self._unanswered[text] = self._seconds()
        if error.timed_out and state.answered > began:
            raise QueryTimeout(str(error)) from None
        if state.down_since is None and before is not None and state.answered > before:
            raise QueryFailed(str(error)) from None
        state.failed, state.failing = self._seconds(), text
        if state.down_since is None:
            state.down_since, state.probing = began, False
        state.error, state.ask_again = str(error), state.failed + PAUSE_SECONDS
        await self._tell(state.error)

    async def _refused(self) -> None:
        """Which is an answer where nothing else fails, but no sign that an outage is over."""
        state, now = self.state, self._seconds()
        state.counts.refused += 1
        if state.down_since is None or now - state.failed >= CALM_SECONDS:
            await self._answered()
        else:
            state.ask_again = now + PAUSE_SECONDS

    async def _answered(self) -> None:
        state = self.state
        state.answered = self._seconds()
        state.first = state.answered if state.first is None else state.first
        if state.down_since is not None:
            state.outages.append((state.down_since, state.answered))
        state.down_since, state.error, state.probing = None, "", False
        state.failing = state.waiting = ""
        await self._tell("")

    async def _asked(self, query: str, at_ms: int) -> Result:
        form = {
            "query": query,
            "time": f"{at_ms / 1000:.3f}",
            "timeout": f"{max(1, round(1000 * self._timeout_s))}ms",
            **_WHOLE_ANSWERS,
        }
        limit_s = self._timeout_s + min(_GRACE_S, self._timeout_s)
        try:
            async with self._places:
                answer = await self._client.post("/api/v1/query", form, limit_s)
        except RequestFailed as error:
            raise EngineUnreachable(str(error), error.timed_out) from None
        if len(answer.text) < _LARGE_ANSWER:
            return self._read(answer, at_ms)
        return await in_thread(lambda: self._read(answer, at_ms), self._threads)

    def _read(self, answer: RemoteAnswer, at_ms: int) -> Result:
        masked = self._client.masked
        return read_answer(answer.status, answer.text, at_ms, self._unreachable, masked)

    def _text(self, query: Expr) -> str:
        """By identity: rules keep their queries."""
        known = self._printed.get(id(query))
        if known is None or known[0] is not query:
            if len(self._printed) >= _MOST_PRINTED:
                self._printed.clear()
            known = self._printed[id(query)] = (query, print_expr(query))
        return known[1]

    def _unreachable(self, why: str, timed_out: bool = False) -> EngineUnreachable:
        return EngineUnreachable(str(self._client.failure(why)), timed_out)


def read_answer(
    status: int,
    text: str,
    at_ms: int,
    unreachable: Callable[[str, bool], EngineUnreachable],
    masked_text: Callable[[str], str] = str,
) -> Result:
    """What the body of an answer says. Raises QueryRefused, and what `unreachable` makes of an
    answer that is none about the query."""
    body = _object(text)
    said = masked_text(str(body.get("error") or text))
    if 200 <= status < 300:
        if body.get("status") != "success":
            raise unreachable("its answer is not one of Prometheus's query API", False)
        data = body.get("data")
        if body.get("isPartial") or (isinstance(data, dict) and data.get("isPartial")):
            raise unreachable("it answers with a part of its data only", False)
        return _result(data, body, at_ms, unreachable)
    if 400 <= status < 500 and status not in _NOT_OF_THE_QUERY:
        raise QueryRefused(said or f"HTTP {status}")
    if 300 <= status < 400:
        raise unreachable(f"HTTP {status}: a redirect, which is not followed", False)
    why = f"HTTP {status}" + (f": {said}" if said else "")
    raise unreachable(why, body.get("errorType") == "timeout")


def _object(text: str) -> dict[str, Any]:
    try:
        body = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}


def _result(
    data: Any,
    body: Mapping[str, Any],
    at_ms: int,
    unreachable: Callable[[str, bool], EngineUnreachable],
) -> Result:
    try:
        value = _value(data["resultType"], data["result"], at_ms)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise unreachable("its answer is not one of Prometheus's query API", False) from None
    return Result(value, tuple(map(str, body.get("warnings") or ())))


def _value(
    kind: str, result: Any, at_ms: int
) -> InstantVector | ScalarValue | StringValue | Matrix:
    if kind == "scalar":
        return ScalarValue(at_ms, float(result[1]))
    if kind == "string":
        return StringValue(at_ms, str(result[1]))
    if kind == "matrix":
        return Matrix(())
    if kind != "vector":
        raise ValueError(kind)
    plain = [one for one in result if "value" in one]  # native histograms are no alerts of ours
    labels = tuple(_labels(one["metric"]) for one in plain)
    values = np.array([float(one["value"][1]) for one in plain], dtype=np.float64)
    return InstantVector(at_ms, labels, values)


def _labels(metric: Any) -> Labels:
    if not all(isinstance(text, str) for pair in metric.items() for text in pair):
        raise ValueError("a label that is no text")
    return sorted_labels({name: value for name, value in metric.items() if value})
