"""The addresses on which the agent and the exporter are asked: bound by ourselves, or taken over
from systemd, which holds them while we restart (socket activation).
"""

import errno
import os
import re
import socket
from collections.abc import MutableMapping, Sequence

from tocsin_alerting.local import agent_socket, ports
from tocsin_exporter import listen

_FLAG = "--web.listen-address"
_OTHER_PAGES = ("-", "api", "federate", "links")  # what begins a path of the agent


class CannotStart(Exception):
    """The message is for the person at the terminal."""


class WrongUsage(CannotStart):
    """A flag holds what it cannot hold."""


def take_over(
    environ: MutableMapping[str, str], systemd: bool, listen_addresses: Sequence[str]
) -> tuple[list[socket.socket], list[str]]:
    """The listening sockets of systemd with their addresses, for `--web.systemd-socket`; without it
    no sockets, and `listen_addresses` checked. Raises CannotStart."""
    for address in listen_addresses:
        check_address(address)
    if not systemd:
        return [], list(listen_addresses)
    if listen_addresses:
        raise WrongUsage(
            "--web.systemd-socket takes the addresses of the socket unit; leave"
            " --web.listen-address out"
        )
    try:
        sockets = listen.from_systemd(environ, os.getpid())
    except ValueError as error:
        raise CannotStart(f"--web.systemd-socket: {error}") from None
    return sockets, [listen.joined(*taken.getsockname()[:2]) for taken in sockets]


def bind_all(addresses: Sequence[str], flags: Sequence[str] = ()) -> list[socket.socket]:
    """A socket for each, or none at all; `flags` are those that gave them, where they are not
    `--web.listen-address`. Raises CannotStart."""
    sockets: list[socket.socket] = []
    for address, flag in zip(addresses, flags or [_FLAG] * len(addresses), strict=True):
        try:
            sockets.append(listen.bind(address))
        except (OSError, ValueError) as error:
            ours = [sock.getsockname()[:2] for sock in sockets]
            for sock in sockets:
                sock.close()
            raise CannotStart(_address_taken(address, error, ours, flag)) from None
    return sockets


def _address_taken(
    address: str, error: Exception, ours: Sequence[tuple[str, int]], flag: str
) -> str:
    """`ours` are host and port of the addresses before it."""
    if not isinstance(error, OSError) or error.errno != errno.EADDRINUSE:
        return f"cannot listen on {address}: {error}"
    host, port = listen.parse(address)
    if any(port == other and _overlap(host, name) for name, other in ours):
        other = f"another {_FLAG}" if flag == _FLAG else "another flag"
        way = "leave one of them out" if flag == _FLAG else f"choose another with {flag}"
        return f"{address} is given twice: {other} has port {port}; {way}"
    who = ports.port_owner(port)
    return f"{address} is in use by {who}; stop it, or choose another with {flag}"


def _overlap(host: str, bound: str) -> bool:
    every = ("", "::", "0.0.0.0")
    if host in every or bound in every:
        return True
    return bool(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0] == bound)


def local_socket(data_directory: str) -> list[socket.socket]:
    """The Unix socket of `alertctl` on this machine, where there can be one."""
    listener = agent_socket.listen(agent_socket.socket_path(os.environ, data_directory))
    return [] if listener is None else [listener]


def check_address(address: str, flag: str = _FLAG) -> None:
    """Raises WrongUsage."""
    try:
        listen.parse(address)
    except ValueError as error:
        raise WrongUsage(f"{flag}: {error}") from None


def check_telemetry_path(path: str) -> None:
    """Raises WrongUsage for what is no path of a page, or is that of another one."""
    if re.fullmatch(r"/[A-Za-z0-9._~/-]+", path) is None:
        raise WrongUsage(f"--web.telemetry-path: {path!r} is no path like /metrics")
    if path.split("/")[1] in _OTHER_PAGES:
        raise WrongUsage(f"--web.telemetry-path: {path} belongs to another page; choose another")
