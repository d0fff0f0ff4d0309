"""TCP connections by state, asked of the kernel over netlink: /proc/net/tcp costs 8 ms and more."""

import socket
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import closing

from tocsin_exporter.catalogue import KERNEL
from tocsin_exporter.collectors.attributes import AttributeCollector
from tocsin_exporter.collectors.collector import CollectorError
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.snapshot import Sample, labels

_STATES = KERNEL["node_tcp_connection_states"]
_NAMES = (
    *("unknown", "established", "syn_sent", "syn_recv", "fin_wait1", "fin_wait2", "time_wait"),
    *("close", "close_wait", "last_ack", "listen", "closing"),
)
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_ERROR, _DONE = 2, 3  # types of netlink messages
_REQUEST_DUMP = 0x301
_ALL_STATES = 0xFFF
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBBI48x")
_CONNECTION = struct.Struct("=BB54xII")  # family, state, ..., bytes received and to be sent
_ANSWER_BYTES = 1 << 18
_PATIENCE_SECONDS = 2.0


def tcpstat(host: Host) -> AttributeCollector:
    return AttributeCollector("tcpstat", host.proc, lambda _: samples(_connections(host)))


def samples(connections: Iterator[tuple[int, int, int]]) -> Iterator[Sample]:
    """`connections` are states, with the bytes in both queues."""
    counts: Counter[str] = Counter()
    for state, received, unsent in connections:
        counts[_NAMES[state] if state < len(_NAMES) else "unknown"] += 1
        counts["rx_queued_bytes"] += received
        counts["tx_queued_bytes"] += unsent
    for name, number in counts.items():
        yield Sample(_STATES, number, labels(state=name))


def _connections(host: Host) -> Iterator[tuple[int, int, int]]:
    yield from _dump(socket.AF_INET)
    if (host.proc / "net/tcp6").exists():
        yield from _dump(socket.AF_INET6)


def _dump(family: int) -> Iterator[tuple[int, int, int]]:
    request = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, _ALL_STATES)
    header = _HEADER.pack(_HEADER.size + len(request), _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0)
    kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG)
    with closing(kernel):
        kernel.settimeout(_PATIENCE_SECONDS)
        kernel.send(header + request)
        while True:
            yield from (answer := messages(kernel.recv(_ANSWER_BYTES)))[0]
            if answer[1]:
                return


def messages(data: bytes) -> tuple[list[tuple[int, int, int]], bool]:
    """The connections in one answer, and whether it is the last. Raises CollectorError where the
    kernel refuses."""
    found: list[tuple[int, int, int]] = []
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, *_ = _HEADER.unpack_from(data, at)
        if kind == _DONE:
            return found, True
        if kind == _ERROR or length < _HEADER.size:
            raise CollectorError("the kernel does not list its connections")
        _family, state, received, unsent = _CONNECTION.unpack_from(data, at + _HEADER.size)
        found.append((state, received, unsent))
        at += (length + 3) & ~3
    return found, False
