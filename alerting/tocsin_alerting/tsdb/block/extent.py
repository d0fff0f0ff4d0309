"""An extent of a block: some bytes of it, with a CRC-32."""

import os
import struct
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import cramjam
import orjson

from tocsin_exporter.files import open_file
from tocsin_exporter.snapshot import Labels

_LEVEL = 9
T = TypeVar("T")


class CorruptBlock(Exception):
    """The message names the file and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Extent:
    """Where some bytes of a block lie, and their CRC-32."""

    offset: int
    length: int
    crc: int


def read_extent(path: Path, extent: Extent) -> bytes:
    """The bytes of an extent; raises CorruptBlock when they are not what was written."""
    with open_file(path) as file:
        if extent.offset + extent.length > os.fstat(file.fileno()).st_size:  # not even to look for
            raise CorruptBlock(f"{path}: truncated before byte {extent.offset + extent.length}")
        file.seek(extent.offset)
        data = file.read(extent.length)
    if len(data) != extent.length or zlib.crc32(data) != extent.crc:
        raise CorruptBlock(f"{path}: the {extent.length} bytes at {extent.offset} are damaged")
    return data


def read_checked(path: Path, extent: Extent, what: str, decoded: Callable[[bytes], T]) -> T:
    """What the bytes mean; raises CorruptBlock when it is not `what`."""
    data = read_extent(path, extent)
    try:
        return decoded(data)
    except (ValueError, struct.error, cramjam.DecompressionError) as error:
        raise CorruptBlock(f"{path}: {what}: {error}") from None


def pack_json(document: object) -> bytes:
    return bytes(cramjam.zstd.compress(orjson.dumps(document), _LEVEL))


def pack_series(series: Iterable[Labels]) -> bytes:
    """Of each series name, value, name, value, ..."""
    return pack_json([[text for pair in labels for text in pair] for labels in series])


def unpack_series(data: bytes) -> list[Labels]:
    rows = orjson.loads(cramjam.zstd.decompress(data).read())
    return [tuple(zip(texts[::2], texts[1::2], strict=True)) for texts in rows]
