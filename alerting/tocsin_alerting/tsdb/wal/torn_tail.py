"""Whether the end of a WAL was torn off by a kill or a power cut, or the WAL is damaged before it.

A kill leaves the beginning of a record, and nothing behind it; a power cut may leave zeros in the
place of what the disk had not yet. Whatever else follows was written after a record that was whole.
"""

import errno
import os
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from tocsin_alerting.tsdb.values import Ints

_CHUNK = 1 << 20
_RECORD_HEAD_BYTES = 9  # of a record: u32 length, u32 CRC-32, u8 kind
_ZEROS = bytes(_CHUNK + _RECORD_HEAD_BYTES)
_MAX_COMPARED_BYTES = (
    1 << 31
)  # bytes: what looks like a record again and again is none that was torn


def is_torn(file: BinaryIO, start: int, length: int, kinds: bytes) -> bool:
    """Of a record that is not whole, whose payload begins at `start` and is said to have `length`:
    whether it was torn off. `kinds` are the bytes that a payload may begin with. Raises OSError."""
    if _only_zeros(file, start):
        return True
    # A length that is damaged may lead to the end of the file, or beyond it.
    return _only_zeros(file, start + length) and not _record_follows(file, start, kinds)


def _only_zeros(file: BinaryIO, start: int) -> bool:
    """Whether nothing else stands from `start` on, which may be behind the end."""
    return all(_is_zeros(data) for _, data in _chunks(file, start, 0))


def _chunks(file: BinaryIO, start: int, overlap: int) -> Iterator[tuple[int, bytes]]:
    """(offset, bytes) of what stands from `start` on, with the first of the next bytes; without
    holes."""
    while True:
        start = max(start, _data_from(file, start) - overlap)
        file.seek(start)
        if not (data := file.read(_CHUNK + overlap)):
            return
        yield start, data
        start += _CHUNK


def _data_from(file: BinaryIO, start: int) -> int:
    """Where the file system says that data begins: it knows holes of gigabytes without reading."""
    try:
        descriptor = file.fileno()
        before = os.lseek(descriptor, 0, os.SEEK_CUR)
        try:
            return os.lseek(descriptor, start, os.SEEK_DATA)
        finally:
            os.lseek(descriptor, before, os.SEEK_SET)  # where `file` believes that it is
    except OSError as error:  # also of a file that is none of the system's
        return file.seek(0, os.SEEK_END) if error.errno == errno.ENXIO else start


def _record_follows(file: BinaryIO, start: int, kinds: bytes) -> bool:
    """Whether a whole record begins at `start` or anywhere behind it."""
    size, compared = file.seek(0, os.SEEK_END), 0
    for at, length, crc in _candidates(file, start, size, kinds):
        compared += length
        if compared > _MAX_COMPARED_BYTES or _crc(file, at + _RECORD_HEAD_BYTES - 1, length) == crc:
            return True
    return False


def _candidates(
    file: BinaryIO, start: int, size: int, kinds: bytes
) -> Iterator[tuple[int, int, int]]:
    """(offset, length, CRC-32) of what has a kind, and a length that fits into the file."""
    wanted = np.frombuffer(kinds, np.uint8)
    for begin, chunk in _chunks(file, start, _RECORD_HEAD_BYTES - 1):
        if len(chunk) < _RECORD_HEAD_BYTES or _is_zeros(chunk):
            continue
        data = np.frombuffer(chunk, np.uint8)
        offsets = np.flatnonzero(np.isin(data[_RECORD_HEAD_BYTES - 1 :], wanted))
        lengths, crcs = _words(data, offsets), _words(data, offsets + 4)
        fits = (lengths > 0) & (lengths <= size - begin - offsets - (_RECORD_HEAD_BYTES - 1))
        numbers = (array[fits].tolist() for array in (begin + offsets, lengths, crcs))
        yield from zip(*numbers, strict=True)


def _is_zeros(data: bytes) -> bool:
    return data == _ZEROS[: len(data)]


def _words(data: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]", offsets: Ints) -> Ints:
    """The u32 (n,) at each offset."""
    words = np.zeros(len(offsets), np.int64)
    for place in range(4):
        words |= data[offsets + place].astype(np.int64) << 8 * place
    return words


def _crc(file: BinaryIO, start: int, length: int) -> int:
    file.seek(start)
    crc = 0
    while length and (data := file.read(min(length, _CHUNK))):
        crc, length = zlib.crc32(data, crc), length - len(data)
    return crc
