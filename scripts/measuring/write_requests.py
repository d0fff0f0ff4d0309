"""Remote write as a real Prometheus sends it, made before the clock starts.

Every series of a request has one sample and all its labels; a value of 0 is left out, as
gogo/protobuf does.
"""

import struct
from collections.abc import Iterator, Sequence

import cramjam
import numpy as np
from numpy.typing import NDArray

from measuring.remote_write import HEADERS, label_fields, varint
from tocsin_exporter.snapshot import Labels


class WriteRequests:
    """Whole HTTP requests, for a connection that is kept alive."""

    def __init__(self, series: Sequence[Labels], each: int) -> None:
        self.each = each
        labels = [label_fields(one) for one in series]
        self._valued = [b"\x0a" + varint(len(one) + 18) + one + b"\x12\x10\x09" for one in labels]
        self._zero = [b"\x0a" + varint(len(one) + 9) + one + b"\x12\x07" for one in labels]

    def of(self, at_ms: int, values: NDArray[np.float64]) -> Iterator[bytes]:
        """One round: a value a series."""
        time = b"\x10" + varint(at_ms)
        packed = struct.pack(f"<{len(values)}d", *values.tolist())
        fields = [
            self._valued[i] + packed[8 * i : 8 * i + 8] + time if value else self._zero[i] + time
            for i, value in enumerate(values.tolist())
        ]
        for begin in range(0, len(fields), self.each):
            yield _request(b"".join(fields[begin : begin + self.each]))


def _request(message: bytes) -> bytes:
    body = bytes(cramjam.snappy.compress_raw(message))
    headers = {"Host": "127.0.0.1", **HEADERS, "Content-Length": str(len(body))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST /api/v1/write HTTP/1.1\r\n{lines}\r\n".encode() + body
