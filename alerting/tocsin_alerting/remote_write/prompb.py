"""Protobuf's wire format: written, and read strictly, every field of a message.

Format: https://protobuf.dev/programming-guides/encoding/. Groups, which proto3 does not have, are
refused.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
_FIXED = {FIXED64: 8, FIXED32: 4}

Field = tuple[int, int, int, int]
"""(number, wire type, value, stop): the value of a varint, else where its content begins."""


class Malformed(ValueError):
    """The request is not what it says it is. Nothing of it was taken."""


class RequestTooLarge(ValueError):
    """The request would take more memory than one may. Nothing of it was taken."""


def varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """(value modulo 2**64, position after it). Raises Malformed."""
    if at < end and data[at] < 0x80:
        return data[at], at + 1
    value = shift = 0
    for place in range(at, min(at + 10, end)):
        byte = data[place]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, place + 1
        shift += 7
    why = "is longer than 10 bytes" if end - at >= 10 else "is cut off"
    raise Malformed(f"a number at byte {at} {why}")


def read_field(data: bytes, at: int, end: int) -> Field:
    """The field that begins at `at`, which is before `end`. Raises Malformed."""
    tag, place = data[at], at + 1
    if tag > 0x7F:
        tag, place = varint(data, at, end)
    number, wire = tag >> 3, tag & 7
    if not 0 < number < 1 << 29:
        raise Malformed(f"field number {number} at byte {at} is invalid")
    if wire == VARINT:
        value, stop = varint(data, place, end)
        return number, wire, value, stop
    if wire == LENGTH:
        length, place = varint(data, place, end)
    elif wire in _FIXED:
        length = _FIXED[wire]
    else:
        raise Malformed(f"field {number} at byte {at} has wire type {wire}, which is not supported")
    if length > end - place:
        raise Malformed(f"field {number} at byte {at} is cut off")
    return number, wire, place, place + length


def read_fields(data: bytes, at: int, end: int) -> Iterator[Field]:
    """The fields of the message in data[at:end], one after the other. Raises Malformed."""
    while at < end:
        field = read_field(data, at, end)
        yield field
        at = field[3]


def expect(field: Field, wire: int, what: str) -> None:
    """Raises Malformed for a field that we know in a wire type that it does not have."""
    if field[1] != wire:
        raise Malformed(f"{what} has wire type {field[1]}; it must have {wire}")


def write_varint(number: int) -> bytes:
    """A number of 0 or more."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def write_number(number: int, value: int) -> bytes:
    """A field that holds a number; negative ones have ten bytes."""
    return write_varint(number << 3 | VARINT) + write_varint(value & (1 << 64) - 1)


def write_part(number: int, content: bytes) -> bytes:
    """A field that holds bytes, or a message."""
    return write_head(number, len(content)) + content


def write_head(number: int, length: int) -> bytes:
    """What stands before the content of such a field."""
    return write_varint(number << 3 | LENGTH) + write_varint(length)


def write_text(number: int, text: str) -> bytes:
    return write_part(number, text.encode())


SERIES = 1  # of the request
_LABELS, _SAMPLES, _HISTOGRAMS = 1, 2, 4
_LABEL_TAG = _LABELS << 3 | LENGTH

_Parts = tuple[list[tuple[bytes, bytes]], list[tuple[int, int]], int]


@dataclass(frozen=True, slots=True)
class TimeSeries:
    """`times` are Unix ms, `bits` the float64 values as int64, so that every NaN stays as it is.

    `key` are the bytes of its label fields if it begins with all of them, else None. `ref` is
    what is known by that key, and if it is not None there are no `pairs`. `stop` is where it ends
    in the request.
    """

    key: bytes | None
    ref: int | None
    pairs: tuple[tuple[bytes, bytes], ...]
    times: tuple[int, ...]
    bits: tuple[int, ...]
    histograms: int
    stop: int


def series_spans(data: bytes, at: int = 0) -> Iterator[tuple[int, int]]:
    """Where each time series of the request begins and stops. Raises Malformed."""
    for field in read_fields(data, at, len(data)):
        if field[0] == SERIES:
            expect(field, LENGTH, "a time series")
            yield field[2], field[3]


def read_series(data: bytes, begin: int, stop: int, known: Mapping[bytes, int]) -> TimeSeries:
    """The message in data[begin:stop]. Raises Malformed."""
    split = _end_of_labels(data, begin, stop)
    key: bytes | None = data[begin:split]
    number = known.get(data[begin:split])
    pairs, samples, histograms = _parts(data, split, stop)
    if pairs:  # later than its other labels: these are not all of them
        key = None
    if pairs or histograms:  # whose refusal names the series
        number = None
    if number is None:
        pairs = _parts(data, begin, split)[0] + pairs
    times, bits = zip(*samples, strict=True) if samples else ((), ())
    return TimeSeries(key, number, tuple(pairs), times, bits, histograms, stop)


def _end_of_labels(data: bytes, begin: int, stop: int) -> int:
    """Where the labels stop with which the message begins."""
    at = begin
    while at + 1 < stop and data[at] == _LABEL_TAG and data[at + 1] < 0x80:
        at += 2 + data[at + 1]
    return at if at <= stop else begin


def _parts(data: bytes, begin: int, stop: int) -> _Parts:
    """The labels, the samples and the number of histograms in data[begin:stop]."""
    pairs: list[tuple[bytes, bytes]] = []
    samples: list[tuple[int, int]] = []
    histograms = 0
    for field in read_fields(data, begin, stop):
        if field[0] == _LABELS:
            expect(field, LENGTH, "a label")
            pairs.append(_label(data, field[2], field[3]))
        elif field[0] == _SAMPLES:
            expect(field, LENGTH, "a sample")
            samples.append(read_sample(data, field[2], field[3]))
        histograms += field[0] == _HISTOGRAMS
    return pairs, samples, histograms


def _label(data: bytes, begin: int, stop: int) -> tuple[bytes, bytes]:
    texts = {1: b"", 2: b""}
    for field in read_fields(data, begin, stop):
        if field[0] in texts:
            expect(field, LENGTH, "the text of a label")
            texts[field[0]] = data[field[2] : field[3]]
    return texts[1], texts[2]


def read_sample(data: bytes, begin: int, stop: int) -> tuple[int, int]:
    """(Unix ms, bits of the value): what is not written is 0."""
    if stop - begin == 16 and data[begin] == 9 and data[begin + 9] == 16:  # as nearly always
        at_ms, end = varint(data, begin + 10, stop)
        if end == stop:
            return at_ms, int.from_bytes(data[begin + 1 : begin + 9], "little", signed=True)
    at_ms = bits = 0
    for field in read_fields(data, begin, stop):
        if field[0] == 1:
            expect(field, FIXED64, "the value of a sample")
            bits = int.from_bytes(data[field[2] : field[3]], "little", signed=True)
        elif field[0] == 2:
            expect(field, VARINT, "the timestamp of a sample")
            at_ms = field[2] - (field[2] >> 63 << 64)
    return at_ms, bits
