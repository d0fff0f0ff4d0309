"""`alertctl heartbeat`: who is to give a sign of life, and who has."""

import sys
import time
from datetime import datetime
from typing import Any

import click

from tocsin_alerting.cli import agent_names, output, times
from tocsin_alerting.cli.answers import by
from tocsin_alerting.cli.client import AgentClient

PATH = "/api/v1/heartbeats"


@click.group()
def heartbeat() -> None:
    """Expect heartbeats of jobs, machines and other agents; one that falls silent pages."""


@heartbeat.command()
@click.argument("name")
@click.option("--every", required=True, help="How often it comes, like 1m or 24h.  [default: none]")
@click.option("--grace", default="2m", show_default=True, help="How much later it may come.")
@click.option(
    "--severity",
    type=click.Choice(["P0", "P1", "P2", "P3", "P4"]),
    default="P2",
    show_default=True,
    help="Severity of the incident when it is missing.",
)
@click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="NAME=VALUE",
    help="Label of its alert.  [default: none]",
)
@click.option(
    "--annotation",
    "annotations",
    multiple=True,
    metavar="NAME=VALUE",
    help="Annotation of its alert.  [default: none]",
)
@by
@output.format_option
@click.pass_obj
def add(agent: AgentClient, /, name: str, actor: str, format: str, **more: Any) -> None:
    """Expect heartbeat NAME and print its token; it is shown this once."""
    body = {key: more[key] for key in ("every", "grace", "severity")}
    body |= {key: _mapping(more[key]) for key in ("labels", "annotations")}
    with agent.post(_path(name), {**body, "by": actor}) as made:
        if output.as_data(made, format):
            return
        print(made["token"])
        print(f"expected every {made['every']} from its first on; send it with:", file=sys.stderr)
        print("  curl -fsS -X POST -H 'Authorization: Bearer TOKEN' \\", file=sys.stderr)
        print(f"    {made['url']}", file=sys.stderr)


@heartbeat.command("list")
@output.format_option
@click.pass_obj
def listed(agent: AgentClient, format: str) -> None:
    """List the heartbeats that are expected, the missing ones first."""
    with agent.get(PATH) as data:
        if output.as_data(data, format):
            return
        now_ms = int(time.time() * 1000)  # noqa: TID251  (the reader's own clock)
        rows = sorted(data["heartbeats"], key=lambda one: (_rank(one), one["name"]))
        header = ["NAME", "STATE", "EVERY", "GRACE", "SEVERITY", "LAST", "INCIDENT"]
        output.table(header, [_row(one, now_ms) for one in rows], "no heartbeats")


@heartbeat.command()
@click.argument("name", shell_complete=agent_names.heartbeats)
@by
@click.pass_obj
def forget(agent: AgentClient, name: str, actor: str) -> None:
    """Expect heartbeat NAME no more; its token is void at once."""
    with agent.post(f"{_path(name)}/forget", {"by": actor}):
        print(f"{name}: forgotten")


def _row(one: dict[str, Any], now_ms: int) -> list[str]:
    last = "never"
    if one["last"]:
        at_ms = round(1000 * datetime.fromisoformat(one["last"]).timestamp())
        last = f"{times.span(max(0, now_ms - at_ms))} ago"
    number = "" if one["incident"] is None else f"#{one['incident']}"
    return [one["name"], one["state"], one["every"], one["grace"], one["severity"], last, number]


def _rank(one: dict[str, Any]) -> int:
    worst = ("missing", "never seen", "late")
    return worst.index(one["state"]) if one["state"] in worst else len(worst)


def _mapping(pairs: tuple[str, ...]) -> dict[str, str]:
    for pair in pairs:
        if not pair.partition("=")[1]:
            raise click.UsageError(f'"{pair}" is no NAME=VALUE')
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs)}


def _path(name: str) -> str:
    from urllib.parse import quote

    return f"{PATH}/{quote(name, safe='')}"
