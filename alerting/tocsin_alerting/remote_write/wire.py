"""Protobuf's wire format, read strictly: every field of a message, known to us or not.

Format: https://protobuf.dev/programming-guides/encoding/. Groups, which proto3 does not have, are
refused.
"""

from collections.abc import Iterator

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


def field(data: bytes, at: int, end: int) -> Field:
    """The field that begins at `at`, which is before `end`. Raises Malformed."""
    tag, place = data[at], at + 1
    if tag > 0x7F:
        tag, place = varint(data, at, end)
    number, wire = tag >> 3, tag & 7
    if not 0 < number < 1 << 29:
        raise Malformed(f"field number {number} at byte {at}: there is none like this")
    if wire == VARINT:
        value, stop = varint(data, place, end)
        return number, wire, value, stop
    if wire == LENGTH:
        length, place = varint(data, place, end)
    elif wire in _FIXED:
        length = _FIXED[wire]
    else:
        raise Malformed(f"field {number} at byte {at} has wire type {wire}, which is not in use")
    if length > end - place:
        raise Malformed(f"field {number} at byte {at} is cut off")
    return number, wire, place, place + length


def fields(data: bytes, at: int, end: int) -> Iterator[Field]:
    """The fields of the message in data[at:end], one after the other. Raises Malformed."""
    while at < end:
        found = field(data, at, end)
        yield found
        at = found[3]


def expect(found: Field, wire: int, what: str) -> None:
    """Raises Malformed for a field that we know in a wire type that it does not have."""
    if found[1] != wire:
        raise Malformed(f"{what} has wire type {found[1]}; it must have {wire}")
