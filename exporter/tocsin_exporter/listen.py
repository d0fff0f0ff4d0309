"""Listen addresses as Prometheus' programs take them: `:4911`, `127.0.0.1:4911`, `[::1]:4911`."""

import socket

_BACKLOG = 1024


def parse(address: str) -> tuple[str, int]:
    """(host, port); no host stands for all. Raises ValueError with what is wrong."""
    host, colon, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or (":" in host and not bracketed):
        raise ValueError(f"{address!r} is not HOST:PORT; an IPv6 address needs brackets")
    if not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise ValueError(f"{address!r}: {port!r} is not a port (0 to 65535)")
    return host.strip("[]"), int(port)


def joined(host: str, port: int) -> str:
    """`host:port`, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def bind(address: str) -> socket.socket:
    """A listening socket; `:PORT` takes IPv4 and IPv6. Raises OSError when it is taken."""
    host, port = parse(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    dual = not host and socket.has_dualstack_ipv6()
    if host:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    return socket.create_server(
        (host, port),
        family=socket.AF_INET6 if dual else family,
        dualstack_ipv6=dual,
        backlog=_BACKLOG,
    )
