"""Whose socket it is: that listens on a port of this machine, where any user may open one above
1024, or that is connected to a Unix socket of ours."""

import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

PROC_NET = Path("/proc/net")
_LISTEN = "0A"
_RECORD_BYTES = 150
_UCRED = struct.Struct("3i")  # process, user, group


def _written(address: str) -> str:
    """An address as /proc/net/tcp has it: in words of the machine's own byte order."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    packed = socket.inet_pton(family, address)
    words = (packed[at : at + 4] for at in range(0, len(packed), 4))
    return "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words)


# Two users cannot listen on one port of IPv4, whatever the addresses; on one of IPv6 alone they can
# stand beside it, and are not meant by an address of IPv4 that somebody listens on.
_FROM_IPV4 = tuple(map(_written, ("127.0.0.1", "0.0.0.0")))
_FROM_MAPPED = tuple(map(_written, ("::ffff:127.0.0.1", "::ffff:0.0.0.0", "::")))
_FROM_IPV6 = tuple(map(_written, ("::1", "::")))


def owners(host: str, port: int, proc_net: Path = PROC_NET) -> frozenset[int] | None:
    """The ids of the users who answer on this port of the loopback; by a name, on either of its
    addresses. Nobody, if no socket listens; None where that cannot be known (no /proc).

    This may take 10 ms where none listens on IPv4: the kernel goes through all connections then.
    """
    tcp, tcp6 = proc_net / "tcp", proc_net / "tcp6"
    if not tcp.exists():
        return None
    if ":" in host:
        return _first(tcp6, port, _FROM_IPV6)
    by_ipv4 = _first(tcp, port, _FROM_IPV4) or _first(tcp6, port, _FROM_MAPPED)
    if host.replace(".", "").isdigit():
        return by_ipv4
    return by_ipv4 | _first(tcp6, port, _FROM_IPV6)


def peer_uid(connection: socket.socket | None) -> int | None:
    """The id of the user who connected by a Unix socket; None where the kernel does not say."""
    if connection is None or not hasattr(socket, "SO_PEERCRED"):
        return None
    try:
        said = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    except OSError:
        return None
    _, uid, _ = _UCRED.unpack(said)
    return int(uid) if uid >= 0 else None


def _first(table: Path, port: int, addresses: tuple[str, ...]) -> frozenset[int]:
    """The user of the first socket that listens on the port at one of the addresses."""
    wanted = {f"{address}:{port:04X}" for address in addresses}
    for local, state, uid in _sockets(table):
        if state != _LISTEN:  # the kernel writes those that listen first
            break
        if local in wanted:
            return frozenset({uid})
    return frozenset()


def _sockets(table: Path) -> Iterator[tuple[str, str, int]]:
    """Address, state and user of each socket. Read socket by socket: asked for more at once, the
    kernel would go through the whole table of connections, for milliseconds."""
    rest = b""
    try:
        with table.open("rb", buffering=0) as file:
            while piece := file.read(_RECORD_BYTES):
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    words = line.decode("ascii", "replace").split(None, 8)
                    if len(words) > 7 and words[7].isdigit():  # not the heading
                        yield words[1], words[3], int(words[7])
    except OSError:  # no IPv6 here
        return
