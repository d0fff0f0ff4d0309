"""Samples of a file: OpenMetrics with timestamps, or the output of `promtool tsdb dump`.

A file of a day has ten million lines, so lines are read many at a time: where the labels end is
found for all of them at once, lines that follow each other are compared by words of eight bytes,
and what is behind the labels, value and time by turns, is one text of numbers. A line that looks
otherwise is read by itself.
"""

import gzip
import re
import warnings
import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import numpy as np

from tocsin_alerting.backtest.history import InputSeries
from tocsin_alerting.rules.series_notation import NotationError, parse_metric
from tocsin_alerting.tsdb.values import Floats, Ints, Mask
from tocsin_exporter.files import open_file
from tocsin_exporter.snapshot import Labels

_LINE = re.compile(r"\s*(\S.*?)\s+(\S+)\s+(-?[0-9.eE+]+)\s*(?:#.*)?")
_PLAIN = re.compile(r"\s*(\S.*?)\s+(\S+)\s+(\S+)\s*")
_MILLISECONDS = 1e11  # a time above it, which would be in the year 5138, is none in seconds
_LATEST_MS = 253_402_300_799_999  # the end of the year 9999
_AT_ONCE = 8 << 20  # bytes
_LONGEST_LINE = 1 << 20
_MARK = b"\xef\xbb\xbf"  # a byte order mark is no part of the first name
_WANTED = 'write name{label="value"} 1 1700000000'
_NEWLINE, _SPACE, _HASH = b"\n # "[0], b" "[0], b"#"[0]
_ODD = tuple(b"\t\r\x0b\x0c")  # spaces of another kind


class InvalidSamples(ValueError):
    """A file that holds no samples, with the place of what is wrong."""


@dataclass(frozen=True, slots=True)
class SampleLine:
    """Where a line is, for an error."""

    path: str
    number: int

    def error(self, why: str, column: int = 1) -> InvalidSamples:
        return InvalidSamples(f"{self.path}:{self.number}:{column}: {why}")


def read_samples(path: Path) -> InputSeries:
    """The series of a file. Raises InvalidSamples, and OSError."""
    with open_file(path) as raw:
        zipped = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        return parse_samples(gzip.GzipFile(fileobj=raw) if zipped else raw, str(path))


def parse_samples(file: BinaryIO | gzip.GzipFile, path: str) -> InputSeries:
    """Raises InvalidSamples for a line without a time, a series or a number."""
    found = _FileSamples(path)
    for block in _blocks(file, found):
        found.add(block)
    if not found.labels:
        raise InvalidSamples(f"{path}:{found.lines or 1}:1: no samples; {_WANTED}")
    return found.series()


def _blocks(file: BinaryIO | gzip.GzipFile, found: "_FileSamples") -> Iterator[bytes]:
    """Whole lines, many at once, each with its end."""
    rest, first = b"", True
    while True:
        try:
            read = file.read(_AT_ONCE)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            why = f"the compressed data ends or breaks here ({error}); pack the file again"
            raise SampleLine(found.path, found.lines + rest.count(b"\n") + 1).error(why) from None
        data = rest + (read.removeprefix(_MARK) if first else read)
        first = False
        if not read:
            break
        end = data.rfind(b"\n") + 1
        if len(data) - end > _LONGEST_LINE:
            line = SampleLine(found.path, found.lines + data.count(b"\n") + 1)
            raise line.error(f"a line of more than {_LONGEST_LINE:,} bytes; {_WANTED}")
        if end:
            yield data[:end]
        rest = data[end:]
    if data:
        yield data + b"\n"


@dataclass(slots=True)
class _FileSamples:
    """What was read: of each sample the number of its series, its time and its value."""

    path: str
    lines: int = 0
    labels: dict[Labels, int] = field(default_factory=dict)
    _known: dict[bytes, int] = field(default_factory=dict)
    _numbers: list[Ints] = field(default_factory=list)
    _times: list[Ints] = field(default_factory=list)
    _values: list[Floats] = field(default_factory=list)

    def add(self, block: bytes) -> None:
        lines = _BlockLines(block)
        quick = self._quickly(lines) if lines.usual.any() else None
        if quick is None:
            lines.usual[:] = False
            quick = np.empty(0, np.int64), np.empty((0, 2))
        numbers, fields = quick
        rows = np.flatnonzero(lines.usual)
        odd = np.flatnonzero(~(lines.usual | lines.comments))
        if len(odd):
            slow = [self._one(lines, at) for at in odd.tolist()]
            kept = np.array([one is not None for one in slow], np.bool_)
            numbers = np.append(numbers, [one[0] for one in slow if one is not None])
            more = [one[1:] for one in slow if one is not None]
            fields = np.concatenate([fields, np.array(more, np.float64).reshape(-1, 2)])
            rows = np.append(rows, odd[kept])
            order = np.argsort(rows, kind="stable")
            numbers, fields = numbers[order], fields[order]
        self._numbers.append(numbers.astype(np.int64))
        self._times.append(_milliseconds(fields[:, 1]))
        self._values.append(fields[:, 0].copy())
        self.lines += len(lines.starts)

    def _quickly(self, lines: "_BlockLines") -> tuple[Ints, Floats] | None:
        """The series of the usual lines, and (lines, 2) value and time; None: one of them is not
        what it seems."""
        numbers = array("q")
        counts = array("q")
        for head, first, count in lines.runs():
            number = self._known.get(head)
            if number is None:
                number = self._series(head, self.lines + first + 1)
            numbers.append(number)
            counts.append(count)
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)
            try:
                fields = np.fromstring(lines.numbers().decode("ascii"), sep=" ")
            except (DeprecationWarning, ValueError):
                return None
        every = np.repeat(np.array(numbers, np.int64), np.array(counts, np.int64))
        if len(fields) != 2 * len(every) or not _are_times(fields[1::2]):
            return None
        return every, fields.reshape(-1, 2)

    def _one(self, lines: "_BlockLines", at: int) -> tuple[int, float, float] | None:
        """A line by itself: None if nothing stands in it."""
        place = SampleLine(self.path, self.lines + at + 1)
        raw = lines.data[lines.starts[at] : lines.ends[at]]
        text = _text(raw, place)
        if not text or text.isspace():
            return None
        match = (_LINE if "#" in text else _PLAIN).fullmatch(text)
        if match is None:
            raise place.error(f"no sample with a time; {_WANTED}")
        number = self._series(match[1].encode(), place.number)
        try:
            value, seconds = _number(match[2]), _number(match[3])
            if not _are_times(np.array([seconds])):
                raise ValueError(match[3])
        except ValueError:
            why = f'"{match[2]} {match[3]}" is not a number and a time; write 1 1700000000'
            raise place.error(why, match.start(2) + 1) from None
        return number, value, seconds

    def _series(self, head: bytes, line: int) -> int:
        number = self._known.get(head)
        if number is None:
            place = SampleLine(self.path, line)
            labels = _labels(_text(head, place), place)
            number = self._known[head] = self.labels.setdefault(labels, len(self.labels))
        return number

    def series(self) -> InputSeries:
        """The samples of each in the order in which they stand in the file."""
        numbers, times = np.concatenate(self._numbers), np.concatenate(self._times)
        values = np.concatenate(self._values)
        if (np.diff(numbers) < 0).any():
            order = np.argsort(numbers, kind="stable")
            numbers, times, values = numbers[order], times[order], values[order]
        places = numbers.searchsorted(np.arange(len(self.labels) + 1)).tolist()
        return {
            labels: (times[start:stop], values[start:stop])
            for labels, (start, stop) in zip(self.labels, pairwise(places), strict=True)
        }


class _BlockLines:
    """Where the lines of a block begin and end, and where labels and value of each do. `usual` are
    those of three fields with one space between each, without anything behind them."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._cells = cells = np.frombuffer(data, np.uint8)
        self.ends: Ints = np.flatnonzero(cells == _NEWLINE)
        self.starts: Ints = np.append(0, self.ends[:-1] + 1)
        self.comments: Mask = cells[self.starts] == _HASH
        spaces: Ints = np.append([-1, -1], np.flatnonzero(cells == _SPACE))
        last = spaces.searchsorted(self.ends) - 1
        before_time, self.heads = spaces[last], spaces[np.maximum(last - 1, 0)]
        good = self.heads > self.starts
        good &= (before_time - self.heads > 1) & (self.ends - before_time > 1)
        good &= cells[np.maximum(self.heads - 1, 0)] != _SPACE
        good &= ~self.comments
        for at in self._odd(cells).tolist():
            good[self.ends.searchsorted(at)] = False
        self.usual: Mask = good

    def _odd(self, cells: np.typing.NDArray[np.uint8]) -> Ints:
        """Bytes that a usual line does not have: an exemplar's #, and other spaces."""
        odd = [np.empty(0, np.int64)]
        if self.data.find(b"#") >= 0:
            begins = np.zeros(len(cells), np.bool_)
            begins[self.starts] = True
            odd.append(np.flatnonzero((cells == _HASH) & ~begins))
        odd += [np.flatnonzero(cells == one) for one in _ODD if bytes([one]) in self.data]
        return np.concatenate(odd)

    def runs(self) -> Iterator[tuple[bytes, int, int]]:
        """Labels, number of the first line, and how many have the same; of the usual lines."""
        same = self._same_as_before()
        firsts = np.flatnonzero(self.usual & ~same)
        begins = np.flatnonzero(~same[self.usual])
        counts = np.diff(begins, append=np.count_nonzero(self.usual)).tolist()
        heads = zip(self.starts[firsts].tolist(), self.heads[firsts].tolist(), strict=True)
        for (start, stop), first, count in zip(heads, firsts.tolist(), counts, strict=True):
            yield self.data[start:stop], first, count

    def _same_as_before(self) -> Mask:
        """Whether a line has the labels of the one before it: compared eight bytes at a time."""
        words = np.ndarray((len(self.data),), "<u8", self.data + bytes(7), 0, (1,))
        lengths = np.where(self.usual, self.heads - self.starts, 0)
        same = np.append(False, (np.diff(lengths) == 0) & (lengths[1:] > 0))
        shortest = int(lengths[self.usual].min())
        for offset in range(0, int(lengths.max()), 8):
            word = words[np.minimum(self.starts + offset, len(words) - 1)]
            differ = word[1:] ^ word[:-1]
            if offset + 8 > shortest:  # what is behind the labels does not count
                behind = 8 - np.clip(lengths[1:] - offset, 0, 8)
                differ <<= (8 * behind).astype(np.uint64)
            same[1:] &= differ == 0
        return same

    def numbers(self) -> bytes:
        """Value and time of all usual lines, one text."""
        begins, sizes = self.heads[self.usual], (self.ends - self.heads)[self.usual]
        offsets = begins - (np.cumsum(sizes) - sizes)
        places = np.arange(sizes.sum(), dtype=np.int32)
        places += np.repeat(offsets.astype(np.int32), sizes)
        return self._cells.take(places).tobytes()


def _are_times(seconds: Floats) -> bool:
    """Up to the year 9999, in seconds or milliseconds; NaN is none."""
    near = np.abs(seconds)
    return bool((np.where(near > _MILLISECONDS, near, near * 1000) <= _LATEST_MS).all())


def _milliseconds(seconds: Floats) -> Ints:
    return np.rint(np.where(np.abs(seconds) > _MILLISECONDS, seconds, seconds * 1000)).astype(
        np.int64
    )


def _number(text: str) -> float:
    """Raises ValueError, also for the underscores that Python allows."""
    if "_" in text:
        raise ValueError(text)
    return float(text)


def _text(raw: bytes, place: SampleLine) -> str:
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        why = f"not text (byte {raw[error.start]:#04x}); {_WANTED}, one sample a line"
        raise place.error(why, error.start + 1) from None
    if "\0" in text:
        why = f"not text (byte 0x00); {_WANTED}, one sample a line"
        raise place.error(why, text.index("\0") + 1)
    return text


def _labels(text: str, line: SampleLine) -> Labels:
    try:
        labels = parse_metric(text, quoted=True)
    except NotationError as error:
        raise line.error(f"{error} in {text[:100]}", error.offset + 1) from None
    if not labels:
        raise line.error(f"a series without a name; {_WANTED}")
    return labels
