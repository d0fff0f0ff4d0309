"""Remote write 1.0 requests, written by hand: snappy over a protobuf of four message types."""

import struct
import urllib.request
from collections.abc import Iterable, Sequence

import cramjam

from tocsin_exporter.snapshot import Labels

Points = Sequence[tuple[int, float]]
"""(Unix ms, value), ascending."""


def write_request(series: Iterable[tuple[Labels, Points]]) -> bytes:
    """The body of a POST to /api/v1/write; NaN payloads, so stale markers, are kept."""
    body = b"".join(_field(1, _time_series(labels, points)) for labels, points in series)
    return bytes(cramjam.snappy.compress_raw(body))


def remote_write(url: str, series: Iterable[tuple[Labels, Points]]) -> None:
    """Posts the series to a server that receives remote write; raises when it refuses them."""
    headers = {
        "Content-Encoding": "snappy",
        "Content-Type": "application/x-protobuf",
        "X-Prometheus-Remote-Write-Version": "0.1.0",
    }
    target = f"{url}/api/v1/write"
    request = urllib.request.Request(target, write_request(series), headers, method="POST")
    urllib.request.urlopen(request, timeout=20).close()


def _time_series(labels: Labels, points: Points) -> bytes:
    pairs = (_field(1, name.encode()) + _field(2, value.encode()) for name, value in labels)
    return b"".join(_field(1, pair) for pair in pairs) + b"".join(
        _field(2, b"\x09" + struct.pack("<d", value) + b"\x10" + _varint(at_ms))
        for at_ms, value in points
    )


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
