"""The HTTP client of this package: the one place that imports it, and what it may say in a log."""

import asyncio
import logging
import ssl
from urllib.parse import urlsplit

import httpx2 as httpx

__all__ = [
    "alertctl_command",
    "beginning",
    "certificate_refused",
    "httpx",
    "reachable",
    "tls_context",
]

_ALERTCTL_URL = "http://127.0.0.1:4911"  # where alertctl looks when it is not told

# Their request lines hold whole URLs, and a webhook's URL is a password.
for _name in ("httpx2", "httpcore2"):
    logging.getLogger(_name).setLevel(logging.WARNING)


def tls_context(ca_file: str | None, *, verify: bool = True) -> ssl.SSLContext:
    """Whom to believe: the authorities in `ca_file` alone, the system's without one, or anybody.

    Raises OSError or ssl.SSLError for a file that cannot be read or holds no certificate.
    """
    context = ssl.create_default_context(cafile=ca_file)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def reachable(url: str) -> str:
    """`url` for somebody on this machine: what listens everywhere is reached on loopback."""
    parts = urlsplit(url)
    everywhere = parts.hostname in (None, "0.0.0.0", "::")
    return f"http://127.0.0.1:{parts.port}" if everywhere else url


def alertctl_command(url: str) -> str:
    """`alertctl`, with `--url` where the agent at `url` is not at the usual address."""
    url = reachable(url)
    return "alertctl" if url == _ALERTCTL_URL else f"alertctl --url {url}"


async def beginning(response: httpx.Response, limit: int, patience_s: float) -> str:
    """At most `limit` bytes of the answer, as far as they come in time; closes the response."""
    read = b""
    try:
        async with asyncio.timeout(patience_s):
            async for piece in response.aiter_raw():
                read += piece
                if len(read) >= limit:
                    break
    except (TimeoutError, httpx.HTTPError, OSError):
        pass  # the status has already spoken
    finally:
        await response.aclose()
    return read[:limit].decode(errors="replace")


def certificate_refused(error: BaseException | None) -> bool:
    """Whether a broken connection was our own refusal to trust the other side."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error is not None
