"""OTLP's protobuf as the tree that its JSON would be, as far as we read it: one meaning for both.

Fields: https://github.com/open-telemetry/opentelemetry-proto (collector/metrics/v1, metrics/v1,
resource/v1, common/v1). In a tree an attribute is a pair of texts, `(key, value)`.
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tocsin_alerting.otlp.attributes import attribute
from tocsin_alerting.remote_write.prompb import (
    FIXED64,
    LENGTH,
    VARINT,
    Field,
    Malformed,
    RequestTooLarge,
    expect,
    read_fields,
)

Tree = dict[str, Any]
MAX_PARTS = 500_000  # messages and numbers of a request, each a Python object or two
_MOST_DEPTH = 32  # of an attribute that holds others
# By message its fields: their names in JSON, and what they hold. [X]: any number of X.
_MESSAGES: Mapping[str, Mapping[int, tuple[str, str]]] = {
    "Request": {1: ("resourceMetrics", "[ResourceMetrics]")},
    "ResourceMetrics": {1: ("resource", "Resource"), 2: ("scopeMetrics", "[ScopeMetrics]")},
    "Resource": {1: ("attributes", "[KeyValue]")},
    "ScopeMetrics": {2: ("metrics", "[Metric]")},
    "Metric": {
        1: ("name", "text"),
        3: ("unit", "text"),
        5: ("gauge", "NumberData"),
        7: ("sum", "NumberData"),
        9: ("histogram", "HistogramData"),
        10: ("exponentialHistogram", "ExponentialHistogramData"),
        11: ("summary", "SummaryData"),
    },
    "NumberData": {
        1: ("dataPoints", "[NumberPoint]"),
        2: ("aggregationTemporality", "number"),
        3: ("isMonotonic", "number"),
    },
    "NumberPoint": {
        3: ("timeUnixNano", "fixed"),
        4: ("asDouble", "double"),
        6: ("asInt", "signed"),
        7: ("attributes", "[KeyValue]"),
        8: ("flags", "number"),
    },
    "HistogramData": {
        1: ("dataPoints", "[HistogramPoint]"),
        2: ("aggregationTemporality", "number"),
    },
    "HistogramPoint": {
        3: ("timeUnixNano", "fixed"),
        4: ("count", "fixed"),
        5: ("sum", "double"),
        6: ("bucketCounts", "fixeds"),
        7: ("explicitBounds", "doubles"),
        9: ("attributes", "[KeyValue]"),
        10: ("flags", "number"),
    },
    "ExponentialHistogramData": {
        1: ("dataPoints", "[ExponentialHistogramPoint]"),
        2: ("aggregationTemporality", "number"),
    },
    "ExponentialHistogramPoint": {3: ("timeUnixNano", "fixed")},
    "SummaryData": {1: ("dataPoints", "[SummaryPoint]")},
    "SummaryPoint": {
        3: ("timeUnixNano", "fixed"),
        4: ("count", "fixed"),
        5: ("sum", "double"),
        6: ("quantileValues", "[Quantile]"),
        7: ("attributes", "[KeyValue]"),
        8: ("flags", "number"),
    },
    "Quantile": {1: ("quantile", "double"), 2: ("value", "double")},
    "AnyKeyValue": {1: ("key", "text"), 2: ("value", "AnyValue")},
    "AnyValue": {
        1: ("stringValue", "text"),
        2: ("boolValue", "number"),
        3: ("intValue", "number"),
        4: ("doubleValue", "double"),
        5: ("arrayValue", "ArrayValue"),
        6: ("kvlistValue", "KeyValueList"),
        7: ("bytesValue", "bytes"),
    },
    "ArrayValue": {1: ("values", "[AnyValue]")},
    "KeyValueList": {1: ("values", "[AnyKeyValue]")},
}


def read_request(data: bytes, most_parts: int = MAX_PARTS) -> Tree:
    """An ExportMetricsServiceRequest. Raises Malformed and RequestTooLarge."""
    return _ProtobufReader(data, most_parts).message("Request", 0, len(data))


@dataclass(slots=True)
class _ProtobufReader:
    """Reads one request; an attribute that comes again is read once."""

    data: bytes
    most_parts: int
    _parts: int = 0
    _depth: int = 0
    _attributes: dict[bytes, tuple[str, str]] = field(default_factory=dict)

    def message(self, kind: str, begin: int, stop: int) -> Tree:
        self._count(1)
        self._depth += 1
        if self._depth > _MOST_DEPTH:
            raise Malformed(f"messages within messages, more than {_MOST_DEPTH} deep")
        tree: Tree = {}
        fields = _MESSAGES[kind]
        for part in read_fields(self.data, begin, stop):
            if part[0] in fields:
                self._read(tree, *fields[part[0]], part)
        self._depth -= 1
        return tree

    def _read(self, tree: Tree, name: str, kind: str, part: Field) -> None:
        if (read := _SCALARS.get(kind)) is not None:
            tree[name] = read(self.data, part)
        elif kind in _PACKED:
            numbers = _packed(self.data, part, _PACKED[kind])
            self._count(len(numbers))
            tree[name] = tree.get(name, []) + numbers
        else:
            expect(part, LENGTH, name)
            if kind == "[KeyValue]":
                tree.setdefault(name, []).append(self._attribute(part[2], part[3]))
            elif kind[0] == "[":
                tree.setdefault(name, []).append(self.message(kind[1:-1], part[2], part[3]))
            else:
                tree[name] = self.message(kind, part[2], part[3])

    def _attribute(self, begin: int, stop: int) -> tuple[str, str]:
        self._count(1)
        key = self.data[begin:stop]
        found = self._attributes.get(key)
        if found is None:
            found = attribute(self.message("AnyKeyValue", begin, stop))
            self._attributes[key] = found
        return found

    def _count(self, parts: int) -> None:
        self._parts += parts
        if self._parts > self.most_parts:
            why = (
                f"more than {self.most_parts:,} data points, attributes and buckets in one request"
            )
            raise RequestTooLarge(f"{why}; send fewer at once")


def _text(data: bytes, part: Field) -> str:
    expect(part, LENGTH, "a text")
    try:
        return data[part[2] : part[3]].decode()
    except UnicodeDecodeError:
        raise Malformed(f"the text at byte {part[2]} is not UTF-8") from None


def _bytes(data: bytes, part: Field) -> bytes:
    expect(part, LENGTH, "bytes")
    return data[part[2] : part[3]]


def _number(data: bytes, part: Field) -> int:
    expect(part, VARINT, "a number")
    return part[2] - (part[2] >> 63 << 64)


def _fixed(data: bytes, part: Field) -> int:
    expect(part, FIXED64, "a number")
    return int.from_bytes(data[part[2] : part[3]], "little")


def _signed(data: bytes, part: Field) -> int:
    expect(part, FIXED64, "a number")
    return int.from_bytes(data[part[2] : part[3]], "little", signed=True)


def _double(data: bytes, part: Field) -> float:
    expect(part, FIXED64, "a number")
    return float(struct.unpack_from("<d", data, part[2])[0])


def _packed(data: bytes, part: Field, kind: str) -> list[Any]:
    """Numbers in a row, or one of them alone."""
    if part[1] != FIXED64:
        expect(part, LENGTH, "a row of numbers")
    if (part[3] - part[2]) % 8:
        raise Malformed(f"a row of numbers at byte {part[2]} is cut off")
    numbers: list[Any] = np.frombuffer(data, kind, (part[3] - part[2]) // 8, part[2]).tolist()
    return numbers


_SCALARS: Mapping[str, Callable[[bytes, Field], Any]] = {
    "text": _text,
    "bytes": _bytes,
    "number": _number,
    "fixed": _fixed,
    "signed": _signed,
    "double": _double,
}
_PACKED = {"fixeds": "<u8", "doubles": "<f8"}
