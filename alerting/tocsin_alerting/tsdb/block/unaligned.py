"""The unaligned section of a block: series with times of their own, in chunks by how many samples
they have.

Series of equally many samples make a matrix of times and one of values, so that a chunk is
written and read without a loop over series. docs/store-format.md draws it byte by byte.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from tocsin_alerting.tsdb.block.codec import decode, decode_times, encode, encode_times
from tocsin_alerting.tsdb.block.extent import (
    Extent,
    pack_series,
    read_checked,
    read_extent,
    unpack_series,
)
from tocsin_alerting.tsdb.byteshuffle import pack, unpack, unzigzag, zigzag
from tocsin_alerting.tsdb.head.snapshot import UnalignedSnapshot
from tocsin_alerting.tsdb.head.sorted_run import NO_SAMPLES, RunState, SampleBatch, concatenated
from tocsin_alerting.tsdb.target_labels import METRIC_NAME
from tocsin_alerting.tsdb.values import END_OF_TIME, Ints
from tocsin_exporter.snapshot import Labels

CHUNK_CELLS = 16_384
LEVEL = 6
_TIMES = struct.Struct("<I")
T = TypeVar("T")
ReadUnalignedChunk = Callable[["UnalignedSection", int], Ints | None]


@dataclass(frozen=True, slots=True, eq=False)
class UnalignedSection:
    """The unaligned samples in a block. `chunk_begins` (chunks + 1,) is the first series of each
    chunk, and `samples_per_series` (chunks,) how many samples its series have; `series` and `key`
    as in an AlignedSection."""

    path: Path
    first_ms: int
    last_ms: int
    count: int
    series: Extent
    first_times: Extent
    key: bytes
    chunk_begins: Ints
    samples_per_series: Ints
    chunks: Ints  # (chunks, 3): offset, length, CRC-32
    source: None = None

    def labels(self) -> list[Labels]:
        """Its series, in their order. Raises CorruptBlock, and FileNotFoundError when the
        retention took the file."""
        return self._read(self.series, "series", unpack_series)

    def read_first_times(self) -> Ints:
        """The time (count,) of the first sample of each series; raises as `labels`."""
        return self._read(
            self.first_times, "first times", lambda data: decode_times(data, self.count)
        )

    def read_chunk(self, number: int) -> Ints:
        """Times and the values' bits (2, samples, series of the chunk); raises as `labels`."""
        extent = Extent(*self.chunks[number].tolist())
        shape = int(self.samples_per_series[number]), int(np.diff(self.chunk_begins)[number])
        return self._read(extent, f"chunk {number}", lambda data: _decode_chunk(data, *shape))

    def _read(self, extent: Extent, what: str, decoded: Callable[[bytes], T]) -> T:
        return read_checked(self.path, extent, f"{what} of the unaligned series", decoded)


@dataclass(frozen=True, slots=True, eq=False)
class UnalignedReader:
    """The layer of a selection that an unaligned section holds; `positions` (count,) are its series
    there or -1.

    What cannot be read is absent: `read` has said so.
    """

    section: UnalignedSection
    positions: Ints
    section_first_times: Ints  # (unaligned section.count,)
    read: ReadUnalignedChunk
    _chunk_rows: list[tuple[int, Ints, Ints]] = field(default_factory=list)

    def find(self, t0_ms: int, t1_ms: int) -> SampleBatch:
        if self.section.first_ms > t1_ms or self.section.last_ms < t0_ms:
            return NO_SAMPLES
        parts = []
        for number, who, within in self._needed_chunks():
            chunk = self.read(self.section, number)
            if chunk is not None:
                times, bits = chunk[:, :, within]
                inside = (times >= t0_ms) & (times <= t1_ms)
                series, samples = np.nonzero(inside.T)
                values = bits[samples, series].view(np.float64)
                parts.append(SampleBatch(who[series], times[samples, series], values))
        return concatenated(parts)

    def newest(self) -> tuple[Ints, Ints]:
        """The time (count,) and bits of the newest sample of each series, which are all here; of
        those that cannot be read the time of the newest of all, and 0."""
        newest = np.full(len(self.positions), self.section.last_ms)
        bits = np.zeros(len(self.positions), np.int64)
        for number, who, within in self._needed_chunks():
            chunk = self.read(self.section, number)
            if chunk is not None:
                newest[who], bits[who] = chunk[:, -1, within]
        return newest, bits

    def first_times(self) -> Ints:
        return np.where(self.positions >= 0, self.section_first_times[self.positions], END_OF_TIME)

    def _needed_chunks(self) -> list[tuple[int, Ints, Ints]]:
        """Of each chunk that is needed: its number, the series here, and their places in it."""
        if not self._chunk_rows:
            present = np.flatnonzero(self.positions >= 0)
            places = self.positions[present]
            numbers = np.searchsorted(self.section.chunk_begins, places, side="right") - 1
            for number in np.unique(numbers).tolist():
                chosen = numbers == number
                within = places[chosen] - self.section.chunk_begins[number]
                self._chunk_rows.append((number, present[chosen], within))
        return self._chunk_rows


def unaligned_section(path: Path, entry: dict[str, Any]) -> UnalignedSection:
    """What an index says of it; raises KeyError, ValueError and CorruptBlock."""
    chunks = np.array(entry["bundles"], np.int64).reshape(-1, 3)
    counts = np.array(entry["counts"], np.int64)
    lengths = np.array(entry["samples"], np.int64)
    if not len(chunks) == len(counts) == len(lengths):
        raise ValueError("chunks of unknown sizes")
    series = Extent(*entry["series"])
    return UnalignedSection(
        path=path,
        first_ms=entry["first_ms"],
        last_ms=entry["last_ms"],
        count=int(counts.sum()),
        series=series,
        first_times=Extent(*entry["firsts"]),
        key=blake2b(read_extent(path, series), digest_size=16).digest(),
        chunk_begins=np.concatenate([[0], np.cumsum(counts)]),
        samples_per_series=lengths,
        chunks=chunks,
    )


def unaligned_extents(
    snapshot: UnalignedSnapshot, entry: dict[str, Any]
) -> Iterator[tuple[str, bytes]]:
    """The extents of the closed samples by name; what describes them goes into `entry`."""
    closed = [run for run in snapshot.runs if run.state is RunState.CLOSED]
    if not closed:
        return
    rows = np.concatenate([run.rows for run in closed])
    times = np.concatenate([run.times for run in closed])
    values = np.concatenate([run.values for run in closed])
    order = np.argsort(rows, kind="stable")
    rows, times, values = rows[order], times[order], values[order]
    begins = np.flatnonzero(np.diff(rows, prepend=-1))
    counts = np.diff(np.append(begins, len(rows)))
    labels = dict(zip(snapshot.rows.tolist(), snapshot.labels, strict=True))
    owners = [labels[row] for row in rows[begins].tolist()]
    chunks = list(_chunks(owners, counts))
    entry |= {
        "first_ms": int(times.min()),
        "last_ms": int(times.max()),
        "counts": [len(chunk) for chunk in chunks],
        "samples": [int(counts[chunk[0]]) for chunk in chunks],
    }
    series = np.concatenate(chunks)
    yield "series", pack_series(owners[at] for at in series.tolist())
    yield "firsts", encode_times(times[begins[series]])
    for chunk in chunks:
        at = begins[chunk] + np.arange(int(counts[chunk[0]]))[:, None]
        steps = np.diff(times[at], n=2, axis=0, prepend=np.zeros((2, len(chunk)), np.int64))
        axes = pack(zigzag(steps).reshape(-1), LEVEL)
        yield "bundles", _TIMES.pack(len(axes)) + axes + encode(values[at])


def _chunks(owners: list[Labels], counts: Ints) -> Iterator[Ints]:
    """Positions of series with equally many samples, those of one name side by side."""
    for count in np.unique(counts).tolist():
        chosen = np.flatnonzero(counts == count).tolist()
        chosen.sort(key=lambda at: (dict(owners[at]).get(METRIC_NAME, ""), owners[at]))
        size = max(CHUNK_CELLS // count, 1)
        for start in range(0, len(chosen), size):
            yield np.array(chosen[start : start + size], np.int64)


def _decode_chunk(data: bytes, samples: int, series: int) -> Ints:
    (length,) = _TIMES.unpack_from(data)
    end = _TIMES.size + length
    words = unpack(data[_TIMES.size : end], samples * series).reshape(samples, series)
    times = np.cumsum(np.cumsum(unzigzag(words), axis=0), axis=0)
    return np.stack([times, decode(data[end:], samples, series).view(np.int64)])
