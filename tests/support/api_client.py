"""The API over HTTP without a socket, as a client at an address that the test chooses."""

from collections.abc import Sequence

from starlette.routing import Route

from tocsin_alerting.api.http.access import Access, AccessCheck, Credentials
from tocsin_alerting.api.http.roles import TOKEN_ROLES, Principal, Role
from tocsin_alerting.api.http.server import application
from tocsin_alerting.api.http.tokens import digest
from tocsin_alerting.http import httpx


def credentials(token: str | None = None, **roles: str) -> Credentials:
    """`token` is that of `web.token_file`; `roles` are those of tokens by their names, which are
    their texts too."""
    bearers = {digest(token): Principal("", Role.ADMIN, proven=True)} if token else {}
    for name, role in roles.items():
        bearers[digest(name)] = Principal(name, TOKEN_ROLES[role], proven=True)
    return Credentials(bearers, configured=bool(bearers), strict=bool(roles))


def access(known: Credentials, monotonic: float = 0.0, open_reads: bool = False) -> Access:
    return Access(lambda: known, lambda: monotonic, str, 0, open_reads)


def api_client(
    routes: Sequence[Route],
    address: str = "127.0.0.1",
    host: str = "127.0.0.1:4911",
    token: str | None = None,
    **roles: str,
) -> httpx.AsyncClient:
    """`address` is where the client seems to be, `host` the Host header that it sends; `token` and
    `roles` are what the agent knows (`credentials`)."""
    app = AccessCheck(application(routes), access(credentials(token, **roles)))
    transport = httpx.ASGITransport(app, False, client=(address, 50_000))
    return httpx.AsyncClient(transport=transport, base_url=f"http://{host}")
