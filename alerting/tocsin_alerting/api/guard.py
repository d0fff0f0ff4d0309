"""Who may change something: reads may be open, writes are guarded.

Any web page can make a browser post to loopback, and any name can be made to resolve to it. So a
write needs a body that a plain form of another origin cannot send, an Origin that is ours when
there is one, and a Host that is an address or a name that we know. Off loopback it needs the token
as well.
"""

import hmac
import ipaddress
from collections.abc import Callable, Collection
from urllib.parse import urlsplit

from starlette.requests import Request

from tocsin_alerting.api.answers import ApiError

Guard = Callable[[Request], None]
BODIES = ("application/json", "application/x-www-form-urlencoded")
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")


def guard(token: Callable[[], str | None], hosts: Collection[str] = ()) -> Guard:
    """A check that raises ApiError for a write that must not happen.

    `token` reads the configured token (None: there is none); `hosts` are names that we go by.
    """

    def check(request: Request) -> None:
        _check_host(request, hosts)
        _check_origin(request)
        _check_body(request)
        if not _is_local(request):
            _check_token(request, token())

    return check


def _check_host(request: Request, hosts: Collection[str]) -> None:
    name = urlsplit("//" + request.headers.get("host", "")).hostname or ""
    if name == "localhost" or name in hosts or _is_address(name):
        return
    raise ApiError("forbidden", f'Host "{name}" is not one of ours; add it as web.external_url')


def _check_origin(request: Request) -> None:
    origin = request.headers.get("origin")
    if origin is None:
        return
    if urlsplit(origin).netloc != request.headers.get("host", ""):
        raise ApiError("forbidden", "a page of another origin may not change anything here")


def _check_body(request: Request) -> None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    browser = "origin" in request.headers or "sec-fetch-site" in request.headers
    if kind not in BODIES or (kind != BODIES[0] and browser):
        raise ApiError("bad_data", "send a body of Content-Type application/json")


def _is_local(request: Request) -> bool:
    if any(name in request.headers for name in _FORWARDED):
        return False  # a proxy on this machine speaks for somebody else
    host = request.client.host if request.client else ""
    return _is_address(host) and ipaddress.ip_address(host).is_loopback


def _check_token(request: Request, token: str | None) -> None:
    if token is None:
        raise ApiError(
            "forbidden",
            "changes from other machines need a token; set web.token_file to allow them",
        )
    given = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
    if not hmac.compare_digest(given.encode(), token.encode()):
        raise ApiError("unauthorized", "wrong or missing token; send Authorization: Bearer TOKEN")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
