"""Words of eight bytes, compressed: all their lowest bytes first, then all the next.

Numbers that are near each other, once subtracted or XORed, differ in few of their bytes. The
others are then one long run of zeros, which zstd makes nothing of.
"""

import cramjam
import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
BytePlanes = NDArray[np.uint8]


def pack(words: Words, level: int) -> bytes:
    """`words` (n,) as one zstd frame of that level."""
    planes = np.ascontiguousarray(words.astype("<u8", copy=False).view(np.uint8).reshape(-1, 8).T)
    return bytes(cramjam.zstd.compress(planes.reshape(-1).data, level))


def unpack_planes(data: bytes | memoryview, count: int) -> BytePlanes:
    """The planes (8, count) of words that were packed; raises ValueError when there are not so
    many."""
    planes = np.empty(8 * count, np.uint8)
    try:
        size = cramjam.zstd.decompress_into(data, planes.data) if count else 0
    except cramjam.DecompressionError as error:
        raise ValueError(f"not what was packed: {error}") from None
    if size != len(planes):
        raise ValueError(f"{size} bytes where {len(planes)} were packed")
    return planes.reshape(8, count)


def unpack(data: bytes | memoryview, count: int) -> Words:
    """The `count` words that were packed; raises ValueError when there are not so many."""
    words: Words = np.ascontiguousarray(unpack_planes(data, count).T).view("<u8").reshape(-1)
    return words


def zigzag(numbers: NDArray[np.int64]) -> Words:
    """0, -1, 1, -2, 2 ... as 0, 1, 2, 3, 4 ...: a small number has small bytes."""
    words: Words = ((numbers << 1) ^ (numbers >> 63)).view(np.uint64)
    return words


def unzigzag(words: Words) -> NDArray[np.int64]:
    numbers: NDArray[np.int64] = (words >> np.uint64(1)).view(np.int64)
    return numbers ^ -(words & np.uint64(1)).view(np.int64)
