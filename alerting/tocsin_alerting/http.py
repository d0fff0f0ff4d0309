"""What the HTTP clients of this package share; bodies are read by the exporter's `http` alone."""

import asyncio
import ssl
from urllib.parse import urlsplit

from tocsin_exporter.files import check_file
from tocsin_exporter.http import (
    BadAnswer,
    TooLarge,
    error_text,
    has_proxy,
    httpx,
    looking_up,
    read_bytes_now,
    read_text,
    read_text_now,
)
from tocsin_exporter.lookup import Lookup, engine_lookup

__all__ = [
    "BadAnswer",
    "Lookup",
    "TooLarge",
    "alertctl_command",
    "beginning",
    "certificate_refused",
    "engine_lookup",
    "error_text",
    "has_proxy",
    "httpx",
    "looking_up",
    "reachable",
    "read_bytes_now",
    "read_text",
    "read_text_now",
    "status_of",
    "tls_context",
]

_ALERTCTL_URL = "http://127.0.0.1:4911"  # where alertctl looks when it is not told


def tls_context(ca_file: str | None, *, verify: bool = True) -> ssl.SSLContext:
    """Whom to believe: the authorities in `ca_file` alone, the system's without one, or anybody.

    Raises OSError or ssl.SSLError for a file that cannot be read or holds no certificate.
    """
    check_file(ca_file)
    context = ssl.create_default_context(cafile=ca_file)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def reachable(url: str) -> str:
    """`url` for somebody on this machine: what listens everywhere is reached on loopback."""
    parts = urlsplit(url)
    everywhere = parts.hostname in (None, "0.0.0.0", "::")
    return f"{parts.scheme}://127.0.0.1:{parts.port}" if everywhere else url


def alertctl_command(url: str) -> str:
    """`alertctl`, with `--url` where the agent at `url` is not at the usual address."""
    url = reachable(url)
    usual = url.replace("https://", "http://", 1) == _ALERTCTL_URL  # its socket has no TLS
    return "alertctl" if usual else f"alertctl --url {url}"


async def beginning(response: httpx.Response, limit: int, patience_s: float) -> str:
    """At most `limit` bytes of the answer, as far as they come in time; closes the response."""
    read: list[str] = []
    try:
        async with asyncio.timeout(patience_s):
            await read_text(response, limit, cut=True, into=read)
    except (BadAnswer, TimeoutError, httpx.HTTPError, OSError):
        pass  # the status has already spoken
    finally:
        await response.aclose()
    return "".join(read)


async def status_of(client: httpx.AsyncClient, url: str) -> int:
    """The HTTP status of an answer whose body nobody reads. Raises httpx's errors and OSError."""
    async with client.stream("GET", url) as response:
        return response.status_code


def certificate_refused(error: BaseException | None) -> bool:
    """Whether a broken connection was our own refusal to trust the other side."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error is not None
