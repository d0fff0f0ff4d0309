"""`alertctl engines`: which inference engines are watched, and no longer expected."""

from typing import Any

import click

from tocsin_alerting.cli import output
from tocsin_alerting.cli.client import Agent

HEADER = ["TARGET", "ENGINE", "MODEL", "STATE", "ORIGIN"]


@click.group(invoke_without_command=True)
@output.format_option
@click.pass_context
def engines(context: click.Context, format: str) -> None:
    """List the inference engines that are watched, with what is known of them."""
    if context.invoked_subcommand is not None:
        return
    agent: Agent = context.obj
    with agent.get("/api/v1/engines") as data:
        if format == "json":
            output.as_json(data)
        else:
            rows = [_row(one) for one in data["engines"]]
            output.table(HEADER, rows, "no inference engine is watched yet")


@engines.command()
@click.argument("target")
@click.pass_obj
def forget(agent: Agent, target: str) -> None:
    """Watch the engine TARGET no longer: it was taken away for good. It is found again when it
    answers."""
    from urllib.parse import quote

    with agent.post(f"/api/v1/engines/{quote(target, safe='/:')}/forget", {}) as told:
        print(f"{told['target']}: forgotten")


def _row(one: dict[str, Any]) -> list[str]:
    state = {True: "up", False: "down"}.get(one["up"], "not yet read")
    return [one["target"], one["kind"], one["model"] or "-", state, one["origin"]]
