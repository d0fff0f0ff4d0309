"""Samples of a file: OpenMetrics with timestamps, or the output of `promtool tsdb dump`."""

import gzip
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tocsin_alerting.backtest.history import InputSeries
from tocsin_alerting.rules.series_notation import NotationError, parse_metric
from tocsin_exporter.files import open_file
from tocsin_exporter.snapshot import Labels

_LINE = re.compile(r"(\S.*?)\s+(\S+)\s+(-?[0-9.eE+]+)\s*(?:#.*)?")
_MILLISECONDS = 1e11  # a time above it, which would be in the year 5138, is none in seconds
_LATEST_MS = 253_402_300_799_999  # the end of the year 9999


@dataclass(frozen=True, slots=True)
class SampleLine:
    """Where a line is, for an error."""

    path: str
    number: int

    def error(self, why: str) -> "InvalidSamples":
        return InvalidSamples(f"{self.path}:{self.number}:1: {why}")


class InvalidSamples(ValueError):
    """A file that holds no samples, with the place of what is wrong."""


def read_samples(path: Path) -> InputSeries:
    """The series of a file. Raises InvalidSamples, and OSError."""
    with open_file(path) as raw:
        zipped = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        unpacked = gzip.GzipFile(fileobj=raw) if zipped else raw
        try:
            # a byte order mark is no part of the first name
            with io.TextIOWrapper(unpacked, encoding="utf-8-sig") as lines:
                return parse_samples(lines, str(path))
        except (UnicodeDecodeError, EOFError, gzip.BadGzipFile) as error:
            raise InvalidSamples(f"{path}: not text: {error}") from None


def parse_samples(lines: Iterable[str], path: str) -> InputSeries:
    """Raises InvalidSamples for a line without a time, a series or a number."""
    series: dict[Labels, tuple[list[int], list[float]]] = {}
    known: dict[str, tuple[list[int], list[float]]] = {}
    for number, name, value, at in _fields(lines, path):
        columns = known.get(name)
        if columns is None:
            labels = _labels(name, SampleLine(path, number))
            columns = known[name] = series.setdefault(labels, ([], []))
        try:
            at_ms = _time_ms(at)
            columns[1].append(float(value))
        except (ValueError, OverflowError):
            why = f'"{value} {at}" is not a number and a time; write 1 1700000000'
            raise SampleLine(path, number).error(why) from None
        columns[0].append(at_ms)
    if not series:
        raise InvalidSamples(f"{path}: no samples; write OpenMetrics with timestamps")
    return series


def _time_ms(text: str) -> int:
    """Raises ValueError and OverflowError for what is no time up to the year 9999."""
    at = float(text)
    at_ms = round(at if abs(at) > _MILLISECONDS else at * 1000)
    if abs(at_ms) > _LATEST_MS:
        raise ValueError(text)
    return at_ms


def _fields(lines: Iterable[str], path: str) -> Iterator[tuple[int, str, str, str]]:
    for number, line in enumerate(lines, 1):
        if line.startswith("#") or line.isspace():
            continue
        plain = line.rsplit(None, 2)
        if len(plain) == 3 and "#" not in line:  # which is three times as fast
            yield number, plain[0], plain[1], plain[2]
            continue
        match = _LINE.fullmatch(line.rstrip("\n"))
        if match is None:
            why = 'no sample with a time; write name{label="value"} 1 1700000000'
            raise SampleLine(path, number).error(why)
        yield number, match[1], match[2], match[3]


def _labels(text: str, line: SampleLine) -> Labels:
    try:
        labels = parse_metric(text, quoted=True)
    except NotationError as error:
        raise line.error(f"{error} in {text[:100]}") from None
    if not labels:
        raise line.error("a series without a name")
    return labels
