"""Query results as Prometheus's JSON: numbers are texts, times are seconds."""

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import Any

import numpy as np
import orjson

from tocsin_alerting.promql.result import (
    InstantVector,
    Matrix,
    QueryValue,
    Result,
    ScalarValue,
    StringValue,
    Track,
)
from tocsin_alerting.strconv import exponent, format_number
from tocsin_alerting.tsdb.values import Floats, Ints
from tocsin_exporter.snapshot import Labels

PIECE_BYTES = 256 << 10
_MAX_ANNOTATIONS = 10
_SMALL_ROWS = 100  # become text together: a call for each takes longer than its text
_COUNTED_TOGETHER = 1_000  # rows
_PAIR, _TRACK = 64, 300  # bytes, as measured: a label, and the two arrays of a series
_CHARACTER = 2  # in memory: one for most texts, four where one of its characters is an emoji


@dataclass(frozen=True, slots=True)
class ResponseBody:
    """An answer's body in pieces, each of which but the last is a large one. `size` gives the bytes
    of what it is made of, which is in memory until the last piece is made. `encoding` is that of
    the pieces; None: they may be compressed."""

    pieces: Iterable[bytes]
    size: Callable[[], int] = int
    content_type: str = "application/json"
    encoding: str | None = None

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.pieces)


def format_value(value: float) -> str:
    """A sample's value as Prometheus writes it: the shortest text that reads back, with an exponent
    where the value is far from 1."""
    text = repr(value)
    if "e" not in text and math.isfinite(value):
        return text.removesuffix(".0")
    near = not math.isfinite(value) or 1e-6 <= abs(value) < 1e21
    return format_number(value) if near else exponent(value)


def unix_seconds(at_ms: int) -> int | float:
    """A time as Prometheus writes it: whole seconds without a fraction."""
    whole_seconds, rest = divmod(at_ms, 1000)
    return at_ms / 1000 if rest else whole_seconds


def query_body(result: Result, stats: Mapping[str, Any] | None = None) -> ResponseBody:
    """The body of a query's answer."""
    kind, rows = _kind_and_rows(result.value)
    head = b'{"status":"success","data":{"resultType":' + orjson.dumps(kind) + b',"result":'
    stats_json = b',"stats":' + orjson.dumps(stats) if stats else b""
    notes = _annotations(result.warnings, result.infos)
    together = 1 if kind == "matrix" else _SMALL_ROWS
    pieces = _body_pieces(head, rows, stats_json + b"}" + notes + b"}", together)
    return ResponseBody(pieces, partial(result_bytes, result.value))


def list_body(
    rows: Iterable[Any], size: Callable[[], int], warnings: Sequence[str] = ()
) -> ResponseBody:
    """The body of an answer whose data is a list; `size` is the Body's."""
    tail = _annotations(warnings, ()) + b"}"
    return ResponseBody(_body_pieces(b'{"status":"success","data":', rows, tail, _SMALL_ROWS), size)


def data_body(data: Any) -> ResponseBody:
    """The body of an answer of any shape."""
    body = orjson.dumps({"status": "success", "data": data})
    pieces = (body[at : at + PIECE_BYTES] for at in range(0, len(body), PIECE_BYTES))
    return ResponseBody(pieces, body.__len__)


def result_bytes(value: QueryValue) -> int:
    """The memory of a result, rather more than less: the store may hold its labels too."""
    match value:
        case InstantVector():
            return value.values.nbytes + labels_bytes(value.labels)
        case Matrix():
            size, times = labels_bytes([series.labels for series in value]), None
            for series in value:  # those of a range have the same times
                size += (
                    _TRACK
                    + series.values.nbytes
                    + (0 if series.times is times else series.times.nbytes)
                )
                times = series.times
            return size
    return 0


def labels_bytes(rows: Collection[Labels]) -> int:
    """The same of label sets, some at a time: while a sum is made nobody else has a turn."""
    size, rest = 0, iter(rows)
    while some := list(islice(rest, _COUNTED_TOGETHER)):
        texts = chain.from_iterable(chain.from_iterable(some))
        size += _PAIR * sum(map(len, some)) + _CHARACTER * sum(map(len, texts))
    return size


def _body_pieces(head: bytes, rows: Iterable[Any], tail: bytes, together: int) -> Iterator[bytes]:
    """Made piece by piece because the texts of a large answer take twenty times its numbers'
    memory, and because whoever makes them holds up everybody else."""
    piece = bytearray(head)
    opening, rest = b"[", iter(rows)
    while chunk := list(islice(rest, together)):
        piece += opening + orjson.dumps(chunk)[1:-1]
        opening = b","
        if len(piece) >= PIECE_BYTES:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece) + (b"[" if opening == b"[" else b"") + b"]" + tail


def _annotations(warnings: Sequence[str], infos: Sequence[str]) -> bytes:
    notes = {
        b"warnings": _first_annotations(warnings, "warning"),
        b"infos": _first_annotations(infos, "info"),
    }
    return b"".join(b',"%s":%s' % (k, orjson.dumps(texts)) for k, texts in notes.items() if texts)


def _first_annotations(notes: Sequence[str], kind: str) -> list[str]:
    """As many as Prometheus tells (web/api/v1/api.go); a query of all metrics may have one each."""
    more = len(notes) - _MAX_ANNOTATIONS
    omitted = [f"{more} more {kind} annotations omitted"] if more > 0 else []
    return [*notes[:_MAX_ANNOTATIONS], *omitted]


def _kind_and_rows(value: QueryValue) -> tuple[str, Iterable[Any]]:
    """The result's type and its elements: of a number or a text, time and value."""
    match value:
        case ScalarValue():
            return "scalar", (unix_seconds(value.at_ms), format_number(value.value))
        case StringValue():
            return "string", (unix_seconds(value.at_ms), value.value)
        case InstantVector():
            at = unix_seconds(value.at_ms)
            return "vector", (
                {"metric": dict(ls), "value": (at, format_value(v))} for ls, v in value
            )
        case Matrix():
            return "matrix", map(_MatrixRows().row, value)


class _MatrixRows:
    """Series of a matrix as text. A panel has a hundred thousand numbers and a few sets of times:
    a set becomes a form once, and the numbers of a series are put into it all together."""

    def __init__(self) -> None:
        self._times: Ints | None = None
        self._form = b""

    def row(self, track: Track) -> dict[str, Any]:
        if self._times is None or not np.array_equal(track.times, self._times):
            self._times, self._form = track.times, _row_template(track.times)
        values = self._form % tuple(_numbers(track.values))
        return {"metric": dict(track.labels), "values": orjson.Fragment(values)}


def _row_template(times: Ints) -> bytes:
    if not len(times):
        return b"[]"
    if (times % 1000).any():
        text = orjson.dumps([unix_seconds(at) for at in times.tolist()])
    else:
        text = orjson.dumps(times // 1000, option=orjson.OPT_SERIALIZE_NUMPY)
    return b"[[" + text[1:-1].replace(b",", b',"%b"],[') + b',"%b"]]'


def _numbers(values: Floats) -> list[bytes]:
    """Each as `number` writes it; only what has an exponent or is none is left to `number`."""
    text = orjson.dumps(np.ascontiguousarray(values), option=orjson.OPT_SERIALIZE_NUMPY)
    if b"e" in text or b"n" in text or not len(values):
        return [format_value(value).encode() for value in values.tolist()]
    return text[1:-1].replace(b".0,", b",").removesuffix(b".0").split(b",")
