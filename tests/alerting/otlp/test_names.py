"""Names of OpenTelemetry: the cases of Prometheus's own translator for its default strategy."""

import pytest

from tocsin_alerting.otlp.messages import MetricKind, OtlpMetric
from tocsin_alerting.otlp.names import label_name, metric_name

GAUGE, COUNTER, SUM = (MetricKind.GAUGE, False), (MetricKind.SUM, True), (MetricKind.SUM, False)
HISTOGRAM, SUMMARY = (MetricKind.HISTOGRAM, False), (MetricKind.SUMMARY, False)


@pytest.mark.parametrize(
    ("name", "unit", "kind", "written"),
    [
        ("requests", "", COUNTER, "requests_total"),
        ("requests_total", "", COUNTER, "requests_total"),
        ("total.io", "", COUNTER, "io_total"),
        ("cpu_usage", "1", GAUGE, "cpu_usage_ratio"),
        ("cpu_usage_ratio", "1", GAUGE, "cpu_usage_ratio"),
        ("items", "1", COUNTER, "items_total"),
        ("queue.size", "1", SUM, "queue_size"),
        ("response_time", "ms", GAUGE, "response_time_milliseconds"),
        ("response_time_seconds", "s", GAUGE, "response_time_seconds"),
        ("memory_usage", "By", GAUGE, "memory_usage_bytes"),
        ("requests", "1/s", GAUGE, "requests_per_second"),
        ("throughput", "By/s", GAUGE, "throughput_bytes_per_second"),
        ("speed", "m/m", GAUGE, "speed_meters_per_minute"),
        ("custom_metric", "custom_unit", GAUGE, "custom_metric_custom_unit"),
        ("custom_metric", "{custom}", GAUGE, "custom_metric"),
        ("custom_metric", "By/{custom}", GAUGE, "custom_metric_bytes"),
        ("custom_metric", "{request}/s", GAUGE, "custom_metric_per_second"),
        (
            "metric__with__multiple__underscores",
            "unit__multiple__underscores",
            GAUGE,
            "metric_with_multiple_underscores_unit_multiple_underscores",
        ),
        (
            "custom_metric",
            "unit@with#special/chars",
            GAUGE,
            "custom_metric_unit_with_special_per_chars",
        ),
        ("@#$%", "", GAUGE, ""),
        ("123_requests", "", COUNTER, "_123_requests_total"),
        ("request_duration", "s", HISTOGRAM, "request_duration_seconds"),
        ("response.time", "ms", SUMMARY, "response_time_milliseconds"),
        ("uptime", "d", GAUGE, "uptime_days"),
        ("cpu.load", "%", GAUGE, "cpu_load_percent"),
        ("_private.thing_", "", GAUGE, "private_thing"),
        ("a:b", "", GAUGE, "a:b"),
        ("x", "s/ ", GAUGE, "x_seconds"),
        ("x", " /s", GAUGE, "x_per_second"),
    ],
)
def test_a_metric(name: str, unit: str, kind: tuple[MetricKind, bool], written: str) -> None:
    assert metric_name(OtlpMetric(name, unit, kind[0], "", kind[1], ())) == written


@pytest.mark.parametrize(
    ("key", "written"),
    [
        ("http.method", "http_method"),
        ("already_fine", "already_fine"),
        ("123invalid", "key_123invalid"),
        ("_hidden", "key_hidden"),
        (".hidden", "key_hidden"),
        ("__reserved__", "__reserved__"),
        ("a  b", "a__b"),
        ("a:b", "a_b"),
        ("日", ""),
        ("", ""),
        ("___", "___"),
    ],
)
def test_a_label(key: str, written: str) -> None:
    assert label_name(key) == written
