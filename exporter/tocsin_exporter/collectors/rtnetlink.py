"""Queues and routes of the kernel's network stack, asked over rtnetlink.

The layout of the messages is that of linux/rtnetlink.h and linux/pkt_sched.h.
"""

import socket
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address

from tocsin_exporter.catalogue import NETWORK
from tocsin_exporter.collectors.attributes import AttributeCollector
from tocsin_exporter.collectors.collector import CollectorError
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.snapshot import Labels, Sample, labels

_GET_LINK, _GET_ROUTE, _GET_QUEUE = 18, 26, 38
_ERROR, _DONE = 2, 3
_REQUEST_DUMP = 0x301
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_TYPE = 0x3FFF  # the other bits say that it is nested, and in which byte order
_ANSWER_BYTES = 1 << 18
_PATIENCE_SECONDS = 2.0

_LINK = struct.Struct("=BxHiII")
_LINK_NAME = 3

_QUEUE = struct.Struct("=BxHiIII")  # family, index, handle, parent, info
_AT_THE_TOP = (0, 0xFFFFFFFF)
_KIND, _STATS = 1, 7
_BASIC, _QUEUED = 1, 3
_BASICS, _QUEUEDS = struct.Struct("=QI"), struct.Struct("=5I")
_OF_QUEUE = tuple(
    NETWORK[f"node_qdisc_{name}"]
    for name in (
        *("bytes_total", "packets_total", "current_queue_length", "backlog", "drops_total"),
        *("requeues_total", "overlimits_total"),
    )
)

_ROUTE = struct.Struct("=BBBBBBBBI")  # family, bits, ..., protocol, scope, type, flags
_UNICAST = 1
_TO, _OUT, _GATEWAY, _PRIORITY, _FROM, _PATHS = 1, 4, 5, 6, 7, 9
_HOP = struct.Struct("=HBBi")  # bytes, flags, hops, index of the link
_ROUTES = NETWORK["node_network_routes"]
_ROUTE_INFO = NETWORK["node_network_route_info"]
_PROTOCOLS = {
    **{0: "unspec", 1: "redirect", 2: "kernel", 3: "boot", 4: "static", 8: "gated", 9: "ra"},
    **{10: "mrt", 11: "zebra", 12: "bird", 13: "dnrouted", 14: "xorp", 15: "ntk", 16: "dhcp"},
    **{17: "mrouted", 42: "babel", 186: "bgp", 187: "isis", 188: "ospf", 189: "rip"},
    192: "eigrp",
}

Attributes = dict[int, bytes]


@dataclass(frozen=True, slots=True)
class Hop:
    """One way of a route: the index of its link, its gateway, and its weight where it has one."""

    link: int
    gateway: str
    weight: str


def qdisc(host: Host) -> AttributeCollector:
    wanted = host.settings.wanted("qdisk.device")  # node_exporter writes it so

    def read() -> Iterator[Sample]:
        names = links()
        for message in _dump(_GET_QUEUE, _QUEUE.size):
            for index, kind, numbers in queue(message):
                if wanted(name := names.get(index, "")):
                    of = labels(device=name, kind=kind)
                    yield from map(partial(Sample, labels=of), _OF_QUEUE, numbers)

    return AttributeCollector("qdisc", host.proc / "net", lambda _: read())


def network_route(host: Host) -> AttributeCollector:
    return AttributeCollector("network_route", host.proc / "net", lambda _: routes(links()))


def links() -> dict[int, str]:
    """The names of network devices by their numbers."""
    found: dict[int, str] = {}
    for message in _dump(_GET_LINK, _LINK.size):
        index = _LINK.unpack_from(message)[2]
        name = attributes(message[_LINK.size :]).get(_LINK_NAME, b"")
        found[index] = name.rstrip(b"\0").decode("utf-8", "replace")
    return found


def queue(message: bytes) -> Iterator[tuple[int, str, tuple[int, ...]]]:
    """The link, the kind and the numbers of a queue that is a link's own; none for a part."""
    _family, _pad, index, _handle, parent, _info = _QUEUE.unpack_from(message)
    said = attributes(message[_QUEUE.size :])
    stats = attributes(said.get(_STATS, b""))
    if parent in _AT_THE_TOP and {_BASIC, _QUEUED} <= stats.keys():
        kind = said.get(_KIND, b"").rstrip(b"\0").decode("ascii", "replace")
        numbers = (*_BASICS.unpack_from(stats[_BASIC]), *_QUEUEDS.unpack_from(stats[_QUEUED]))
        yield index, kind, numbers


def routes(names: dict[int, str]) -> Iterator[Sample]:
    number: Counter[str] = Counter()
    about: dict[Labels, None] = {}
    for message in _dump(_GET_ROUTE, _ROUTE.size):
        for hop, of in route(message):
            device = names.get(hop.link, "")
            number[device] += 1
            about[labels(**dict(of), device=device)] = None
    for of_route in about:
        yield Sample(_ROUTE_INFO, 1, of_route)
    for device, count in number.items():
        yield Sample(_ROUTES, count, labels(device=device))


def route(message: bytes) -> Iterator[tuple[Hop, Labels]]:
    """Each way of a route to one machine or network; nothing for local and broadcast ones."""
    _family, bits, _, _, _, protocol, _, kind, _ = _ROUTE.unpack_from(message)
    if kind != _UNICAST:
        return
    said = attributes(message[_ROUTE.size :])
    for hop in _hops(said):
        yield (
            hop,
            labels(
                src=_address(said.get(_FROM, b"")),
                dest=f"{_address(said.get(_TO, b''))}/{bits}" if bits else "default",
                gw=hop.gateway,
                priority=str(_number(said.get(_PRIORITY, b""))),
                proto=_PROTOCOLS.get(protocol, "unknown"),
                weight=hop.weight,
            ),
        )


def _hops(said: Attributes) -> Iterator[Hop]:
    paths = said.get(_PATHS, b"")
    if not paths:
        yield Hop(_number(said.get(_OUT, b"")), _address(said.get(_GATEWAY, b"")), "")
    while len(paths) >= _HOP.size:
        length, _flags, hops, link = _HOP.unpack_from(paths)
        if length < _HOP.size:
            return
        gateway = attributes(paths[_HOP.size : length]).get(_GATEWAY, b"")
        yield Hop(link, _address(gateway), str(hops + 1))
        paths = paths[_padded(length) :]


def _address(packed: bytes) -> str:
    return str(ip_address(packed)) if len(packed) in (4, 16) else ""


def _number(packed: bytes) -> int:
    return int(struct.unpack("=I", packed)[0]) if len(packed) == 4 else 0


def attributes(data: bytes) -> Attributes:
    """By type. What is cut off is not there."""
    found: Attributes = {}
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            break
        found[kind & _TYPE] = data[at + _ATTRIBUTE.size : at + length]
        at += _padded(length)
    return found


def _padded(length: int) -> int:
    return (length + 3) & ~3


def _dump(request: int, family_bytes: int) -> Iterator[bytes]:
    """Everything of a kind, one message each without its header. Raises CollectorError where the
    kernel refuses."""
    header = _HEADER.pack(_HEADER.size + family_bytes, request, _REQUEST_DUMP, 1, 0)
    with closing(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)) as kernel:
        kernel.settimeout(_PATIENCE_SECONDS)
        kernel.send(header + bytes(family_bytes))
        while True:
            found, is_last = messages(kernel.recv(_ANSWER_BYTES))
            yield from found
            if is_last:
                return


def messages(data: bytes) -> tuple[list[bytes], bool]:
    """Those in one answer, and whether it is the last. Raises CollectorError for a refusal."""
    found: list[bytes] = []
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, *_ = _HEADER.unpack_from(data, at)
        if kind == _DONE:
            return found, True
        if kind == _ERROR or length < _HEADER.size:
            raise CollectorError("the kernel does not list this")
        found.append(data[at + _HEADER.size : at + length])
        at += _padded(length)
    return found, False
