"""`alertctl alerts`: the alert instances that are pending or firing now."""

import time
from datetime import datetime
from typing import Any

import click

from tocsin_alerting.cli import output, time_text
from tocsin_alerting.cli.client import AgentClient
from tocsin_alerting.cli.terminal import width
from tocsin_alerting.cli.units import human


@click.command()
@output.format_option
@click.pass_obj
def alerts(agent: AgentClient, format: str) -> None:
    """List the alerts that are pending or firing, the worst first."""
    with agent.get("/api/v1/alerts") as data:
        if format == "json":
            output.as_json(data)
            return
        now_ms = int(time.time() * 1000)  # noqa: TID251  (the reader's own clock)
        since = f"SINCE ({time_text.zone_name(now_ms)})"
        header = ["SEVERITY", "STATE", since, "FOR", "VALUE", "ALERT"]
        worst_first = sorted(data["alerts"], key=_rank)
        rows = [_row(alert, now_ms) for alert in worst_first]
        output.listing(header, rows, "no alert is pending or firing", width())


def _rank(alert: dict[str, Any]) -> tuple[bool, str, str]:
    """What fires first, the worst of it first, the longest first."""
    severity = alert["labels"].get("severity", "~")
    return alert["state"] != "firing", severity, alert["activeAt"]


def _row(alert: dict[str, Any], now_ms: int) -> tuple[list[str], list[str]]:
    labels = dict(alert["labels"])
    severity, name = labels.pop("severity", "-"), labels.pop("alertname", "")
    since_ms = int(datetime.fromisoformat(alert["activeAt"]).timestamp() * 1000)
    value = human(float(alert["value"]), "number")
    clock, lasting = time_text.clock(since_ms, now_ms), time_text.span(now_ms - since_ms)
    texts = [output.summary(alert["annotations"]), output.labels_text(labels) if labels else ""]
    cells = [severity, alert["state"], clock, lasting, value, name]
    return cells, [text for text in texts if text]
