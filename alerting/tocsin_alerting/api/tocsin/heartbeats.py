"""`POST /api/v1/heartbeat/NAME`: somebody is there, and proves by a token that it is he.

A heartbeat's token is good for nothing else, and no browser sends it by itself: so a plain
`curl -X POST` without a body is taken.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tocsin_alerting.api.http.access import bearer_token
from tocsin_alerting.api.http.body import read_body
from tocsin_alerting.api.http.envelope import ApiError, not_on_disk, success
from tocsin_alerting.api.http.get_route import get_route
from tocsin_alerting.api.http.guard import Guard
from tocsin_alerting.api.http.roles import Principal, Role, RoleRoute, actor
from tocsin_alerting.api.http.tokens import PREFIX, digest
from tocsin_alerting.config.heartbeats import ExpectedHeartbeatSection, heartbeat_name
from tocsin_alerting.incidents.dispatcher import Dispatcher
from tocsin_alerting.incidents.errors import HeartbeatConflict, NoSuchHeartbeat
from tocsin_alerting.incidents.heartbeats import ExpectedHeartbeat
from tocsin_alerting.time_format import format_duration, rfc3339
from tocsin_alerting.yaml_document import did_you_mean

_MOST_BYTES = 1 << 16
_KEYS = ("every", "grace", "severity", "labels", "annotations")
_MISSING = (
    "wrong or missing token for this heartbeat; send Authorization: Bearer TOKEN, with the token"
    " that `alertctl heartbeat add` printed, or that heartbeats.expected names"
)


def heartbeat_principal(dispatcher: Dispatcher) -> Callable[[str], Principal | None]:
    """Who a token (its SHA-256) stands for: nobody, or something that may only beat."""

    def principal(sha256: str) -> Principal | None:
        name = dispatcher.heartbeats.name_of(sha256)
        return None if name is None else Principal(f"heartbeat {name}", Role.HEALTH, proven=True)

    return principal


def routes(
    dispatcher: Dispatcher, guard: Guard, now_ms: Callable[[], int], external_url: str = ""
) -> list[Route]:
    """Takes heartbeats, lists those that are expected, adds and forgets some. A new one is to be
    sent below `external_url`."""

    async def beat(request: Request) -> Response:
        name = _proven(request, dispatcher)
        try:
            one = await dispatcher.heartbeats.beat(name, now_ms())
        except NoSuchHeartbeat as error:
            raise ApiError("not_found", str(error)) from None
        return success(_row(one, dispatcher, now_ms()), _warnings(dispatcher))

    async def listed(request: Request) -> Response:
        known = sorted(dispatcher.working.heartbeats, key=lambda one: one.name)
        return success({"heartbeats": [_row(one, dispatcher, now_ms()) for one in known]})

    async def added(request: Request) -> Response:
        who = guard(request)
        body = await _body(request)
        token = PREFIX + secrets.token_urlsafe(32)
        by = actor(who, str(body.pop("by", "")), str(body.pop("user", "")))
        one = _expected(request.path_params["name"], body, digest(token), now_ms(), by)
        try:
            await dispatcher.heartbeats.add(one, now_ms())
        except HeartbeatConflict as error:
            raise ApiError("conflict", str(error)) from None
        row = _row(one, dispatcher, now_ms())
        url = f"{external_url}/api/v1/heartbeat/{one.name}"
        return success({**row, "token": token, "url": url}, _warnings(dispatcher))

    async def forgotten(request: Request) -> Response:
        who, name = guard(request), request.path_params["name"]
        body = await _body(request)
        by = actor(who, str(body.get("by", "")), str(body.get("user", "")))
        try:
            await dispatcher.heartbeats.forget(name, by, now_ms())
        except NoSuchHeartbeat as error:
            known = [one.name for one in dispatcher.working.heartbeats]
            raise ApiError("not_found", f"{error}{did_you_mean(name, known)}") from None
        except HeartbeatConflict as error:
            raise ApiError("conflict", str(error)) from None
        return success({"name": name}, _warnings(dispatcher))

    return [
        RoleRoute("/api/v1/heartbeat/{name}", beat, Role.HEALTH, ["POST"]),
        get_route("/api/v1/heartbeats", listed),
        RoleRoute("/api/v1/heartbeats/{name}", added, Role.RESPOND, ["POST"]),
        RoleRoute("/api/v1/heartbeats/{name}/forget", forgotten, Role.RESPOND, ["POST"]),
    ]


def _proven(request: Request, dispatcher: Dispatcher) -> str:
    """The heartbeat that the path names and the token is for. Raises ApiError."""
    if "origin" in request.headers:
        raise ApiError("forbidden", "heartbeats from web pages are refused")
    name, token = request.path_params["name"], bearer_token(request)
    own = dispatcher.heartbeats.name_of(digest(token)) if token else None
    if own is None:
        raise ApiError("unauthorized", _MISSING)
    if own != name:
        raise ApiError("forbidden", f'this token is for the heartbeat "{own}" alone')
    return own


def _expected(
    name: str, body: Mapping[str, Any], sha256: str, now_ms: int, by: str
) -> ExpectedHeartbeat:
    if unknown := [key for key in body if key not in _KEYS]:
        hint = did_you_mean(unknown[0], _KEYS)
        raise ApiError("bad_data", f'"{unknown[0][:80]}" means nothing here{hint}')
    try:
        heartbeat_name(name)
        one = ExpectedHeartbeatSection(**body, token_env="-").expected(name)
    except ValueError as error:
        raise ApiError("bad_data", _problem(error)) from None
    return replace(one, sha256=sha256, created_ms=now_ms, created_by=by)


def _problem(error: ValueError) -> str:
    """The first thing that is wrong, with its key."""
    errors = getattr(error, "errors", None)
    if errors is None:
        return str(error)
    first = errors()[0]
    where = ".".join(map(str, first["loc"])) or "body"
    said = str(first["msg"]).removeprefix("Value error, ")
    return f"{where}: {'is missing; write it like 1h' if first['type'] == 'missing' else said}"


async def _body(request: Request) -> dict[str, Any]:
    text = await read_body(request, _MOST_BYTES)
    try:
        body = orjson.loads(text or b"{}")
    except orjson.JSONDecodeError as error:
        raise ApiError("bad_data", f"request body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise ApiError("bad_data", "request body is no JSON object")
    return body


def _warnings(dispatcher: Dispatcher) -> list[str]:
    writer = dispatcher.writer
    return [not_on_disk(writer.last_error)] if writer.down else []


def _row(one: ExpectedHeartbeat, dispatcher: Dispatcher, now_ms: int) -> dict[str, Any]:
    known = dispatcher.working.heartbeats
    seen_ms, due_ms = known.seen_ms(one.name), known.due_ms(one)
    return {
        "name": one.name,
        "state": known.state(one, now_ms).value,
        "every": format_duration(one.every_ms),
        "grace": format_duration(one.grace_ms),
        "severity": one.severity.value,
        "labels": dict(one.labels),
        "annotations": dict(one.annotations),
        "last": None if seen_ms is None else rfc3339(seen_ms),
        "due": None if due_ms is None else rfc3339(due_ms),
        "incident": dispatcher.heartbeats.incident_of(one),
        "configured": known.is_configured(one.name),
        "created": rfc3339(one.created_ms) if one.created_ms else None,
        "created_by": one.created_by,
    }
