"""`alertctl query`: PromQL on the agent's store."""

from typing import Any

import click

from tocsin_alerting.cli import output
from tocsin_alerting.cli.client import Agent


@click.group()
def query() -> None:
    """Ask the agent's store in PromQL."""


@query.command()
@click.argument("expression")
@click.option("--time", "at", help="Unix seconds or RFC 3339; now without it.")
@output.format_option
@click.pass_obj
def instant(agent: Agent, expression: str, at: str | None, format: str) -> None:
    """The value of EXPRESSION at one moment."""
    parameters = {"query": expression} | ({"time": at} if at else {})
    with agent.get("/api/v1/query", parameters) as data:
        if format == "json":
            output.as_json(data)
            return
        rows = _rows(data["resultType"], data["result"])
        output.table(["SERIES", "VALUE"], rows, "no series")


def _rows(kind: str, result: Any) -> list[list[str]]:
    if kind in ("scalar", "string"):
        return [[kind, result[1]]]
    if kind == "vector":
        return [[output.labels_text(one["metric"]), one["value"][1]] for one in result]
    return [
        [output.labels_text(one["metric"]), " ".join(f"{v}@{at}" for at, v in one["values"])]
        for one in result
    ]
