"""`/api/v1/query` and its neighbours: the store in Prometheus's API."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import orjson
from starlette.requests import Request
from starlette.routing import Route

from tocsin_alerting.api.answers import ApiError
from tocsin_alerting.api.body import body
from tocsin_alerting.api.encoding import document
from tocsin_alerting.api.times import duration_ms, time_ms
from tocsin_alerting.api.turn import Limits, Queries, Turn, Work
from tocsin_alerting.promql.engine import Engine
from tocsin_alerting.promql.evaluation.budget import Budget
from tocsin_alerting.promql.fault import ParseError
from tocsin_alerting.promql.parser import parse, parse_selector
from tocsin_alerting.promql.types import type_of
from tocsin_alerting.promql.values import ValueType
from tocsin_alerting.store.rows import MatcherSets
from tocsin_alerting.store.store import Store
from tocsin_exporter.snapshot import Labels

EVERYTHING = ((),)
_MOST_LOGGED = 1000  # characters of a query in a line of the log
_MOST_BYTES = 1 << 20  # of a form; a query of this length is nobody's
_TOO_FINE = (
    "exceeded maximum resolution of 11,000 points per timeseries."
    " Try decreasing the query resolution (?step=XX)"
)
_MATCHES_ALL = 'invalid parameter "match[]": match[] must contain at least one non-empty matcher'
_NO_RANGE = (
    'invalid parameter "query": invalid expression type "{}" for range query,'
    " must be Scalar or instant Vector"
)
_NO_STEP = (
    'invalid parameter "step": zero or negative query resolution step widths are not accepted.'
    " Try a positive integer"
)


@dataclass(frozen=True, slots=True)
class Asked:
    """The parameters of one request: of the query string, and of the form of a POST, which wins."""

    lists: Mapping[str, list[str]]
    path: Mapping[str, str]

    def get(self, name: str) -> str:
        """The last value; nothing when it is missing."""
        return self.lists.get(name, [""])[-1]

    def all(self, name: str) -> list[str]:
        return self.lists.get(name, [])

    def moment(self, name: str, default_ms: int) -> int:
        """A time that may be missing, in Unix milliseconds."""
        text = self.get(name)
        return time_ms(text, name, f"Invalid time value for '{name}': ") if text else default_ms


Handler = Callable[[Asked, Queries], Work]


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
    handlers: dict[str, Handler] = {
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


def _bound(handler: Handler, queries: Queries) -> Callable[[Request], Any]:
    async def answer(request: Request) -> Turn:
        asked = await _asked(request)
        allowed = asked.get("timeout")
        timeout_ms = duration_ms(allowed, "timeout") if allowed else None
        text = asked.get("query") or " ".join(asked.all("match[]"))
        told = {"path": request.url.path, "query": text[:_MOST_LOGGED]}
        return Turn(queries, handler(asked, queries), timeout_ms, told)

    return answer


def _instant(asked: Asked, queries: Queries) -> Work:
    query, at_ms = asked.get("query"), asked.moment("time", queries.now_ms())
    return lambda budget: document(queries.engine.evaluate(query, at_ms, budget))


def _range(asked: Asked, queries: Queries) -> Work:
    query = asked.get("query")
    start_ms, end_ms = time_ms(asked.get("start"), "start"), time_ms(asked.get("end"), "end")
    step_ms = duration_ms(asked.get("step"), "step")
    if end_ms < start_ms:
        why = 'invalid parameter "end": end timestamp must not be before start time'
        raise ApiError("bad_data", why)
    if step_ms <= 0:
        raise ApiError("bad_data", _NO_STEP)
    if (end_ms - start_ms) // step_ms > queries.limits.max_points:
        raise ApiError("bad_data", _TOO_FINE)

    def work(budget: Budget) -> Iterator[bytes]:
        kind = type_of(parse(query, queries.engine.semantics))
        if kind not in (ValueType.SCALAR, ValueType.VECTOR):
            raise ApiError("bad_data", _NO_RANGE.format(kind.documented))
        return document(queries.engine.evaluate_range(query, start_ms, end_ms, step_ms, budget))

    return work


def _series(asked: Asked, queries: Queries) -> Work:
    if not asked.all("match[]"):
        raise ApiError("bad_data", "no match[] parameter provided")
    return _found(asked, queries, lambda found: [dict(one) for one in found])


def _labels(asked: Asked, queries: Queries) -> Work:
    def names(found: list[Labels]) -> list[str]:
        return _limited(asked, {name for one in found for name, _ in one})

    return _found(asked, queries, names)


def _label_values(asked: Asked, queries: Queries) -> Work:
    def values(found: list[Labels]) -> list[str]:
        wanted = asked.path["name"]
        return _limited(asked, {value for one in found for name, value in one if name == wanted})

    return _found(asked, queries, values)


def _limited(asked: Asked, values: set[str]) -> list[str]:
    limit = asked.get("limit") or "0"
    if not (limit.isascii() and limit.isdigit()):
        raise ApiError("bad_data", f'invalid parameter "limit": "{limit}" is not a number')
    return sorted(values)[: int(limit) or None]


def _found(asked: Asked, queries: Queries, told: Callable[[list[Labels]], Any]) -> Work:
    """What `told` makes of the label sets that were asked for."""
    now_ms = queries.now_ms()
    start_ms = asked.moment("start", now_ms - queries.store.retention_ms)
    end_ms = asked.moment("end", now_ms)

    def work(budget: Budget) -> Iterator[bytes]:
        sets = _matcher_sets(asked.all("match[]"))
        data = told(queries.store.series(sets, start_ms, end_ms))
        return iter([orjson.dumps({"status": "success", "data": data})])

    return work


def _matcher_sets(selectors: list[str]) -> MatcherSets:
    sets: list[Any] = []
    for text in selectors:
        try:
            selector = parse_selector(text)
        except ParseError as error:
            raise ApiError("bad_data", f'invalid parameter "match[]": {error}') from None
        if not all(any(not one.matches("") for one in every) for every in selector.matcher_sets):
            raise ApiError("bad_data", _MATCHES_ALL)
        sets.extend(selector.matcher_sets)
    return tuple(sets) or EVERYTHING


async def _asked(request: Request) -> Asked:
    found: dict[str, list[str]] = {}
    pairs = list(request.query_params.multi_items())
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.method == "POST" and kind == "application/x-www-form-urlencoded":
        form = (await body(request, _MOST_BYTES)).decode("utf-8", "replace")
        pairs += parse_qsl(form, keep_blank_values=True)
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return Asked(found, request.path_params)
