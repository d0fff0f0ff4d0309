"""`POST /api/v1/otlp/v1/metrics`: samples of OpenTelemetry, over OTLP/HTTP.

Protocol: https://opentelemetry.io/docs/specs/otlp/#otlphttp. A sender drops what is answered with
400, and sends again what is answered with 503. Errors are a `google.rpc.Status` in the request's
own encoding.
"""

from functools import partial

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tocsin_alerting.api.http.envelope import HTTP_STATUS, ApiError
from tocsin_alerting.api.http.guard import Guard
from tocsin_alerting.api.http.roles import Role, RoleRoute, plainly
from tocsin_alerting.api.prometheus.write import RemoteWriteEndpoint
from tocsin_alerting.otlp.receiver import OtlpReceiver
from tocsin_alerting.remote_write.prompb import write_number, write_part, write_text
from tocsin_alerting.remote_write.result import ReceiveResult

PROTOBUF, JSON = "application/x-protobuf", "application/json"
BODIES = (PROTOBUF, JSON)
_ENCODINGS = ("gzip", "identity", "")


def routes(receiver: OtlpReceiver, intake: RemoteWriteEndpoint, guard: Guard) -> list[Route]:
    """`intake` is that of remote write: all that comes in has its limits together. `guard` lets
    BODIES pass."""
    requests = receiver.counters.requests

    async def metrics(request: Request) -> Response:
        status = 500
        try:
            answer = await _answer(request, receiver, intake, guard)
            status = answer.status_code
        finally:
            requests[status] += 1
        return answer

    def refused(error: ApiError) -> Response:
        requests[HTTP_STATUS[error.type]] += 1
        return plainly(error)

    return [RoleRoute("/api/v1/otlp/v1/metrics", metrics, Role.RESPOND, ["POST"], refused)]


async def _answer(
    request: Request, receiver: OtlpReceiver, intake: RemoteWriteEndpoint, guard: Guard
) -> Response:
    json = _media_type(request) == JSON
    try:
        guard(request)
        encoding = request.headers.get("content-encoding", "").strip().lower()
        if encoding not in _ENCODINGS:
            why = f"{encoding} is not supported; send gzip, or no compression"
            raise ApiError("unsupported_media_type", why)
        receive = partial(receiver.receive, json=json, zipped=encoding == "gzip")
        return _taken(await intake.take(request, receive), json)
    except ApiError as error:
        return _status(str(error), HTTP_STATUS[error.type], json)


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _taken(result: ReceiveResult, json: bool) -> Response:
    """What was not taken is told, and is not to be sent again; nothing of a request is an error."""
    rejected = sum(result.refused.values())
    if rejected and not result.accepted:
        return _status(result.message, 400, json)
    if json:
        partial_success = {"rejectedDataPoints": str(rejected), "errorMessage": result.message}
        body = orjson.dumps({"partialSuccess": partial_success} if rejected else {})
        return Response(body, media_type=JSON)
    told = write_number(1, rejected) + write_text(2, result.message) if rejected else b""
    return Response(write_part(1, told) if rejected else b"", media_type=PROTOBUF)


def _status(message: str, status: int, json: bool) -> Response:
    body = orjson.dumps({"message": message}) if json else write_text(2, message)
    headers = {"retry-after": "5"} if status == 503 else None
    return Response(body, status, headers, media_type=JSON if json else PROTOBUF)
