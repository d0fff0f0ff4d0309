"""`alertctl alerts`: the alert instances that are pending or firing now."""

import click

from tocsin_alerting.cli import output
from tocsin_alerting.cli.client import Agent


@click.command()
@output.format_option
@click.pass_obj
def alerts(agent: Agent, format: str) -> None:
    """List the alerts that are pending or firing."""
    data = agent.get("/api/v1/alerts")
    if format == "json":
        output.as_json(data)
        return
    rows = [
        [
            one["labels"].get("severity", "-"),
            one["labels"].get("alertname", ""),
            one["state"],
            one["activeAt"],
            one["value"],
            output.labels_text(_others(one["labels"])),
        ]
        for one in sorted(data["alerts"], key=lambda one: one["labels"].get("severity", "~"))
    ]
    header = ["SEVERITY", "ALERT", "STATE", "ACTIVE SINCE", "VALUE", "LABELS"]
    output.table(header, rows, "no alert is pending or firing")


def _others(labels: dict[str, str]) -> dict[str, str]:
    return {k: v for k, v in labels.items() if k not in ("alertname", "severity")}
