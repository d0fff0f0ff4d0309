"""Everything the agent serves, on one port: the metrics page's routes and the API as one app."""

import logging
import re
from collections import defaultdict
from collections.abc import Sequence

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from tocsin_alerting.api.http.envelope import ApiError, failure, json_response
from tocsin_alerting.api.http.roles import Role, RoleRoute, for_role
from tocsin_exporter import http_server
from tocsin_exporter.admission import Admission, is_health
from tocsin_exporter.connections import Connections
from tocsin_exporter.web_config import LiveWebConfig, front

log = logging.getLogger(__name__)

SHUTDOWN_SECONDS = 1
_WRITES = tuple(
    f"/api/{name}"
    for name in (
        *(
            f"v1/{kind}"
            for kind in ("write", "otlp/", "incidents/", "engines/", "channels/", "receivers/")
        ),
        *("v1/silences", "v1/maintenance", "v1/heartbeat", "v1/drill", "v2/"),
    )
) + ("/links/",)
_LINK = re.compile(r"(/links/)[^/]*")
_HTTP_ERRORS = {
    404: ("not_found", "not found: {1}"),
    405: ("method_not_allowed", "{1} does not support {0}"),
}


def application(routes: Sequence[Route]) -> Starlette:
    """The routes, with errors in the words of the part of the tree that they happen in; one that
    names no role is for admin."""
    routes = [r if isinstance(r, RoleRoute) else for_role(Role.ADMIN, r) for r in routes]
    handlers = {
        ApiError: _api_error,
        HTTPException: _http_error,
        ClientDisconnect: _client_disconnected,
        Exception: _internal_error,
    }
    plain = [route for route in routes if "{" not in route.path]
    others = [route for route in routes if route not in plain]
    return Starlette(routes=[_ByPath(plain), *others], exception_handlers=handlers)


def server(
    app: ASGIApp, connections: Connections, web: LiveWebConfig | None = None
) -> uvicorn.Server:
    """Ends within GOODBYE_SECONDS of being told, whatever a client still waits for."""
    parting = failure(ApiError("unavailable", "the agent is shutting down"))
    admitted = Admission(app, _urgent)
    first = None if web is None else front(web, connections)
    return uvicorn.Server(
        http_server.ServerConfig(admitted, connections, SHUTDOWN_SECONDS, parting, first)
    )


def _urgent(scope: Scope) -> bool:
    """What pages depend on, and what people do: neither waits behind those who read."""
    return (
        is_health(scope)
        or scope["method"] in ("POST", "DELETE")
        and scope["path"].startswith(_WRITES)
    )


class _ByPath(BaseRoute):
    """Routes without parameters, looked up: to try fifty of them takes as long as an answer."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes: defaultdict[str, list[Route]] = defaultdict(list)
        for route in routes:
            self._routes[route.path].append(route)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        best: Match = Match.NONE
        child_scope: Scope = {}
        for route in self._routes.get(scope["path"], ()):
            match, child = route.matches(scope)
            if match.value > best.value:
                best, child_scope = match, {**child, "route": route}
        return best, child_scope

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await scope["route"].handle(scope, receive, send)


async def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return failure(error)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if not request.url.path.startswith("/api/") or error.status_code not in _HTTP_ERRORS:
        return PlainTextResponse(f"{error.detail}\n", error.status_code, error.headers)
    if request.url.path.startswith("/api/v2/") and error.status_code == 404:  # as Alertmanager
        words = f"path {request.url.path} was not found"
        return json_response({"code": 404, "message": words}, 404)
    kind, words = _HTTP_ERRORS[error.status_code]
    response = failure(ApiError(kind, words.format(request.method, request.url.path)))
    response.headers.update(error.headers or {})
    return response


async def _client_disconnected(request: Request, error: Exception) -> Response:
    """Nobody is there to read the answer."""
    log.info("client disconnected in the middle of a request", extra={"path": _path(request)})
    return Response(status_code=400)


async def _internal_error(request: Request, error: Exception) -> Response:
    log.error("request failed", extra={"path": _path(request)}, exc_info=error)
    return failure(ApiError("internal", "internal error; see the agent's log"))


def _path(request: Request) -> str:
    """As the log may have it: who has a signed link may answer by it."""
    return _LINK.sub(r"\1...", request.url.path)
