"""One segment: the sealed columns of all sources over some time, in a file that never changes.

docs/store-format.md draws it byte by byte. What is read is checked: every piece has a CRC-32.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar

import cramjam
import numpy as np
import orjson

from tocsin_alerting.store.cell import Ints, is_absent, is_sample
from tocsin_alerting.store.codec import Coded, decode_times, encode, encode_times, opened
from tocsin_alerting.store.columns import BLOCK, part
from tocsin_alerting.store.held import Held, Stock
from tocsin_alerting.store.piece import (
    BrokenSegment,
    Piece,
    packed_json,
    packed_series,
    read,
    read_as,
    unpacked_series,
)
from tocsin_alerting.store.sheaf import BUNDLE_CELLS, Sheaf, sheaf, sheaf_pieces
from tocsin_alerting.store.target import NAME
from tocsin_exporter.files import open_file
from tocsin_exporter.snapshot import Labels, Source

HEAD = b"TOCSEG1\n"
FOOT = struct.Struct("<QII8s")
END = b"TOCSEND\n"
T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Section:
    """The columns of one source in a segment: series in bundles of `per_bundle`, in their order.

    `series` says where these are written and `key` is a digest of that: equal keys of one source
    are equal series. `ended` (ascending) are the places of those that have stale markers alone.
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
    ended: Ints

    def read_times(self) -> Ints:
        """Raises BrokenSegment, and FileNotFoundError when the retention took the file."""
        return self._read(self.times, "time axis", lambda data: decode_times(data, self.columns))

    def read_bundle(self, number: int) -> Coded:
        """The cells (columns, series of the bundle); raises as `read_times`."""
        piece = Piece(*self.bundles[number].tolist())
        count = min(self.per_bundle, self.count - number * self.per_bundle)
        return self._read(piece, f"bundle {number}", lambda data: opened(data, self.columns, count))

    def labels(self) -> list[Labels]:
        """Its series, in their order; raises as `read_times`."""
        return self._read(self.series, "series", unpacked_series)

    def _read(self, piece: Piece, what: str, decoded: Callable[[bytes], T]) -> T:
        return read_as(self.path, piece, f"{what} of {self.source}", decoded)


def sections(path: Path) -> list[Section | Sheaf]:
    """What a segment holds. Raises BrokenSegment, and OSError when it cannot be read."""
    size = path.stat().st_size
    if size < len(HEAD) + FOOT.size:
        raise BrokenSegment(f"{path}: too short for a segment")
    with open_file(path) as file:
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


def _section(path: Path, one: dict[str, Any]) -> Section | Sheaf:
    if "samples" in one:
        return sheaf(path, one)
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
        ended=np.array(one.get("ended", []), np.int64),
        times=Piece(*one["times"]),
        series=series,
        key=blake2b(read(path, series), digest_size=16).digest(),
        bundles=bundles,
    )


def written(stock: Stock) -> Iterator[bytes]:
    """The bytes of a segment with what is closed of `stock` and not yet sealed."""
    yield HEAD
    offset = len(HEAD)
    index: list[dict[str, Any]] = []
    everything = [partial(_pieces, held) for held in stock.sources]
    for pieces in [*everything, partial(sheaf_pieces, stock.pairs)]:
        entry: dict[str, Any] = {"bundles": []}
        for name, data in pieces(entry):
            piece = [offset, len(data), zlib.crc32(data)]
            if name == "bundles":
                entry["bundles"].append(piece)
            else:
                entry[name] = piece
            offset += len(data)
            yield data
        if entry["bundles"]:
            index.append(entry)
    data = packed_json(index)
    yield data
    yield FOOT.pack(offset, len(data), zlib.crc32(data), END)


def _pieces(held: Held, entry: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    """The pieces of one section by name; what describes them goes into `entry`."""
    start = max(held.sealed - held.columns.first, 0)
    stop = held.closed - held.columns.first
    order, ended = _order(held, start, stop)
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
        "ended": ended,
    }
    yield "times", encode_times(times)
    yield "series", packed_series(held.labels[at] for at in order)
    for first in range(0, len(order), per_bundle):
        rows = held.rows[order[first : first + per_bundle]]
        ascending = np.argsort(rows)
        cells = part(held.columns, rows[ascending]).slab(start, stop)
        yield "bundles", encode(cells[:, np.argsort(ascending)])


def _order(held: Held, start: int, stop: int) -> tuple[list[int], list[int]]:
    """The series that have a cell in these columns, those of one name side by side, and the places
    of those that have nothing but stale markers there: whether they ended is asked, too."""
    there, lives = np.zeros((2, len(held.rows)), np.bool_)
    if start >= stop:
        return [], []
    everything = part(held.columns, held.rows)
    for at in range(start, stop, BLOCK):
        slab = np.ascontiguousarray(everything.slab(at, min(at + BLOCK, stop)))
        there |= ~is_absent(slab).all(axis=0)
        lives |= is_sample(slab).any(axis=0)
    names = [dict(labels).get(NAME, "") for labels in held.labels]
    order = sorted(np.flatnonzero(there).tolist(), key=lambda at: (names[at], held.labels[at]))
    return order, np.flatnonzero(~lives[order]).tolist()
