"""Prometheus's XOR chunks: samples as differences of differences of times, and of bits of values.

Format: https://github.com/prometheus/prometheus/blob/main/tsdb/docs/format/chunks.md. After the
number of samples (16 bits) the first has a zigzag varint for its time and 64 bits for its value,
the second an unsigned varint for the time that passed. Each later one says by how much that
changed, in a prefix and as many bits as it takes; each value says in which of its bits it differs
from the one before.
"""

from collections.abc import Sequence

from tocsin_alerting.remote_write.prompb import write_varint

CHUNK_SAMPLES = 120  # as Prometheus cuts them
# (bits, prefix, length of the prefix): what fits into so many bits
_SIZES = ((14, 0b10, 2), (17, 0b110, 3), (20, 0b1110, 4))
_ANY = (64, 0b1111, 4)
_ALL = (1 << 64) - 1


def xor_chunk(times: Sequence[int], bits: Sequence[int]) -> bytes:
    """At most 65,535 samples: Unix ms, ascending, and the bits of their values, as signed or
    unsigned numbers."""
    # One long number takes the bits: shifting a few hundred bytes costs less than lists of bits.
    stream, size = len(times), 16
    before = before_delta = 0
    value, leading, trailing = 0, -1, 0
    for index, (at_ms, word) in enumerate(zip(times, bits, strict=True)):
        word &= _ALL
        if index == 0:
            number = write_varint(at_ms << 1 ^ at_ms >> 63)
            stream = ((stream << 8 * len(number)) | int.from_bytes(number, "big")) << 64 | word
            size += 8 * len(number) + 64
        else:
            delta = at_ms - before
            if index == 1:
                number = write_varint(delta)
                stream = (stream << 8 * len(number)) | int.from_bytes(number, "big")
                size += 8 * len(number)
            elif delta == before_delta:
                stream <<= 1
                size += 1
            else:
                change = delta - before_delta
                width, prefix, length = _size_of(change)
                stream = (stream << length | prefix) << width | change & (1 << width) - 1
                size += length + width
            before_delta = delta
            changed = word ^ value
            if not changed:
                stream <<= 1
                size += 1
            else:
                zeros = min(64 - changed.bit_length(), 31)
                low = (changed & -changed).bit_length() - 1
                if leading >= 0 and zeros >= leading and low >= trailing:
                    width = 64 - leading - trailing
                    stream = (stream << 2 | 0b10) << width | changed >> trailing
                    size += 2 + width
                else:
                    leading, trailing = zeros, low
                    width = 64 - leading - trailing
                    head = 0b11 << 11 | leading << 6 | width & 0x3F  # 64 is written as 0
                    stream = (stream << 13 | head) << width | changed >> trailing
                    size += 13 + width
        before, value = at_ms, word
    missing = -size % 8
    return (stream << missing).to_bytes((size + missing) // 8, "big")


def _size_of(change: int) -> tuple[int, int, int]:
    for size in _SIZES:
        half = 1 << size[0] - 1
        if -half < change <= half:
            return size
    return _ANY
