"""Remote write messages in every shape that protobuf allows, and what a receiver must make of them.

`plain` writes them as Prometheus does (gogo/protobuf: fields in order, zeros left out, minimal
numbers); `odd` may leave the order, pad numbers, repeat fields and add unknown ones.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import cramjam


@dataclass(frozen=True)
class Series:
    """Labels as bytes, samples as (Unix ms, bits of the value), and native histograms."""

    labels: Sequence[tuple[bytes, bytes]]
    samples: Sequence[tuple[int, int]]
    histograms: int = 0


def body(message: bytes) -> bytes:
    return bytes(cramjam.snappy.compress_raw(message))


def plain(request: Sequence[Series]) -> bytes:
    return b"".join(_field(1, _plain_series(one)) for one in request)


def plain_v2(request: Sequence[Series], more: bytes = b"") -> bytes:
    """The same request as remote write 2.0, with `more` fields behind."""
    symbols: dict[bytes, int] = {b"": 0}
    series = []
    for one in request:
        texts = [text for pair in one.labels for text in pair]
        refs = b"".join(number(symbols.setdefault(text, len(symbols))) for text in texts)
        samples = b"".join(_field(2, _plain_sample(*sample)) for sample in one.samples)
        metadata = _field(5, b"\x08\x01")
        histograms = _field(3, b"\x08\x01") * one.histograms
        series.append(_field(1, refs) + samples + histograms + metadata)
    table = b"".join(_field(4, symbol) for symbol in symbols)
    return table + b"".join(_field(5, each) for each in series) + more


def _plain_series(one: Series) -> bytes:
    labels = b"".join(_field(1, _field(1, n) + _field(2, v)) for n, v in one.labels)
    samples = b"".join(_field(2, _plain_sample(*sample)) for sample in one.samples)
    return labels + samples + _field(4, b"\x0a\x00") * one.histograms


def _plain_sample(at_ms: int, bits: int) -> bytes:
    value = b"\x09" + struct.pack("<q", bits) if bits else b""
    return value + (b"\x10" + number(at_ms) if at_ms else b"")


def odd(request: Sequence[Series], random: Random) -> bytes:
    """The same request for whoever reads strictly."""
    parts = [_odd_field(1, _odd_series(one, random), random) for one in request]
    strangers = [_stranger(random) for _ in range(random.randrange(3))]
    metadata = [_field(3, b"\x08\x01\x12\x01m")] * random.randrange(2)
    for extra in strangers + metadata:
        parts.insert(random.randrange(len(parts) + 1), extra)
    return b"".join(parts)


def _odd_series(one: Series, random: Random) -> bytes:
    labels = [_odd_field(1, _odd_label(*pair, random), random) for pair in one.labels]
    samples = [_odd_field(2, _odd_sample(*sample, random), random) for sample in one.samples]
    others = [_field(4, b"\x0a\x00")] * one.histograms + [_field(3, b"exemplar is not looked at")]
    others += [_stranger(random) for _ in range(random.randrange(2))]
    return b"".join(_riffled([labels, samples, others], random))


def _odd_label(name: bytes, value: bytes, random: Random) -> bytes:
    parts = [_odd_field(1, name, random), _odd_field(2, value, random), _stranger(random)]
    if random.random() < 0.2:
        parts.insert(0, _field(1, b"the last one counts"))
        return b"".join(parts)
    random.shuffle(parts)
    return b"".join(parts)


def _odd_sample(at_ms: int, bits: int, random: Random) -> bytes:
    time = _tag(2, 0, random) + number(at_ms, random.randrange(3))
    parts = [_tag(1, 1, random) + struct.pack("<q", bits), time, _stranger(random)]
    random.shuffle(parts)
    return b"".join(parts)


def _stranger(random: Random) -> bytes:
    """A field that nobody knows, of any wire type."""
    kind = random.choice((0, 1, 2, 5))
    content = {0: number(random.getrandbits(64)), 1: bytes(8), 2: b"\x03abc", 5: bytes(4)}[kind]
    return _tag(random.choice((9, 15, 16, 2**29 - 1)), kind, random) + content


def _riffled(piles: Sequence[Sequence[bytes]], random: Random) -> list[bytes]:
    """One pile of all; the order within each stays."""
    turns = [at for at, pile in enumerate(piles) for _ in pile]
    random.shuffle(turns)
    piles_left = [iter(pile) for pile in piles]
    return [next(piles_left[at]) for at in turns]


def _odd_field(field: int, content: bytes, random: Random) -> bytes:
    return _tag(field, 2, random) + number(len(content), random.randrange(3)) + content


def _tag(field: int, wire: int, random: Random) -> bytes:
    return number(field << 3 | wire, random.choice((0, 0, 0, 1)))


def _field(field: int, content: bytes) -> bytes:
    return number(field << 3 | 2) + number(len(content)) + content


def number(value: int, padding: int = 0) -> bytes:
    """A varint, `padding` bytes longer than it need be, of 10 at most."""
    value &= 2**64 - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    padding = min(padding, 10 - len(out))
    if padding:
        out[-1] |= 0x80
        out += b"\x80" * (padding - 1) + b"\0"
    return bytes(out)
