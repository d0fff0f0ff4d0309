"""How a `tocsin proxy` says what it is: a path that it answers itself, to callers on its machine.

Whoever finds an engine on the proxy's port finds the engine behind it there, a second time.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

import orjson

from tocsin_exporter.engine_access import EngineAccess, EngineClient
from tocsin_exporter.http import BadAnswer, httpx
from tocsin_exporter.listen import joined

IDENTITY_PATH = "/.well-known/tocsin-proxy"
_MOST_BYTES = 4096
_FORWARDED = {b"forwarded", b"via", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip"}
_UNSPECIFIED = {"0.0.0.0": "127.0.0.1", "::": "::1"}


@dataclass(frozen=True, slots=True)
class ProxyIdentity:
    """The URLs of the engine behind a proxy and of the proxy's own metrics."""

    upstream: str
    metrics: str


def metrics_url(host: str, port: int) -> str:
    """Where this machine reaches what listens there."""
    return f"http://{joined(_UNSPECIFIED.get(host, host), port)}"


def is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False


def asked_here(address: str, headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a request comes from a program of this machine, and not through a reverse proxy on
    it, whose callers are anywhere."""
    return is_loopback(address) and not any(name.lower() in _FORWARDED for name, _ in headers)


def identity_answer(upstream: str, metrics: str, keep: bool) -> bytes:
    """The whole answer to a request for `IDENTITY_PATH`."""
    body = orjson.dumps({"upstream": upstream, "metrics": metrics})
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n" % len(
        body
    )
    return head + (b"\r\n" if keep else b"Connection: close\r\n\r\n") + body


async def proxy_at(access: EngineAccess, timeout_s: float) -> ProxyIdentity | None:
    """The proxy that answers at `access`; None for anything else, which must not be one."""
    client = EngineClient(access)
    try:
        async with asyncio.timeout(timeout_s):
            reply = await client.get(IDENTITY_PATH, most_bytes=_MOST_BYTES)
    except (TimeoutError, BadAnswer, httpx.HTTPError, httpx.InvalidURL, OSError):
        return None
    finally:
        await client.aclose()
    return _identity(reply.text) if reply.ok else None


def _identity(text: str) -> ProxyIdentity | None:
    try:
        answer = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(answer, dict):
        return None
    urls = answer.get("upstream"), answer.get("metrics")
    return ProxyIdentity(*map(str, urls)) if all(map(_is_url, urls)) else None


def _is_url(url: object) -> bool:
    try:
        parts = urlsplit(url) if isinstance(url, str) else None
        return parts is not None and parts.scheme in ("http", "https") and bool(parts.port)
    except ValueError:
        return False
