"""`/api/v1/query` and its neighbours: PromQL over the store in Prometheus's API."""

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import replace

from starlette.routing import Route

from tocsin_alerting.api.http.envelope import ApiError
from tocsin_alerting.api.http.times import duration_ms
from tocsin_alerting.api.prometheus import federate, metadata, read, series, tsdb_status
from tocsin_alerting.api.prometheus.encoding import ResponseBody, data_body, query_body
from tocsin_alerting.api.prometheus.params import TRUNCATED, Params
from tocsin_alerting.api.prometheus.query_gate import QueryGate
from tocsin_alerting.api.prometheus.query_response import QueryContext, QueryLimits, QueryWork
from tocsin_alerting.api.prometheus.query_route import Handler, query_route
from tocsin_alerting.api.prometheus.query_stats import QueryMeter
from tocsin_alerting.api.prometheus.syntax_tree import syntax_tree
from tocsin_alerting.promql.engine import QueryEngine
from tocsin_alerting.promql.errors import ParseError
from tocsin_alerting.promql.eval.limits import Budget
from tocsin_alerting.promql.parser.parser import parse
from tocsin_alerting.promql.parser.prettier import pretty
from tocsin_alerting.promql.parser.signatures import Semantics, ValueType
from tocsin_alerting.promql.parser.types import type_of
from tocsin_alerting.promql.result import InstantVector, Matrix, Result
from tocsin_alerting.tsdb.store import Store

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
    engine: QueryEngine,
    executor: Executor,
    now_ms: Callable[[], int],
    monotonic: Callable[[], float],
    sending: Executor | None = None,
    limits: QueryLimits | None = None,
    external_labels: Mapping[str, str] | None = None,
) -> list[Route]:
    """What reads the store in Prometheus's API; `executor` has at least `limits.at_once` threads.

    All of it runs there, as a QueryResponse each; large answers are made in `sending`, if it is
    given. `external_labels` are told to a Prometheus that takes what we have.
    """
    bounds = limits or QueryLimits()
    places = QueryGate(bounds.at_once, bounds.waiting)
    context = QueryContext(
        store, engine, executor, sending or executor, now_ms, monotonic, bounds, places
    )
    return [
        *(query_route(path, handler, context, "POST") for path, handler in _HANDLERS.items()),
        *series.routes(context),
        *metadata.routes(context),
        *tsdb_status.routes(context),
        *federate.routes(context, external_labels or {}),
        *read.routes(context, external_labels or {}),
    ]


def _instant(params: Params, context: QueryContext) -> QueryWork:
    query, at_ms = params.get("query"), params.time_or("time", context.now_ms())
    limit, engine = params.limit, _engine(params, context)
    meter = QueryMeter(params.get("stats"), query, engine, context.monotonic)

    def work(budget: Budget) -> ResponseBody:
        result = meter.measure(lambda: engine.evaluate(query, at_ms, budget))
        stats = meter.stats(range(at_ms, at_ms + 1), budget)
        return query_body(_limited(result, limit), stats)

    return work


def _range(params: Params, context: QueryContext) -> QueryWork:
    query = params.get("query")
    start_ms, end_ms = params.time("start"), params.time("end")
    if end_ms < start_ms:
        why = 'invalid parameter "end": end timestamp must not be before start time'
        raise ApiError("bad_data", why)
    step_ms = duration_ms(params.get("step"), "step")
    if step_ms <= 0:
        raise ApiError("bad_data", _NO_STEP)
    if (end_ms - start_ms) // step_ms > context.limits.max_points:
        raise ApiError("bad_data", _TOO_FINE)
    limit, engine = params.limit, _engine(params, context)
    meter = QueryMeter(params.get("stats"), query, engine, context.monotonic)

    def work(budget: Budget) -> ResponseBody:
        _check_range(query, engine.semantics)
        evaluated = lambda: engine.evaluate_range(query, start_ms, end_ms, step_ms, budget)  # noqa: E731
        result = meter.measure(evaluated)
        stats = meter.stats(range(start_ms, end_ms + 1, step_ms), budget)
        return query_body(_limited(result, limit), stats)

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


def _engine(params: Params, context: QueryContext) -> QueryEngine:
    """The engine with the look-back that was asked for."""
    text = params.get("lookback_delta")
    if not text:
        return context.engine
    try:
        lookback_ms = duration_ms(text, "lookback_delta")
    except ApiError:
        raise ApiError("bad_data", _NO_LOOKBACK.format(text)) from None
    return replace(context.engine, lookback_ms=lookback_ms) if lookback_ms > 0 else context.engine


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


def _exemplars(params: Params, context: QueryContext) -> QueryWork:
    """None are kept; what would be refused otherwise is refused all the same."""
    query = params.get("query")
    start_ms, end_ms = params.time_or("start", _FIRST_MS), params.time_or("end", _LAST_MS)
    if end_ms < start_ms:
        raise ApiError("bad_data", "end timestamp must not be before start timestamp")

    def work(budget: Budget) -> ResponseBody:
        try:
            parse(query, context.engine.semantics)
        except ParseError as error:
            raise ApiError("bad_data", str(error)) from None
        return data_body([])

    return work


def _format(params: Params, context: QueryContext) -> QueryWork:
    query = params.get("query")
    return lambda budget: data_body(pretty(parse(query, context.engine.semantics)))


def _parse(params: Params, context: QueryContext) -> QueryWork:
    query = params.get("query")
    return lambda budget: data_body(syntax_tree(parse(query, context.engine.semantics)))


_HANDLERS: dict[str, Handler] = {
    "/api/v1/query": _instant,
    "/api/v1/query_range": _range,
    "/api/v1/query_exemplars": _exemplars,
    "/api/v1/format_query": _format,
    "/api/v1/parse_query": _parse,
}
