"""`alertctl incidents`, `ack`, `resolve`: what people are told about, and how they answer."""

import getpass
import time
from typing import Any

import click

from tocsin_alerting.cli import output
from tocsin_alerting.cli.client import Agent

HEADER = ["ID", "SEVERITY", "STATE", "WHAT", "OPENED", "OWNER", "MUTED BY"]
HISTORY = ["WHEN (UTC)", "EVENT", "BY", "DETAIL"]
NUMBER = click.IntRange(min=1)


@click.command()
@click.argument("number", required=False, type=NUMBER)
@click.option("--all", "everything", is_flag=True, help="Also those that are resolved or closed.")
@output.format_option
@click.pass_obj
def incidents(agent: Agent, number: int | None, everything: bool, format: str) -> None:
    """List the incidents, or show the one with NUMBER and its history."""
    path = "/api/v1/incidents" if number is None else f"/api/v1/incidents/{number}"
    with agent.get(path, {"state": "all" if everything else "open"}) as data:
        if format == "json":
            output.as_json(data)
        elif number is None:
            now_ms = int(time.time() * 1000)  # noqa: TID251  (the reader's own clock)
            none = "there is no incident" if everything else "no incident is open"
            output.table(HEADER, [_row(one, now_ms) for one in data["incidents"]], none)
        else:
            _show(data)


def _row(one: dict[str, Any], now_ms: int) -> list[str]:
    return [
        f"#{one['number']}",
        one["severity"],
        one["state"],
        one["title"],
        output.age(one["opened_at_ms"], now_ms),
        one["owner"] or "-",
        ", ".join(one["muted_by"]) or "-",
    ]


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run as a number that has no name
        return "somebody"


@click.command()
@click.argument("number", type=NUMBER)
@click.option("--by", "actor", default=_user, help="Who answers.  [default: you]")
@click.option("--note", default="", help="For the others.")
@click.pass_obj
def ack(agent: Agent, number: int, actor: str, note: str) -> None:
    """Answer for the incident NUMBER: its escalation stops."""
    _act(agent, number, "ack", actor, note)


@click.command()
@click.argument("number", type=NUMBER)
@click.option("--by", "actor", default=_user, help="Who resolves it.  [default: you]")
@click.option("--note", default="", help="What it was.")
@click.option("--false-positive", is_flag=True, help="There was nothing wrong.")
@click.pass_obj
def resolve(agent: Agent, number: int, actor: str, note: str, false_positive: bool) -> None:
    """Close the incident NUMBER by hand."""
    _act(agent, number, "resolve", actor, note, false_positive=false_positive)


def _act(agent: Agent, number: int, verb: str, actor: str, note: str, **more: object) -> None:
    from uuid import uuid4

    body = {"by": actor, "note": note, "request_id": str(uuid4()), **more}
    with agent.post(f"/api/v1/incidents/{number}/{verb}", body) as one:
        owner = f", owned by {one['owner']}" if one["owner"] else ""
        print(f"#{one['number']} {one['title']}: {_state(one)}{owner}")
        if again_ms := one.get("raised_again_at_ms"):
            print(f"  raised again at {output.utc(again_ms)} if it still fires")


def _state(one: dict[str, Any]) -> str:
    if not one.get("closed_by_hand"):
        return str(one["state"])
    known = "still firing" if one["source"] == "firing" else "state unknown"
    return f"{one['state']} (closed by hand, {known})"


def _show(one: dict[str, Any]) -> None:
    print(f"#{one['number']} [{one['severity']}] {one['title']}: {_state(one)}")
    print(f"opened {output.utc(one['opened_at_ms'])}, owner {one['owner'] or '-'}")
    for alert in one["alerts"]:
        print(f"  {alert['source']}: {output.labels_text(alert['labels'])}")
        for name, text in sorted(alert["annotations"].items()):
            print(f"    {name}: {text}")
    rows = [
        [output.utc(entry["at_ms"]), entry["event"], entry["actor"] or "-", _said(entry["data"])]
        for entry in one["history"]
    ]
    output.table(HISTORY, rows, "no history is recorded")


def _said(data: dict[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in sorted(data.items()) if value != "")
