"""Who may be connected to a server of ours, how many at once, and how long each may take.

Clients must not use up the descriptors that collection and delivery need, nor each other's place.
When there is no room, the connection that has waited longest for its next request makes room, then
the one whose body has been incomplete the longest, then one that takes nothing of its answer; one
whose request is being answered never does. Whoever finds no room is refused and counted, but for
a few who ask for our health, and for clients of the Unix socket.

For the agent, the exporter and the worker alike: nothing but the standard library is imported here.
"""

from __future__ import annotations

import ipaddress
import resource
import sys
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # what takes long to import, and a wrong flag need not wait for
    import asyncio

FULL, ADDRESS = "full", "address"  # reasons why a connection is refused
EVICTED, IDLE, SLOW_REQUEST, SLOW_READER = "evicted", "idle", "slow_request", "slow_reader"
UNIX = "unix"  # the address of all clients of a Unix socket
BACKLOG = 1024
_MOST_DESCRIPTORS = 65536
MOST_CONNECTIONS = 2048
_SHARE = 2  # of the descriptors at most every second one is a client's
_LOOK_SECONDS = 1.0

HELP = {
    "tocsin_http_connections": "Open connections of clients.",
    "tocsin_http_connections_max": "How many there may be at once; one address may have half of"
    " them.",
    "tocsin_http_connections_refused_total": "Connections refused because all were in use: full; or"
    " those of one client: address.",
    "tocsin_http_connections_closed_total": "Connections ended by the server: evicted, another"
    " needed the place; idle; slow_request and slow_reader, the client took too long.",
    "tocsin_http_bad_requests_total": "Requests refused unread: malformed (400), slow (408), too"
    " many small chunks (413), long URL (414), headers (431).",
}

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Limits:
    """`connections` in all, half of them for one address. Of one request: `url_bytes` and
    `head_bytes` (request line and headers), `headers`; seconds until its head and its body are
    whole. `read_seconds` without a client taking any of its answer end it, as `idle_seconds`
    without a request do. `spare` more may ask for our health when all are in use, and as many more
    come by the Unix socket. `exempt` networks, proxies that are trusted, may have all."""

    connections: int = MOST_CONNECTIONS
    url_bytes: int = 16 << 10
    head_bytes: int = 64 << 10
    headers: int = 100
    head_seconds: float = 10.0
    body_seconds: float = 30.0
    read_seconds: float = 30.0
    idle_seconds: float = 75.0  # who scrapes or sends every minute finds its connection still there
    exempt: Collection[Network] = ()
    spare: int = 8

    @property
    def per_address(self) -> int:
        return max(1, self.connections // 2)


class Connection(Protocol):
    """What the table needs of one connection. `address` is shared by those that count as one."""

    address: str

    def can_go(self) -> bool:
        """Whether nothing is lost when it is closed now: no whole request, no answer on its way."""
        ...

    def stalled(self) -> bool:
        """Whether the client has taken nothing of its answer for some seconds."""
        ...

    def drop(self) -> None: ...

    def check(self, now: float) -> None:
        """End it if it takes too long."""
        ...


class Connections:
    """The open connections of all listeners of one server, and what became of the others."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits(connections=most_connections())
        self.refused: Counter[str] = Counter({FULL: 0, ADDRESS: 0})
        self.closed: Counter[str] = Counter(
            dict.fromkeys((EVICTED, IDLE, SLOW_REQUEST, SLOW_READER), 0)
        )
        self.bad_requests: Counter[int] = Counter({400: 0, 408: 0, 413: 0, 414: 0, 431: 0})
        self._open: set[Connection] = set()
        self._waiting: dict[Connection, None] = {}  # the longest first
        self._reading: dict[Connection, None] = {}  # a request's body; the longest first
        self._spare: dict[Connection, str] = {}  # why there was no room
        self._by_address: Counter[str] = Counter()
        self._looking = False

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, connection: Connection) -> str | None:
        """Take it in, in place of one that waits if need be; or why there is no room."""
        address = connection.address
        if reason := self._no_room(address):
            most = self.limits.spare * (2 if address == UNIX else 1)
            if len(self._spare) >= most:
                return self._refuse(reason)
            self._spare[connection] = reason
        self._open.add(connection)
        self._by_address[address] += 1
        self._waiting[connection] = None
        return None

    def is_spare(self, connection: Connection) -> bool:
        """Whether it was let in although there is no room."""
        return connection in self._spare

    def refuse_spare(self, connection: Connection) -> None:
        self._refuse(self._spare[connection])

    def reads(self, connection: Connection) -> None:
        """The head of a request has come on it, and its body may not have."""
        self._waiting.pop(connection, None)
        if connection in self._open:
            self._reading[connection] = None

    def busy(self, connection: Connection) -> None:
        """A request has come on it."""
        self._waiting.pop(connection, None)
        self._reading.pop(connection, None)

    def waits(self, connection: Connection) -> None:
        """It was answered."""
        self._reading.pop(connection, None)
        if connection in self._open:
            self._waiting[connection] = None

    def remove(self, connection: Connection) -> None:
        if connection in self._open:
            self._open.discard(connection)
            self._waiting.pop(connection, None)
            self._reading.pop(connection, None)
            self._spare.pop(connection, None)
            self._by_address[connection.address] -= 1
            if not self._by_address[connection.address]:
                del self._by_address[connection.address]

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Check every connection each second, as long as there are any."""
        if not self._looking:
            self._looking = True
            loop.call_later(_LOOK_SECONDS, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._looking = False
        for connection in list(self._open):
            connection.check(loop.time())
        if self._open:
            self.watch(loop)

    def _most_of(self, address: str) -> int:
        exempt = self.limits.exempt
        trusted = exempt and any(_address(address) in network for network in exempt)
        return sys.maxsize if trusted else self.limits.per_address

    def _no_room(self, address: str) -> str | None:
        """Why there is none, and nobody makes it."""
        while self._by_address[address] >= self._most_of(address):  # a spare one makes no room
            if not self._evict(address):
                return ADDRESS
        while len(self._open) >= self.limits.connections:
            if not self._evict(None):
                return FULL
        return None

    def _evict(self, address: str | None) -> bool:
        """Whether one made room: of this address, or of any."""
        for connection in chain(self._waiting, self._reading):
            if address in (None, connection.address) and connection.can_go():
                return self._drop(connection)
        for connection in self._open:
            if address in (None, connection.address) and connection.stalled():
                return self._drop(connection)
        return False

    def _drop(self, connection: Connection) -> bool:
        self.closed[EVICTED] += 1
        self.remove(connection)
        connection.drop()
        return True

    def _refuse(self, reason: str) -> str:
        self.refused[reason] += 1
        return reason


def counted_address(client: tuple[str, int] | None) -> str:
    """What a client counts under: its address, of IPv6 the /64 that one subscriber has whole."""
    if client is None:
        return UNIX
    try:
        address = ipaddress.ip_address(client[0].partition("%")[0])
    except ValueError:
        return client[0]
    mapped = getattr(address, "ipv4_mapped", None)
    if address.version == 4 or mapped:
        return str(mapped or address)
    return str(ipaddress.ip_network((int(address), 64), strict=False).network_address)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(text if text != UNIX else "::1")


def raise_descriptor_limit() -> int:
    """Take the descriptors that we may have without asking; how many that are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MOST_DESCRIPTORS)
    if soft == resource.RLIM_INFINITY or soft >= most:
        return _MOST_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    except (OSError, ValueError):  # a sandbox that grants nothing
        return soft
    return most


def most_connections(wanted: int = MOST_CONNECTIONS) -> int:
    """At most as many; the rest of the descriptors is for collectors, deliveries and the disk."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft == resource.RLIM_INFINITY:
        return wanted
    return max(1, min(wanted, soft // _SHARE))


def samples(connections: Connections) -> Iterator[tuple[str, dict[str, str], float]]:
    """(name, labels, value) of each series about them."""
    yield "tocsin_http_connections", {}, len(connections)
    yield "tocsin_http_connections_max", {}, connections.limits.connections
    for name, counts in (
        ("tocsin_http_connections_refused_total", connections.refused),
        ("tocsin_http_connections_closed_total", connections.closed),
    ):
        for reason, count in counts.items():
            yield name, {"reason": reason}, count
    for code, count in connections.bad_requests.items():
        yield "tocsin_http_bad_requests_total", {"code": str(code)}, count
