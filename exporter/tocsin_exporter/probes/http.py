"""HTTP: one request and its redirects, each on a connection of its own to the address checked."""

import base64
import re
import ssl
from collections.abc import AsyncIterable
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpcore2

from tocsin_exporter.files import MOST_SECRET_BYTES, file_bytes
from tocsin_exporter.http import error_text, httpx
from tocsin_exporter.lookup import Address
from tocsin_exporter.probes.addresses import Resolver, checked_address, choose
from tocsin_exporter.probes.findings import Findings, ProbeFailed
from tocsin_exporter.probes.http_body import CountedBody, match_body, match_headers
from tocsin_exporter.probes.http_connection import ProbeConnection
from tocsin_exporter.probes.modules import HttpProbe, ProbeLogin
from tocsin_exporter.probes.tls_facts import client_context, record_tls

MOST_REDIRECTS = 10
_MOVED = (301, 302, 303, 307, 308)
_KEEPS_METHOD = (307, 308)
_MOST_BODY_FILE = 16 << 20
_PRIVATE = ("authorization", "cookie", "cookie2", "www-authenticate")
_SECRET_NAME = re.compile("key|token|secret|auth|passw")
_PORTS = {"http": 80, "https": 443}
_DURATION = "probe_http_duration_seconds"


@dataclass(slots=True)
class _Exchange:
    """Where the probe is: the next request, and what it remembers of those before."""

    url: httpx.URL
    method: str
    headers: dict[str, str]
    body: bytes
    address: Address
    first: str = ""  # host and port: to others no name is sent that is not theirs
    redirects: int = 0
    cookies: httpx.Cookies = field(default_factory=httpx.Cookies)


async def probe_http(target: str, probe: HttpProbe, resolver: Resolver, found: Findings) -> None:
    """Raises ProbeFailed, and the errors of httpcore2."""
    found.phases(_DURATION)
    found.register(
        *("probe_http_content_length", "probe_http_uncompressed_body_length"),
        *("probe_http_redirects", "probe_http_ssl", "probe_http_status_code"),
        *("probe_http_version", "probe_failed_due_to_regex"),
    )
    url = _url(target)
    try:
        address = await choose(url.host, probe.family, resolver, found)
    finally:
        found.add(_DURATION, found.get("probe_dns_lookup_time_seconds"), "resolve")
    exchange = _first(url, probe, address)
    found.phases(_DURATION, "connect", "tls", "processing", "transfer")
    while await _one(exchange, probe, resolver, found):
        pass


def _url(target: str) -> httpx.URL:
    if not target.lower().startswith(("http://", "https://")):
        target = f"http://{target}"
    try:
        url = httpx.URL(target)
        host = url.host  # names of other scripts are decoded here
    except (httpx.InvalidURL, ValueError) as error:
        raise ProbeFailed(f"target is no URL: {error}") from None
    if not host:
        raise ProbeFailed("target is a URL without a host")
    return url


def _first(url: httpx.URL, probe: HttpProbe, address: Address) -> _Exchange:
    read = {
        name: _file(file, MOST_SECRET_BYTES).decode().strip() for name, file in probe.header_files
    }
    headers = {name.lower(): value for name, value in (*read.items(), *probe.headers.items())}
    headers.setdefault("user-agent", f"Tocsin/{version('tocsin')} (probe)")
    login = _login(probe.login) or _user_of(url)
    if login:
        headers.setdefault("authorization", login)
    body = probe.body.encode()
    if probe.body_file is not None:
        body = _file(probe.body_file, _MOST_BODY_FILE)
    method = probe.method or "GET"
    return _Exchange(url, method, headers, body, address, first=url.netloc.decode())


def _user_of(url: httpx.URL) -> str:
    return _basic(url.username, url.password) if url.userinfo else ""


def _login(login: ProbeLogin | None) -> str:
    if login is None:
        return ""
    username, secret = login.username, login.secret
    if login.username_file is not None:
        username = _file(login.username_file, MOST_SECRET_BYTES).decode().strip()
    if login.secret_file is not None:
        secret = _file(login.secret_file, MOST_SECRET_BYTES).decode().strip()
    return _basic(username, secret) if login.scheme == "Basic" else f"{login.scheme} {secret}"


def _basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def _file(path: Path, most: int) -> bytes:
    try:
        return file_bytes(path, most)
    except (OSError, ValueError) as error:
        raise ProbeFailed(f"cannot read {path}: {error}") from None


async def _one(at: _Exchange, probe: HttpProbe, resolver: Resolver, found: Findings) -> bool:
    """One request; whether its answer leads on."""
    context = _context(at, probe)
    connection = ProbeConnection(at.address, context, probe.http2, found)
    async with connection:
        response = await connection.request(_request(at, probe))
        onward = _onward(at, response)
        if onward is not None:
            at.redirects += 1
            found.set("probe_http_redirects", at.redirects)
            found.log(f"redirected to {onward}")
            if probe.follow_redirects and at.redirects <= MOST_REDIRECTS:
                _remember(at, response)
                await _move(at, onward, response.status, probe, resolver, found)
                return True
        await _judge(response, connection, probe, onward is not None, found)
    return False


def _context(at: _Exchange, probe: HttpProbe) -> ssl.SSLContext | None:
    use = "http2" if probe.http2 else "http1"
    return client_context(probe.tls, use) if at.url.scheme == "https" else None


def _server_name(at: _Exchange, probe: HttpProbe) -> str:
    """Of the first host what is configured, else the Host header; of others their own."""
    if at.url.netloc.decode() != at.first:
        return at.url.host
    return probe.tls.server_name or at.headers.get("host") or at.url.host


def _request(at: _Exchange, probe: HttpProbe) -> httpcore2.Request:
    headers = {"host": at.url.netloc.decode(), **at.headers, "connection": "close"}
    if at.body or at.method in ("POST", "PUT", "PATCH"):
        headers["content-length"] = str(len(at.body))
    shown = httpx.Request(at.method, at.url)
    at.cookies.set_cookie_header(shown)
    if (cookie := shown.headers.get("cookie")) is not None:
        headers["cookie"] = "; ".join(filter(None, (at.headers.get("cookie"), cookie)))
    port = at.url.port or _PORTS[at.url.scheme]
    ip = str(at.address[1][0])
    url = httpcore2.URL(
        scheme=at.url.raw_scheme, host=ip.encode(), port=port, target=at.url.raw_path
    )
    coded = [(name.encode(), value.encode()) for name, value in headers.items()]
    extensions = {"sni_hostname": _server_name(at, probe)}
    return httpcore2.Request(at.method, url, headers=coded, content=at.body, extensions=extensions)


def _onward(at: _Exchange, response: httpcore2.Response) -> httpx.URL | None:
    """Where the answer leads, if anywhere. Raises ProbeFailed."""
    location = _values(response, "location")
    if response.status not in _MOVED or not location:
        return None
    try:
        url = at.url.copy_with(userinfo=b"").join(location[0])
        url.host.encode()
    except (httpx.InvalidURL, ValueError):
        raise ProbeFailed(f"Location is no URL: {location[0][:200]}") from None
    return url


def _values(response: httpcore2.Response, name: str) -> list[str]:
    wanted = name.lower().encode()
    return [v.decode("latin-1") for k, v in response.headers if k.lower() == wanted]


def _remember(at: _Exchange, response: httpcore2.Response) -> None:
    request = httpx.Request(at.method, at.url)
    headers = [(k, v) for k, v in response.headers if k.lower() == b"set-cookie"]
    at.cookies.extract_cookies(httpx.Response(200, headers=headers, request=request))


async def _move(
    at: _Exchange,
    url: httpx.URL,
    status: int,
    probe: HttpProbe,
    resolver: Resolver,
    found: Findings,
) -> None:
    """Go on at `url`: its address is looked up and checked as the first one was."""
    if url.scheme not in _PORTS or not url.host:
        raise ProbeFailed(f"redirected to {str(url)[:200]}, which is not HTTP")
    if status not in _KEEPS_METHOD and at.method not in ("GET", "HEAD"):
        at.method, at.body = "GET", b""
    if url.netloc != at.url.netloc or url.scheme != at.url.scheme:
        started = found.monotonic()
        family = replace(probe.family, fallback=True)
        at.address = await checked_address(url.host, family, resolver)
        found.add(_DURATION, found.monotonic() - started, "resolve")
        at.headers.pop("host", None)
    if url.host != at.url.host:  # what is meant for one host is told to no other
        at.headers = {k: v for k, v in at.headers.items() if not _is_private(k, probe)}
    at.url = url


def _is_private(name: str, probe: HttpProbe) -> bool:
    return name in _PRIVATE or name in probe.secret_headers or _SECRET_NAME.search(name) is not None


async def _judge(
    response: httpcore2.Response,
    connection: ProbeConnection,
    probe: HttpProbe,
    refused: bool,
    found: Findings,
) -> None:
    """The last answer: all of its metrics first, then whether it is as wanted."""
    _record(response, connection, found)
    why = _status(response.status, probe)
    if not why and (probe.fail_if_header_matches or probe.fail_if_header_not_matches):
        why = _why(lambda: match_headers(lambda name: _values(response, name), probe, found))
    why = await _read_body(response, probe, why, refused, found)
    connection.ended()
    versions = probe.valid_http_versions
    if versions and _proto(response) not in versions:
        why = why or f"{_proto(response)} is none of valid_http_versions"
    if connection.tls is not None and probe.fail_if_ssl:
        why = why or "the answer came over TLS"
    if connection.tls is None and probe.fail_if_not_ssl:
        why = why or "the answer did not come over TLS"
    if why:
        raise ProbeFailed(why)


def _record(response: httpcore2.Response, connection: ProbeConnection, found: Findings) -> None:
    found.log(f"answered {response.status}")
    found.set("probe_http_status_code", response.status)
    found.set("probe_http_version", float(_proto(response).removeprefix("HTTP/")))
    found.set("probe_http_content_length", _length(response))
    if connection.tls is not None:
        found.set("probe_http_ssl", 1)
        record_tls(connection.tls, found, cipher=True)
    for value in _values(response, "last-modified")[:1]:
        try:
            found.set(
                "probe_http_last_modified_timestamp_seconds",
                int(parsedate_to_datetime(value).timestamp()),
            )
        except (ValueError, OverflowError):  # a zone or a year that is none
            pass


def _proto(response: httpcore2.Response) -> str:
    name = bytes(response.extensions.get("http_version", b"HTTP/1.1")).decode()
    return "HTTP/2.0" if name == "HTTP/2" else name


def _length(response: httpcore2.Response) -> int:
    """As Go's client has it: -1 where nobody says how long the body is."""
    if response.status in (204, 304):
        return 0
    length = _values(response, "content-length")
    if _values(response, "transfer-encoding") or not length or not length[0].isdigit():
        return -1
    return int(length[0][:18])


def _status(status: int, probe: HttpProbe) -> str:
    if probe.valid_status_codes:
        return "" if status in probe.valid_status_codes else f"status {status} is not valid"
    return "" if 200 <= status < 300 else f"status {status} is not 2xx"


async def _read_body(
    response: httpcore2.Response, probe: HttpProbe, why: str, refused: bool, found: Findings
) -> str:
    """Why the probe has failed. Of a redirect that is not followed the body is not read."""
    matches = not why and bool(probe.fail_if_body_matches or probe.fail_if_body_not_matches)
    body = CountedBody(probe, keep=matches)
    if refused:
        unread = matches and _length(response) != 0
    else:
        stream = response.stream
        assert isinstance(stream, AsyncIterable)
        broken = await _broken(body, stream)
        unread, why = matches and bool(broken), why or broken
        found.set("probe_http_uncompressed_body_length", body.count)
    if unread:
        found.set("probe_failed_due_to_regex", 1)
        return why or "the body of a redirect is not read, and cannot match"
    return _why(lambda: match_body(body, probe, found)) if matches and not why else why


async def _broken(body: CountedBody, stream: AsyncIterable[bytes]) -> str:
    """Read it to its end; what is wrong with it."""
    try:
        await body.read(stream)
    except (ProbeFailed, httpcore2.NetworkError, httpcore2.ProtocolError) as error:
        return error_text(error)
    return ""


def _why(check: Any) -> str:
    try:
        check()
    except ProbeFailed as error:
        return str(error)
    return ""
