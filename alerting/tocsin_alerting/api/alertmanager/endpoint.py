"""How Alertmanager's API answers: plain JSON without an envelope, errors too.

An error that its handlers give is a text; one of the layer before them is `{code, message}`.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tocsin_alerting.api.http.envelope import HTTP_STATUS, ApiError, json_response
from tocsin_alerting.api.http.get_route import compress
from tocsin_alerting.api.http.gzip_stream import MIN_GZIP_BYTES
from tocsin_alerting.api.http.roles import Role, RoleRoute
from tocsin_exporter.negotiation import accepts_gzip

JSON = "application/json"
Endpoint = Callable[[Request], Awaitable[Response]]


class Refused(Exception):
    """Ends a request with `status`. `code` None: the answer is the text alone. `retry_after_s`:
    it is worth trying again then."""

    def __init__(
        self,
        status: int,
        message: str,
        code: int | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.retry_after_s = status, code, retry_after_s

    def response(self) -> Response:
        if self.code is None:  # with Go's end of the line
            text = orjson.dumps(str(self)) + b"\n"
            response = Response(text, self.status, media_type=JSON)
        else:
            response = json_response({"code": self.code, "message": str(self)}, self.status)
        if self.retry_after_s is not None:
            response.headers["retry-after"] = str(self.retry_after_s)
        return response


def alertmanager_route(path: str, endpoints: Mapping[str, Endpoint]) -> RoleRoute:
    """`path` below /api/v2, `endpoints` by method; answers are compressed for who takes it. Who
    reads may GET, who responds also change."""
    methods, change = _Methods(endpoints), Role.RESPOND
    return RoleRoute(f"/api/v2{path}", methods, Role.READ, None, _refused, change_role=change)


def _refused(error: ApiError) -> Response:
    status = HTTP_STATUS[error.type]
    return Refused(status, str(error), status).response()


class _Methods:
    def __init__(self, endpoints: Mapping[str, Endpoint]) -> None:
        self._endpoints = endpoints
        self._allow = ",".join(sorted(endpoints))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._answer(Request(scope, receive, send))
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        endpoint = self._endpoints.get(method)
        if endpoint is None:
            why = f"method {method} is not allowed, but [{self._allow}] are"
            refused = Refused(405, why, 405).response()
            refused.headers["allow"] = ", ".join(sorted({*self._endpoints, "HEAD"}))
            return refused
        try:
            response = await endpoint(request)
        except Refused as error:
            return error.response()
        except ApiError as error:
            return _refused(error)
        if method == "GET" and len(response.body) >= MIN_GZIP_BYTES and _takes_gzip(request):
            await compress(response)
        return response


def _takes_gzip(request: Request) -> bool:
    return accepts_gzip(request.headers.get("accept-encoding", ""))


def flag(request: Request, name: str) -> bool:
    """A boolean parameter as Alertmanager reads it: it is true by default, and any other word than
    one for true is false."""
    return request.query_params.get(name, "true").lower() in _TRUE


_TRUE = frozenset(("true", "1", "yes", "ok", "y", "on", "selected", "checked", "t", "enabled"))


def as_json(data: Any) -> Response:
    return json_response(data)


def check_json(request: Request) -> None:
    """Raises Refused for another media type, as Alertmanager words it."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != JSON:
        named = kind or "application/octet-stream"
        why = f'unsupported media type "{named}", only [{JSON}] are allowed'
        raise Refused(415, why, 415)
