"""Query results as Prometheus's JSON: numbers are texts, times are seconds."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import orjson

from tocsin_alerting.promql.numbers import format_number
from tocsin_alerting.promql.result import (
    InstantVector,
    Matrix,
    QueryValue,
    Result,
    ScalarValue,
    StringValue,
    Track,
)

PIECE_BYTES = 256 << 10


def number(value: float) -> str:
    """A sample's value as Prometheus writes it: the shortest text that reads back, with an exponent
    where the value is far from 1."""
    text = repr(value)
    if "e" not in text and math.isfinite(value):
        return text.removesuffix(".0")
    near = not math.isfinite(value) or 1e-6 <= abs(value) < 1e21
    return format_number(value) if near else exponent(value)


def exponent(value: float) -> str:
    """Go's FormatFloat(v, 'e', -1): the shortest digits, an exponent of at least two."""
    if not math.isfinite(value):
        return format_number(value)
    negative, digits, power = Decimal(repr(value)).normalize().as_tuple()
    rest = "".join(map(str, digits[1:]))
    point = "." if rest else ""
    return f"{'-' * negative}{digits[0]}{point}{rest}e{int(power) + len(rest):+03d}"


def document(result: Result, stats: Mapping[str, Any] | None = None) -> Iterator[bytes]:
    """The body of a query's answer in pieces, each of which but the last is a large one."""
    kind, rows = _kind_and_rows(result.value)
    head = b'{"status":"success","data":{"resultType":' + orjson.dumps(kind) + b',"result":'
    told = b',"stats":' + orjson.dumps(stats) if stats else b""
    notes = _notes(result.warnings, result.infos)
    return _in_pieces(head, rows, told + b"}" + notes + b"}")


def listing(rows: Iterable[Any], warnings: Sequence[str] = ()) -> Iterator[bytes]:
    """The body of an answer whose data is a list, in pieces as those of `document`."""
    return _in_pieces(b'{"status":"success","data":', rows, _notes(warnings, ()) + b"}")


def whole(data: Any) -> Iterator[bytes]:
    """The body of an answer of any shape, in one piece."""
    return iter([orjson.dumps({"status": "success", "data": data})])


def _in_pieces(head: bytes, rows: Iterable[Any], tail: bytes) -> Iterator[bytes]:
    """Made piece by piece because the texts of a large answer take twenty times its numbers'
    memory, and because whoever makes them holds up everybody else."""
    piece = bytearray(head)
    opening = b"["
    for row in rows:
        piece += opening + orjson.dumps(row)
        opening = b","
        if len(piece) >= PIECE_BYTES:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece) + (b"[" if opening == b"[" else b"") + b"]" + tail


def _notes(warnings: Sequence[str], infos: Sequence[str]) -> bytes:
    notes = {b"warnings": warnings, b"infos": infos}
    return b"".join(b',"%s":%s' % (k, orjson.dumps(texts)) for k, texts in notes.items() if texts)


def _kind_and_rows(value: QueryValue) -> tuple[str, Iterable[Any]]:
    """The result's type and its elements: of a number or a text, time and value."""
    match value:
        case ScalarValue():
            return "scalar", (value.at_ms / 1000, format_number(value.value))
        case StringValue():
            return "string", (value.at_ms / 1000, value.value)
        case InstantVector():
            at = value.at_ms / 1000
            return "vector", ({"metric": dict(ls), "value": (at, number(v))} for ls, v in value)
        case Matrix():
            return "matrix", (_track(one) for one in value)


def _track(one: Track) -> dict[str, Any]:
    pairs = zip(one.times.tolist(), one.values.tolist(), strict=True)
    return {"metric": dict(one.labels), "values": [(at / 1000, number(v)) for at, v in pairs]}
