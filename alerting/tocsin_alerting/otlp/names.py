"""Names of OpenTelemetry as Prometheus 3 makes its own of them, by its default
(`UnderscoreEscapingWithSuffixes`): legal characters, unit and type as suffixes.

As written in https://prometheus.io/docs/guides/opentelemetry/ and in the compatibility document of
OpenTelemetry's specification; the tables of units are those of Prometheus's translator.
"""

import re
from collections.abc import Sequence

from tocsin_alerting.otlp.messages import MetricKind, OtlpMetric

UNITS = {
    "d": "days",
    "h": "hours",
    "min": "minutes",
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "nanoseconds",
    "By": "bytes",
    "KiBy": "kibibytes",
    "MiBy": "mebibytes",
    "GiBy": "gibibytes",
    "TiBy": "tibibytes",
    "KBy": "kilobytes",
    "MBy": "megabytes",
    "GBy": "gigabytes",
    "TBy": "terabytes",
    "m": "meters",
    "V": "volts",
    "A": "amperes",
    "J": "joules",
    "W": "watts",
    "g": "grams",
    "Cel": "celsius",
    "Hz": "hertz",
    "1": "",
    "%": "percent",
}
PER_UNITS = {
    "s": "second",
    "m": "minute",
    "h": "hour",
    "d": "day",
    "w": "week",
    "mo": "month",
    "y": "year",
}
_TOKEN = re.compile(r"[a-zA-Z0-9:]+")
_NO_LABEL = re.compile(r"[^a-zA-Z0-9_]")
_NO_UNIT = re.compile(r"[^a-zA-Z0-9:]+")


def metric_name(metric: OtlpMetric) -> str:
    """The name in the store, without `_bucket` and the like; "" where nothing of it is legal."""
    tokens = _TOKEN.findall(metric.name)
    tokens += _unit_tokens(metric.unit, tokens)
    if metric.kind is MetricKind.SUM and metric.monotonic:
        tokens = [*_without(tokens, "total"), "total"]
    if metric.kind is MetricKind.GAUGE and metric.unit == "1":
        tokens = [*_without(tokens, "ratio"), "ratio"]
    name = "_".join(tokens)
    return f"_{name}" if name[:1].isdigit() else name


def label_name(key: str) -> str:
    """The label of an attribute; "" where nothing of its key is legal."""
    name = _NO_LABEL.sub("_", key)
    if name != key and not name.strip("_"):
        return ""
    if name[:1].isdigit():
        return f"key_{name}"
    return f"key{name}" if name.startswith("_") and not name.startswith("__") else name


def _without(tokens: Sequence[str], token: str) -> list[str]:
    return [each for each in tokens if each != token]


def _unit_tokens(unit: str, tokens: Sequence[str]) -> list[str]:
    """What the unit adds to a name of these tokens: `By/s` is `bytes` and `per_second`."""
    main, _, per = unit.partition("/")
    suffix = _clean(UNITS.get(main.strip(), main.strip()) if _is_unit(main) else "")
    per_unit = PER_UNITS.get(per.strip(), per.strip()) if _is_unit(per) else ""
    per_suffix = _clean(f"per_{per_unit}").rstrip("_") if per_unit else ""
    found = [] if suffix in tokens else [suffix]
    if per_suffix not in ("", "per") and per_suffix not in tokens:
        return [*(each.rstrip("_") for each in found if each.rstrip("_")), per_suffix]
    return [each for each in found if each]


def _is_unit(text: str) -> bool:
    """Whether it is a unit, and no annotation like `{request}`."""
    return bool(text.strip()) and "{" not in text and "}" not in text


def _clean(text: str) -> str:
    return re.sub("__+", "_", _NO_UNIT.sub("_", text)).removeprefix("_")
