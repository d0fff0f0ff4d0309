"""`/api/v1/query` and its neighbours: PromQL over the store in Prometheus's API."""

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import replace

from starlette.routing import Route

from tocsin_alerting.api import cardinality, metadata, series
from tocsin_alerting.api.answers import ApiError
from tocsin_alerting.api.asked import TRUNCATED, Asked
from tocsin_alerting.api.encoding import Body, document, whole
from tocsin_alerting.api.handler import Handler, route
from tocsin_alerting.api.places import QueryGate
from tocsin_alerting.api.statistics import Meter
from tocsin_alerting.api.syntax_tree import tree
from tocsin_alerting.api.times import duration_ms
from tocsin_alerting.api.turn import Limits, Queries, Work
from tocsin_alerting.promql.engine import Engine
from tocsin_alerting.promql.evaluation.budget import Budget
from tocsin_alerting.promql.fault import ParseError
from tocsin_alerting.promql.layout import pretty
from tocsin_alerting.promql.parser import parse
from tocsin_alerting.promql.result import InstantVector, Matrix, Result
from tocsin_alerting.promql.types import type_of
from tocsin_alerting.promql.values import Semantics, ValueType
from tocsin_alerting.store.store import Store

_TOO_FINE = (
    "exceeded maximum resolution of 11,000 points per timeseries."
    " Try decreasing the query resolution (?step=XX)"
)
_NO_RANGE = 'invalid expression type "{}" for range query, must be Scalar or instant Vector'
_NO_STEP = (
    'invalid parameter "step": zero or negative query resolution step widths are not accepted.'
    " Try a positive integer"
)
_NO_LOOKBACK = 'error parsing lookback delta duration: cannot parse "{}" to a valid duration'
_FIRST_MS, _LAST_MS = -(2**62), 2**62


def routes(
    store: Store,
    engine: Engine,
    executor: Executor,
    now_ms: Callable[[], int],
    monotonic: Callable[[], float],
    sending: Executor | None = None,
    limits: Limits | None = None,
) -> list[Route]:
    """What reads the store in Prometheus's API; `executor` has at least `limits.at_once` threads.

    All of it runs there, as a Turn each; large answers are made in `sending`, if it is given.
    """
    bounds = limits or Limits()
    places = QueryGate(bounds.at_once, bounds.waiting)
    queries = Queries(
        store, engine, executor, sending or executor, now_ms, monotonic, bounds, places
    )
    return [
        *(route(path, handler, queries, "POST") for path, handler in _HANDLERS.items()),
        *series.routes(queries),
        *metadata.routes(queries),
        *cardinality.routes(queries),
    ]


def _instant(asked: Asked, queries: Queries) -> Work:
    query, at_ms = asked.get("query"), asked.moment("time", queries.now_ms())
    limit, engine = asked.limit, _engine(asked, queries)
    meter = Meter(asked.get("stats"), query, engine, queries.monotonic)

    def work(budget: Budget) -> Body:
        result = meter.evaluation(lambda: engine.evaluate(query, at_ms, budget))
        stats = meter.statistics(range(at_ms, at_ms + 1), budget)
        return document(_limited(result, limit), stats)

    return work


def _range(asked: Asked, queries: Queries) -> Work:
    query = asked.get("query")
    start_ms, end_ms = asked.time("start"), asked.time("end")
    if end_ms < start_ms:
        why = 'invalid parameter "end": end timestamp must not be before start time'
        raise ApiError("bad_data", why)
    step_ms = duration_ms(asked.get("step"), "step")
    if step_ms <= 0:
        raise ApiError("bad_data", _NO_STEP)
    if (end_ms - start_ms) // step_ms > queries.limits.max_points:
        raise ApiError("bad_data", _TOO_FINE)
    limit, engine = asked.limit, _engine(asked, queries)
    meter = Meter(asked.get("stats"), query, engine, queries.monotonic)

    def work(budget: Budget) -> Body:
        _check_range(query, engine.semantics)
        evaluated = lambda: engine.evaluate_range(query, start_ms, end_ms, step_ms, budget)  # noqa: E731
        result = meter.evaluation(evaluated)
        stats = meter.statistics(range(start_ms, end_ms + 1, step_ms), budget)
        return document(_limited(result, limit), stats)

    return work


def _check_range(query: str, semantics: Semantics) -> None:
    """2.42 does not say here which parameter it is that is wrong."""
    before = "" if semantics == 2 else 'invalid parameter "query": '
    try:
        kind = type_of(parse(query, semantics))
    except ParseError as error:
        raise ApiError("bad_data", f"{before}{error}") from None
    if kind not in (ValueType.SCALAR, ValueType.VECTOR):
        raise ApiError("bad_data", before + _NO_RANGE.format(kind.documented))


def _engine(asked: Asked, queries: Queries) -> Engine:
    """The engine with the look-back that was asked for."""
    text = asked.get("lookback_delta")
    if not text:
        return queries.engine
    try:
        lookback_ms = duration_ms(text, "lookback_delta")
    except ApiError:
        raise ApiError("bad_data", _NO_LOOKBACK.format(text)) from None
    return replace(queries.engine, lookback_ms=lookback_ms) if lookback_ms > 0 else queries.engine


def _limited(result: Result, limit: int) -> Result:
    """The first `limit` series of a result, which then says that there were more."""
    value = result.value
    if not limit or not isinstance(value, InstantVector | Matrix) or len(value) <= limit:
        return result
    cut: InstantVector | Matrix  # of copies: a part of an array keeps all of it in memory
    if isinstance(value, Matrix):
        cut = Matrix(tuple([replace(o, values=o.values.copy()) for o in value.series[:limit]]))
    else:
        cut = InstantVector(value.at_ms, value.labels[:limit], value.values[:limit].copy())
    return replace(result, value=cut, warnings=(*result.warnings, TRUNCATED))


def _exemplars(asked: Asked, queries: Queries) -> Work:
    """None are kept; what would be refused otherwise is refused all the same."""
    query = asked.get("query")
    start_ms, end_ms = asked.moment("start", _FIRST_MS), asked.moment("end", _LAST_MS)
    if end_ms < start_ms:
        raise ApiError("bad_data", "end timestamp must not be before start timestamp")

    def work(budget: Budget) -> Body:
        try:
            parse(query, queries.engine.semantics)
        except ParseError as error:
            raise ApiError("bad_data", str(error)) from None
        return whole([])

    return work


def _format(asked: Asked, queries: Queries) -> Work:
    query = asked.get("query")
    return lambda budget: whole(pretty(parse(query, queries.engine.semantics)))


def _parse(asked: Asked, queries: Queries) -> Work:
    query = asked.get("query")
    return lambda budget: whole(tree(parse(query, queries.engine.semantics)))


_HANDLERS: dict[str, Handler] = {
    "/api/v1/query": _instant,
    "/api/v1/query_range": _range,
    "/api/v1/query_exemplars": _exemplars,
    "/api/v1/format_query": _format,
    "/api/v1/parse_query": _parse,
}
