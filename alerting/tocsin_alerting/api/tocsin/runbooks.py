"""`/runbooks/<Alert>`: what to do at 3 a.m., from the bundled docs; alerts link here."""

import re
from collections.abc import Callable
from pathlib import Path

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tocsin_alerting.api.http.roles import Role, RoleRoute

_NAME = re.compile(r"[A-Za-z0-9_]{1,80}")


def routes(folder: Callable[[], Path]) -> list[Route]:
    """`folder` holds a Markdown page an alert."""

    async def runbook(request: Request) -> Response:
        name = request.path_params["name"].removesuffix(".md")
        page = folder() / f"{name}.md"
        if not _NAME.fullmatch(name) or not page.is_file():
            return PlainTextResponse(f"no runbook for {name[:80]}\n", 404)
        text = page.read_text(encoding="utf-8")
        return PlainTextResponse(text, media_type="text/markdown; charset=utf-8")

    return [RoleRoute("/runbooks/{name}", runbook, Role.READ)]
