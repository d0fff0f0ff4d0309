"""Bodies in snappy's block format, which begins with the unpacked length."""

from collections.abc import Iterable

import cramjam

from tocsin_alerting.remote_write.prompb import Malformed, RequestTooLarge, varint, write_varint

MOST_BYTES = 32 << 20
_AT_ONCE = 1 << 18  # bytes: while they are packed nobody else has a turn


def decompress(body: bytes, most_bytes: int = MOST_BYTES) -> bytes:
    """The message in `body`. Raises Malformed, or RequestTooLarge before anything is unpacked."""
    if not body:
        raise Malformed("the body is empty")
    length, _ = varint(body, 0, len(body))
    if length > most_bytes:
        limit = f"{most_bytes >> 20} MiB" if most_bytes >> 20 else f"{most_bytes} bytes"
        raise RequestTooLarge(
            f"the request is {length} bytes long unpacked; at most {limit} are read"
        )
    try:
        return bytes(cramjam.snappy.decompress_raw(body))
    except cramjam.DecompressionError as error:
        raise Malformed(f"the body is not in snappy's block format: {error}") from None


def compress(parts: Iterable[bytes]) -> bytes:
    """The parts as one body: what is packed piece by piece is one block in a row."""
    packed, waiting, length = list[bytes](), bytearray(), 0
    for part in parts:
        length += len(part)
        waiting += part
        while len(waiting) >= _AT_ONCE:
            packed.append(_packed(bytes(waiting[:_AT_ONCE])))
            del waiting[:_AT_ONCE]
    return b"".join((write_varint(length), *packed, _packed(bytes(waiting))))


def _packed(piece: bytes) -> bytes:
    """Without the length in front."""
    body = bytes(cramjam.snappy.compress_raw(piece))
    return body[varint(body, 0, len(body))[1] :]
