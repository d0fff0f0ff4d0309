"""Remote write 1.0 for much data: the samples of a request are laid out by numpy.

A sample is always 18 bytes, because a time of this century in ms is a varint of six.
"""

import http.client
from collections.abc import Sequence

import cramjam
import numpy as np
from numpy.typing import NDArray

from tocsin_exporter.snapshot import Labels

_SAMPLE = np.dtype(
    [("head", "u1", 3), ("value", "<f8"), ("key", "u1"), ("time", "u1", 6)], align=False
)
_BYTES = _SAMPLE.itemsize
HEADERS = {
    "Content-Encoding": "snappy",
    "Content-Type": "application/x-protobuf",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}


class RemoteWriter:
    """Writes matrices of the same series to one server over one connection."""

    def __init__(self, port: int, series: Sequence[Labels]) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._labels = [label_fields(one) for one in series]

    def write(self, times: NDArray[np.int64], values: NDArray[np.float64]) -> None:
        """`times` in Unix ms, ascending; `values` with a row a series and a column a time."""
        body = bytes(cramjam.snappy.compress_raw(self._body(times, values)))
        self._connection.request("POST", "/api/v1/write", body, HEADERS)
        answer = self._connection.getresponse()
        said = answer.read()
        if answer.status >= 300:
            raise SystemExit(f"remote write answered {answer.status}: {said.decode()[:500]}")

    def _body(self, times: NDArray[np.int64], values: NDArray[np.float64]) -> bytes:
        cells = np.empty(values.shape, _SAMPLE)
        cells["head"] = (0x12, _BYTES - 2, 0x09)
        cells["value"] = values
        cells["key"] = 0x10
        shifts = np.arange(0, 42, 7)
        more = np.array([0x80] * 5 + [0], np.uint8)
        cells["time"] = (times[:, None] >> shifts & 0x7F).astype(np.uint8) | more
        data, length = cells.tobytes(), _BYTES * len(times)
        return b"".join(
            _field(1, labels + data[i * length : (i + 1) * length])
            for i, labels in enumerate(self._labels)
        )


def label_fields(labels: Labels) -> bytes:
    return b"".join(
        _field(1, _field(1, name.encode()) + _field(2, value.encode())) for name, value in labels
    )


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + varint(len(content)) + content


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
