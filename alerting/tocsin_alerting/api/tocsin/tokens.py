"""`/api/v1/tokens`: bearer tokens, by the Unix socket alone.

Without credentials everybody on this machine is admin over TCP; one of them could make a token and
shut out the others for good.
"""

from collections.abc import Callable, Mapping
from typing import TypeVar

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tocsin_alerting.api.http.body import read_body
from tocsin_alerting.api.http.envelope import ApiError, success
from tocsin_alerting.api.http.get_route import get_route
from tocsin_alerting.api.http.guard import Guard
from tocsin_alerting.api.http.roles import Role, RoleRoute, actor
from tocsin_alerting.api.http.tokens import ROLES, InvalidTokens, TokenFile
from tocsin_alerting.time_format import rfc3339
from tocsin_exporter.http_server import by_unix_socket
from tocsin_exporter.threads import in_thread

_MOST_BYTES = 4096
T = TypeVar("T")


Note = Callable[[str, str, Mapping[str, str]], None]
"""An event for the history, who did it, and what."""


def routes(file: TokenFile, guard: Guard, now_ms: Callable[[], int], note: Note) -> list[Route]:
    """Lists names and roles, adds one, whose text only this answer has, and revokes one."""

    async def listed(request: Request) -> Response:
        _need_socket(request)
        tokens = await _done(file.read)
        rows = [{"name": t.name, "role": t.role, "created": t.created} for t in tokens]
        return success({"tokens": rows})

    async def added(request: Request) -> Response:
        who = guard(request)
        _need_socket(request)
        name, role = request.path_params["name"], await _role(request)
        created = rfc3339(now_ms())
        token = await _done(lambda: file.add(name, role, created))
        note("token_added", actor(who, "", ""), {"name": name, "role": role})
        return success({"name": name, "role": role, "created": created, "token": token})

    async def revoked(request: Request) -> Response:
        who = guard(request)
        _need_socket(request)
        name = request.path_params["name"]
        await _done(lambda: file.revoke(name))
        note("token_revoked", actor(who, "", ""), {"name": name})
        return success({"name": name})

    return [
        get_route("/api/v1/tokens", listed, role=Role.ADMIN),
        RoleRoute("/api/v1/tokens/{name}", added, Role.ADMIN, ["POST"]),
        RoleRoute("/api/v1/tokens/{name}/revoke", revoked, Role.ADMIN, ["POST"]),
    ]


def _need_socket(request: Request) -> None:
    if not by_unix_socket(request.scope):
        raise ApiError(
            "forbidden",
            "tokens are managed on the agent's machine: alertctl token, without --url",
        )


async def _role(request: Request) -> str:
    try:
        sent = orjson.loads(await read_body(request, _MOST_BYTES))
    except orjson.JSONDecodeError as error:
        raise ApiError("bad_data", f"request body is not JSON: {error}") from None
    role = sent.get("role") if isinstance(sent, dict) else None
    if not isinstance(role, str):
        raise ApiError("bad_data", f'"role" is missing; use {", ".join(ROLES)}')
    return role


async def _done(work: Callable[[], T]) -> T:
    """Off the loop: it waits for the disk."""
    try:
        return await in_thread(work)
    except InvalidTokens as error:
        raise ApiError("conflict", str(error)) from None
