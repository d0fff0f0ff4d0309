"""Routes behind a real server on a free port of the loopback."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from starlette.routing import Route

from support.api_client import access, credentials
from tocsin_alerting.api.http.access import AccessCheck
from tocsin_alerting.api.http.server import application, server
from tocsin_exporter import listen
from tocsin_exporter.connections import ConnectionLimits, Connections


@asynccontextmanager
async def served(
    routes: Sequence[Route],
    limits: ConnectionLimits | None = None,
    token: str | None = None,
    **roles: str,
) -> AsyncIterator[str]:
    """Yields the URL, without a slash at its end. `token` and `roles` as of `api_client`."""
    socket = listen.bind("127.0.0.1:0")
    app = AccessCheck(application(routes), access(credentials(token, **roles)))
    web = server(app, Connections(limits))
    serving = asyncio.ensure_future(web.serve([socket]))
    try:
        yield f"http://127.0.0.1:{socket.getsockname()[1]}"
    finally:
        web.should_exit = True
        await serving
