"""`alertctl alerts`: the alert instances that are pending or firing now."""

from typing import Any

import click

from tocsin_alerting.cli import output
from tocsin_alerting.cli.client import Agent

HEADER = ["SEVERITY", "ALERT", "STATE", "ACTIVE SINCE", "VALUE", "LABELS"]


@click.command()
@output.format_option
@click.pass_obj
def alerts(agent: Agent, format: str) -> None:
    """List the alerts that are pending or firing."""
    with agent.get("/api/v1/alerts") as data:
        if format == "json":
            output.as_json(data)
            return
        worst_first = sorted(data["alerts"], key=lambda one: one["labels"].get("severity", "~"))
        rows = [_row(one) for one in worst_first]
        output.table(HEADER, rows, "no alert is pending or firing")


def _row(alert: dict[str, Any]) -> list[str]:
    labels = dict(alert["labels"])
    severity, name = labels.pop("severity", "-"), labels.pop("alertname", "")
    since, value = alert["activeAt"], alert["value"]
    return [severity, name, alert["state"], since, value, output.labels_text(labels)]
