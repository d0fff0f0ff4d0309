"""The body of a request: snappy's block format, which begins with its unpacked length."""

import cramjam

from tocsin_alerting.remote_write.prompb import Malformed, RequestTooLarge, varint

MOST_BYTES = 32 << 20


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
