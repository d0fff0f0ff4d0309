"""`alertctl alerts`: the alert instances that are pending or firing now."""

import time
from datetime import datetime
from typing import Any

import click

from tocsin_alerting.cli import output, times
from tocsin_alerting.cli.client import AgentClient
from tocsin_alerting.cli.output import width
from tocsin_alerting.units import human


@click.command()
@output.format_option
@click.pass_obj
def alerts(agent: AgentClient, format: str) -> None:
    """List pending and firing alerts, worst first."""
    with agent.get("/api/v1/alerts") as data:
        if output.as_data(data, format):
            return
        now_ms = int(time.time() * 1000)  # noqa: TID251  (the reader's own clock)
        since = f"SINCE ({times.zone_name(now_ms)})"
        header = ["SEVERITY", "STATE", since, "FOR", "VALUE", "ALERT"]
        worst_first = sorted(data["alerts"], key=_rank)
        rows = [_row(alert, now_ms) for alert in worst_first]
        output.listing(header, rows, "no pending or firing alerts", width(format))


def _rank(alert: dict[str, Any]) -> tuple[bool, str, str]:
    """What fires first, the worst of it first, the longest first."""
    severity = alert["labels"].get("severity", "~")
    return alert["state"] != "firing", severity, alert["activeAt"]


def _row(alert: dict[str, Any], now_ms: int) -> tuple[list[str], list[str]]:
    labels = dict(alert["labels"])
    severity, name = labels.pop("severity", "-"), labels.pop("alertname", "")
    since_ms = int(datetime.fromisoformat(alert["activeAt"]).timestamp() * 1000)
    value = human(float(alert["value"]), "number")
    clock, lasting = times.clock(since_ms, now_ms), times.span(now_ms - since_ms)
    texts = [output.summary(alert["annotations"]), output.labels_text(labels) if labels else ""]
    if origin := alert.get("origin", ""):
        texts.append(f"from {origin.partition(';')[2]}")
    cells = [severity, alert["state"], clock, lasting, value, name]
    return cells, [text for text in texts if text]
