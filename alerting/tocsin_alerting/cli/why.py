"""`alertctl why`: the rule behind an incident, its place, its value over the last hour."""

import math
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import click

from tocsin_alerting.cli import output, samples, times
from tocsin_alerting.cli.client import AgentClient
from tocsin_alerting.cli.incidents import NUMBER, chosen_numbers
from tocsin_alerting.cli.legend import Line

_MOST_RULES = 3  # with a plot each
_PLOT_ROWS = 10
_SPAN = "1h"


@click.command(epilog="Example: alertctl why 42 --since 6h")
@click.argument("numbers", metavar="[ID]", nargs=-1, type=NUMBER)
@click.option("--since", default=_SPAN, show_default=True, metavar="DURATION",
    help="How far back the plot goes.")  # fmt: skip
@output.format_option
@click.pass_obj
def why(agent: AgentClient, numbers: tuple[int, ...], since: str, format: str) -> None:
    """Show why incident ID fires: the rule, its place, its value against the threshold, over time.

    Without ID it is the one that is open.
    """
    if len(numbers) > 1:
        raise click.UsageError("one incident at a time")
    now = time.time()  # noqa: TID251  (the reader's own clock)
    try:
        window = times.time_range(None, None, since, now)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--since") from None
    (number,) = chosen_numbers(agent, numbers, "why")
    with agent.get(f"/api/v1/incidents/{number}/why") as data:
        if output.as_data(data, format):
            return
        _print_head(data, output.width() if format != "wide" else 10_000)
        for alert in _by_rule(data["alerts"]):
            print()
            _print_rule(agent, alert, window)


def _print_head(data: dict[str, Any], columns: int) -> None:
    incident = data["incident"]
    now_ms = int(time.time() * 1000)  # noqa: TID251  (the reader's own clock)
    since = times.date_and_clock(incident["began_at_ms"])
    lasted = times.span((incident["resolved_at_ms"] or now_ms) - incident["began_at_ms"])
    head = f"#{incident['number']} {incident['severity']} {incident['title']}"
    output.wrapped(f"{head}: {incident['state']}, since {since}, for {lasted}", columns)
    if incident["summary"]:
        output.wrapped(incident["summary"], columns)
    if data["alert_count"] > len(data["alerts"]):
        print(f"of {data['alert_count']} alerts the worst {len(data['alerts'])} are looked at")


def _by_rule(alerts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first alert of each rule."""
    first: dict[str, dict[str, Any]] = {}
    for alert in alerts:
        rule = alert["rule"] or {"file": "", "line": alert["labels"].get("alertname", "")}
        first.setdefault(f"{rule['file']}:{rule['line']}", alert)
    return [*first.values()][:_MOST_RULES]


def _print_rule(agent: AgentClient, alert: dict[str, Any], window: times.TimeRange) -> None:
    columns, rule = output.width(), alert["rule"]
    output.wrapped(f"labels: {output.labels_text(alert['labels'])}", columns, "", "  ")
    if rule is None:
        print("its rule is not loaded any more")
        return
    lasting = f" for {times.span(round(1000 * rule['for_seconds']))}" if rule["for_seconds"] else ""
    output.wrapped(f"rule: {rule['file']}:{rule['line']}", columns, "", "  ")
    output.wrapped(f"fires when: {rule['query']}{lasting}", columns, "", "  ")
    limit = rule["threshold"] or rule["threshold_query"]
    against = f", {rule['operator']} {limit}" if limit else ""
    output.wrapped(f"value: {alert['value']}{against}", columns, "", "  ")
    _plot(agent, alert, window)


def _plot(agent: AgentClient, alert: dict[str, Any], window: times.TimeRange) -> None:
    from tocsin_alerting.cli.plot import plot, points_across
    from tocsin_alerting.cli.query import plot_style

    style = plot_style(top=4, rows=_PLOT_ROWS)
    step = times.step("auto", window, points_across(style))
    rule = alert["rule"]
    lines = _series(agent, rule["measured"], alert["labels"], window, step)
    for line in _limit(agent, rule, window, step):
        lines.append(Line({"__name__": "threshold"}, line))
    if not lines:
        print("no samples in this time", file=sys.stderr)
        return
    output.picture(plot(rule["measured"], lines, window, step, style))


def _series(
    agent: AgentClient, query: str, labels: Mapping[str, str], window: times.TimeRange, step: float
) -> list[Line]:
    """Those that the alert may come from: no label says otherwise."""
    parameters = {"query": query, "step": times.parameter(step), **window.parameters()}
    with agent.get("/api/v1/query_range", parameters) as data:
        if data["resultType"] != "matrix":
            return []
        return [line for line in samples.lines(data) if _fits(line.labels, labels)]


def _fits(series: Mapping[str, str], alert: Mapping[str, str]) -> bool:
    shared = (name for name in series if name in alert and name != "alertname")
    return all(series[name] == alert[name] for name in shared)


def _limit(
    agent: AgentClient, rule: dict[str, Any], window: times.TimeRange, step: float
) -> list[list[tuple[float, float]]]:
    """The threshold as a curve: a level one, where it is a number."""
    if rule["threshold_query"]:
        found = _series(agent, rule["threshold_query"], {}, window, step)
        return [list(line.points) for line in found[:1]]
    value = float(rule["threshold"]) if rule["threshold"] else math.nan
    if not math.isfinite(value):
        return []
    count = int((window.end - window.start) / step) + 1
    return [[(window.start + step * at, value) for at in range(count)]]
