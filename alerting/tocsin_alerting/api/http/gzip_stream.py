"""Answers compressed piece by piece, in the thread that makes them."""

import zlib
from collections.abc import Iterator

MIN_GZIP_BYTES = 1024  # what is shorter fits into one packet anyway
_LEVEL = 4
_GZIP = 16 + zlib.MAX_WBITS


def gzip_stream(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """One gzip stream; what has gathered comes out whenever there is something."""
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    for piece in pieces:
        if packed := packer.compress(piece):
            yield packed
    yield packer.flush()
