"""What an OTLP request says, from protobuf or from JSON."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import orjson

from tocsin_alerting.otlp.attributes import attribute
from tocsin_alerting.otlp.protobuf import MAX_PARTS, Tree, read_request
from tocsin_alerting.remote_write.prompb import Malformed, RequestTooLarge

MAX_BYTES = 32 << 20  # unpacked
_TEMPORALITIES = ("unspecified", "delta", "cumulative")
_NO_VALUE = 1  # of the flags
_GZIP = 16 + zlib.MAX_WBITS


class MetricKind(Enum):
    """What a metric measures, by what its data is called."""

    GAUGE = "gauge"
    SUM = "sum"
    HISTOGRAM = "histogram"
    EXPONENTIAL_HISTOGRAM = "exponentialHistogram"
    SUMMARY = "summary"


@dataclass(frozen=True, slots=True)
class DataPoint:
    """One data point of any kind; `at_ms` is Unix ms. `has_value` is False where the sender says
    that there is none now. The `total` of a histogram may be missing; `quantiles` are a summary's.
    """

    attributes: Sequence[tuple[str, str]]
    at_ms: int
    has_value: bool
    value: float
    count: int
    total: float | None
    bounds: Sequence[float]
    bucket_counts: Sequence[int]
    quantiles: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class OtlpMetric:
    """`kind` is None for one without data of a kind that we know."""

    name: str
    unit: str
    kind: MetricKind | None
    temporality: str
    monotonic: bool
    points: Sequence[DataPoint]

    @property
    def is_cumulative(self) -> bool:
        """Whether its numbers are what the store keeps: of now, or since a start."""
        no_temporality = self.kind in (MetricKind.GAUGE, MetricKind.SUMMARY)
        return no_temporality or self.temporality == "cumulative"


@dataclass(frozen=True, slots=True)
class ResourceMetrics:
    """What one process sends."""

    attributes: Sequence[tuple[str, str]]
    metrics: Sequence[OtlpMetric]


def read_message(body: bytes, json: bool, zipped: bool) -> list[ResourceMetrics]:
    """Raises Malformed and RequestTooLarge."""
    data = unzipped(body) if zipped else body
    if len(data) > MAX_BYTES:
        raise RequestTooLarge(_TOO_LONG)
    try:
        tree = _json(data) if json else read_request(data)
        return [_resource(each) for each in tree.get("resourceMetrics") or ()]
    except (Malformed, RequestTooLarge):
        raise
    except (AttributeError, LookupError, TypeError, ValueError, OverflowError) as error:
        raise Malformed(f"the body is no ExportMetricsServiceRequest: {error}") from None


_TOO_LONG = f"the request is longer than {MAX_BYTES >> 20} MiB unpacked"


def unzipped(body: bytes, most_bytes: int = MAX_BYTES) -> bytes:
    """Raises Malformed, or RequestTooLarge before more than that is unpacked."""
    unpacker = zlib.decompressobj(_GZIP)
    try:
        data = unpacker.decompress(body, most_bytes)
    except zlib.error as error:
        raise Malformed(f"the body is not gzip: {error}") from None
    if unpacker.unconsumed_tail:
        raise RequestTooLarge(_TOO_LONG)
    if not unpacker.eof:
        raise Malformed("the body is not gzip: it is cut off")
    return data


def _json(data: bytes) -> Tree:
    if sum(data.count(mark) for mark in (b"{", b"[", b",")) > MAX_PARTS * 4:
        raise RequestTooLarge("too many parts in one request; send fewer at once")
    try:
        tree = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"the body is not JSON: {error}") from None
    if not isinstance(tree, dict):
        raise Malformed("the body is no JSON object")
    return tree


def _resource(tree: Tree) -> ResourceMetrics:
    metrics = [
        _metric(metric)
        for scope in tree.get("scopeMetrics") or ()
        for metric in scope.get("metrics") or ()
    ]
    return ResourceMetrics(_attributes(tree.get("resource") or {}), metrics)


def _metric(tree: Tree) -> OtlpMetric:
    kind = next((each for each in MetricKind if tree.get(each.value) is not None), None)
    data: Tree = tree[kind.value] if kind else {}
    return OtlpMetric(
        str(tree.get("name", "")),
        str(tree.get("unit", "")),
        kind,
        _temporality(data.get("aggregationTemporality", 0)),
        bool(data.get("isMonotonic", False)),
        [_point(point) for point in data.get("dataPoints") or ()],
    )


def _temporality(value: int | str) -> str:
    """In JSON a number; some write the name of the constant."""
    if isinstance(value, str) and not value.isdigit():
        return value.rpartition("_")[2].lower()
    number = int(value)
    return _TEMPORALITIES[number] if 0 <= number < len(_TEMPORALITIES) else str(number)


def _point(tree: Tree) -> DataPoint:
    total = tree.get("sum")
    return DataPoint(
        attributes=_attributes(tree),
        at_ms=_unsigned(tree.get("timeUnixNano", 0)) // 1_000_000,
        has_value=not _unsigned(tree.get("flags", 0)) & _NO_VALUE,
        value=float(tree["asDouble"]) if "asDouble" in tree else float(int(tree.get("asInt", 0))),
        count=_unsigned(tree.get("count", 0)),
        total=None if total is None else float(total),
        bounds=[float(bound) for bound in tree.get("explicitBounds") or ()],
        bucket_counts=[_unsigned(count) for count in tree.get("bucketCounts") or ()],
        quantiles=[
            (float(each.get("quantile", 0)), float(each.get("value", 0)))
            for each in tree.get("quantileValues") or ()
        ],
    )


def _attributes(tree: Tree) -> list[tuple[str, str]]:
    pairs = tree.get("attributes") or ()
    return [pair if isinstance(pair, tuple) else attribute(pair) for pair in pairs]


def _unsigned(value: int | str) -> int:
    """In JSON a text, because JavaScript has no such numbers; so are `"NaN"` and `"Infinity"`."""
    number = int(value)
    if not 0 <= number < 1 << 64:
        raise ValueError(f"{str(value)[:30]} is no number of 64 bits without a sign")
    return number
