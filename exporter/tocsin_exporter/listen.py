"""Listen addresses as Prometheus' programs take them: `:4911`, `127.0.0.1:4911`, `[::1]:4911`."""

import os
import socket
from collections.abc import MutableMapping

_BACKLOG = 1024
_FIRST_FD = 3  # SD_LISTEN_FDS_START


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


def from_systemd(environ: MutableMapping[str, str], pid: int) -> list[socket.socket]:
    """The listening sockets that systemd hands to the process `pid`, as sd_listen_fds(3) says.
    They leave `environ`. Raises ValueError when there are none, or one is not a TCP socket that
    listens."""
    owner, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    environ.pop("LISTEN_FDNAMES", None)
    if owner != str(pid) or not count.isdecimal() or not int(count):
        raise ValueError(
            "systemd has passed no sockets (LISTEN_PID and LISTEN_FDS); start this by a socket unit"
        )
    sockets = [_taken(fd) for fd in range(_FIRST_FD, _FIRST_FD + int(count))]
    for taken in sockets:  # programs that we start must not hold the port
        os.set_inheritable(taken.fileno(), False)
        taken.setblocking(False)
    return sockets


def _taken(fd: int) -> socket.socket:
    try:
        taken = socket.socket(fileno=fd)
        listens = taken.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise ValueError(f"descriptor {fd} is not a socket: {error.strerror}") from None
    if not listens or taken.family not in (socket.AF_INET, socket.AF_INET6):
        raise ValueError(
            f"descriptor {fd} is not a listening TCP socket; use ListenStream=HOST:PORT"
        )
    return taken
