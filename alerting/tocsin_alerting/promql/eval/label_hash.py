"""The hash by which Prometheus draws series for limit_ratio: XXH64 over its encoding of labels."""

from tocsin_exporter.snapshot import Labels

_WORD = (1 << 64) - 1
_PRIME_1 = 0x9E3779B185EBCA87
_PRIME_2 = 0xC2B2AE3D27D4EB4F
_PRIME_3 = 0x165667B19E3779F9
_PRIME_4 = 0x85EBCA77C2B2AE63
_PRIME_5 = 0x27D4EB2F165667C5
_LONG = 255  # lengths from here on take three bytes, after a byte that says so


def label_hash(labels: Labels) -> int:
    """64 bits. (model/labels/labels_stringlabels.go, Hash: what Prometheus is built with)"""
    return xxh64(b"".join(_sized(text.encode()) for pair in labels for text in pair))


def _sized(text: bytes) -> bytes:
    size = len(text)
    return bytes([size]) + text if size < _LONG else b"\xff" + size.to_bytes(3, "little") + text


def xxh64(data: bytes) -> int:
    """With seed 0. (https://github.com/Cyan4973/xxHash, doc/xxhash_spec.md)"""
    whole = len(data) & ~31
    lanes = [(_PRIME_1 + _PRIME_2) & _WORD, _PRIME_2, 0, -_PRIME_1 & _WORD]
    for at in range(0, whole, 32):
        lanes = [
            _round(lane, int.from_bytes(data[at + 8 * i : at + 8 * i + 8], "little"))
            for i, lane in enumerate(lanes)
        ]
    result = _converged(lanes) if whole else _PRIME_5
    return _avalanche(_with_rest((result + len(data)) & _WORD, data[whole:]))


def _round(lane: int, word: int) -> int:
    return _rotated((lane + word * _PRIME_2) & _WORD, 31) * _PRIME_1 & _WORD


def _rotated(word: int, bits: int) -> int:
    return (word << bits | word >> (64 - bits)) & _WORD


def _converged(lanes: list[int]) -> int:
    result = sum(_rotated(lane, bits) for lane, bits in zip(lanes, (1, 7, 12, 18), strict=True))
    for lane in lanes:
        result = ((result ^ _round(0, lane)) * _PRIME_1 + _PRIME_4) & _WORD
    return result


def _with_rest(result: int, rest: bytes) -> int:
    """The last bytes, fewer than 32: eight at a time, then four, then one."""
    while len(rest) >= 8:
        word, rest = int.from_bytes(rest[:8], "little"), rest[8:]
        result = (_rotated(result ^ _round(0, word), 27) * _PRIME_1 + _PRIME_4) & _WORD
    if len(rest) >= 4:
        word, rest = int.from_bytes(rest[:4], "little"), rest[4:]
        result = (_rotated(result ^ (word * _PRIME_1 & _WORD), 23) * _PRIME_2 + _PRIME_3) & _WORD
    for byte in rest:
        result = _rotated(result ^ (byte * _PRIME_5 & _WORD), 11) * _PRIME_1 & _WORD
    return result


def _avalanche(result: int) -> int:
    result = (result ^ result >> 33) * _PRIME_2 & _WORD
    result = (result ^ result >> 29) * _PRIME_3 & _WORD
    return result ^ result >> 32
