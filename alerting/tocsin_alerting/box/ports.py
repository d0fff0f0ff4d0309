"""Who listens on a port of this machine."""

import errno
import re
import socket

import psutil


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


def listening(program: re.Pattern[str]) -> list[int]:
    """The TCP ports on which a process listens here whose name or command line `program` fits, as
    far as we may look at it."""
    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        return []
    heard = {
        (one.laddr.port, one.pid)
        for one in connections
        if one.status == psutil.CONN_LISTEN and one.laddr and one.pid
    }
    return sorted({port for port, pid in heard if program.search(_command(pid))})


def _command(pid: int) -> str:
    try:
        process = psutil.Process(pid)
        return " ".join((process.name(), *process.cmdline()))
    except psutil.Error:
        return ""


def owner(port: int) -> str:
    """`vllm (pid 4711)`, or what can be said without the right to look at other users' sockets."""
    try:
        connections = psutil.net_connections("tcp")
    except (psutil.Error, OSError, RuntimeError, ValueError):  # hidden, or an odd line
        return "another process"
    for connection in connections:
        if connection.status != psutil.CONN_LISTEN or not connection.laddr:
            continue
        if connection.laddr.port == port and connection.pid:
            return _described(connection.pid)
    return "another user's process"


def _described(pid: int) -> str:
    try:
        return f"{psutil.Process(pid).name()} (pid {pid})"
    except psutil.Error:
        return f"pid {pid}"
