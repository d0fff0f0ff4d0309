"""Messages of rtnetlink taken apart; the kernel's own answers are held beside node_exporter's in
tests/exporter/test_exporter.py."""

import struct

import pytest

from tocsin_exporter.collectors.collector import CollectorError
from tocsin_exporter.collectors.rtnetlink import attributes, messages, queue, route

TO, OUT, GATEWAY, PRIORITY, FROM, PATHS = 1, 4, 5, 6, 7, 9
UNICAST, LOCAL = 1, 2
STATIC = 4


def attribute(kind: int, content: bytes) -> bytes:
    padding = -len(content) % 4
    return struct.pack("=HH", 4 + len(content), kind) + content + bytes(padding)


def routed(*parts: bytes, bits: int = 0, kind: int = UNICAST) -> bytes:
    return struct.pack("=BBBBBBBBI", 2, bits, 0, 0, 254, STATIC, 0, kind, 0) + b"".join(parts)


def queued(parent: int, packets: int = 7) -> bytes:
    stats = attribute(1, struct.pack("=QI4x", 9000, packets))
    stats += attribute(3, struct.pack("=5I", 1, 2, 3, 4, 5))
    head = struct.pack("=BxHiIII", 0, 0, 2, 0, parent, 0)
    return head + attribute(1, b"fq_codel\0") + attribute(7 | 0x8000, stats)


def test_a_route_has_its_way() -> None:
    message = routed(
        *(attribute(TO, bytes([10, 0, 0, 0])), attribute(OUT, struct.pack("=I", 3))),
        *(attribute(GATEWAY, bytes([10, 9, 8, 7])), attribute(PRIORITY, struct.pack("=I", 50))),
        attribute(FROM, bytes([10, 9, 8, 1])),
        bits=8,
    )
    ((hop, labels),) = route(message)
    assert (hop.link, hop.gateway, hop.weight) == (3, "10.9.8.7", "")
    assert dict(labels) == {
        **{"dest": "10.0.0.0/8", "gw": "10.9.8.7", "priority": "50"},
        **{"proto": "static", "src": "10.9.8.1"},
    }


def test_a_route_of_several_ways_has_each_with_its_weight() -> None:
    hops = b"".join(
        struct.pack("=HBBi", 8 + 8, 0, weight - 1, link)
        + attribute(GATEWAY, bytes([10, 0, 0, link]))
        for link, weight in ((3, 1), (4, 20))
    )
    ways = [(hop.link, hop.gateway, hop.weight) for hop, _ in route(routed(attribute(PATHS, hops)))]
    assert ways == [(3, "10.0.0.3", "1"), (4, "10.0.0.4", "20")]


def test_a_route_to_the_machine_itself_is_none() -> None:
    assert list(route(routed(kind=LOCAL))) == []


@pytest.mark.parametrize(("parent", "shown"), [(0, 1), (0xFFFFFFFF, 1), (0x10001, 0)])
def test_a_queue_is_shown_where_it_is_a_links_own(parent: int, shown: int) -> None:
    found = list(queue(queued(parent)))
    assert found == [(2, "fq_codel", (9000, 7, 1, 2, 3, 4, 5))] * shown


def test_what_is_cut_off_is_not_there() -> None:
    assert attributes(attribute(TO, b"abcd") + struct.pack("=HH", 2, 5)) == {TO: b"abcd"}
    assert list(queue(queued(0)[:-40])) == []


def test_an_answer_ends_and_a_refusal_is_an_error() -> None:
    def message(kind: int, content: bytes = b"") -> bytes:
        return struct.pack("=IHHII", 16 + len(content), kind, 2, 1, 0) + content

    assert messages(message(24, b"abcd") + message(24, b"efgh")) == ([b"abcd", b"efgh"], False)
    assert messages(message(24, b"abcd") + message(3)) == ([b"abcd"], True)
    with pytest.raises(CollectorError):
        messages(message(2, bytes(4)))
