"""Who may be connected to a server of ours, how many at once, and how long each may take.

Clients must not use up the descriptors that collection and delivery need, nor each other's place.
When there is no room, the connection that has waited longest for its next request makes room, then
the one whose body has been incomplete the longest, then one that takes nothing of its answer; one
whose request is being answered never does. Whoever finds no room is refused and counted, but for
a few who ask for our health, and for clients of the Unix socket: these have spare places of their
own, and none that has one makes room for anybody but its like.

For the agent, the exporter and the worker alike: nothing but the standard library is imported here.
"""

from __future__ import annotations

import ipaddress
import resource
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
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
    " many small chunks (413), long URL (414), headers (431), not chunked but coded (501).",
}

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Client = tuple[str, int]  # its address and port


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """`connections` in all, half of them for one address. Of one request: `url_bytes` and
    `head_bytes` (request line and headers), `headers`; seconds until its head and its body are
    whole. `read_seconds` without a client taking any of its answer end it, as `idle_seconds`
    without a request do. `spare` more may ask for our health when all are in use, and as many more
    come by the Unix socket. `exempt` are the networks of trusted proxies, which may have all."""

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

    def trusts(self, client: Client | None) -> bool:
        """Whether it comes from one of the `exempt` networks."""
        address = _address(client) if self.exempt and client else None
        return address is not None and any(address in network for network in self.exempt)


class Connection(Protocol):
    """What the table needs of one connection. `address` is shared by those that count as one;
    one that is `trusted` may have all places."""

    address: str
    trusted: bool

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


class _EvictionOrder:
    """Connections in the order in which they make room, by address and (None) all of them.

    One that cannot go when its turn comes is passed over until the next look: however many ask for
    room in a second, each connection is tried once."""

    def __init__(self, can_go: Callable[[Connection], bool]) -> None:
        self._can_go = can_go
        self._all: dict[Connection, None] = {}
        self._lines: dict[str | None, dict[Connection, None]] = {}
        self._passed_over = False

    def add(self, connection: Connection) -> None:
        self._all[connection] = None
        self._join(connection)

    def discard(self, connection: Connection) -> None:
        if connection in self._all:
            del self._all[connection]
            self._leave(connection)

    def first(self, address: str | None) -> Connection | None:
        line = self._lines.get(address, {})
        while line:
            connection = next(iter(line))
            if self._can_go(connection):
                return connection
            self._leave(connection)
            self._passed_over = True
        return None

    def look_again(self) -> None:
        if self._passed_over:
            self._passed_over = False
            self._lines.clear()
            for connection in self._all:
                self._join(connection)

    def _join(self, connection: Connection) -> None:
        for key in (None, connection.address):
            self._lines.setdefault(key, {})[connection] = None

    def _leave(self, connection: Connection) -> None:
        for key in (None, connection.address):
            line = self._lines.get(key, {})
            line.pop(connection, None)
            if not line:
                self._lines.pop(key, None)


class _ConnectionSlots:
    """At most `most` connections, and who of them makes room."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.by_address: Counter[str] = Counter()
        self._open: dict[Connection, None] = {}
        self._waiting = _EvictionOrder(lambda connection: connection.can_go())
        self._reading = _EvictionOrder(lambda connection: connection.can_go())  # a request's body
        self._stalled: _EvictionOrder | None = (
            None  # as of the last look, once somebody needs to know
        )

    def __len__(self) -> int:
        return len(self._open)

    def add(self, connection: Connection) -> None:
        self._open[connection] = None
        self.by_address[connection.address] += 1
        self._waiting.add(connection)

    def remove(self, connection: Connection) -> None:
        del self._open[connection]
        self.busy(connection)
        if self._stalled is not None:
            self._stalled.discard(connection)
        self.by_address[connection.address] -= 1
        if not self.by_address[connection.address]:
            del self.by_address[connection.address]

    def reads(self, connection: Connection) -> None:
        self._waiting.discard(connection)
        self._reading.add(connection)

    def busy(self, connection: Connection) -> None:
        self._waiting.discard(connection)
        self._reading.discard(connection)

    def waits(self, connection: Connection) -> None:
        self.busy(connection)
        self._waiting.add(connection)

    def makes_room(self, address: str | None) -> Connection | None:
        """Which one of this address, or (None) of any."""
        for line in (self._waiting, self._reading):
            if connection := line.first(address):
                return connection
        if self._stalled is None:
            self._stalled = _EvictionOrder(lambda connection: connection.stalled())
            for connection in self._open:
                if connection.stalled():
                    self._stalled.add(connection)
        return self._stalled.first(address)

    def look_again(self) -> None:
        self._waiting.look_again()
        self._reading.look_again()
        self._stalled = None


class Connections:
    """The open connections of all listeners of one server, and what became of the others."""

    def __init__(self, limits: ConnectionLimits | None = None) -> None:
        self.limits = limits or ConnectionLimits(connections=most_connections())
        self.refused: Counter[str] = Counter({FULL: 0, ADDRESS: 0})
        self.closed: Counter[str] = Counter(
            dict.fromkeys((EVICTED, IDLE, SLOW_REQUEST, SLOW_READER), 0)
        )
        self.bad_requests: Counter[int] = Counter(dict.fromkeys((400, 408, 413, 414, 431, 501), 0))
        self._ordinary = _ConnectionSlots(self.limits.connections)
        self._spare_health, self._spare_unix = (
            _ConnectionSlots(self.limits.spare) for _ in range(2)
        )
        self._open: dict[Connection, _ConnectionSlots] = {}
        self._spare: dict[Connection, str] = {}  # why there was no room
        self._looking = False

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, connection: Connection) -> str | None:
        """Take it in, in place of one that waits if need be; or why there is no room."""
        places = self._ordinary
        if reason := self._no_room(connection):
            places = self._spare_unix if connection.address == UNIX else self._spare_health
            if not self._spare_room(places, connection.address):
                return self._refuse(reason)
            self._spare[connection] = reason
        self._open[connection] = places
        places.add(connection)
        return None

    def is_spare(self, connection: Connection) -> bool:
        """Whether it was let in although there is no room."""
        return connection in self._spare

    def refuse_spare(self, connection: Connection) -> None:
        self._refuse(self._spare[connection])

    def reads(self, connection: Connection) -> None:
        """The head of a request has come on it, and its body may not have."""
        if connection in self._open:
            self._open[connection].reads(connection)

    def busy(self, connection: Connection) -> None:
        """A request has come on it."""
        if connection in self._open:
            self._open[connection].busy(connection)

    def waits(self, connection: Connection) -> None:
        """It was answered."""
        if connection in self._open:
            self._open[connection].waits(connection)

    def remove(self, connection: Connection) -> None:
        if connection in self._open:
            self._open.pop(connection).remove(connection)
            self._spare.pop(connection, None)

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Check every connection each second, as long as there are any."""
        if not self._looking:
            self._looking = True
            loop.call_later(_LOOK_SECONDS, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._looking = False
        self.look(loop.time())
        if self._open:
            self.watch(loop)

    def look(self, now: float) -> None:
        """Check every connection at `now`, seconds of the loop's clock."""
        for connection in list(self._open):
            connection.check(now)
        for places in (self._ordinary, self._spare_health, self._spare_unix):
            places.look_again()

    def _no_room(self, connection: Connection) -> str | None:
        """Why there is none, and nobody makes it."""
        places, address = self._ordinary, connection.address
        has_its_share = places.by_address[address] >= self.limits.per_address
        if has_its_share and not connection.trusted and not self._evict(places, address):
            return ADDRESS
        if len(places) >= places.most and not self._evict(places, None):
            return FULL
        return None

    def _spare_room(self, places: _ConnectionSlots, address: str) -> bool:
        """Whether there is a spare place: one of the address that has most of them makes room, so
        that no crowd takes them from others."""
        if len(places) < places.most:
            return True
        counts = places.by_address + Counter([address])
        return any(self._evict(places, most) for most, _ in counts.most_common())

    def _evict(self, places: _ConnectionSlots, address: str | None) -> bool:
        """Whether one made room: of this address, or of any."""
        connection = places.makes_room(address)
        if connection is None:
            return False
        self.closed[EVICTED] += 1
        self.remove(connection)
        connection.drop()
        return True

    def _refuse(self, reason: str) -> str:
        self.refused[reason] += 1
        return reason


def counted_address(client: Client | None, trusted: bool = False) -> str:
    """What a client counts under: its address, of IPv6 the /64 that one subscriber has whole. One
    that is trusted shares its with nobody."""
    if client is None:
        return UNIX
    address = _address(client)
    if address is None:
        return client[0]
    if address.version == 4 or trusted:
        return str(address)
    return str(ipaddress.ip_network((int(address), 64), strict=False).network_address)


def _address(client: Client) -> Address | None:
    """The IPv4 address also where it came to an IPv6 socket."""
    try:
        address = ipaddress.ip_address(client[0].partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


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
