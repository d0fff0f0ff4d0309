"""Routes that read, answered as a Prometheus answers.

Prometheus allows every origin to read everything (`--web.cors.origin=".*"`), and pages that draw
graphs live on that. Ours allows it for samples, which `/metrics` shows to whoever connects; what
tells of people, addresses and settings no page of another origin may read, and what writes is
never a Reading.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tocsin_alerting.api.http.envelope import ApiError, failure
from tocsin_alerting.api.http.gzip_stream import MIN_GZIP_BYTES, gzip_stream
from tocsin_alerting.api.http.roles import Role, RoleRoute
from tocsin_exporter.negotiation import accepts_gzip, compressed

Endpoint = Callable[[Request], Awaitable[ASGIApp]]
SHARED_SECONDS = 0.2
_MAX_SHARED = 4  # they may be long
_CORS = {
    "access-control-allow-headers": "Accept, Authorization, Content-Type, Origin",
    "access-control-allow-methods": "GET, POST, OPTIONS",
    "access-control-allow-origin": "*",
    "access-control-expose-headers": "Date",
    "vary": "Origin",
}


def get_route(
    path: str,
    endpoint: Endpoint,
    *methods: str,
    any_origin: bool = False,
    shared_by: Callable[[], float] | None = None,
    role: Role = Role.READ,
    change_role: Role = Role.ADMIN,
    refused: Callable[[ApiError], Response] = failure,
) -> RoleRoute:
    """GET and OPTIONS at `path`, and `methods`; `endpoint` gives the response, which is compressed
    for those who take it. A response that is no `Response` looks after that itself. `role` is what
    it takes to read it, `change_role` what the other methods take.
    `refused` answers what is wrong with a request.
    `any_origin`: every web page may read it. `shared_by`: a clock in seconds, by which an answer
    is given again for SHARED_SECONDS to all who ask the same."""

    async def answer(request: Request, zipped: bool) -> ASGIApp:
        response = await endpoint(request)
        if zipped and isinstance(response, Response) and len(response.body) >= MIN_GZIP_BYTES:
            await compress(response)
        return response

    share = _SharedResponses(answer, shared_by).answer if shared_by else answer

    async def respond(request: Request) -> ASGIApp:
        return await share(request, accepts_gzip(request.headers.get("accept-encoding", "")))

    served = _GetEndpoint(respond, {"GET", *methods}, any_origin, refused)
    return RoleRoute(path, served, role, change_role=change_role)


class _SharedResponses:
    """Answers of the last moment: to make a long one takes milliseconds of the loop, and hundreds
    may ask in that moment."""

    def __init__(
        self, answer: Callable[[Request, bool], Awaitable[ASGIApp]], monotonic: Callable[[], float]
    ) -> None:
        self._make, self._monotonic = answer, monotonic
        self._last: dict[tuple[bytes, bool], tuple[float, asyncio.Future[ASGIApp]]] = {}

    async def answer(self, request: Request, zipped: bool) -> ASGIApp:
        key, now = (request.scope["query_string"], zipped), self._monotonic()
        began, making = self._last.get(key, (-math.inf, None))
        if making is None or now - began >= SHARED_SECONDS:
            making = asyncio.ensure_future(self._make(request, zipped))
            self._keep(key, now, making)
        return await asyncio.shield(making)  # who goes takes it from no other

    def _keep(self, key: tuple[bytes, bool], now: float, making: asyncio.Future[ASGIApp]) -> None:
        self._last.pop(key, None)
        if len(self._last) >= _MAX_SHARED:
            del self._last[next(iter(self._last))]
        self._last[key] = now, making


async def compress(response: Response) -> None:
    body = iter((bytes(response.body),))
    packed = await compressed(lambda: b"".join(gzip_stream(body)))
    if packed is None:
        return
    response.body = packed
    response.headers["content-encoding"] = "gzip"
    response.headers["content-length"] = str(len(response.body))


class _GetEndpoint:
    def __init__(
        self,
        endpoint: Endpoint,
        methods: set[str],
        any_origin: bool,
        refused: Callable[[ApiError], Response],
    ) -> None:
        self._endpoint, self._refusal = endpoint, refused
        self._any_origin = any_origin
        self._methods = methods
        self._allow = ", ".join(sorted({*methods, "OPTIONS"}))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._any_origin and "origin" in Headers(scope=scope):
            send = _open_to_all(send)
        if scope["method"] in self._methods:
            await self._respond(scope, receive, send)
        elif scope["method"] == "OPTIONS":
            await Response(status_code=204)(scope, receive, send)
        else:
            await self._refused(scope)(scope, receive, send)

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await self._endpoint(Request(scope, receive, send))
            await response(scope, receive, send)
        except ApiError as error:  # other origins may read that as well
            await self._refusal(error)(scope, receive, send)

    def _refused(self, scope: Scope) -> Response:
        words = f"{scope['path']} does not support {scope['method']}; use {self._allow}"
        refused = self._refusal(ApiError("method_not_allowed", words))
        refused.headers["allow"] = self._allow
        return refused


def _open_to_all(send: Send) -> Send:
    async def opened(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": list(message.get("headers", ()))}
            MutableHeaders(scope=message).update(_CORS)
        await send(message)

    return opened
