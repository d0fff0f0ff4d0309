"""`POST /-/reload`: read the configuration again, as Prometheus does it."""

from collections.abc import Awaitable, Callable, Sequence

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tocsin_alerting.api.http.envelope import HTTP_STATUS, ApiError
from tocsin_alerting.api.http.guard import BODIES, Guard
from tocsin_alerting.api.http.roles import Role, RoleRoute

RELOAD = "/-/reload"
RELOAD_BODIES = (*BODIES, "")
"""`curl -X POST` sends none; no web page can send a POST that looks like that."""

Reload = Callable[[str], Awaitable[Sequence[str]]]
"""Why -> the keys that wait for a restart. Raises ValueError with what is wrong, a line each."""


def routes(reload: Reload, guard: Guard) -> list[Route]:
    """`guard` takes a request without a body."""

    async def reload_now(request: Request) -> Response:
        try:
            guard(request)
            waiting = await reload(f"{request.method} {RELOAD}")
        except ApiError as error:
            return PlainTextResponse(f"{error}\n", HTTP_STATUS[error.type])
        except ValueError as error:
            return PlainTextResponse(f"failed to reload config: {error}\n", 500)
        return PlainTextResponse("".join(f"{key} needs a restart\n" for key in waiting))

    return [RoleRoute(RELOAD, reload_now, Role.ADMIN, ["POST", "PUT"])]
