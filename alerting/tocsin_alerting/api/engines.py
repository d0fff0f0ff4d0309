"""`/api/v1/engines`: which inference engines are watched, and why; one may be forgotten."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tocsin_alerting.api.answers import ApiError, success
from tocsin_alerting.api.guard import Guard
from tocsin_alerting.api.reads import read
from tocsin_alerting.document import did_you_mean


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
) -> list[Route]:
    """`forget` takes a target that is watched, and returns why it stays, if it does."""

    async def listed(request: Request) -> Response:
        return success({"engines": [asdict(one) for one in engines()]})

    async def forgotten(request: Request) -> Response:
        guard(request)
        target = request.path_params["target"]
        known = [one.target for one in engines()]
        if target not in known:
            hint = did_you_mean(target, known)
            raise ApiError("not_found", f"no engine is watched as {target}{hint}")
        if why_not := await forget(target):
            raise ApiError("conflict", why_not)
        return success({"target": target})

    return [
        read("/api/v1/engines", listed),
        Route("/api/v1/engines/{target:path}/forget", forgotten, methods=["POST"]),
    ]
