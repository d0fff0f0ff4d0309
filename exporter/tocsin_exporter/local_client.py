"""Whether a request comes from this machine itself, and for nobody else."""

import ipaddress
import re
from functools import lru_cache

from starlette.requests import Request

_FORWARDED = re.compile(  # what proxies and their like add
    "forwarded|via|x-forwarded-.*|x-real-ip|x-original-.*|x-envoy-.*|x-proxy-.*|cdn-loop|cf-.*"
    "|true-client-ip|client-ip|.*-client-?ip|x-proxyuser-ip|x-scheme|x-remote-.*|remote-.*"
)


def is_from_this_machine(request: Request) -> bool:
    """Over the loopback, and by no proxy: one on this machine speaks for somebody else."""
    if any(_forwards(name) for name, _ in request.headers.raw):
        return False
    return _is_loopback(request.client.host if request.client else "")


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
