"""`POST /api/v1/read`: samples for a Prometheus that evaluates its own queries, by remote read.

Protocol: https://prometheus.io/docs/prometheus/latest/querying/remote_read_api/. It costs what a
query costs, and has its place among queries.
"""

from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from tocsin_alerting.api.http.body import read_body
from tocsin_alerting.api.http.envelope import ApiError
from tocsin_alerting.api.http.roles import Role, RoleRoute, plainly
from tocsin_alerting.api.prometheus.encoding import ResponseBody, labels_bytes
from tocsin_alerting.api.prometheus.query_response import QueryContext, QueryResponse, QueryWork
from tocsin_alerting.promql.eval.limits import Budget, within_memory
from tocsin_alerting.remote_read.request import ReadQuery, ReadRequest, ResponseType, read_request
from tocsin_alerting.remote_read.response import chunk_stream, samples_message
from tocsin_alerting.remote_read.samples import ReadSamples, read_samples
from tocsin_alerting.remote_write.prompb import Malformed, RequestTooLarge
from tocsin_alerting.remote_write.snappy import decompress

PROTOBUF = "application/x-protobuf"
STREAM = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse"
_MAX_BODY_BYTES = 1 << 20


def routes(context: QueryContext, external_labels: Mapping[str, str]) -> list[Route]:
    """`external_labels` are those of the agent: every series is told with them."""

    async def answer(request: Request) -> ASGIApp:
        asked = await _asked(request)
        log_fields = {"path": request.scope["path"], "queries": str(len(asked.queries))}
        work = _work(asked, context, external_labels)
        return QueryResponse(context, work, log_fields=log_fields)

    return [RoleRoute("/api/v1/read", _ReadEndpoint(answer), Role.READ, ["POST"], plainly)]


class _ReadEndpoint:
    """Answers with what `answer` gives, and says in plain text what is wrong."""

    def __init__(self, answer: Callable[[Request], Awaitable[ASGIApp]]) -> None:
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await self._answer(Request(scope, receive, send))
            await response(scope, receive, send)
        except ApiError as error:
            await plainly(error)(scope, receive, send)


async def _asked(request: Request) -> ReadRequest:
    """Raises ApiError."""
    encoding = request.headers.get("content-encoding", "snappy").strip().lower()
    kind = request.headers.get("content-type", PROTOBUF).partition(";")[0].strip().lower()
    if encoding != "snappy" or kind != PROTOBUF:
        raise ApiError("unsupported_media_type", f"send a ReadRequest as {PROTOBUF}, in snappy")
    try:
        body = await read_body(request, _MAX_BODY_BYTES)
        return read_request(decompress(body, _MAX_BODY_BYTES))
    except Malformed as error:
        raise ApiError("bad_data", str(error)) from None
    except RequestTooLarge as error:
        raise ApiError("too_large", str(error)) from None


def _work(asked: ReadRequest, context: QueryContext, external: Mapping[str, str]) -> QueryWork:
    def read(query: ReadQuery, budget: Budget) -> ReadSamples:
        matchers, start_ms, end_ms = query.matchers, query.start_ms, query.end_ms
        chosen = context.store.select((matchers,), start_ms, end_ms, budget.check_time)
        return read_samples(chosen, start_ms, end_ms, external, budget)

    def work(budget: Budget) -> ResponseBody:
        with within_memory():
            queries = [read(query.without(external), budget) for query in asked.queries]
            if asked.response_type is ResponseType.SAMPLES:
                body = samples_message(queries, budget)
                return ResponseBody((body,), body.__len__, PROTOBUF, "snappy")
        size = lambda: sum(each.nbytes + labels_bytes(each.labels) for each in queries)  # noqa: E731
        return ResponseBody(chunk_stream(queries), size, STREAM, "")

    return work
