"""Castagnoli's checksum, which neither the standard library nor ours has.

A byte at a time takes longer than the samples that it is of. So long data is cut into lanes that
numpy takes along side by side. A checksum is linear: what a lane makes of the state before it is
the sum of what it makes of each of its 32 bits, and these go along as lanes of zeros.
"""

import numpy as np

_LANES = 256
_SHORT = 4 * _LANES  # bytes: what is shorter is done one by one
_BITS = 32
_ALL = 0xFFFF_FFFF


def _table() -> list[int]:
    table = list(range(256))
    for _ in range(8):
        table = [crc >> 1 ^ (0x82F6_3B78 if crc & 1 else 0) for crc in table]
    return table


_TABLE = _table()
_TABLE_ARRAY = np.array(_TABLE, np.uint32)


def crc32c(data: bytes) -> int:
    crc, rest = _ALL, data
    if len(data) >= _SHORT:
        crc, rest = _by_lanes(data), data[len(data) // _LANES * _LANES :]
    for byte in rest:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ _ALL


def _by_lanes(data: bytes) -> int:
    """The state after as many bytes as fill the lanes."""
    length = len(data) // _LANES
    rows = np.zeros((length, _LANES + _BITS), np.uint8)
    rows[:, :_LANES] = np.frombuffer(data, np.uint8, length * _LANES).reshape(_LANES, length).T
    states = np.zeros(_LANES + _BITS, np.uint32)
    states[0] = _ALL
    states[_LANES:] = 1 << np.arange(_BITS)
    for row in rows:
        states = _TABLE_ARRAY[(states ^ row) & 0xFF] ^ states >> 8
    crc, *lanes = states[:_LANES].tolist()
    of_bits = states[_LANES:].tolist()
    for lane in lanes:
        for bit, moved in enumerate(of_bits):
            if crc >> bit & 1:
                lane ^= moved
        crc = lane
    return int(crc)
