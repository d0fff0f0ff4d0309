"""`/api/v1/status/*`: what runs here, in the shapes that Grafana asks a Prometheus for."""

from collections.abc import Callable, Mapping
from importlib.metadata import version
from platform import python_version
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tocsin_alerting.api.answers import success


def routes(about: Callable[[], Mapping[str, Any]]) -> list[Route]:
    """`about` gives what `/api/v1/status/tocsin` says: engines, rules, channels, storage."""

    async def buildinfo(request: Request) -> Response:
        own = version("tocsin")
        built = {"revision": "", "branch": "", "buildUser": "", "buildDate": ""}
        return success({"version": own, "goVersion": f"python{python_version()}", **built})

    async def tocsin(request: Request) -> Response:
        return success(dict(about()))

    return [
        Route("/api/v1/status/buildinfo", buildinfo),
        Route("/api/v1/status/tocsin", tocsin),
    ]
