"""`/api/v1/query` and its neighbours: the store in Prometheus's API.

A query runs in a thread of its own, a few at once, so that it never delays a page; it gives the
processor away between slices of its work and ends when its time is over or its client is gone.
"""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tocsin_alerting.api.answers import ApiError, json_response, success
from tocsin_alerting.api.encoding import encoded
from tocsin_alerting.api.times import duration_ms, time_ms
from tocsin_alerting.promql.ast import VectorSelector
from tocsin_alerting.promql.engine import Engine
from tocsin_alerting.promql.evaluation.budget import Budget, QueryError, QueryTimeout
from tocsin_alerting.promql.fault import ParseError
from tocsin_alerting.promql.parser import parse
from tocsin_alerting.promql.result import Result
from tocsin_alerting.store.rows import MatcherSets
from tocsin_alerting.store.store import Store
from tocsin_exporter.snapshot import Labels

T = TypeVar("T")
EVERYTHING = ((),)
_LONGEST_MS = 120_000


@dataclass(frozen=True, slots=True)
class Limits:
    """What one query may cost; `at_once` is how many run, the others wait for their turn."""

    max_samples: int = 10_000_000
    max_points: int = 11_000
    timeout_ms: int = 30_000
    at_once: int = 2


@dataclass(frozen=True, slots=True)
class Queries:
    """What the handlers need; `monotonic` gives seconds."""

    store: Store
    engine: Engine
    executor: Executor
    now_ms: Callable[[], int]
    monotonic: Callable[[], float]
    limits: Limits
    places: asyncio.Semaphore

    async def run(self, request: Request, work: Callable[[Budget], T]) -> T:
        """`work` in a thread, under a budget. Raises ApiError."""
        asked = (await _parameters(request)).get("timeout")
        allowed = duration_ms(asked, "timeout") if asked else self.limits.timeout_ms
        ends = self.monotonic() + min(allowed, _LONGEST_MS) / 1000
        gone = False

        def expired() -> bool:
            return gone or self.monotonic() > ends

        budget = Budget(self.limits.max_samples, self.limits.max_points, expired)
        try:
            async with asyncio.timeout(max(0.0, ends - self.monotonic())), self.places:
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(self.executor, work, budget)
        except (TimeoutError, QueryTimeout):
            raise ApiError("timeout", "query timed out in expression evaluation") from None
        except ParseError as error:
            raise ApiError("bad_data", f'invalid parameter "query": {error}') from None
        except QueryError as error:
            raise ApiError("execution", str(error)) from None
        finally:
            gone = True  # a thread whose client has gone ends at its next slice


def routes(
    store: Store,
    engine: Engine,
    executor: Executor,
    now_ms: Callable[[], int],
    monotonic: Callable[[], float],
    limits: Limits | None = None,
) -> list[Route]:
    """The query part of Prometheus's API; `executor` has at least `limits.at_once` threads."""
    bounds = limits or Limits()
    places = asyncio.Semaphore(bounds.at_once)
    queries = Queries(store, engine, executor, now_ms, monotonic, bounds, places)
    handlers = {
        "/api/v1/query": _instant,
        "/api/v1/query_range": _range,
        "/api/v1/series": _series,
        "/api/v1/labels": _labels,
        "/api/v1/label/{name}/values": _label_values,
    }
    return [
        Route(path, _bound(handler, queries), methods=["GET", "POST"])
        for path, handler in handlers.items()
    ]


def _bound(
    handler: Callable[[Request, Queries], Any], queries: Queries
) -> Callable[[Request], Any]:
    async def answer(request: Request) -> Response:
        response: Response = await handler(request, queries)
        return response

    return answer


async def _instant(request: Request, queries: Queries) -> Response:
    parameters = await _parameters(request)
    query, at = _query(parameters), parameters.get("time")
    at_ms = time_ms(at, "time") if at else queries.now_ms()

    def work(budget: Budget) -> Response:
        return _answer(queries.engine.evaluate(query, at_ms, budget))

    return await queries.run(request, work)


async def _range(request: Request, queries: Queries) -> Response:
    parameters = await _parameters(request)
    query = _query(parameters)
    start_ms = time_ms(parameters.get("start", ""), "start")
    end_ms = time_ms(parameters.get("end", ""), "end")
    step_ms = duration_ms(parameters.get("step", ""), "step")
    if end_ms < start_ms:
        raise ApiError("bad_data", 'invalid parameter "end": end timestamp must not be before'
                                   " start time")  # fmt: skip
    if step_ms <= 0:
        raise ApiError("bad_data", 'invalid parameter "step": zero or negative query resolution'
                                   " step widths are not accepted."
                                   " Try a positive integer")  # fmt: skip
    if (end_ms - start_ms) // step_ms > queries.limits.max_points:
        raise ApiError("bad_data", "exceeded maximum resolution of 11,000 points per timeseries."
                                   " Try decreasing the query resolution (?step=XX)")  # fmt: skip

    def work(budget: Budget) -> Response:
        return _answer(queries.engine.evaluate_range(query, start_ms, end_ms, step_ms, budget))

    return await queries.run(request, work)


def _answer(result: Result) -> Response:
    """Encoded where it was evaluated: the texts of 200,000 numbers take 180 ms."""
    return success(encoded(result.value), warnings=list(result.warnings), infos=list(result.infos))


async def _series(request: Request, queries: Queries) -> Response:
    found = await _found(request, queries, required=True)
    return json_response({"status": "success", "data": [dict(one) for one in found]})


async def _labels(request: Request, queries: Queries) -> Response:
    names = {name for one in await _found(request, queries) for name, _ in one}
    return success(await _limited(request, sorted(names)))


async def _label_values(request: Request, queries: Queries) -> Response:
    name = request.path_params["name"]
    values = {value for one in await _found(request, queries) for n, value in one if n == name}
    return success(await _limited(request, sorted(values)))


async def _limited(request: Request, values: list[str]) -> list[str]:
    limit = (await _parameters(request)).get("limit", "0")
    if not limit.isdigit():
        raise ApiError("bad_data", f'invalid parameter "limit": "{limit}" is not a number')
    return values[: int(limit)] if int(limit) else values


async def _found(request: Request, queries: Queries, *, required: bool = False) -> list[Labels]:
    parameters, selectors = await _parameters(request), await _all(request, "match[]")
    if required and not selectors:
        raise ApiError("bad_data", "no match[] parameter provided")
    start, end = parameters.get("start"), parameters.get("end")
    start_ms = time_ms(start, "start") if start else queries.now_ms() - queries.store.retention_ms
    end_ms = time_ms(end, "end") if end else queries.now_ms()
    sets = _matcher_sets(selectors)

    def work(budget: Budget) -> list[Labels]:
        return queries.store.series(sets, start_ms, end_ms)

    return await queries.run(request, work)


def _matcher_sets(selectors: list[str]) -> MatcherSets:
    sets: list[Any] = []
    for text in selectors:
        try:
            selector = parse(text)
        except ParseError as error:
            raise ApiError("bad_data", f'invalid parameter "match[]": {error}') from None
        if not isinstance(selector, VectorSelector):
            raise ApiError("bad_data", f'invalid parameter "match[]": {text} is no selector')
        sets.extend(selector.matcher_sets)
    return tuple(sets) or EVERYTHING


def _query(parameters: Mapping[str, str]) -> str:
    query = parameters.get("query", "")
    try:
        parse(query)
    except ParseError as error:
        raise ApiError("bad_data", f'invalid parameter "query": {error}') from None
    return query


async def _parameters(request: Request) -> Mapping[str, str]:
    """Of the query string, and of the form of a POST, which wins."""
    return {key: values[-1] for key, values in (await _lists(request)).items()}


async def _all(request: Request, name: str) -> list[str]:
    return (await _lists(request)).get(name, [])


async def _lists(request: Request) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    pairs = list(request.query_params.multi_items())
    if request.method == "POST":
        body = (await request.body()).decode("utf-8", "replace")
        pairs += parse_qsl(body, keep_blank_values=True)
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return found
