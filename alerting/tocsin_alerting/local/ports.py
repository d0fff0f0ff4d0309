"""Who listens on a port of this machine. psutil is loaded once somebody is to be named."""

import errno
import os
import pwd
import re
import socket
from collections.abc import Mapping

from tocsin_alerting.local.service_unit import INSTALLED_BY


def trusted_users(allowed: frozenset[int], env: Mapping[str, str]) -> frozenset[int]:
    """The ids of the users whose engines are watched without being named: root, our own, whoever
    installed the service, and those `allowed`."""
    installed = env.get(INSTALLED_BY, "")
    by = {int(installed)} if installed.isascii() and installed.isdigit() else set()
    return frozenset({0, os.geteuid(), *by, *allowed})


def user_name(uid: int) -> str:
    """`alice`, or the number where it has no name. It may ask a directory on the network."""
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OSError):
        return f"user {uid}"


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now. Raises OSError for an address that is not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
    return True


def listening_ports(program: re.Pattern[str]) -> list[int]:
    """The TCP ports on which a process listens here whose name or command line `program` fits, as
    far as we may look at it."""
    heard = {(port, pid) for port, pid in _listeners() or () if pid is not None}
    return sorted({port for port, pid in heard if program.search(_command(pid))})


def _listeners() -> list[tuple[int, int | None]] | None:
    """The port and the process of each listening socket; None for a process that is hidden, and
    None at all where the kernel does not tell, or tells something odd."""
    import psutil

    try:
        connections = psutil.net_connections("tcp")
    except (psutil.Error, OSError, RuntimeError, ValueError):
        return None
    return [
        (connection.laddr.port, connection.pid or None)
        for connection in connections
        if connection.status == psutil.CONN_LISTEN and connection.laddr
    ]


def _command(pid: int) -> str:
    import psutil

    try:
        process = psutil.Process(pid)
        return " ".join((process.name(), *process.cmdline()))
    except (psutil.Error, OSError):  # it has ended, or there is no descriptor left
        return ""


def port_owner(port: int) -> str:
    """`vllm (pid 4711)`, or what can be said without the right to look at other users' sockets."""
    listeners = _listeners()
    if listeners is None:
        return "another process"
    pids = (pid for heard, pid in listeners if heard == port and pid is not None)
    pid = next(pids, None)
    return "another user's process" if pid is None else _process_name(pid)


def _process_name(pid: int) -> str:
    import psutil

    try:
        return f"{psutil.Process(pid).name()} (pid {pid})"
    except (psutil.Error, OSError):
        return f"pid {pid}"
