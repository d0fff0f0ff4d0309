"""`alertctl engines`: which inference engines are watched, and no longer expected."""

from typing import Any

import click

from tocsin_alerting.cli import agent_names, output
from tocsin_alerting.cli.client import AgentClient

HEADER = ["TARGET", "ENGINE", "MODEL", "STATE", "ORIGIN"]


@click.group(invoke_without_command=True)
@output.format_option
@click.pass_context
def engines(context: click.Context, format: str) -> None:
    """List the watched inference engines and their state."""
    if context.invoked_subcommand is not None:
        return
    agent: AgentClient = context.obj
    with agent.get("/api/v1/engines") as data:
        if not output.as_data(data, format):
            rows = [_row(engine) for engine in data["engines"]]
            output.table(HEADER, rows, "no inference engine is watched yet")


@engines.command()
@click.argument("target", shell_complete=agent_names.engines)
@click.pass_obj
def forget(agent: AgentClient, target: str) -> None:
    """Stop watching engine TARGET, which is gone for good; it is found again if it answers."""
    from urllib.parse import quote

    with agent.post(f"/api/v1/engines/{quote(target, safe='/:')}/forget", {}) as outcome:
        print(f"{outcome['target']}: forgotten")


def _row(engine: dict[str, Any]) -> list[str]:
    state = {True: "up", False: "down"}.get(engine["up"], "not yet read")
    return [engine["target"], engine["kind"], engine["model"] or "-", state, engine["origin"]]
