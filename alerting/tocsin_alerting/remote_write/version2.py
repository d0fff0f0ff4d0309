"""Remote write 2.0: labels are numbers of texts, which stand once in the request.

Fields of io.prometheus.write.v2.Request: https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/.
"""

from collections.abc import Sequence

from tocsin_alerting.remote_write.prompb import (
    LENGTH,
    VARINT,
    Field,
    Malformed,
    RequestTooLarge,
    TimeSeries,
    expect,
    read_fields,
    read_sample,
    varint,
)
from tocsin_alerting.remote_write.slow_path import MAX_PARTS

_SYMBOLS, _SERIES = 4, 5
_REFS, _SAMPLES, _HISTOGRAMS = 1, 2, 3
MAX_LABEL_BYTES = 64 << 20  # of all series: one long text may be the label of each


def read_series_v2(data: bytes) -> list[TimeSeries]:
    """Raises Malformed, or RequestTooLarge for too many labels and samples."""
    symbols: list[bytes] = []
    spans: list[tuple[int, int]] = []
    for part in read_fields(data, 0, len(data)):
        if part[0] in (_SYMBOLS, _SERIES):
            expect(part, LENGTH, "a symbol or a time series")
            if part[0] == _SYMBOLS:
                symbols.append(data[part[2] : part[3]])
            else:
                spans.append((part[2], part[3]))
        _check(len(symbols) + len(spans))
    if spans and (not symbols or symbols[0]):
        raise Malformed("the first symbol is not empty")
    series: list[TimeSeries] = []
    parts = label_bytes = 0
    for begin, stop in spans:
        series.append(_series(data, begin, stop, symbols))
        parts += len(series[-1].pairs) + len(series[-1].times)
        label_bytes += sum(len(name) + len(value) for name, value in series[-1].pairs)
        _check(parts, label_bytes)
    return series


def _check(parts: int, label_bytes: int = 0) -> None:
    if parts > MAX_PARTS:
        raise RequestTooLarge(f"more than {MAX_PARTS} labels and samples in one request")
    if label_bytes > MAX_LABEL_BYTES:
        raise RequestTooLarge(f"more than {MAX_LABEL_BYTES >> 20} MiB of labels in one request")


def _series(data: bytes, begin: int, stop: int, symbols: Sequence[bytes]) -> TimeSeries:
    refs: list[int] = []
    samples: list[tuple[int, int]] = []
    histograms = 0
    for part in read_fields(data, begin, stop):
        if part[0] == _REFS:
            refs += _numbers(data, part)
        elif part[0] == _SAMPLES:
            expect(part, LENGTH, "a sample")
            samples.append(read_sample(data, part[2], part[3]))
        histograms += part[0] == _HISTOGRAMS
    if len(refs) % 2:
        raise Malformed(f"the series at byte {begin} has a label without a value")
    try:
        texts = [symbols[ref] for ref in refs]
    except IndexError:
        raise Malformed(f"the series at byte {begin} names a symbol that is not there") from None
    pairs = tuple(zip(texts[::2], texts[1::2], strict=True))
    times, bits = zip(*samples, strict=True) if samples else ((), ())
    return TimeSeries(None, None, pairs, times, bits, histograms, stop)


def _numbers(data: bytes, part: Field) -> list[int]:
    """Of a repeated field: one, or many in a row."""
    if part[1] == VARINT:
        return [part[2]]
    expect(part, LENGTH, "the labels of a series")
    numbers, at = list[int](), part[2]
    while at < part[3]:
        number, at = varint(data, at, part[3])
        numbers.append(number)
    return numbers
