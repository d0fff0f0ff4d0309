"""Builds overview.json, the Grafana dashboard; `--check` fails when the committed file differs.

Grafana 10.4 and later read schemaVersion 39. The file is the source of truth: it is provisioned or
imported as it is, and the data source is chosen by the variable `datasource`.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
OVERVIEW = HERE / "overview.json"
WIDTH = 24  # of Grafana's grid
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

# What Grafana would put in; durations as its backend writes them, "All" as the variables define it.
SUBSTITUTED: Mapping[str, str] = {
    "__rate_interval": "1m0s",
    "__interval": "15s",
    "__range": "3600s",
    "target": ".+",
    "model_name": ".+",
    "instance": ".+",
}
_VARIABLE = re.compile(r"\$\{(\w+)(?::\w+)?\}|\$(\w+)")

Json = dict[str, Any]
UNKNOWN = "#808080"  # Grafana paints "no value" in the first colour, so that must not be a verdict


@dataclass(frozen=True, slots=True)
class Query:
    """One expression; `legend` names its series, `{{label}}` stands for a label's value."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """`kind` is Grafana's panel type, `unit` one of its units, `size` columns x rows of the grid.

    `steps` colours values: (from, colour), the first one, from None, where nothing is known.
    """

    title: str
    description: str
    queries: Sequence[Query]
    unit: str = "short"
    kind: str = "timeseries"
    size: tuple[int, int] = (8, 8)
    steps: Sequence[tuple[float | None, str]] = ((None, UNKNOWN), (0, "green"))
    custom: Mapping[str, Any] | None = None
    highest: float | None = None


GREEN_IS_ZERO = ((None, UNKNOWN), (0, "green"), (1, "red"))
FAILED_STEPS = ((None, UNKNOWN), (0, "green"), (0.01, "yellow"), (0.03, "orange"), (0.05, "red"))
BARS = {"drawStyle": "bars", "fillOpacity": 80, "stacking": {"mode": "normal"}}
ENGINE = 'target=~"$target", model_name=~"$model_name"'
MACHINE = 'instance=~"$instance"'
DISK = f'{MACHINE}, fstype!~"tmpfs|ramfs"'
QUARTER = (6, 8)
UP = 'llm_engine_up{target=~"$target"}'
EVALUATED = (
    "(count(tocsin_build_info) and on () inference_throughput:evaluation_timestamp_seconds:last)"
)


def small(title: str, description: str, expr: str, unit: str = "short", **more: Any) -> Panel:
    """One number, of now: the last one of a range would stay green after its source has died."""
    return Panel(title, description, [Query(expr)], unit, kind="stat", size=(3, 4), **more)


def graph(title: str, description: str, expr: str, legend: str, unit: str, **more: Any) -> Panel:
    """The series of one expression over time."""
    return Panel(title, description, [Query(expr, legend)], unit, **more)


def pair(
    title: str,
    description: str,
    expr: Callable[[str], str],
    names: tuple[str, str],
    label: str,
    unit: str,
    **more: Any,
) -> Panel:
    """Two expressions that differ in one name, by `label`."""
    asked = [Query(expr(name), f"{name} {{{{{label}}}}}") for name in names]
    return Panel(title, description, asked, unit, **more)


def rate(metric: str, matchers: str) -> str:
    return f"rate({metric}{{{matchers}}}[$__rate_interval])"


def failed(aggregation: str) -> str:
    """Errors and time-outs as a share of the requests tried to the end; nothing without any."""
    bad = rate("llm_requests_total", f'{ENGINE}, status=~"error|timeout"')
    tried = rate("llm_requests_total", f'{ENGINE}, status=~"success|error|timeout"')
    return f"{aggregation} ({bad}) / ({aggregation} ({tried}) > 0)"


def quantiles(title: str, metric: str, what: str, more: str = "") -> Panel:
    """Three percentiles of a histogram in seconds, by engine."""
    inner = f"sum by (target, le) ({rate(metric + '_bucket', ENGINE + more)})"
    asked = [
        Query(f"histogram_quantile({q / 100:g}, {inner})", f"p{q} {{{{target}}}}")
        for q in (50, 95, 99)
    ]
    return Panel(title, f"{what} Metric: `{metric}`", asked, "s")


def gpu(title: str, metric: str, unit: str, highest: float | None = None) -> Panel:
    """One line a GPU of the chosen machines."""
    legend = "GPU {{gpu}} {{instance}}"
    expr = f"{metric}{{{MACHINE}}}"
    what = f"By GPU. Metric: `{metric}`"
    return graph(title, what, expr, legend, unit, size=QUARTER, highest=highest)


# fmt: off
HEALTH = [
    small("Engines down", "Engines that do not answer; grey while none is watched or the exporter "
        "is silent. Metric: `llm_engine_up`",
        f"count({UP} == 0) or 0 * count({UP})",
        steps=GREEN_IS_ZERO),
    small("Firing alerts", "Firing alerts of P0 to P4; grey while none of Tocsin's rules are "
        "evaluated or no Tocsin answers. Metric: `ALERTS`",
        f'count(ALERTS{{alertstate="firing"}}) or 0 * {EVALUATED}', steps=GREEN_IS_ZERO),
    small("Open incidents", "Incidents that are not closed; grey where no agent reports. Metric: "
        "`tocsin_incidents`",
        "sum(tocsin_incidents) or 0 * count(tocsin_journal_up)", steps=GREEN_IS_ZERO),
    small("Requests",
        "Requests finished a second, whatever their end. Metric: `llm_requests_total`",
        f"sum({rate('llm_requests_total', ENGINE)})", "reqps"),
    small("Failed",
        "Share of errors and time-outs among requests tried to the end; cancelled and rejected "
        "ones are left out. Metric: `llm_requests_total`", failed("sum"), "percentunit",
        steps=FAILED_STEPS),
    small("First token p95",
        "From the request to its first token. Metric: `llm_time_to_first_token_seconds`",
        "histogram_quantile(0.95, sum by (le) "
        f"({rate('llm_time_to_first_token_seconds_bucket', ENGINE)}))", "s",
        steps=((None, UNKNOWN), (0, "green"), (2, "orange"))),
    small("Generated",
        "Tokens generated a second, all engines. Metric: `llm_generation_tokens_total`",
        f"sum({rate('llm_generation_tokens_total', ENGINE)})", "suffix: tok/s"),
    small("KV cache", "The fullest engine's. Metric: `llm_kv_cache_usage_ratio`",
        f"max(llm_kv_cache_usage_ratio{{{ENGINE}}})", "percentunit",
        steps=((None, UNKNOWN), (0, "green"), (0.95, "orange"))),
]

ALERTS = [
    Panel("Firing now", "What fires, with its labels. Metric: `ALERTS`",
        [Query('ALERTS{alertstate="firing"}')], kind="table", size=(12, 8)),
    graph("Alerts over time", "Firing alerts by severity. Metric: `ALERTS`",
        'count by (severity) (ALERTS{alertstate="firing"})', "{{severity}}", "short",
        size=QUARTER, custom=BARS),
    graph("Incidents", "Incidents that are not closed. Metric: `tocsin_incidents`",
        "sum by (severity, state) (tocsin_incidents)", "{{severity}} {{state}}", "short",
        size=QUARTER, custom=BARS),
]

INFERENCE = [
    graph("Engine up", "Green while the engine answers, red while it does not, grey while nobody "
        "knows. Metric: `llm_engine_up`",
        f"{UP} or 0 * last_over_time({UP}[$__range]) - 1",
        "{{target}}", "short", kind="state-timeline",
        steps=((None, UNKNOWN), (0, "red"), (1, "green"))),
    graph("Requests by status", "Requests finished a second. Metric: `llm_requests_total`",
        f"sum by (status) ({rate('llm_requests_total', ENGINE)})", "{{status}}", "reqps",
        custom={"fillOpacity": 20, "stacking": {"mode": "normal"}}),
    graph("Failed requests",
        "Share of errors and time-outs among requests tried to the end. Metric: "
        "`llm_requests_total`", failed("sum by (target)"), "{{target}}", "percentunit",
        steps=FAILED_STEPS),
    quantiles("Time to first token", "llm_time_to_first_token_seconds",
        "From the request to its first token."),
    quantiles("Time per output token", "llm_request_time_per_output_token_seconds",
        "For each token after the first, by request."),
    quantiles("End-to-end latency", "llm_e2e_request_latency_seconds",
        "From the request to its last token, without cancelled and rejected ones.",
        ', status!~"cancelled|rejected"'),
    pair("Tokens", "Metrics: `llm_prompt_tokens_total`, `llm_generation_tokens_total`",
        lambda kind: f"sum by (target) ({rate(f'llm_{kind}_tokens_total', ENGINE)})",
        ("prompt", "generation"), "target", "suffix: tok/s"),
    pair("Queue", "Metrics: `llm_num_requests_running`, `llm_num_requests_waiting`",
        lambda state: f"sum by (target) (llm_num_requests_{state}{{{ENGINE}}})",
        ("running", "waiting"), "target", "short"),
    graph("KV cache", "Share in use. Metric: `llm_kv_cache_usage_ratio`",
        f"max by (target) (llm_kv_cache_usage_ratio{{{ENGINE}}})", "{{target}}", "percentunit",
        highest=1),
]

GPU = [
    gpu("Utilisation", "DCGM_FI_DEV_GPU_UTIL", "percent", 100),
    gpu("Memory", "gpu_memory_used_ratio", "percentunit", 1),
    gpu("Temperature", "DCGM_FI_DEV_GPU_TEMP", "celsius"),
    gpu("Power", "DCGM_FI_DEV_POWER_USAGE", "watt"),
]

IDLE = f'{MACHINE}, mode=~"idle|iowait|steal"'
WIRE = f'{MACHINE}, device!="lo"'
HOST = [
    graph("CPU", "Share of all CPUs that is busy. Metric: `node_cpu_seconds_total`",
        f"1 - avg by (instance) (sum by (instance, cpu) ({rate('node_cpu_seconds_total', IDLE)}))",
        "{{instance}}", "percentunit", size=QUARTER, highest=1),
    graph("Memory", "Share that cannot be given back. Metric: `node_memory_MemAvailable_bytes`",
        f"1 - node_memory_MemAvailable_bytes{{{MACHINE}}}"
        f" / node_memory_MemTotal_bytes{{{MACHINE}}}", "{{instance}}", "percentunit",
        size=QUARTER, highest=1),
    graph("Disk space", "Share in use. Metric: `node_filesystem_avail_bytes`",
        f"1 - node_filesystem_avail_bytes{{{DISK}}} / node_filesystem_size_bytes{{{DISK}}}",
        "{{mountpoint}} {{instance}}", "percentunit", size=QUARTER, highest=1),
    pair("Network", "Without the loopback. Metrics: `node_network_receive_bytes_total`, "
        "`node_network_transmit_bytes_total`",
        lambda way: f"sum by (instance) ({rate(f'node_network_{way}_bytes_total', WIRE)})",
        ("receive", "transmit"), "instance", "Bps", size=QUARTER),
]
# fmt: on

ROWS: Sequence[tuple[str, Sequence[Panel]]] = (
    ("Is it well?", HEALTH),
    ("Alerts and incidents", ALERTS),
    ("Inference", INFERENCE),
    ("GPU", GPU),
    ("Host", HOST),
)


def overview() -> Json:
    """The whole dashboard, as Grafana imports it."""
    return {
        "uid": "tocsin-overview",
        "id": None,
        "title": "Tocsin / Overview",
        "description": "Whether the engines, their GPUs and their machine are well.",
        "tags": ["tocsin"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "",
        "links": [_other_dashboards()],
        "templating": {"list": list(_variables())},
        "annotations": {"list": [_alerts_as_annotations()]},
        "panels": list(_panels()),
    }


def queries(dashboard: Json) -> list[str]:
    """Every expression of panels and annotations, with variables put in as Grafana would.

    Raises KeyError for a variable that has no substitute.
    """
    targets = [target for panel in dashboard["panels"] for target in panel.get("targets", ())]
    targets += [annotation["target"] for annotation in dashboard["annotations"]["list"]]
    return [substitute(target["expr"]) for target in targets]


def substitute(expr: str) -> str:
    """With the variables put in."""
    return _VARIABLE.sub(lambda found: SUBSTITUTED[found[1] or found[2]], expr)


def _panels() -> Iterator[Json]:
    """Rows one under the other; panels fill a row from the left and go on below."""
    ids = count(1)
    top = 0
    for title, panels in ROWS:
        place = {"x": 0, "y": top, "w": WIDTH, "h": 1}
        yield {"id": next(ids), "type": "row", "title": title, "collapsed": False, "panels": [],
               "gridPos": place}  # fmt: skip
        top, left, height = top + 1, 0, 0
        for panel in panels:
            width, tall = panel.size
            if left + width > WIDTH:
                top, left, height = top + height, 0, 0
            yield _panel(panel, next(ids), {"x": left, "y": top, "w": width, "h": tall})
            left, height = left + width, max(height, tall)
        top += height


def _panel(panel: Panel, number: int, place: Json) -> Json:
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _OPTIONS[panel.kind],
        "targets": [
            _target(q, ref, panel.kind) for q, ref in zip(panel.queries, "ABC", strict=False)
        ],
    } | ({"transformations": [_PLAIN_TABLE]} if panel.kind == "table" else {})


def _defaults(panel: Panel) -> Json:
    steps = [{"value": value, "color": colour} for value, colour in panel.steps]
    found: Json = {
        "unit": panel.unit,
        "min": 0,
        "thresholds": {"mode": "absolute", "steps": steps},
        "color": {"mode": "palette-classic" if panel.kind == "timeseries" else "thresholds"},
        "noValue": "not known" if panel.kind == "stat" else "no data",
    }
    if panel.highest is not None:
        found["max"] = panel.highest
    if panel.kind == "timeseries":
        found["custom"] = {"lineWidth": 1, "showPoints": "never", **(panel.custom or {})}
    return found


def _target(query: Query, ref: str, kind: str) -> Json:
    at_once = kind in ("table", "stat")
    return {
        "refId": ref,
        "datasource": DATASOURCE,
        "editorMode": "code",
        "expr": query.expr,
        "legendFormat": query.legend or "__auto",
        "format": "table" if kind == "table" else "time_series",
        "instant": at_once,
        "range": not at_once,
    }


_PLAIN_TABLE = {
    "id": "organize",
    "options": {
        "excludeByName": {"Time": True, "Value": True, "__name__": True, "alertstate": True},
        "indexByName": {"severity": 0, "alertname": 1},
    },
}
_OPTIONS: Mapping[str, Json] = {
    "stat": {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "value",
        "graphMode": "none",
        "textMode": "auto",
    },
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "state-timeline": {
        "mergeValues": True,
        "showValue": "never",
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False},
    },
    "table": {"showHeader": True, "cellHeight": "sm"},
}


def _variables() -> Iterator[Json]:
    yield {"name": "datasource", "label": "Data source", "type": "datasource",
           "query": "prometheus", "refresh": 1}  # fmt: skip
    yield _label("instance", "Machine", "node_uname_info")
    yield _label("target", "Engine", "llm_engine_up")
    yield _label("model_name", "Model", "llm_num_requests_running")


def _label(name: str, shown: str, metric: str) -> Json:
    """A variable over the values of a label; All matches every value."""
    return {
        "name": name,
        "label": shown,
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": f"label_values({metric}, {name})", "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _alerts_as_annotations() -> Json:
    return {
        "name": "Alerts P0 and P1",
        "datasource": DATASOURCE,
        "enable": True,
        "iconColor": "red",
        "target": {
            "refId": "Anno",
            "expr": 'ALERTS{alertstate="firing", severity=~"P0|P1"}',
            "interval": "30s",
        },
        "titleFormat": "{{alertname}}",
        "textFormat": "{{severity}} {{target}} {{instance}}",
        "tagKeys": "severity",
    }


def _other_dashboards() -> Json:
    return {
        "title": "Tocsin",
        "type": "dashboards",
        "tags": ["tocsin"],
        "asDropdown": True,
        "includeVars": True,
        "keepTime": True,
    }


def rendered() -> str:
    """The text of overview.json."""
    return json.dumps(overview(), indent=2, ensure_ascii=False) + "\n"


def main(arguments: Sequence[str], path: Path = OVERVIEW) -> str | None:
    """Writes the file, or with `--check` compares it; a text is an error."""
    if arguments == ["--check"]:
        same = path.exists() and path.read_text("utf-8") == rendered()
        return None if same else f"{path} is not what build.py builds: run {__file__}"
    if arguments:
        return f"usage: {__file__} [--check]"
    path.write_text(rendered(), "utf-8")
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
