"""Remote write as a real Prometheus sends it, made before the clock starts.

Every series of a request has one sample and all its labels; a value of 0 is left out, as
gogo/protobuf does.
"""

import struct
from collections.abc import Iterable, Sequence

import cramjam
import numpy as np
from numpy.typing import NDArray

from measuring.remote_write import HEADERS, label_fields, varint
from tocsin_exporter.snapshot import Labels

Scrape = tuple[int, NDArray[np.float64]]
"""(Unix ms, a value a series)."""


class WriteRequests:
    """Whole HTTP requests of one target's series, for connections that are kept alive."""

    def __init__(self, series: Sequence[Labels]) -> None:
        labels = [label_fields(one) for one in series]
        self._valued = [b"\x0a" + varint(len(one) + 18) + one + b"\x12\x10\x09" for one in labels]
        self._zero = [b"\x0a" + varint(len(one) + 9) + one + b"\x12\x07" for one in labels]

    def whole(self, scrapes: Iterable[Scrape], each: int, shares: int) -> list[list[bytes]]:
        """Every scrape is cut in the same way, and the so-manieth request of each goes the same
        way: the requests of each of `shares` connections."""
        sent: list[list[bytes]] = [[] for _ in range(shares)]
        for scrape in scrapes:
            fields = self._fields(scrape)
            for number, begin in enumerate(range(0, len(fields), each)):
                sent[number % shares].append(_request(fields[begin : begin + each]))
        return sent

    def streamed(self, scrapes: Iterable[Scrape], each: int, shares: int) -> list[list[bytes]]:
        """Each connection has its share of the series, and sends when `each` samples wait, as
        Prometheus does: where a request begins wanders from scrape to scrape."""
        waiting: list[list[bytes]] = [[] for _ in range(shares)]
        for scrape in scrapes:
            fields = self._fields(scrape)
            for number, queue in enumerate(waiting):
                queue += fields[number::shares]
        return [
            [_request(queue[begin : begin + each]) for begin in range(0, len(queue), each)]
            for queue in waiting
        ]

    def _fields(self, scrape: Scrape) -> list[bytes]:
        at_ms, values = scrape
        time = b"\x10" + varint(at_ms)
        packed = struct.pack(f"<{len(values)}d", *values.tolist())
        return [
            self._valued[i] + packed[8 * i : 8 * i + 8] + time if value else self._zero[i] + time
            for i, value in enumerate(values.tolist())
        ]


def _request(fields: Sequence[bytes]) -> bytes:
    body = bytes(cramjam.snappy.compress_raw(b"".join(fields)))
    headers = {"Host": "127.0.0.1", **HEADERS, "Content-Length": str(len(body))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST /api/v1/write HTTP/1.1\r\n{lines}\r\n".encode() + body
