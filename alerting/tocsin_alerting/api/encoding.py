"""Query results as Prometheus's JSON: numbers are texts, times are seconds."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import orjson

from tocsin_alerting.promql.numbers import exponent, format_number
from tocsin_alerting.promql.result import (
    InstantVector,
    Matrix,
    QueryValue,
    Result,
    ScalarValue,
    StringValue,
    Track,
)
from tocsin_alerting.store.cell import Floats, Ints

PIECE_BYTES = 256 << 10
_NOTES = 10
_SMALL_ROWS = 100  # become text together: a call for each takes longer than its text


def number(value: float) -> str:
    """A sample's value as Prometheus writes it: the shortest text that reads back, with an exponent
    where the value is far from 1."""
    text = repr(value)
    if "e" not in text and math.isfinite(value):
        return text.removesuffix(".0")
    near = not math.isfinite(value) or 1e-6 <= abs(value) < 1e21
    return format_number(value) if near else exponent(value)


def seconds(at_ms: int) -> int | float:
    """A time as Prometheus writes it: whole seconds without a fraction."""
    whole_seconds, rest = divmod(at_ms, 1000)
    return at_ms / 1000 if rest else whole_seconds


def document(result: Result, stats: Mapping[str, Any] | None = None) -> Iterator[bytes]:
    """The body of a query's answer in pieces, each of which but the last is a large one."""
    kind, rows = _kind_and_rows(result.value)
    head = b'{"status":"success","data":{"resultType":' + orjson.dumps(kind) + b',"result":'
    told = b',"stats":' + orjson.dumps(stats) if stats else b""
    notes = _notes(result.warnings, result.infos)
    together = 1 if kind == "matrix" else _SMALL_ROWS
    return _in_pieces(head, rows, told + b"}" + notes + b"}", together)


def listing(rows: Iterable[Any], warnings: Sequence[str] = ()) -> Iterator[bytes]:
    """The body of an answer whose data is a list, in pieces as those of `document`."""
    tail = _notes(warnings, ()) + b"}"
    return _in_pieces(b'{"status":"success","data":', rows, tail, _SMALL_ROWS)


def whole(data: Any) -> Iterator[bytes]:
    """The body of an answer of any shape, in one piece."""
    return iter([orjson.dumps({"status": "success", "data": data})])


def _in_pieces(head: bytes, rows: Iterable[Any], tail: bytes, together: int) -> Iterator[bytes]:
    """Made piece by piece because the texts of a large answer take twenty times its numbers'
    memory, and because whoever makes them holds up everybody else."""
    piece = bytearray(head)
    opening, rest = b"[", iter(rows)
    while some := list(islice(rest, together)):
        piece += opening + orjson.dumps(some)[1:-1]
        opening = b","
        if len(piece) >= PIECE_BYTES:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece) + (b"[" if opening == b"[" else b"") + b"]" + tail


def _notes(warnings: Sequence[str], infos: Sequence[str]) -> bytes:
    notes = {b"warnings": _first(warnings, "warning"), b"infos": _first(infos, "info")}
    return b"".join(b',"%s":%s' % (k, orjson.dumps(texts)) for k, texts in notes.items() if texts)


def _first(notes: Sequence[str], kind: str) -> list[str]:
    """As many as Prometheus tells (web/api/v1/api.go); a query of all metrics may have one each."""
    more = len(notes) - _NOTES
    told = [f"{more} more {kind} annotations omitted"] if more > 0 else []
    return [*notes[:_NOTES], *told]


def _kind_and_rows(value: QueryValue) -> tuple[str, Iterable[Any]]:
    """The result's type and its elements: of a number or a text, time and value."""
    match value:
        case ScalarValue():
            return "scalar", (seconds(value.at_ms), format_number(value.value))
        case StringValue():
            return "string", (seconds(value.at_ms), value.value)
        case InstantVector():
            at = seconds(value.at_ms)
            return "vector", ({"metric": dict(ls), "value": (at, number(v))} for ls, v in value)
        case Matrix():
            return "matrix", map(_Tracks().row, value)


class _Tracks:
    """Series of a matrix as text. A panel has a hundred thousand numbers and a few sets of times:
    a set becomes a form once, and the numbers of a series are put into it all together."""

    def __init__(self) -> None:
        self._times: Ints | None = None
        self._form = b""

    def row(self, one: Track) -> dict[str, Any]:
        if self._times is None or not np.array_equal(one.times, self._times):
            self._times, self._form = one.times, _form(one.times)
        values = self._form % tuple(_numbers(one.values))
        return {"metric": dict(one.labels), "values": orjson.Fragment(values)}


def _form(times: Ints) -> bytes:
    if not len(times):
        return b"[]"
    if (times % 1000).any():
        text = orjson.dumps([seconds(at) for at in times.tolist()])
    else:
        text = orjson.dumps(times // 1000, option=orjson.OPT_SERIALIZE_NUMPY)
    return b"[[" + text[1:-1].replace(b",", b',"%b"],[') + b',"%b"]]'


def _numbers(values: Floats) -> list[bytes]:
    """Each as `number` writes it; only what has an exponent or is none is left to `number`."""
    text = orjson.dumps(np.ascontiguousarray(values), option=orjson.OPT_SERIALIZE_NUMPY)
    if b"e" in text or b"n" in text or not len(values):
        return [number(value).encode() for value in values.tolist()]
    return text[1:-1].replace(b".0,", b",").removesuffix(b".0").split(b",")
