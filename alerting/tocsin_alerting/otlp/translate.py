"""OTLP's metrics as samples of series: what Prometheus 3 makes of them.

`job` is `service.namespace/service.name`, `instance` is `service.instance.id`; the other attributes
of a resource are labels of its `target_info`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tocsin_alerting.otlp.messages import DataPoint, MetricKind, OtlpMetric, ResourceMetrics
from tocsin_alerting.otlp.names import label_name, metric_name
from tocsin_alerting.remote_write.prompb import RequestTooLarge
from tocsin_alerting.remote_write.result import Refusals
from tocsin_alerting.strconv import format_number
from tocsin_alerting.tsdb.target_labels import METRIC_NAME
from tocsin_alerting.tsdb.values import STALE
from tocsin_exporter.snapshot import Labels

MAX_LABELS = 2_000_000  # of all samples of a request
_NAMESPACE, _NAME, _INSTANCE = "service.namespace", "service.name", "service.instance.id"
_INFO_MS = 150_000  # as often as half a look-back there is a target_info
_NOT_CUMULATIVE = (
    "its temporality is {}; only cumulative is stored: set the exporter's temporality preference"
    " to cumulative (OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE)"
)
_EXPONENTIAL = (
    "it is an exponential histogram, and native histograms are not stored; send explicit buckets"
    " (OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION=explicit_bucket_histogram)"
)

LabelMap = dict[str, str]
OtlpSample = tuple[Labels, int, float]


@dataclass(slots=True)
class Translation:
    """`samples` are (labels, Unix ms, value); `refusals` counts data points that have none."""

    samples: list[OtlpSample] = field(default_factory=list)
    refusals: Refusals = field(default_factory=Refusals)
    _labels: int = 0

    def add(self, labels: LabelMap, at_ms: int, value: float) -> None:
        """Raises RequestTooLarge."""
        self._labels += len(labels)
        if self._labels > MAX_LABELS:
            raise RequestTooLarge(f"more than {MAX_LABELS:,} labels in one request; send fewer")
        series = tuple(sorted(pair for pair in labels.items() if pair[1]))
        self.samples.append((series, at_ms, value))

    def refuse(self, metric: OtlpMetric, points: int, reason: str, why: str) -> None:
        message = f'metric "{metric.name[:200]}": {why}'
        self.refusals.add(reason, points, sum(self.refusals.counts.values()), message)


def translate(request: Sequence[ResourceMetrics]) -> Translation:
    """Raises RequestTooLarge."""
    made = Translation()
    for resource in request:
        target = _target_labels(resource)
        for metric in resource.metrics:
            _add_metric(made, metric, target)
        _add_target_info(made, resource, target)
    return made


def _target_labels(resource: ResourceMetrics) -> LabelMap:
    attributes = dict(resource.attributes)
    labels: LabelMap = {}
    if (name := attributes.get(_NAME)) is not None:
        namespace = attributes.get(_NAMESPACE)
        labels["job"] = name if namespace is None else f"{namespace}/{name}"
    if (instance := attributes.get(_INSTANCE)) is not None:
        labels["instance"] = instance
    return labels


def _add_metric(made: Translation, metric: OtlpMetric, target: LabelMap) -> None:
    name, count = metric_name(metric), len(metric.points)
    if metric.kind is None:
        return
    if metric.kind is MetricKind.EXPONENTIAL_HISTOGRAM:
        made.refuse(metric, count, "native_histogram", _EXPONENTIAL)
        made.refusals.native_histograms.add(name)
    elif not metric.is_cumulative:
        made.refuse(metric, count, "temporality", _NOT_CUMULATIVE.format(metric.temporality))
    elif not name:
        made.refuse(metric, count, "invalid_labels", "nothing of its name is legal in Prometheus")
    else:
        for point in metric.points:
            _add_point(made, metric, name, point, target)


def _add_point(
    made: Translation, metric: OtlpMetric, name: str, point: DataPoint, target: LabelMap
) -> None:
    assert metric.kind is not None
    labels, nameless = _labels(point.attributes)
    if nameless:
        why = f'nothing of the attribute "{nameless[:200]}" is legal in Prometheus'
        made.refuse(metric, 1, "invalid_labels", why)
        return
    base = {**labels, **target}
    for suffix, extra, value in _SERIES[metric.kind](point):
        made.add(
            {**base, **extra, METRIC_NAME: name + suffix},
            point.at_ms,
            value if point.has_value else STALE,
        )


def _labels(attributes: Sequence[tuple[str, str]]) -> tuple[LabelMap, str]:
    """Keys that become one label have their values joined by `;`. And a key that cannot be one."""
    labels: LabelMap = {}
    nameless = ""
    for key, value in sorted(dict(attributes).items()):
        if name := label_name(key):
            labels[name] = f"{labels[name]};{value}" if name in labels else value
        else:
            nameless = key or "(empty)"
    return labels, nameless


Parts = Iterator[tuple[str, LabelMap, float]]
"""Of each series of a metric: what its name ends with, a label of its own, and the value."""


def _number(point: DataPoint) -> Parts:
    yield "", {}, point.value


def _histogram(point: DataPoint) -> Parts:
    if point.total is not None:
        yield "_sum", {}, point.total
    yield "_count", {}, float(point.count)
    reached = 0
    for bound, count in zip(point.bounds, point.bucket_counts, strict=False):
        reached += count
        yield "_bucket", {"le": format_number(bound)}, float(reached)
    yield "_bucket", {"le": "+Inf"}, float(point.count)


def _summary(point: DataPoint) -> Parts:
    yield "_sum", {}, point.total or 0.0
    yield "_count", {}, float(point.count)
    for quantile, value in point.quantiles:
        yield "", {"quantile": format_number(quantile)}, value


_SERIES = {
    MetricKind.GAUGE: _number,
    MetricKind.SUM: _number,
    MetricKind.HISTOGRAM: _histogram,
    MetricKind.SUMMARY: _summary,
}


def _add_target_info(made: Translation, resource: ResourceMetrics, target: LabelMap) -> None:
    """What else is known of who sends, at the times for which it sends."""
    others = [pair for pair in resource.attributes if pair[0] not in (_NAMESPACE, _NAME, _INSTANCE)]
    times = [point.at_ms for metric in resource.metrics for point in metric.points]
    if not (others and target and times):
        return
    labels = {**_labels(others)[0], **target, METRIC_NAME: "target_info"}
    first, last = min(times), max(times)
    if last - first > 100 * _INFO_MS:  # times that are none are refused with the samples
        first = last
    for at_ms in (*range(first, last, _INFO_MS), last):
        made.add(labels, at_ms, 1.0)
