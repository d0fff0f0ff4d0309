"""One segment: the sealed columns of all sources over some time, in a file that never changes.

docs/store-format.md draws it byte by byte. What is read is checked: every piece has a CRC-32.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import cramjam
import numpy as np
import orjson

from tocsin_alerting.store.cell import Floats, Ints, is_absent
from tocsin_alerting.store.codec import decode, decode_times, encode, encode_times
from tocsin_alerting.store.columns import BLOCK, part
from tocsin_alerting.store.held import Held
from tocsin_alerting.store.target import NAME
from tocsin_exporter.snapshot import Labels, Source

HEAD = b"TOCSEG1\n"
FOOT = struct.Struct("<QII8s")
END = b"TOCSEND\n"
BUNDLE_CELLS = 16_384
_LABELS_LEVEL = 9


class BrokenSegment(Exception):
    """The message names the file and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Where some bytes of a segment lie, and their CRC-32."""

    offset: int
    length: int
    crc: int


@dataclass(frozen=True, slots=True, eq=False)
class Section:
    """The columns of one source in a segment: series in bundles of `per_bundle`, in their order.

    `series` says where these are written and `key` is a digest of that: equal keys of one source
    are equal series.
    """

    path: Path
    source: Source
    first_ms: int
    last_ms: int
    columns: int
    count: int
    per_bundle: int
    times: Piece
    series: Piece
    key: bytes
    bundles: Ints  # (bundles, 3): offset, length, CRC-32

    def read_times(self) -> Ints:
        """Raises BrokenSegment, and FileNotFoundError when the retention took the file."""
        times = self.times
        data = read(self.path, times)
        found: Ints = self._decoded("time axis", lambda: decode_times(data, self.columns))
        return found

    def read_bundle(self, number: int) -> Floats:
        """The cells (columns, series of the bundle); raises as `read_times`."""
        data = read(self.path, Piece(*self.bundles[number].tolist()))
        count = min(self.per_bundle, self.count - number * self.per_bundle)
        found: Floats = self._decoded(f"bundle {number}", lambda: decode(data, self.columns, count))
        return found

    def labels(self) -> list[Labels]:
        """Its series, in their order; raises as `read_times`."""
        data = read(self.path, self.series)
        found = self._decoded("series", lambda: orjson.loads(cramjam.zstd.decompress(data).read()))
        return [tuple(zip(one[::2], one[1::2], strict=True)) for one in found]

    def _decoded(self, what: str, decoded: Any) -> Any:
        try:
            return decoded()
        except (ValueError, cramjam.DecompressionError) as error:
            raise BrokenSegment(f"{self.path}: {what} of {self.source}: {error}") from None


def read(path: Path, piece: Piece) -> bytes:
    """The bytes of a piece; raises BrokenSegment when they are not what was written."""
    with path.open("rb") as file:
        file.seek(piece.offset)
        data = file.read(piece.length)
    if len(data) != piece.length or zlib.crc32(data) != piece.crc:
        raise BrokenSegment(f"{path}: the {piece.length} bytes at {piece.offset} are damaged")
    return data


def sections(path: Path) -> list[Section]:
    """What a segment holds. Raises BrokenSegment, and OSError when it cannot be read."""
    size = path.stat().st_size
    if size < len(HEAD) + FOOT.size:
        raise BrokenSegment(f"{path}: too short for a segment")
    with path.open("rb") as file:
        head = file.read(len(HEAD))
        file.seek(size - FOOT.size)
        offset, length, crc, end = FOOT.unpack(file.read(FOOT.size))
    if head != HEAD or end != END:
        raise BrokenSegment(f"{path}: not a whole segment")
    try:
        index = orjson.loads(cramjam.zstd.decompress(read(path, Piece(offset, length, crc))).read())
        return [_section(path, one) for one in index]
    except (ValueError, KeyError, TypeError, cramjam.DecompressionError) as error:
        raise BrokenSegment(f"{path}: the index is damaged: {error!r}") from None


def _section(path: Path, one: dict[str, Any]) -> Section:
    bundles = np.array(one["bundles"], np.int64).reshape(-1, 3)
    series = Piece(*one["series"])
    return Section(
        path=path,
        source=Source(one["job"], one["instance"]),
        first_ms=one["first_ms"],
        last_ms=one["last_ms"],
        columns=one["columns"],
        count=one["count"],
        per_bundle=one["per_bundle"],
        times=Piece(*one["times"]),
        series=series,
        key=blake2b(read(path, series), digest_size=16).digest(),
        bundles=bundles,
    )


def written(stock: Iterable[Held]) -> Iterator[bytes]:
    """The bytes of a segment with the closed columns of `stock` that are not yet sealed."""
    yield HEAD
    offset = len(HEAD)
    index: list[dict[str, Any]] = []
    for held in stock:
        entry: dict[str, Any] = {"bundles": []}
        for name, data in _pieces(held, entry):
            piece = [offset, len(data), zlib.crc32(data)]
            if name == "bundles":
                entry["bundles"].append(piece)
            else:
                entry[name] = piece
            offset += len(data)
            yield data
        if entry["bundles"]:
            index.append(entry)
    data = bytes(cramjam.zstd.compress(orjson.dumps(index), _LABELS_LEVEL))
    yield data
    yield FOOT.pack(offset, len(data), zlib.crc32(data), END)


def _pieces(held: Held, entry: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    """The pieces of one section by name; what describes them goes into `entry`."""
    start = max(held.sealed - held.columns.first, 0)
    stop = held.closed - held.columns.first
    order = _order(held, start, stop)
    if not order:
        return
    times = held.columns.times[start:stop]
    per_bundle = min(max(BUNDLE_CELLS // len(times), 1), len(order))
    entry |= {
        "job": held.source.job,
        "instance": held.source.instance,
        "first_ms": int(times[0]),
        "last_ms": int(times[-1]),
        "columns": len(times),
        "count": len(order),
        "per_bundle": per_bundle,
    }
    yield "times", encode_times(times)
    labels = [[text for pair in held.labels[at] for text in pair] for at in order]
    yield "series", bytes(cramjam.zstd.compress(orjson.dumps(labels), _LABELS_LEVEL))
    for first in range(0, len(order), per_bundle):
        rows = held.rows[order[first : first + per_bundle]]
        ascending = np.argsort(rows)
        cells = part(held.columns, rows[ascending]).slab(start, stop)
        yield "bundles", encode(cells[:, np.argsort(ascending)])


def _order(held: Held, start: int, stop: int) -> list[int]:
    """The series that have a cell in these columns, those of one name side by side."""
    if start >= stop:
        return []
    there = np.zeros(len(held.rows), np.bool_)
    everything = part(held.columns, held.rows)
    for at in range(start, stop, BLOCK):
        slab = np.ascontiguousarray(everything.slab(at, min(at + BLOCK, stop)))
        there |= ~is_absent(slab).all(axis=0)
    names = [dict(labels).get(NAME, "") for labels in held.labels]
    return sorted(np.flatnonzero(there).tolist(), key=lambda at: (names[at], held.labels[at]))
