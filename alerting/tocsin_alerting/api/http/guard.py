"""Who may change something: reads are for those who know our name, writes are guarded.

Any web page can make a browser post to loopback, and any name can be made to resolve to it. So a
write needs a body that a plain form of another origin cannot send, an Origin that is ours when
there is one, and a Host that is an address or a name that we know. It needs the token as well,
unless it came by our Unix socket, whose file says who may use it. Where there is no token, loopback
may write: but a proxy there speaks for strangers, and other users of this machine are on it too.
"""

import hmac
import ipaddress
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from urllib.parse import SplitResult, urlsplit

from starlette.requests import Request
from starlette.responses import Response

from tocsin_alerting.api.http.envelope import ApiError, failure
from tocsin_exporter.allowed_hosts import AllowedHosts, plainly_refused
from tocsin_exporter.http_server import by_unix_socket

Guard = Callable[[Request], None]
BODIES = ("application/json", "application/x-www-form-urlencoded")
_FORWARDED = re.compile(  # what proxies and their like add
    "forwarded|via|x-forwarded-.*|x-real-ip|x-original-.*|x-envoy-.*|x-proxy-.*|cdn-loop|cf-.*"
    "|true-client-ip|client-ip|.*-client-?ip|x-proxyuser-ip|x-scheme|x-remote-.*|remote-.*"
)


def new_guard(
    token: Callable[[], str | None],
    hosts: AllowedHosts | None = None,
    bodies: Sequence[str] = BODIES,
) -> Guard:
    """A check that raises ApiError for a write that must not happen.

    `token` reads the configured token (None: there is none); `hosts` are names that we go by, but
    who has the token may call us as they like.
    `bodies` are the media types that a program may send; a page of ours may send the first alone,
    which must be one that no form can send.
    """
    known = hosts or AllowedHosts()

    def check(request: Request) -> None:
        why = known.refused(request)
        if why is not None and not bears_token(request, token()):
            raise ApiError("forbidden", why)
        _check_origin(request)
        _check_body(request, bodies)
        if not by_unix_socket(request.scope):
            _check_token(request, token())

    return check


def bears_token(request: Request, token: str | None) -> bool:
    """Whether the request carries the token, and there is one."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    right = hmac.compare_digest(given.strip().encode(), (token or "").encode())
    return token is not None and scheme.lower() == "bearer" and right


def forbidden_response(request: Request, why: str) -> Response:
    """A read that a page of another name asks for."""
    if request.url.path.startswith("/api/"):
        return failure(ApiError("forbidden", why))
    return plainly_refused(request, why)


def _check_origin(request: Request) -> None:
    origin = request.headers.get("origin")
    if origin is None:
        return
    if _url_parts(origin).netloc.lower() != request.headers.get("host", "").lower():
        raise ApiError("forbidden", "a page of another origin may not change anything here")


def _check_body(request: Request, bodies: Sequence[str]) -> None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    browser = "origin" in request.headers or "sec-fetch-site" in request.headers
    if kind not in bodies or (kind != bodies[0] and browser):
        why = f"send a body of Content-Type {bodies[0]}"
        raise ApiError("unsupported_media_type", why)


def _is_from_loopback(request: Request) -> bool:
    if any(_forwards(name) for name, _ in request.headers.raw):
        return False  # a proxy on this machine speaks for somebody else
    return _is_loopback(request.client.host if request.client else "")


def _check_token(request: Request, token: str | None) -> None:
    if token is None and _is_from_loopback(request):
        return
    if token is None:
        raise ApiError(
            "forbidden",
            "changes from other machines need a token; set web.token_file to allow them",
        )
    if not bears_token(request, token):
        raise ApiError(
            "unauthorized",
            "wrong or missing token; send Authorization: Bearer TOKEN"
            " (on the agent's machine alertctl needs none, without --url)",
        )


@lru_cache(1024)
def _forwards(header: bytes) -> bool:
    return _FORWARDED.fullmatch(header.decode("latin-1").lower()) is not None


@lru_cache(1024)
def _is_loopback(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _url_parts(url: str) -> SplitResult:
    """Nothing but empty parts for what cannot be a URL."""
    try:
        parts = urlsplit(url)
        return parts if parts.port != 0 else urlsplit("")
    except ValueError:  # of the port, too
        return urlsplit("")
