"""One block: the sealed columns of all sources over some time, in a file that never changes.

docs/store-format.md draws it byte by byte. What is read is checked: every extent has a CRC-32.
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

from tocsin_alerting.tsdb.block.codec import (
    EncodedChunk,
    decode_times,
    encode,
    encode_times,
    open_chunk,
)
from tocsin_alerting.tsdb.block.extent import (
    CorruptBlock,
    Extent,
    pack_json,
    pack_series,
    read_checked,
    read_extent,
    unpack_series,
)
from tocsin_alerting.tsdb.block.unaligned import (
    CHUNK_CELLS,
    UnalignedSection,
    unaligned_extents,
    unaligned_section,
)
from tocsin_alerting.tsdb.head.columns import BLOCK_COLUMNS, aligned_part
from tocsin_alerting.tsdb.head.snapshot import AlignedSnapshot, HeadSnapshot
from tocsin_alerting.tsdb.target_labels import METRIC_NAME
from tocsin_alerting.tsdb.values import Ints, is_absent, is_sample
from tocsin_exporter.files import open_file
from tocsin_exporter.snapshot import Labels, Source

HEAD = b"TOCSEG1\n"
FOOT = struct.Struct("<QII8s")
END = b"TOCSEND\n"
T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class AlignedSection:
    """The columns of one source in a block: series in chunks of `series_per_chunk`, in their order.

    `series` says where these are written and `key` is a digest of that: equal keys of one source
    are equal series. `stale_only` (ascending) are the places of those that have stale markers
    alone.
    """

    path: Path
    source: Source
    first_ms: int
    last_ms: int
    columns: int
    count: int
    series_per_chunk: int
    times: Extent
    series: Extent
    key: bytes
    chunks: Ints  # (chunks, 3): offset, length, CRC-32
    stale_only: Ints

    def read_times(self) -> Ints:
        """Raises CorruptBlock, and FileNotFoundError when the retention took the file."""
        return self._read(self.times, "time axis", lambda data: decode_times(data, self.columns))

    def read_chunk(self, number: int) -> EncodedChunk:
        """The cells (columns, series of the chunk); raises as `read_times`."""
        extent = Extent(*self.chunks[number].tolist())
        count = min(self.series_per_chunk, self.count - number * self.series_per_chunk)
        return self._read(
            extent, f"chunk {number}", lambda data: open_chunk(data, self.columns, count)
        )

    def labels(self) -> list[Labels]:
        """Its series, in their order; raises as `read_times`."""
        return self._read(self.series, "series", unpack_series)

    def _read(self, extent: Extent, what: str, decoded: Callable[[bytes], T]) -> T:
        return read_checked(self.path, extent, f"{what} of {self.source}", decoded)


BlockSection = AlignedSection | UnalignedSection


def read_sections(path: Path) -> list[BlockSection]:
    """What a block holds. Raises CorruptBlock, and OSError when it cannot be read."""
    size = path.stat().st_size
    if size < len(HEAD) + FOOT.size:
        raise CorruptBlock(f"{path}: too short for a block")
    with open_file(path) as file:
        head = file.read(len(HEAD))
        file.seek(size - FOOT.size)
        offset, length, crc, end = FOOT.unpack(file.read(FOOT.size))
    if head != HEAD or end != END:
        raise CorruptBlock(f"{path}: not a whole block")
    try:
        index = orjson.loads(
            cramjam.zstd.decompress(read_extent(path, Extent(offset, length, crc))).read()
        )
        return [_aligned_section(path, entry) for entry in index]
    except (ValueError, KeyError, TypeError, cramjam.DecompressionError) as error:
        raise CorruptBlock(f"{path}: the index is damaged: {error!r}") from None


def _aligned_section(path: Path, entry: dict[str, Any]) -> BlockSection:
    if "samples" in entry:
        return unaligned_section(path, entry)
    chunks = np.array(entry["bundles"], np.int64).reshape(-1, 3)
    series = Extent(*entry["series"])
    return AlignedSection(
        path=path,
        source=Source(entry["job"], entry["instance"]),
        first_ms=entry["first_ms"],
        last_ms=entry["last_ms"],
        columns=entry["columns"],
        count=entry["count"],
        series_per_chunk=entry["per_bundle"],
        stale_only=np.array(entry.get("ended", []), np.int64),
        times=Extent(*entry["times"]),
        series=series,
        key=blake2b(read_extent(path, series), digest_size=16).digest(),
        chunks=chunks,
    )


def block_bytes(snapshot: HeadSnapshot) -> Iterator[bytes]:
    """The bytes of a block with what is closed of `snapshot` and not yet sealed."""
    yield HEAD
    offset = len(HEAD)
    index: list[dict[str, Any]] = []
    sections = [partial(_aligned_extents, source_snapshot) for source_snapshot in snapshot.sources]
    for extents in [*sections, partial(unaligned_extents, snapshot.unaligned)]:
        entry: dict[str, Any] = {"bundles": []}
        for name, data in extents(entry):
            extent = [offset, len(data), zlib.crc32(data)]
            if name == "bundles":
                entry["bundles"].append(extent)
            else:
                entry[name] = extent
            offset += len(data)
            yield data
        if entry["bundles"]:
            index.append(entry)
    data = pack_json(index)
    yield data
    yield FOOT.pack(offset, len(data), zlib.crc32(data), END)


def _aligned_extents(
    snapshot: AlignedSnapshot, entry: dict[str, Any]
) -> Iterator[tuple[str, bytes]]:
    """The extents of one section by name; what describes them goes into `entry`."""
    start = max(snapshot.sealed - snapshot.columns.first, 0)
    stop = snapshot.closed - snapshot.columns.first
    order, ended = _series_order(snapshot, start, stop)
    if not order:
        return
    times = snapshot.columns.times[start:stop]
    per_chunk = min(max(CHUNK_CELLS // len(times), 1), len(order))
    entry |= {
        "job": snapshot.source.job,
        "instance": snapshot.source.instance,
        "first_ms": int(times[0]),
        "last_ms": int(times[-1]),
        "columns": len(times),
        "count": len(order),
        "per_bundle": per_chunk,
        "ended": ended,
    }
    yield "times", encode_times(times)
    yield "series", pack_series(snapshot.labels[at] for at in order)
    for first in range(0, len(order), per_chunk):
        rows = snapshot.rows[order[first : first + per_chunk]]
        ascending = np.argsort(rows)
        cells = aligned_part(snapshot.columns, rows[ascending]).cells_in(start, stop)
        yield "bundles", encode(cells[:, np.argsort(ascending)])


def _series_order(snapshot: AlignedSnapshot, start: int, stop: int) -> tuple[list[int], list[int]]:
    """The series that have a cell in these columns, those of one name side by side, and the places
    of those that have nothing but stale markers there: whether they ended is asked, too."""
    present, lives = np.zeros((2, len(snapshot.rows)), np.bool_)
    if start >= stop:
        return [], []
    everything = aligned_part(snapshot.columns, snapshot.rows)
    for at in range(start, stop, BLOCK_COLUMNS):
        cells = np.ascontiguousarray(everything.cells_in(at, min(at + BLOCK_COLUMNS, stop)))
        present |= ~is_absent(cells).all(axis=0)
        lives |= is_sample(cells).any(axis=0)
    names = [dict(labels).get(METRIC_NAME, "") for labels in snapshot.labels]
    order = sorted(
        np.flatnonzero(present).tolist(), key=lambda at: (names[at], snapshot.labels[at])
    )
    return order, np.flatnonzero(~lives[order]).tolist()
