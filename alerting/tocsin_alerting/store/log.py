"""The log: what memory holds, written so that a new process can hold it again.

A log begins with all of that (a checkpoint) and goes on with what was handed over since. It is a
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

from tocsin_alerting.store.archive import Column, Owner, Scraps, Shift
from tocsin_alerting.store.cell import Floats, Ints
from tocsin_alerting.store.columns import BLOCK, part
from tocsin_alerting.store.held import Held, LoosePairs, Stock
from tocsin_alerting.store.planes import Words, pack, unpack
from tocsin_alerting.store.requests import repeats
from tocsin_alerting.store.runs import State
from tocsin_alerting.store.torn import is_torn
from tocsin_exporter.snapshot import Labels, Source

HEAD = b"TOCLOG1\n"
FRAME = struct.Struct("<II")
LEVEL = 1
_SHIFT = struct.Struct("<qq")
_CELLS = struct.Struct("<IIIBI")
_WHOLE, _SAME_ROWS = 1, 2
_PAIRS = struct.Struct("<IB")
_SEALED = 1
_BOUNDS = struct.Struct("<qq")
_OWNERS_, _CELLS_, _SHIFT_, _MARK_, _PAIRS_, _BOUNDS_ = b"O", b"C", b"S", b"M", b"P", b"B"
_KINDS = _OWNERS_ + _CELLS_ + _SHIFT_ + _MARK_ + _PAIRS_ + _BOUNDS_


class BrokenLog(Exception):
    """A record that its CRC-32 calls whole cannot be understood, or one that it does not call whole
    is not the last: it was not torn off, and what follows it was acknowledged."""


@dataclass(frozen=True, slots=True)
class Owners:
    """These rows of a source are of those series; without a source, these loose rows."""

    source: Source | None
    rows: tuple[int, ...]
    labels: tuple[Labels, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """`cells` (columns, rows) at `times`; `whole` as in `Column`."""

    source: Source
    times: Ints
    rows: Ints
    cells: Floats
    whole: bool


@dataclass(frozen=True, slots=True, eq=False)
class Mark:
    """At the end of a source's checkpoint: the rows it has at present, until when it is
    sealed, and how far the wall clock has moved that."""

    source: Source
    placed: Ints
    sealed_ms: int
    moved_ms: int


@dataclass(frozen=True, slots=True)
class Bounds:
    """At the end of the loose series's checkpoint: the times as in `Loose`."""

    begins_ms: int
    floor_ms: int


Record: TypeAlias = Owners | Cells | Shift | Mark | LoosePairs | Bounds


class _Memory:
    """What writer and reader both remember of the records before, so that it need not be said
    again: the number of each source, its last rows, and the last bits of each row."""

    def __init__(self) -> None:
        self.numbers: dict[Source, int] = {}
        self.sources: list[Source] = []
        self.rows: dict[Source, Ints] = {}
        self._bits: dict[Source | None, Words] = {}

    def bits(self, source: Source | None, rows: Ints) -> Words:
        """The last bits (all rows of the source, or loose ones) with room for `rows`."""
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


class Writer:
    """Makes the bytes of one log's records, in order."""

    def __init__(self) -> None:
        self._memory = _Memory()

    def entry(self, entry: Column | Owner | Scraps | Shift) -> bytes:
        if isinstance(entry, Scraps):
            order = np.argsort(entry.rows, kind="stable")
            return self._pairs(entry.rows[order], entry.times[order], entry.values[order], False)
        if isinstance(entry, Shift):
            return _framed(_SHIFT_ + _SHIFT.pack(entry.delta_ms, entry.until_ms))
        if isinstance(entry, Owner):
            return self._owners(entry.source, [(entry.row, entry.labels)])
        times = np.array([entry.at_ms], np.int64)
        rows, cells = entry.rows, entry.values.reshape(1, -1)
        return self._cells(Cells(entry.source, times, rows, cells, entry.whole))

    def checkpoint(self, stock: Stock) -> Iterator[bytes]:
        for held in stock.sources:
            columns = held.columns
            yield self._owners(held.source, zip(held.rows.tolist(), held.labels, strict=True))
            chosen = part(columns, held.rows)
            for start in range(0, len(columns.times), BLOCK):
                stop = min(start + BLOCK, len(columns.times))
                cells = chosen.slab(start, stop)
                times = columns.times[start:stop]
                yield self._cells(Cells(held.source, times, held.rows, cells, False))
            yield self._mark(held)
        pairs = stock.pairs
        yield self._owners(None, zip(pairs.rows.tolist(), pairs.labels, strict=True))
        for run in pairs.runs:
            sealed = run.state is State.SEALED
            yield self._pairs(run.rows.astype(np.int64), run.times, run.values, sealed)
        yield _framed(_BOUNDS_ + _BOUNDS.pack(pairs.begins_ms, pairs.floor_ms))

    def _owners(self, source: Source | None, owners: Iterable[tuple[int, Labels]]) -> bytes:
        told: dict[str, Any] = {"source": None}
        if source is not None:
            told = {"source": self._number(source), "job": source.job, "instance": source.instance}
        flat = [[row, [text for pair in labels for text in pair]] for row, labels in owners]
        return _framed(_OWNERS_ + orjson.dumps(told | {"owners": flat}))

    def _mark(self, held: Held) -> bytes:
        sealed = held.sealed - held.columns.first
        told = {
            "source": self._number(held.source),
            "placed": held.placed.tolist(),
            "sealed_ms": int(held.columns.times[sealed - 1]) if sealed > 0 else None,
            "moved_ms": held.moved_ms,
        }
        return _framed(_MARK_ + orjson.dumps(told))

    def _number(self, source: Source) -> int:
        number = self._memory.numbers.get(source)
        return self._memory.add(source) if number is None else number

    def _cells(self, one: Cells) -> bytes:
        """Times and rows as differences, cells XORed with those before them in their row."""
        rows, memory = one.rows, self._memory
        first = b"" if one.source in memory.numbers else self._owners(one.source, [])
        last = memory.rows.get(one.source)
        same = last is not None and (last is rows or np.array_equal(last, rows))
        memory.rows[one.source] = rows
        known = memory.bits(one.source, rows)
        bits = np.ascontiguousarray(one.cells).view(np.uint64)
        words = bits ^ np.concatenate([known[rows][None, :], bits[:-1]])
        known[rows] = bits[-1]
        named = b"" if same else pack(_differences(rows), LEVEL)
        body = pack(np.concatenate([_differences(one.times), words.reshape(-1)]), LEVEL)
        flags = _WHOLE * one.whole | _SAME_ROWS * same
        number = self._number(one.source)
        head = _CELLS.pack(number, len(one.times), len(rows), flags, len(named))
        return first + _framed(_CELLS_ + head + named + body)

    def _pairs(self, rows: Ints, times: Ints, values: Floats, sealed: bool) -> bytes:
        """By row; rows and times as differences, values XORed with those before in their row."""
        known = self._memory.bits(None, rows)
        bits = np.ascontiguousarray(values).view(np.uint64)
        words, first = bits.copy(), _first_of_row(rows)
        words[1:] ^= bits[:-1]
        words[first] = bits[first] ^ known[rows[first]]
        known[rows] = bits
        body = pack(np.concatenate([_differences(rows), _differences(times), words]), LEVEL)
        return _framed(_PAIRS_ + _PAIRS.pack(len(rows), _SEALED * sealed) + body)


def joined(
    entries: Iterable[Column | Owner | Scraps | Shift],
) -> Iterator[Column | Owner | Scraps | Shift]:
    """The same entries, the pieces of a scrape as one column: a record costs as much as some
    hundred cells. Each row keeps its order, and so does what is no piece of a column."""
    pieces: list[Column] = []
    for entry in entries:
        if isinstance(entry, Column) and not entry.whole:
            pieces.append(entry)
        else:
            yield from _columns(pieces)
            pieces = []
            yield entry
    yield from _columns(pieces)


def _columns(pieces: list[Column]) -> Iterator[Column]:
    """What a request wrote of the next scrape may come before another's piece of this one."""
    together: dict[tuple[int, Source], list[Column]] = {}
    for one in pieces:
        together.setdefault((one.at_ms, one.source), []).append(one)
    for (at_ms, source), some in sorted(together.items(), key=lambda pair: pair[0][0]):
        rows = np.concatenate([one.rows for one in some])
        if len(some) == 1 or repeats(rows):  # the same sample was sent twice
            yield from some
        else:
            values = np.concatenate([one.values for one in some])
            yield Column(source, at_ms, rows, values, False)


class LogReader:
    """Understands the records of one log, in order, and has one of them at a time in memory;
    `whole` is how many of its `size` bytes are whole."""

    def __init__(self, file: BinaryIO) -> None:
        self.whole = 0
        self.size = file.seek(0, os.SEEK_END)
        self._file = file
        self._memory = _Memory()

    def records(self) -> Iterator[Record]:
        """Ends at a record that is torn. Raises BrokenLog, and OSError and MemoryError as
        the file is read."""
        self._file.seek(0)
        if self._file.read(len(HEAD)) != HEAD:
            return
        self.whole = len(HEAD)
        while (payload := self._next()) is not None:
            try:
                yield self._record(payload[:1], payload[1:])
            except (ValueError, KeyError, IndexError, TypeError, struct.error) as error:
                raise BrokenLog(f"the record at {self.whole}: {error!r}") from None
            self.whole += FRAME.size + len(payload)

    def _next(self) -> bytes | None:
        """The next payload; None at the end, also at one that is torn."""
        frame = self._file.read(FRAME.size)
        if len(frame) < FRAME.size:
            return None
        length, crc = FRAME.unpack(frame)
        start = self.whole + FRAME.size
        fits = 0 < length <= self.size - start
        payload = self._file.read(length) if fits else b""
        if fits and len(payload) == length and zlib.crc32(payload) == crc:
            return payload
        if not is_torn(self._file, start, length, _KINDS):
            raise BrokenLog(f"the record at {self.whole} is damaged, and more follows it")
        return None

    def _record(self, kind: bytes, body: bytes) -> Record:
        if kind == _CELLS_:
            return self._cells(body)
        if kind == _SHIFT_:
            return Shift(*_SHIFT.unpack(body))
        if kind == _PAIRS_:
            return self._pairs(body)
        if kind == _BOUNDS_:
            return Bounds(*_BOUNDS.unpack(body))
        told = orjson.loads(body)
        if kind == _MARK_:
            source = self._memory.sources[told["source"]]
            sealed_ms = told["sealed_ms"]
            placed = np.array(told["placed"], np.int64)
            sealed_ms = -(2**62) if sealed_ms is None else sealed_ms
            return Mark(source, placed, sealed_ms, told["moved_ms"])
        if kind != _OWNERS_:
            raise ValueError(f"unknown kind {kind!r}")
        source = None
        if told["source"] is not None:
            source = Source(told["job"], told["instance"])
            if told["source"] == len(self._memory.sources):
                self._memory.add(source)
        rows, texts = zip(*told["owners"], strict=True) if told["owners"] else ((), ())
        labels = tuple(tuple(zip(one[::2], one[1::2], strict=True)) for one in texts)
        return Owners(source, rows, labels)

    def _cells(self, body: bytes) -> Cells:
        number, columns, count, flags, length = _CELLS.unpack_from(body)
        source, memory = self._memory.sources[number], self._memory
        end = _CELLS.size + length
        if flags & _SAME_ROWS:
            rows = memory.rows[source]
        else:
            rows = _sums(unpack(body[_CELLS.size : end], count))
        memory.rows[source] = rows
        known = memory.bits(source, rows)
        words = unpack(body[end:], columns * (count + 1))
        bits = words[columns:].reshape(columns, count)
        bits[0] ^= known[rows]
        bits = np.bitwise_xor.accumulate(bits, axis=0)
        known[rows] = bits[-1]
        whole = bool(flags & _WHOLE)
        return Cells(source, _sums(words[:columns]), rows, bits.view(np.float64), whole)

    def _pairs(self, body: bytes) -> LoosePairs:
        count, flags = _PAIRS.unpack_from(body)
        words = unpack(body[_PAIRS.size :], 3 * count)
        rows, times = _sums(words[:count]), _sums(words[count : 2 * count])
        known = self._memory.bits(None, rows)
        # The running XOR over all rows, less what it was where a row begins.
        sums, first = np.bitwise_xor.accumulate(words[2 * count :]), _first_of_row(rows)
        before = np.concatenate([np.zeros(1, np.uint64), sums[:-1]])[first] ^ known[rows[first]]
        bits = sums ^ np.repeat(before, np.diff(np.append(first, count)))
        known[rows] = bits
        return LoosePairs(rows, times, bits.view(np.float64), bool(flags & _SEALED))


def _first_of_row(rows: Ints) -> Ints:
    """The positions at which another row begins."""
    return np.flatnonzero(np.diff(rows, prepend=-1))


def _framed(payload: bytes) -> bytes:
    return FRAME.pack(len(payload), zlib.crc32(payload)) + payload


def _differences(numbers: Ints) -> Words:
    return np.diff(numbers, prepend=0).view(np.uint64)


def _sums(words: Words) -> Ints:
    return np.cumsum(words.view(np.int64))
