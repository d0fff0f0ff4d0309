"""Remote read as a client: what is asked for, and the samples of an answer.

An answer of single samples is, below its first field, what remote write sends, so it is read as
`remote_write/fast_scan.py` says.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tocsin_alerting.remote_write.fast_scan import SAMPLE, ZERO, all_usual, read_usual
from tocsin_alerting.remote_write.prompb import (
    LENGTH,
    Malformed,
    expect,
    read_fields,
    read_series,
    write_number,
    write_part,
    write_text,
)
from tocsin_alerting.remote_write.snappy import compress, decompress
from tocsin_alerting.tsdb.matchers import MatchOp
from tocsin_alerting.tsdb.series_index import MatcherSets
from tocsin_alerting.tsdb.values import Floats, Ints, Mask
from tocsin_exporter.snapshot import Labels, sorted_labels

HEADERS = {
    "Content-Encoding": "snappy",
    "Content-Type": "application/x-protobuf",
    "Accept-Encoding": "snappy",
    "X-Prometheus-Remote-Read-Version": "0.1.0",
}
_OPS = (MatchOp.EQUAL, MatchOp.NOT_EQUAL, MatchOp.REGEX, MatchOp.NOT_REGEX)
_RESULT = _SERIES = 1
_LABELS = 1


class AnsweredSeries(NamedTuple):
    """`times` in Unix ms; stale markers are among the values."""

    labels: Labels
    times: Ints
    values: Floats


def write_request(matcher_sets: MatcherSets, start_ms: int, end_ms: int) -> bytes:
    """A ReadRequest in snappy: single samples of all series that satisfy one of the sets, both
    ends included."""
    span = write_number(1, start_ms) + write_number(2, end_ms)
    queries = (
        span
        + b"".join(
            write_part(
                3,
                write_number(1, _OPS.index(m.op)) + write_text(2, m.name) + write_text(3, m.value),
            )
            for m in matchers
        )
        for matchers in matcher_sets
    )
    return compress([b"".join(write_part(1, query) for query in queries)])


def read_answer(body: bytes, most_bytes: int) -> Iterator[AnsweredSeries]:
    """Of all queries, one after the other. Raises Malformed, or RequestTooLarge."""
    data = decompress(body, most_bytes)
    for result in read_fields(data, 0, len(data)):
        if result[0] != _RESULT:
            continue
        expect(result, LENGTH, "a result")
        for series in read_fields(data, result[2], result[3]):
            if series[0] == _SERIES:
                expect(series, LENGTH, "a series")
                yield _series(data, series[2], series[3])


def _series(data: bytes, begin: int, stop: int) -> AnsweredSeries:
    labels, at = _labels(data, begin, stop)
    usual = _usual(data, at, stop)
    if usual is not None:
        return AnsweredSeries(labels, *usual)
    slow = read_series(data, begin, stop, {})
    bits = np.array(slow.bits, np.int64)
    return AnsweredSeries(labels, np.array(slow.times, np.int64), bits.view(np.float64))


def _labels(data: bytes, begin: int, stop: int) -> tuple[Labels, int]:
    """The labels with which a series begins, and where they end."""
    pairs: dict[str, str] = {}
    at = begin
    for field in read_fields(data, begin, stop):
        if field[0] != _LABELS:
            break
        texts = {part[0]: data[part[2] : part[3]] for part in read_fields(data, field[2], field[3])}
        try:
            pairs[texts.get(1, b"").decode()] = texts.get(2, b"").decode()
        except UnicodeDecodeError:
            raise Malformed(f"a label at byte {field[2]} is not UTF-8") from None
        at = field[3]
    return sorted_labels(pairs), at


def _usual(data: bytes, at: int, stop: int) -> tuple[Ints, Floats] | None:
    """The samples in data[at:stop], where all look as nearly all do."""
    if at == stop:
        return np.empty(0, np.int64), np.empty(0)
    if (stop - at) % SAMPLE == 0:
        stops: Ints = np.arange(at + SAMPLE, stop + 1, SAMPLE, dtype=np.int64)
        zeros: Mask = np.zeros(len(stops), np.bool_)
        if all_usual(data, stops, zeros):
            return _read(data, stops, zeros)
    ends = [at]
    while ends[-1] + ZERO <= stop:
        ends.append(ends[-1] + 2 + data[ends[-1] + 1])
    stops = np.array(ends[1:], np.int64)
    sizes = np.diff(ends)
    zeros = sizes == ZERO
    if ends[-1] != stop or not (zeros | (sizes == SAMPLE)).all():
        return None
    return _read(data, stops, zeros) if all_usual(data, stops, zeros) else None


def _read(data: bytes, stops: Ints, zeros: Mask) -> tuple[Ints, Floats]:
    samples = read_usual(data, stops, stops, zeros)
    return samples.times, samples.values
