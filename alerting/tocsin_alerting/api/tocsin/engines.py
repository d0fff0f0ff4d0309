"""`/api/v1/engines`: which inference engines are watched, and why; one may be forgotten."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tocsin_alerting.api.http.envelope import ApiError, not_on_disk, success
from tocsin_alerting.api.http.get_route import get_route
from tocsin_alerting.api.http.guard import Guard
from tocsin_alerting.api.http.roles import Role, RoleRoute
from tocsin_alerting.yaml_document import did_you_mean
from tocsin_exporter.engine_access import EngineAccess, place

_MOST_NAMED = 10  # engines in an error


@dataclass(frozen=True, slots=True)
class WatchedEngine:
    """`origin` is configured, found, remembered or demo; `up` None before it was first read."""

    target: str
    url: str
    kind: str
    model: str
    origin: str
    up: bool | None


def routes(
    engines: Callable[[], Sequence[WatchedEngine]],
    forget: Callable[[str], Awaitable[str]],
    guard: Guard,
    unrecorded: Callable[[str], str | None] = lambda target: None,
) -> list[Route]:
    """`forget` takes a target that is watched, and returns why it stays, if it does; `unrecorded`
    says why that is not on the disk, which may be "", and None when it is."""

    async def listed(request: Request) -> Response:
        return success({"engines": [asdict(engine) for engine in engines()]})

    async def forgotten(request: Request) -> Response:
        guard(request)
        target = _watched(request.path_params["target"], [engine.target for engine in engines()])
        if why_not := await forget(target):
            raise ApiError("conflict", why_not)
        why = unrecorded(target)
        data = {"target": target, "recorded": why is None}
        return success(data, () if why is None else [not_on_disk(why)])

    return [
        get_route("/api/v1/engines", listed),
        RoleRoute("/api/v1/engines/{target:path}/forget", forgotten, Role.RESPOND, ["POST"]),
    ]


def _watched(named: str, known: Sequence[str]) -> str:
    """The target of `known` that is meant: by its name, its URL, or another name of its host."""
    if named in known:
        return named
    target = _target(named)
    same = [candidate for candidate in known if place(candidate) == place(target)]
    if same:
        return same[0]
    hint = did_you_mean(target, known) or "."
    watched = ", ".join(known[:_MOST_NAMED]) or "none"
    more = f" and {len(known) - _MOST_NAMED} more" if len(known) > _MOST_NAMED else ""
    what = f"no engine is watched as {target}{hint} Watched: {watched}{more}"
    raise ApiError("not_found", what)


def _target(named: str) -> str:
    """host:port and path of a URL, with or without its scheme; no user and no password."""
    try:
        return EngineAccess.of(named if "://" in named else f"http://{named}").target
    except ValueError:
        return named.rpartition("@")[2]
