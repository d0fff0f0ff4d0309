"""Who listens on a port of this machine."""

import errno
import socket
from pathlib import Path

import psutil

_LISTENS = "0A"  # TCP_LISTEN in /proc/net/tcp


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


def listening(proc: Path = Path("/proc")) -> list[int]:
    """The TCP ports on which somebody listens here, whoever it is."""
    found: set[int] = set()
    for name in ("tcp", "tcp6"):
        try:
            lines = (proc / "net" / name).read_text(encoding="ascii").split("\n")[1:]
        except OSError:
            continue  # without IPv6 there is no such file
        fields = (line.split() for line in lines if line.strip())
        found.update(int(one[1].rpartition(":")[2], 16) for one in fields if one[3] == _LISTENS)
    return sorted(found)


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
