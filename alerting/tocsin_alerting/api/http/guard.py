"""Who may change something: reads are for those who know our name, writes are guarded.

Any web page can make a browser post to loopback, and any name can be made to resolve to it. So a
write needs a body that a plain form of another origin cannot send, an Origin that is ours when
there is one, and a Host that is an address or a name that we know. Who may do what is the matter of
roles.py and access.py.
"""

from collections.abc import Callable, Sequence
from urllib.parse import SplitResult, urlsplit

from starlette.requests import Request
from starlette.responses import Response

from tocsin_alerting.api.http.envelope import ApiError, failure
from tocsin_alerting.api.http.roles import Principal, principal_of
from tocsin_exporter.allowed_hosts import AllowedHosts, plainly_refused

Guard = Callable[[Request], Principal]
BODIES = ("application/json", "application/x-www-form-urlencoded")


def new_guard(hosts: AllowedHosts | None = None, bodies: Sequence[str] = BODIES) -> Guard:
    """A check that raises ApiError for a write that must not happen, and returns who asks.

    `hosts` are names that we go by, but who has a credential may call us as they like.
    `bodies` are the media types that a program may send; a page of ours may send the first alone,
    which must be one that no form can send. The role is checked by the route.
    """
    known = hosts or AllowedHosts()

    def check(request: Request) -> Principal:
        who = principal_of(request)
        why = known.refused(request)
        if why is not None and not who.proven:
            raise ApiError("forbidden", why)
        _check_origin(request)
        _check_body(request, bodies)
        return who

    return check


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
        raise ApiError("forbidden", "changes from a page of another origin are refused")


def _check_body(request: Request, bodies: Sequence[str]) -> None:
    if request.method == "DELETE":  # it has none, and no page of another origin may send it
        return
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    browser = "origin" in request.headers or "sec-fetch-site" in request.headers
    if kind not in bodies or (kind != bodies[0] and browser):
        why = f"send a body of Content-Type {bodies[0]}"
        raise ApiError("unsupported_media_type", why)


def _url_parts(url: str) -> SplitResult:
    """Nothing but empty parts for what cannot be a URL."""
    try:
        parts = urlsplit(url)
        return parts if parts.port != 0 else urlsplit("")
    except ValueError:  # of the port, too
        return urlsplit("")
