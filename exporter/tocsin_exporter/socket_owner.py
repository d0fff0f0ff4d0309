"""Whose socket it is that listens on a port of this machine: any user may open one above 1024."""

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

PROC_NET = Path("/proc/net")
_LISTEN = "0A"


def _written(address: str) -> str:
    """An address as /proc/net/tcp has it: in words of the machine's own byte order."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    packed = socket.inet_pton(family, address)
    words = (packed[at : at + 4] for at in range(0, len(packed), 4))
    return "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words)


# Whoever is more exactly meant answers: a socket on all addresses gets what nobody else takes.
_FROM_IPV4 = ("127.0.0.1", "::ffff:127.0.0.1", "0.0.0.0", "::ffff:0.0.0.0", "::")
_BY_IPV4 = tuple(map(_written, _FROM_IPV4))
_BY_IPV6 = tuple(map(_written, ("::1", "::")))


def owners(host: str, port: int, proc_net: Path = PROC_NET) -> frozenset[int] | None:
    """The ids of the users who answer on this port of the loopback; by a name, on either of its
    addresses. Nobody, if no socket listens; None where that cannot be known (no /proc)."""
    try:
        listening = list(_listening(proc_net / "tcp", port))
    except OSError:
        return None
    try:
        listening += _listening(proc_net / "tcp6", port)
    except OSError:  # no IPv6 here
        pass
    ways = [_BY_IPV6] if ":" in host else [_BY_IPV4]
    if not host.replace(".", "").isdigit() and ":" not in host:
        ways = [_BY_IPV4, _BY_IPV6]
    return frozenset(uid for way in ways for uid in _answering(listening, way))


def _answering(listening: list[tuple[str, int]], way: tuple[str, ...]) -> set[int]:
    for address in way:
        users = {uid for one, uid in listening if one == address}
        if users:
            return users
    return set()


def _listening(table: Path, port: int) -> Iterator[tuple[str, int]]:
    """(address, user) of each socket that listens on the port. The kernel writes those that listen
    first, so the rest, which may be long, is not read."""
    suffix = f":{port:04X}"
    with table.open(encoding="ascii") as lines:
        next(lines, None)
        for line in lines:
            _, local, _, state, _, _, _, uid = line.split(None, 8)[:8]
            if state != _LISTEN:
                return
            if local.endswith(suffix):
                yield local.removesuffix(suffix), int(uid)
