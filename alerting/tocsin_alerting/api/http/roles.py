"""What somebody may do, and the routes that say what is needed.

read < respond < admin. A route is registered with its role, and nobody below it reaches the
endpoint; one that was registered without one is for admin.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from tocsin_alerting.api.http.envelope import HTTP_STATUS, ApiError, failure


class Role(IntEnum):
    """`HEALTH` is for everybody, always; `METRICS` for everybody unless basic auth is configured;
    a token has one of the other three."""

    HEALTH = 0
    METRICS = 1
    READ = 2
    RESPOND = 3
    ADMIN = 4


TOKEN_ROLES = {"read": Role.READ, "respond": Role.RESPOND, "admin": Role.ADMIN}


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks: `name` goes into the history, and is "" where nobody said one.

    `proven` by a credential: such a one may call us by any name of a host. `refusal` is what is
    said where the role is not enough: the error's type and its words; `basic` whether a user and a
    password would help."""

    name: str
    role: Role
    proven: bool = False
    refusal: tuple[str, str] | None = None
    basic: bool = False


def principal_of(request: Request) -> Principal:
    """Who asks, as `AccessCheck` found out; nobody where it did not look."""
    who = request.scope.get("user")
    return who if isinstance(who, Principal) else Principal("", Role.HEALTH)


def require(who: Principal, role: Role) -> None:
    """Raises ApiError unless `who` has at least `role`."""
    if who.role >= role:
        return
    if who.refusal is not None:
        raise ApiError(*who.refusal)
    needed, has = role.name.lower(), who.role.name.lower()
    raise ApiError("forbidden", f'this needs the role {needed}; "{who.name}" has the role {has}')


def actor(who: Principal, by: str, user: str = "") -> str:
    """Under whose name an action is recorded: the credential's, else `user`, which a client says
    of itself; `by` names somebody else, which is for admin. Raises ApiError."""
    if by and by != who.name and who.role < Role.ADMIN:
        raise ApiError(
            "forbidden",
            f'only the role admin acts under another name than its own; leave "by" out to act as'
            f' "{who.name}"',
        )
    return by or who.name or user or "somebody"


class RoleRoute(Route):
    """A route for those who have `role`; `refused` answers the others, in place of the envelope, or
    of plain text outside of the API. OPTIONS is for all: a browser asks it without credentials.
    `change_role` is what other methods than GET and HEAD take, where that is not the same."""

    def __init__(
        self,
        path: str,
        endpoint: Callable[..., Any],
        role: Role,
        methods: Sequence[str] | None = None,
        refused: Callable[[ApiError], Response] | None = None,
        change_role: Role | None = None,
    ) -> None:
        super().__init__(path, endpoint, methods=methods)
        self.role, self.change_role = role, role if change_role is None else change_role
        answer = refused or (failure if path.startswith("/api/") else plainly)
        self.app = _RoleCheck(self.app, self.needed, answer)

    def needed(self, method: str) -> Role:
        """The role that a request with this method takes."""
        return self.role if method in ("GET", "HEAD") else self.change_role


def for_role(role: Role, route: Route) -> RoleRoute:
    """The route of another part, for those who have `role`."""
    methods = sorted(route.methods) if route.methods else None
    return RoleRoute(route.path, route.endpoint, role, methods)


def plainly(error: ApiError) -> Response:
    return PlainTextResponse(f"{error}\n", HTTP_STATUS[error.type])


class _RoleCheck:
    def __init__(
        self,
        app: ASGIApp,
        needed: Callable[[str], Role],
        refused: Callable[[ApiError], Response],
    ) -> None:
        self._app, self._needed, self._refused = app, needed, refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        who = principal_of(Request(scope))
        try:
            if scope["method"] != "OPTIONS":
                require(who, self._needed(scope["method"]))
        except ApiError as error:
            response = self._refused(error)
            response.headers.update(challenge(error, who))
            await response(scope, receive, send)
            return
        await self._app(scope, receive, send)


def challenge(error: ApiError, who: Principal) -> dict[str, str]:
    """What a refusal tells a client besides its words: how to prove itself, or when to try."""
    if error.type == "unauthorized" and who.basic:
        return {"www-authenticate": "Basic"}  # as exporter-toolkit, without a realm
    if error.type == "unauthorized":
        return {"www-authenticate": 'Bearer realm="tocsin"'}
    return {"retry-after": "1"} if error.type == "too_many_requests" else {}
