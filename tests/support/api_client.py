"""The API over HTTP without a socket, as a client at an address that the test chooses."""

from collections.abc import Sequence

from starlette.routing import Route

from tocsin_alerting.api.http.server import application
from tocsin_alerting.http import httpx


def api_client(
    routes: Sequence[Route], address: str = "127.0.0.1", host: str = "127.0.0.1:4911"
) -> httpx.AsyncClient:
    """`address` is where the client seems to be, `host` the Host header that it sends."""
    transport = httpx.ASGITransport(application(routes), False, client=(address, 50_000))
    return httpx.AsyncClient(transport=transport, base_url=f"http://{host}")
