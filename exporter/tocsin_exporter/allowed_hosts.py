"""The names by which a server may be asked.

A page on the web can make its own name resolve to an address of ours (DNS rebinding) and then read
what we answer, as if it came from there: all that gives it away is the Host header.
"""

import ipaddress
import re
import socket
import threading
from collections.abc import Callable, Collection, Iterable
from functools import lru_cache
from typing import TypeAlias

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

_LONGEST = 100  # characters; no address has as many
HEALTH = ("/-/healthy", "/-/ready")
_HOST = re.compile(r"(?:\[(?P<v6>[^\[\]]+)\]|(?P<name>[^\s\[\]:/?#@\\]+))(?::\d*)?", re.ASCII)
Refusal: TypeAlias = Callable[[Request, str], Response]


class AllowedHosts:
    """`names` besides localhost; addresses are always known, for a page has none to rebind."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names = frozenset({"localhost", *map(_plain, names)})

    def add(self, name: str) -> None:
        self._names |= {_plain(name)}

    def refused(self, request: Request) -> str | None:
        """Why this request's Host is not one of ours; None if it is, or HTTP/1.0 has none."""
        given = request.headers.getlist("host")
        if not given and request.scope.get("http_version") == "1.0":
            return None
        wrong = [header for header in given or [""] if not self._knows(header)]
        if not wrong:
            return None
        return f'Host "{wrong[0][:200]}" is not allowed; add it to web.allow_hosts'

    def _knows(self, header: str) -> bool:
        match = _HOST.fullmatch(header.strip())
        if match is None:
            return False
        if match["v6"] is not None:
            return _is_address(match["v6"][:_LONGEST])
        return _plain(match["name"]) in self._names or _is_address(match["name"][:_LONGEST])


def own_hosts(names: Iterable[str] = ()) -> AllowedHosts:
    """This machine's names too; the full one in a moment, since a resolver may take its time."""
    hosts = AllowedHosts([socket.gethostname(), *names])
    threading.Thread(
        target=lambda: hosts.add(socket.getfqdn()), name="own name", daemon=True
    ).start()
    return hosts


def plainly_refused(request: Request, why: str) -> Response:
    return PlainTextResponse(f"{why}\n", 403)


class HostCheck:
    """An app whose pages, but those in `open_paths`, are for requests to our `hosts` alone, and
    for those that `passes`."""

    def __init__(
        self,
        app: ASGIApp,
        hosts: AllowedHosts,
        open_paths: Collection[str],
        passes: Callable[[Request], bool] = lambda request: False,
        refusal: Refusal = plainly_refused,
    ) -> None:
        self._app, self._hosts, self._open = app, hosts, frozenset(open_paths)
        self._passes, self._refusal = passes, refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in self._open:
            request = Request(scope)
            why = self._hosts.refused(request)
            if why is not None and not self._passes(request):
                await self._refusal(request, why)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _plain(name: str) -> str:
    return name.strip().lower().removesuffix(".")


@lru_cache(1024)  # a sender asks many times a second
def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
