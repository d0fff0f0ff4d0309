"""The WAL: what memory holds, written so that a new process can hold it again.

A WAL begins with all of that (a checkpoint) and goes on with what was handed over since. It is a
row of records, each with its length and CRC-32; docs/store-format.md draws them byte by byte.
"""

import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import orjson

from tocsin_alerting.tsdb.byteshuffle import Words, pack, unpack
from tocsin_alerting.tsdb.head.columns import BLOCK_COLUMNS, aligned_part
from tocsin_alerting.tsdb.head.request_samples import has_duplicates
from tocsin_alerting.tsdb.head.snapshot import AlignedSnapshot, HeadSnapshot
from tocsin_alerting.tsdb.head.sorted_run import RunState
from tocsin_alerting.tsdb.persistence import (
    AlignedRecord,
    ClockShift,
    SeriesRecord,
    UnalignedRecord,
    WalEntry,
)
from tocsin_alerting.tsdb.values import Floats, Ints
from tocsin_alerting.tsdb.wal.torn_tail import is_torn
from tocsin_exporter.snapshot import Source

WAL_SUFFIX = ".log"
HEAD = b"TOCLOG1\n"
FRAME = struct.Struct("<II")
LEVEL = 1
_CLOCK_SHIFT_HEAD = struct.Struct("<qq")
_COLUMNS_HEAD = struct.Struct("<IIIBI")
_WHOLE, _SAME_ROWS = 1, 2
_UNALIGNED_HEAD = struct.Struct("<IB")
_SEALED = 1
_BOUNDS_HEAD = struct.Struct("<qq")
(
    _SERIES_KIND,
    _COLUMNS_KIND,
    _CLOCK_SHIFT_KIND,
    _SOURCE_STATE_KIND,
    _UNALIGNED_KIND,
    _BOUNDS_KIND,
) = b"O", b"C", b"S", b"M", b"P", b"B"
_KINDS = (
    _SERIES_KIND
    + _COLUMNS_KIND
    + _CLOCK_SHIFT_KIND
    + _SOURCE_STATE_KIND
    + _UNALIGNED_KIND
    + _BOUNDS_KIND
)


class CorruptWal(Exception):
    """A record that its CRC-32 calls whole cannot be understood, or one that it does not call whole
    is not the last: it was not torn off, and what follows it was acknowledged."""


@dataclass(frozen=True, slots=True, eq=False)
class SourceStateRecord:
    """At the end of a source's checkpoint: the rows it has at present, until when it is
    sealed, and how far the wall clock has moved that."""

    source: Source
    present_rows: Ints
    sealed_ms: int
    moved_ms: int


@dataclass(frozen=True, slots=True)
class UnalignedBoundsRecord:
    """At the end of the unaligned series' checkpoint: the times as in `UnalignedHead`."""

    begins_ms: int
    floor_ms: int


WalRecord: TypeAlias = WalEntry | SourceStateRecord | UnalignedBoundsRecord


class _DeltaState:
    """What writer and reader both remember of the records before, so that it need not be written
    again: the number of each source, its last rows, and the last bits of each row."""

    def __init__(self) -> None:
        self.numbers: dict[Source, int] = {}
        self.sources: list[Source] = []
        self.rows: dict[Source, Ints] = {}
        self._bits: dict[Source | None, Words] = {}

    def bits(self, source: Source | None, rows: Ints) -> Words:
        """The last bits (all rows of the source, or unaligned ones) with room for `rows`."""
        width = int(rows.max(initial=-1)) + 1
        known = self._bits.get(source, np.empty(0, np.uint64))
        if width > len(known):
            known = np.concatenate([known, np.zeros(width + width // 8 - len(known), np.uint64)])
            self._bits[source] = known
        return known

    def add(self, source: Source) -> int:
        self.numbers[source] = len(self.sources)
        self.sources.append(source)
        return self.numbers[source]


class WalEncoder:
    """Makes the bytes of one WAL's records, in order."""

    def __init__(self) -> None:
        self._state = _DeltaState()

    def encode(self, entry: WalEntry) -> bytes:
        if isinstance(entry, UnalignedRecord):
            order = np.argsort(entry.rows, kind="stable")
            return self._unaligned(
                entry.rows[order], entry.times[order], entry.values[order], False
            )
        if isinstance(entry, ClockShift):
            return _framed(
                _CLOCK_SHIFT_KIND + _CLOCK_SHIFT_HEAD.pack(entry.delta_ms, entry.until_ms)
            )
        if isinstance(entry, SeriesRecord):
            return self._series(entry)
        return self._columns(entry)

    def checkpoint(self, snapshot: HeadSnapshot) -> Iterator[bytes]:
        for source_snapshot in snapshot.sources:
            source, rows = source_snapshot.source, source_snapshot.rows
            columns = source_snapshot.columns
            yield self._series(SeriesRecord(source, tuple(rows.tolist()), source_snapshot.labels))
            chosen = aligned_part(columns, rows)
            for start in range(0, len(columns.times), BLOCK_COLUMNS):
                stop = min(start + BLOCK_COLUMNS, len(columns.times))
                cells = chosen.cells_in(start, stop)
                yield self._columns(AlignedRecord(source, columns.times[start:stop], rows, cells))
            yield self._source_state(source_snapshot)
        unaligned = snapshot.unaligned
        yield self._series(SeriesRecord(None, tuple(unaligned.rows.tolist()), unaligned.labels))
        for run in unaligned.runs:
            sealed = run.state is RunState.SEALED
            yield self._unaligned(run.rows.astype(np.int64), run.times, run.values, sealed)
        yield _framed(_BOUNDS_KIND + _BOUNDS_HEAD.pack(unaligned.begins_ms, unaligned.floor_ms))

    def _series(self, record: SeriesRecord) -> bytes:
        fields: dict[str, Any] = {"source": None}
        if (source := record.source) is not None:
            fields = {
                "source": self._source_number(source),
                "job": source.job,
                "instance": source.instance,
            }
        owners = zip(record.rows, record.labels, strict=True)
        flat = [[row, [text for pair in labels for text in pair]] for row, labels in owners]
        return _framed(_SERIES_KIND + orjson.dumps(fields | {"owners": flat}))

    def _source_state(self, snapshot: AlignedSnapshot) -> bytes:
        sealed = snapshot.sealed - snapshot.columns.first
        fields = {
            "source": self._source_number(snapshot.source),
            "placed": snapshot.present_rows.tolist(),
            "sealed_ms": int(snapshot.columns.times[sealed - 1]) if sealed > 0 else None,
            "moved_ms": snapshot.moved_ms,
        }
        return _framed(_SOURCE_STATE_KIND + orjson.dumps(fields))

    def _source_number(self, source: Source) -> int:
        number = self._state.numbers.get(source)
        return self._state.add(source) if number is None else number

    def _columns(self, record: AlignedRecord) -> bytes:
        """Times and rows as differences, cells XORed with those before them in their row."""
        rows, memory = record.rows, self._state
        first = (
            b""
            if record.source in memory.numbers
            else self._series(SeriesRecord(record.source, (), ()))
        )
        last = memory.rows.get(record.source)
        same = last is not None and (last is rows or np.array_equal(last, rows))
        memory.rows[record.source] = rows
        known = memory.bits(record.source, rows)
        bits = np.ascontiguousarray(record.cells).view(np.uint64)
        words = bits ^ np.concatenate([known[rows][None, :], bits[:-1]])
        known[rows] = bits[-1]
        named = b"" if same else pack(_differences(rows), LEVEL)
        body = pack(np.concatenate([_differences(record.times), words.reshape(-1)]), LEVEL)
        flags = _WHOLE * record.whole | _SAME_ROWS * same
        number = self._source_number(record.source)
        head = _COLUMNS_HEAD.pack(number, len(record.times), len(rows), flags, len(named))
        return first + _framed(_COLUMNS_KIND + head + named + body)

    def _unaligned(self, rows: Ints, times: Ints, values: Floats, sealed: bool) -> bytes:
        """By row; rows and times as differences, values XORed with those before in their row."""
        known = self._state.bits(None, rows)
        bits = np.ascontiguousarray(values).view(np.uint64)
        words, first = bits.copy(), _first_of_row(rows)
        words[1:] ^= bits[:-1]
        words[first] = bits[first] ^ known[rows[first]]
        known[rows] = bits
        body = pack(np.concatenate([_differences(rows), _differences(times), words]), LEVEL)
        return _framed(_UNALIGNED_KIND + _UNALIGNED_HEAD.pack(len(rows), _SEALED * sealed) + body)


def merge_columns(entries: Iterable[WalEntry]) -> Iterator[WalEntry]:
    """The same entries, the pieces of a scrape as one column: a record costs as much as some
    hundred cells. Each row keeps its order, and so does what is no piece of a column."""
    pieces: list[AlignedRecord] = []
    for entry in entries:
        if isinstance(entry, AlignedRecord) and not entry.whole:
            pieces.append(entry)
        else:
            yield from _merged(pieces)
            pieces = []
            yield entry
    yield from _merged(pieces)


def _merged(pieces: list[AlignedRecord]) -> Iterator[AlignedRecord]:
    """What a request wrote of the next scrape may come before another's piece of this one."""
    columns: dict[tuple[int, Source], list[AlignedRecord]] = {}
    for record in pieces:
        columns.setdefault((int(record.times[0]), record.source), []).append(record)
    for (_, source), records in sorted(columns.items(), key=lambda item: item[0][0]):
        rows = np.concatenate([record.rows for record in records])
        if len(records) == 1 or has_duplicates(rows):  # the same sample was sent twice
            yield from records
        else:
            cells = np.concatenate([record.cells for record in records], axis=1)
            yield AlignedRecord(source, records[0].times, rows, cells)


class WalReader:
    """Understands the records of one WAL, in order, and has one of them at a time in memory;
    `whole_bytes` is how many of its `size` bytes are whole."""

    def __init__(self, file: BinaryIO) -> None:
        self.whole_bytes = 0
        self.size = file.seek(0, os.SEEK_END)
        self._file = file
        self._state = _DeltaState()

    def records(self) -> Iterator[WalRecord]:
        """Ends at a record that is torn. Raises CorruptWal, and OSError and MemoryError as
        the file is read."""
        self._file.seek(0)
        if self._file.read(len(HEAD)) != HEAD:
            return
        self.whole_bytes = len(HEAD)
        while (payload := self._next_payload()) is not None:
            try:
                yield self._decode(payload[:1], payload[1:])
            except (ValueError, KeyError, IndexError, TypeError, struct.error) as error:
                raise CorruptWal(f"the record at {self.whole_bytes}: {error!r}") from None
            self.whole_bytes += FRAME.size + len(payload)

    def _next_payload(self) -> bytes | None:
        """The next payload; None at the end, also at one that is torn."""
        frame = self._file.read(FRAME.size)
        if len(frame) < FRAME.size:
            return None
        length, crc = FRAME.unpack(frame)
        start = self.whole_bytes + FRAME.size
        fits = 0 < length <= self.size - start
        payload = self._file.read(length) if fits else b""
        if fits and len(payload) == length and zlib.crc32(payload) == crc:
            return payload
        if not is_torn(self._file, start, length, _KINDS):
            raise CorruptWal(f"the record at {self.whole_bytes} is damaged, and more follows it")
        return None

    def _decode(self, kind: bytes, body: bytes) -> WalRecord:
        if kind == _COLUMNS_KIND:
            return self._columns(body)
        if kind == _CLOCK_SHIFT_KIND:
            return ClockShift(*_CLOCK_SHIFT_HEAD.unpack(body))
        if kind == _UNALIGNED_KIND:
            return self._unaligned(body)
        if kind == _BOUNDS_KIND:
            return UnalignedBoundsRecord(*_BOUNDS_HEAD.unpack(body))
        fields = orjson.loads(body)
        if kind == _SOURCE_STATE_KIND:
            source = self._state.sources[fields["source"]]
            sealed_ms = fields["sealed_ms"]
            placed = np.array(fields["placed"], np.int64)
            sealed_ms = -(2**62) if sealed_ms is None else sealed_ms
            return SourceStateRecord(source, placed, sealed_ms, fields["moved_ms"])
        if kind != _SERIES_KIND:
            raise ValueError(f"unknown kind {kind!r}")
        source = None
        if fields["source"] is not None:
            source = Source(fields["job"], fields["instance"])
            if fields["source"] == len(self._state.sources):
                self._state.add(source)
        rows, texts = zip(*fields["owners"], strict=True) if fields["owners"] else ((), ())
        labels = tuple(tuple(zip(flat[::2], flat[1::2], strict=True)) for flat in texts)
        return SeriesRecord(source, rows, labels)

    def _columns(self, body: bytes) -> AlignedRecord:
        number, columns, count, flags, length = _COLUMNS_HEAD.unpack_from(body)
        source, memory = self._state.sources[number], self._state
        end = _COLUMNS_HEAD.size + length
        if flags & _SAME_ROWS:
            rows = memory.rows[source]
        else:
            rows = _sums(unpack(body[_COLUMNS_HEAD.size : end], count))
        memory.rows[source] = rows
        known = memory.bits(source, rows)
        words = unpack(body[end:], columns * (count + 1))
        bits = words[columns:].reshape(columns, count)
        bits[0] ^= known[rows]
        bits = np.bitwise_xor.accumulate(bits, axis=0)
        known[rows] = bits[-1]
        whole = bool(flags & _WHOLE)
        return AlignedRecord(source, _sums(words[:columns]), rows, bits.view(np.float64), whole)

    def _unaligned(self, body: bytes) -> UnalignedRecord:
        count, flags = _UNALIGNED_HEAD.unpack_from(body)
        words = unpack(body[_UNALIGNED_HEAD.size :], 3 * count)
        rows, times = _sums(words[:count]), _sums(words[count : 2 * count])
        known = self._state.bits(None, rows)
        # The running XOR over all rows, less what it was where a row begins.
        sums, first = np.bitwise_xor.accumulate(words[2 * count :]), _first_of_row(rows)
        before = np.concatenate([np.zeros(1, np.uint64), sums[:-1]])[first] ^ known[rows[first]]
        bits = sums ^ np.repeat(before, np.diff(np.append(first, count)))
        known[rows] = bits
        return UnalignedRecord(rows, times, bits.view(np.float64), bool(flags & _SEALED))


def _first_of_row(rows: Ints) -> Ints:
    """The positions at which another row begins."""
    return np.flatnonzero(np.diff(rows, prepend=-1))


def _framed(payload: bytes) -> bytes:
    return FRAME.pack(len(payload), zlib.crc32(payload)) + payload


def _differences(numbers: Ints) -> Words:
    return np.diff(numbers, prepend=0).view(np.uint64)


def _sums(words: Words) -> Ints:
    return np.cumsum(words.view(np.int64))
