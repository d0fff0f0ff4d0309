"""Who may change something: reads may be open, writes are guarded.

Any web page can make a browser post to loopback, and any name can be made to resolve to it. So a
write needs a body that a plain form of another origin cannot send, an Origin that is ours when
there is one, and a Host that is an address or a name that we know. Off loopback it needs the token
as well.
"""

import hmac
import ipaddress
from collections.abc import Callable, Collection, Sequence
from urllib.parse import SplitResult, urlsplit

from starlette.requests import Request

from tocsin_alerting.api.answers import ApiError

Guard = Callable[[Request], None]
BODIES = ("application/json", "application/x-www-form-urlencoded")
_FORWARDED = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip")


def guard(
    token: Callable[[], str | None], hosts: Collection[str] = (), bodies: Sequence[str] = BODIES
) -> Guard:
    """A check that raises ApiError for a write that must not happen.

    `token` reads the configured token (None: there is none); `hosts` are names that we go by.
    `bodies` are the media types that a program may send; a page of ours may send the first alone,
    which must be one that no form can send.
    """
    names = {"localhost", *(host.lower() for host in hosts)}

    def check(request: Request) -> None:
        _check_host(request, names)
        _check_origin(request)
        _check_body(request, bodies)
        if not _is_local(request):
            _check_token(request, token())

    return check


def _check_host(request: Request, hosts: Collection[str]) -> None:
    name = _parts("//" + request.headers.get("host", "")).hostname or ""
    if name not in hosts and _address(name) is None:
        raise ApiError("forbidden", f'Host "{name}" is not one of ours; name it in external_url')


def _check_origin(request: Request) -> None:
    origin = request.headers.get("origin")
    if origin is None:
        return
    if _parts(origin).netloc.lower() != request.headers.get("host", "").lower():
        raise ApiError("forbidden", "a page of another origin may not change anything here")


def _check_body(request: Request, bodies: Sequence[str]) -> None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    browser = "origin" in request.headers or "sec-fetch-site" in request.headers
    if kind not in bodies or (kind != bodies[0] and browser):
        why = f"send a body of Content-Type {bodies[0]}"
        raise ApiError("unsupported_media_type", why)


def _is_local(request: Request) -> bool:
    if any(name in request.headers for name in _FORWARDED):
        return False  # a proxy on this machine speaks for somebody else
    address = _address(request.client.host if request.client else "")
    mapped = getattr(address, "ipv4_mapped", None)
    return address is not None and (mapped or address).is_loopback


def _check_token(request: Request, token: str | None) -> None:
    if token is None:
        raise ApiError(
            "forbidden",
            "changes from other machines need a token; set web.token_file to allow them",
        )
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    right = hmac.compare_digest(given.strip().encode(), token.encode())
    if scheme.lower() != "bearer" or not right:
        raise ApiError("unauthorized", "wrong or missing token; send Authorization: Bearer TOKEN")


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _parts(url: str) -> SplitResult:
    """Nothing but empty parts for what cannot be a URL."""
    try:
        parts = urlsplit(url)
        return parts if parts.port != 0 else urlsplit("")
    except ValueError:  # of the port, too
        return urlsplit("")
