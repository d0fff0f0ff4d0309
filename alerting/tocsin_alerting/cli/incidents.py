"""`alertctl incidents`, `ack`, `resolve`: what people are told about, and how they answer."""

import getpass
import re
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from tocsin_alerting.cli import output, time_text
from tocsin_alerting.cli.client import AgentClient
from tocsin_alerting.cli.terminal import width

if TYPE_CHECKING:
    IntParam = click.ParamType[int]
else:
    IntParam = click.ParamType  # before click 8.3 it takes no type


class Number(IntParam):
    """`42`, or `#42` as everything prints it."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value).removeprefix("#")
        if not re.fullmatch("[0-9]{1,15}", text) or int(text) == 0:
            self.fail(f"{value!r} is no incident's number; write it like 42 or '#42'", param, ctx)
        return int(text)


NUMBER = Number()
_PAGE = 500  # incidents an answer


@click.command()
@click.argument("number", required=False, type=NUMBER)
@click.option("--all", "everything", is_flag=True, help="Also those that are resolved or closed.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="List so many at most: the worst of the open ones, then the newest that are over.",
)
@output.format_option
@click.pass_obj
def incidents(
    agent: AgentClient, number: int | None, everything: bool, limit: int, format: str
) -> None:
    """List the incidents, or show the one with NUMBER and its history."""
    if number is not None:
        with agent.get(f"/api/v1/incidents/{number}") as data:
            output.as_json(data) if format == "json" else _show(data)
        return
    listed, more, still_open = _listed(agent, "all" if everything else "open", limit)
    if format == "json":
        output.as_json({"incidents": listed, "next": more, "open": still_open})
    else:
        with agent.understood():
            _list(listed, everything)
    if more is not None:
        print(f"{_left_out(listed, still_open)}; --limit shows more of them", file=sys.stderr)


def _listed(
    agent: AgentClient, state: str, limit: int
) -> tuple[list[dict[str, Any]], str | None, int]:
    """The worst `limit`, page by page; where the rest begins, if anywhere; how many are open."""
    listed: list[dict[str, Any]] = []
    cursor: str | None = ""
    still_open = 0
    while cursor is not None and len(listed) < limit:
        size = {"limit": str(min(limit - len(listed), _PAGE)), "cursor": cursor}
        wanted = {"state": state, "order": "severity", **size}
        with agent.get("/api/v1/incidents", wanted) as data:
            listed += data["incidents"]
            cursor, still_open = data.get("next"), data.get("open", 0)
    return listed, cursor, still_open


def _left_out(listed: list[dict[str, Any]], still_open: int) -> str:
    left = still_open - sum(not _is_over(incident) for incident in listed)
    if left <= 0:
        return f"there are more than these {len(listed)}"
    return f"{left} more are open, none of them worse than {listed[-1]['severity']}"


def _list(incidents: list[dict[str, Any]], everything: bool) -> None:
    """The worst first, of one severity the newest; those that are over last."""
    now_ms = int(time.time() * 1000)  # noqa: TID251  (the reader's own clock)
    zone = time_text.zone_name(now_ms)
    ended = ["ENDED"] if everything else []
    header = ["ID", "SEVERITY", "STATE", f"SINCE ({zone})", *ended, "FOR", "OWNER"]
    none = "there is no incident" if everything else "no incident is open"
    ranked = sorted(
        incidents,
        key=lambda incident: (_is_over(incident), incident["severity"], -incident["number"]),
    )
    output.listing(header, [_row(one, now_ms, everything) for one in ranked], none, width())


def _is_over(incident: dict[str, Any]) -> bool:
    return incident["state"] in ("RESOLVED", "CLOSED")


def _row(incident: dict[str, Any], now_ms: int, everything: bool) -> tuple[list[str], list[str]]:
    ended_ms = incident["resolved_at_ms"] if _is_over(incident) else None
    ended = [time_text.clock(ended_ms, now_ms)] if everything else []
    cells = [
        f"#{incident['number']}",
        incident["severity"],
        incident["state"],
        time_text.clock(incident["began_at_ms"], now_ms),
        *ended,
        time_text.span((ended_ms or now_ms) - incident["began_at_ms"]),
        incident["owner"] or "-",
    ]
    muted = f" (muted by {', '.join(incident['muted_by'])})" if incident["muted_by"] else ""
    closed = f" ({_closed_by_hand(incident)})" if incident.get("closed_by_hand") else ""
    texts = [_summary(incident), f"{incident['title']}{muted}{closed}"]
    return cells, [text for text in texts if text]


def _summary(incident: dict[str, Any]) -> str:
    summaries = (output.summary(alert["annotations"]) for alert in incident["alerts"])
    return next((text for text in summaries if text), "")


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
def ack(agent: AgentClient, number: int, actor: str, note: str) -> None:
    """Answer for the incident NUMBER: its escalation stops."""
    _act(agent, number, "ack", actor, note)


@click.command()
@click.argument("number", type=NUMBER)
@click.option("--by", "actor", default=_user, help="Who resolves it.  [default: you]")
@click.option("--note", default="", help="What it was.")
@click.option("--false-positive", is_flag=True, help="There was nothing wrong.")
@click.pass_obj
def resolve(agent: AgentClient, number: int, actor: str, note: str, false_positive: bool) -> None:
    """Close the incident NUMBER by hand."""
    _act(agent, number, "resolve", actor, note, false_positive=false_positive)


def _act(agent: AgentClient, number: int, verb: str, actor: str, note: str, **more: object) -> None:
    from uuid import uuid4

    body = {"by": actor, "note": note, "request_id": str(uuid4()), **more}
    with agent.post(f"/api/v1/incidents/{number}/{verb}", body) as incident:
        owner = f", owned by {incident['owner']}" if incident["owner"] else ""
        print(f"#{incident['number']} {incident['title']}: {_state(incident)}{owner}")
        if again_ms := incident.get("raised_again_at_ms"):
            print(f"  raised again at {time_text.date_and_clock(again_ms)} if it still fires")


def _state(incident: dict[str, Any]) -> str:
    by_hand = f" ({_closed_by_hand(incident)})" if incident.get("closed_by_hand") else ""
    return f"{incident['state']}{by_hand}"


def _closed_by_hand(incident: dict[str, Any]) -> str:
    return "closed by hand, " + (
        "still firing" if incident["source"] == "firing" else "state unknown"
    )


def _show(incident: dict[str, Any]) -> None:
    columns = width()
    now_ms = int(time.time() * 1000)  # noqa: TID251  (the reader's own clock)
    output.wrapped(
        f"#{incident['number']} [{incident['severity']}] {incident['title']}: {_state(incident)}",
        columns,
    )
    output.wrapped(_times(incident, now_ms), columns)
    for alert in incident["alerts"]:
        labels = f"  {alert['source']}: {output.labels_text(alert['labels'])}"
        output.wrapped(labels, columns, "  ", "    ")
        for name, text in sorted(alert["annotations"].items()):
            output.wrapped(f"{name}: {text}", columns, "    ", "      ")
    print(f"history, by the clock of {time_text.zone_name(now_ms)}:")
    for entry in incident["history"]:
        by = f" by {entry['actor']}" if entry["actor"] else ""
        line = f"{entry['event']}{by}  {_said(entry['data'], now_ms)}"
        output.wrapped(
            f"{time_text.clock(entry['at_ms'], now_ms)}  {line}", columns, "  ", "      "
        )


def _times(incident: dict[str, Any], now_ms: int) -> str:
    began_ms = incident["began_at_ms"]
    over_ms = incident["resolved_at_ms"] if _is_over(incident) else None
    until = f" to {time_text.date_and_clock(over_ms)}" if over_ms else ""
    lasted = time_text.span((over_ms or now_ms) - began_ms)
    owner = incident["owner"] or "-"
    return f"since {time_text.date_and_clock(began_ms)}{until}, for {lasted}, owner {owner}"


def _said(data: dict[str, Any], now_ms: int) -> str:
    """Times by the clock and durations in words, instead of milliseconds."""
    shown: dict[str, Any] = {}
    for key, value in sorted(data.items()):
        name = key.removesuffix("_ms")
        is_moment = name.rpartition("_")[2] in ("at", "until", "since")
        if is_moment and isinstance(value, int):
            shown[name] = time_text.clock(value, now_ms)
        elif name != key and isinstance(value, int):
            shown[name] = time_text.span(value)
        elif value not in ("", None):
            shown[key] = value
    return " ".join(f"{key}={value}" for key, value in shown.items())
