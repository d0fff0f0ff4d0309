"""Remote read as a client speaks it: requests, and answers of both kinds, written by hand."""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.request import Request, urlopen

import cramjam

Series = dict[tuple[tuple[str, str], ...], list[tuple[int, int]]]
"""By labels the samples: Unix ms, and the bits of the value."""
SAMPLES, STREAMED = 0, 1
EQUAL, NOT_EQUAL, REGEX, NOT_REGEX = range(4)
Matcher = tuple[int, str, str]


def read_request(
    queries: Sequence[tuple[int, int, Sequence[Matcher]]], accepted: Sequence[int] = ()
) -> bytes:
    """The body of a POST: each query is its first and last Unix ms and its matchers."""
    body = b"".join(_field(1, _query(*query)) for query in queries)
    packed = b"".join(map(varint, accepted))
    return bytes(cramjam.snappy.compress_raw(body + (_field(2, packed) if packed else b"")))


def _query(start_ms: int, end_ms: int, matchers: Sequence[Matcher]) -> bytes:
    times = b"\x08" + varint(start_ms) + b"\x10" + varint(end_ms)
    return times + b"".join(
        _field(3, b"\x08" + varint(kind) + _field(2, name.encode()) + _field(3, value.encode()))
        for kind, name, value in matchers
    )


@dataclass(frozen=True)
class ReadAnswer:
    """`queries` have the series in their order; `frames` the chunks of each frame."""

    content_type: str
    queries: list[Series]
    chunks: list[bytes]


def remote_read(url: str, body: bytes) -> ReadAnswer:
    headers = {"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf"}
    request = Request(f"{url}/api/v1/read", body, headers, method="POST")
    with urlopen(request, timeout=20) as answer:
        kind, encoding = answer.headers["content-type"], answer.headers["content-encoding"]
        content = answer.read()
    return read_answer(kind, encoding, content)


def read_answer(kind: str, encoding: str | None, content: bytes) -> ReadAnswer:
    if kind.startswith("application/x-streamed-protobuf"):
        assert encoding is None
        return _streamed(kind, content)
    assert encoding == "snappy"
    message = bytes(cramjam.snappy.decompress_raw(content))
    results = [_series(result) for number, result in fields(message) if number == 1]
    return ReadAnswer(kind, results, [])


def _series(result: bytes | int) -> Series:
    assert isinstance(result, bytes)
    found: Series = {}
    for _, one in fields(result):
        parts = list(fields(_bytes(one)))
        samples = [dict(fields(_bytes(part))) for number, part in parts if number == 2]
        labels = _labels(parts)
        assert labels not in found
        found[labels] = [(_int(each.get(2, 0)), _int(each.get(1, 0))) for each in samples]
    return found


def _streamed(kind: str, content: bytes) -> ReadAnswer:
    queries: list[Series] = []
    chunks: list[bytes] = []
    at = 0
    while at < len(content):
        length, at = read_varint(content, at)
        checksum, message = content[at : at + 4], content[at + 4 : at + 4 + length]
        assert int.from_bytes(checksum, "big") == crc32c(message)
        at += 4 + length
        parts = list(fields(message))
        index = next((_int(value) for number, value in parts if number == 2), 0)
        queries += [{} for _ in range(len(queries), index + 1)]
        for number, one in parts:
            if number == 1:
                of_series = list(fields(_bytes(one)))
                samples = queries[index].setdefault(_labels(of_series), [])
                for chunk in (dict(fields(_bytes(v))) for n, v in of_series if n == 2):
                    assert chunk[3] == 1
                    chunks.append(_bytes(chunk[4]))
                    decoded = xor_samples(chunks[-1])
                    assert (decoded[0][0], decoded[-1][0]) == (chunk.get(1, 0), chunk.get(2, 0))
                    samples += decoded
    return ReadAnswer(kind, queries, chunks)


def _labels(parts: Sequence[tuple[int, bytes | int]]) -> tuple[tuple[str, str], ...]:
    pairs = [dict(fields(_bytes(part))) for number, part in parts if number == 1]
    return tuple((_bytes(p[1]).decode(), _bytes(p.get(2, b"")).decode()) for p in pairs)


def xor_samples(chunk: bytes) -> list[tuple[int, int]]:
    """The samples of a chunk, as Prometheus's reader takes them apart (tsdb/chunkenc/xor.go)."""
    bits = _Bits(chunk[2:])
    samples: list[tuple[int, int]] = []
    at = delta = value = leading = trailing = 0
    for number in range(int.from_bytes(chunk[:2], "big")):
        if number == 0:
            raw = bits.varint()
            at, value = raw >> 1 ^ -(raw & 1), bits.take(64)
        else:
            if number == 1:
                delta = bits.varint()
            else:
                delta += bits.change()
            at += delta
            if bits.take(1):
                if bits.take(1):
                    leading, width = bits.take(5), bits.take(6) or 64
                    trailing = 64 - leading - width
                value ^= bits.take(64 - leading - trailing) << trailing
        samples.append((at, value - (value >> 63 << 64)))
    return samples


class _Bits:
    def __init__(self, data: bytes) -> None:
        self._text = "".join(f"{byte:08b}" for byte in data)
        self._at = 0

    def take(self, count: int) -> int:
        text = self._text[self._at : self._at + count]
        assert len(text) == count
        self._at += count
        return int(text, 2) if text else 0

    def varint(self) -> int:
        number = shift = 0
        while (byte := self.take(8)) > 0x7F:
            number |= (byte & 0x7F) << shift
            shift += 7
        return number | byte << shift

    def change(self) -> int:
        ones = 0
        while ones < 4 and self.take(1):
            ones += 1
        if not ones:
            return 0
        width = {1: 14, 2: 17, 3: 20, 4: 64}[ones]
        raw = self.take(width)
        top = 1 << width - 1
        return raw - (1 << width) if raw > top or (width == 64 and raw >= top) else raw


def fields(message: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Numbers of fields with what they hold; 64 bits are signed."""
    at = 0
    while at < len(message):
        tag, at = read_varint(message, at)
        if tag & 7 == 0:
            value, at = read_varint(message, at)
            yield tag >> 3, value - (value >> 63 << 64)
        elif tag & 7 == 1:
            yield tag >> 3, struct.unpack("<q", message[at : at + 8])[0]
            at += 8
        else:
            assert tag & 7 == 2
            length, at = read_varint(message, at)
            yield tag >> 3, message[at : at + length]
            at += length


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte, at = data[at], at + 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return number, at


def varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def crc32c(data: bytes) -> int:
    """Bit by bit, as the polynomial says."""
    crc = 0xFFFF_FFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F6_3B78 if crc & 1 else 0)
    return crc ^ 0xFFFF_FFFF


def _field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def _bytes(value: bytes | int) -> bytes:
    assert isinstance(value, bytes)
    return value


def _int(value: bytes | int) -> int:
    assert isinstance(value, int)
    return value
