"""`alertctl incidents` and `show`: list incidents, and show one with its history."""

import sys
import time
from collections.abc import Sequence
from typing import Any

import click

from tocsin_alerting.cli import output, times
from tocsin_alerting.cli.agent_names import Number
from tocsin_alerting.cli.client import USAGE, AgentClient, fail
from tocsin_alerting.cli.filters import Filters, chosen_by
from tocsin_alerting.cli.output import width

NUMBER = Number()
STATES = ("TRIGGERED", "ACKED", "SNOOZED", "RESOLVED", "CLOSED")
_PAGE = 500  # incidents an answer
_MOST_TO_CHOOSE_FROM = 15


@click.command()
@click.argument("number", required=False, type=NUMBER)
@click.option("--all", "everything", is_flag=True, help="Include resolved and closed incidents.")
@click.option("--state", type=click.Choice(STATES, case_sensitive=False),
    help="Only incidents in this state.  [default: the open ones]")  # fmt: skip
@click.option("--storm", type=NUMBER, metavar="ID",
    help="Only this storm and the incidents in it.  [default: all]")  # fmt: skip
@chosen_by
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="Maximum number of incidents: the worst open ones, then the newest resolved ones.",
)
@output.format_option
@click.pass_obj
def incidents(
    agent: AgentClient, number: int | None, everything: bool, state: str | None, limit: int,
    storm: int | None, format: str, wanted: Filters,
) -> None:  # fmt: skip
    """List incidents, or show incident NUMBER with its history."""
    if number is not None:
        _show_numbers(agent, [number], format)
        return
    everything = everything or state in ("RESOLVED", "CLOSED")
    asked = state or ("all" if everything or "since" in wanted or "until" in wanted else "open")
    if storm is not None:
        wanted["storm"] = str(storm)
    listed, more, still_open = listed_incidents(agent, asked, limit, wanted)
    if not output.as_data({"incidents": listed, "next": more, "open": still_open}, format):
        with agent.understood():
            print_list(listed, asked != "open", width(format))
    if more is not None:
        print(f"{_left_out(listed, still_open)}; raise --limit to see more", file=sys.stderr)


@click.command()
@click.argument("numbers", metavar="[ID...]", nargs=-1, type=NUMBER)
@output.format_option
@click.pass_obj
def show(agent: AgentClient, numbers: tuple[int, ...], format: str) -> None:
    """Show incidents ID..., or the one that is open, with their history."""
    _show_numbers(agent, chosen_numbers(agent, numbers, "show"), format)


def _show_numbers(agent: AgentClient, numbers: Sequence[int], format: str) -> None:
    for count, number in enumerate(numbers):
        with agent.get(f"/api/v1/incidents/{number}") as data:
            if not output.as_data(data, format):
                print(end="\n" if count else "")
                _show(data)


def chosen_numbers(agent: AgentClient, numbers: Sequence[int], command: str) -> Sequence[int]:
    """Those that were given, else the one that is open. Ends the program with the list where that
    is none or several, for nobody else can choose."""
    if numbers:
        return numbers
    listed, more, still_open = listed_incidents(agent, "open", _MOST_TO_CHOOSE_FROM)
    with agent.understood():
        if len(listed) == 1 and more is None:
            return [int(listed[0]["number"])]
        if not listed:
            fail("no incident is open; name one: alertctl incidents --all lists them")
        lines = [f"  alertctl {command} {one['number']:<6} {_said_shortly(one)}" for one in listed]
    if more is not None:
        lines.append(f"  ... and {still_open - len(listed)} more: alertctl incidents")
    words = f"{still_open or len(listed)} incidents are open; say which:"
    print("\n".join([f"alertctl: {words}", *(line[: width()] for line in lines)]), file=sys.stderr)
    raise SystemExit(USAGE)


def _said_shortly(incident: dict[str, Any]) -> str:
    return output.one_line(f"{incident['severity']} {incident['state']} {incident['title']}")


def listed_incidents(
    agent: AgentClient, state: str, limit: int, filters: Filters | None = None
) -> tuple[list[dict[str, Any]], str | None, int]:
    """The worst `limit`, page by page; where the rest begins, if anywhere; how many are open."""
    listed: list[dict[str, Any]] = []
    cursor: str | None = ""
    still_open = 0
    while cursor is not None and len(listed) < limit:
        size = {"limit": str(min(limit - len(listed), _PAGE)), "cursor": cursor}
        wanted = {"state": state, "order": "severity", **size, **(filters or {})}
        with agent.get("/api/v1/incidents", wanted) as data:
            listed += data["incidents"]
            cursor, still_open = data.get("next"), data.get("open", 0)
    return listed, cursor, still_open


def _left_out(listed: list[dict[str, Any]], still_open: int) -> str:
    left = still_open - sum(not _is_over(incident) for incident in listed)
    if left <= 0:
        return f"there are more incidents than these {len(listed)}"
    return f"{left} more are open, none worse than {listed[-1]['severity']}"


def print_list(incidents: list[dict[str, Any]], everything: bool, columns: int) -> None:
    """The worst first, of one severity the newest; those that are over last."""
    now_ms = int(time.time() * 1000)  # noqa: TID251  (the reader's own clock)
    zone = times.zone_name(now_ms)
    ended = ["ENDED"] if everything else []
    header = ["ID", "SEVERITY", "STATE", f"SINCE ({zone})", *ended, "FOR", "OWNER"]
    none = "no incidents" if everything else "no open incidents"
    ranked = sorted(
        incidents,
        key=lambda incident: (_is_over(incident), incident["severity"], -incident["number"]),
    )
    output.listing(
        header, [_row(incident, now_ms, everything) for incident in ranked], none, columns
    )


def _is_over(incident: dict[str, Any]) -> bool:
    return incident["state"] in ("RESOLVED", "CLOSED")


def _row(incident: dict[str, Any], now_ms: int, everything: bool) -> tuple[list[str], list[str]]:
    ended_ms = incident["resolved_at_ms"] if _is_over(incident) else None
    ended = [times.clock(ended_ms, now_ms)] if everything else []
    cells = [
        f"#{incident['number']}",
        incident["severity"],
        incident["state"],
        times.clock(incident["began_at_ms"], now_ms),
        *ended,
        times.span((ended_ms or now_ms) - incident["began_at_ms"]),
        incident["owner"] or "-",
    ]
    muted_by = [] if _is_over(incident) else incident["muted_by"]
    muted = f" (muted by {', '.join(muted_by)})" if muted_by else ""
    about = f"{incident['title']}{_again(incident)}{muted}{standing(incident)}"
    texts = [_summary(incident), about]
    return cells, [text for text in texts if text]


def _summary(incident: dict[str, Any]) -> str:
    summaries = (output.summary(alert["annotations"]) for alert in incident["alerts"])
    return next((text for text in summaries if text), "")


def _again(incident: dict[str, Any]) -> str:
    times_in_24h = incident.get("times_in_24h", 1)
    return f" ({times.ordinal(times_in_24h)} time in 24 h)" if times_in_24h > 1 else ""


def state(incident: dict[str, Any]) -> str:
    return f"{incident['state']}{standing(incident)}"


def standing(incident: dict[str, Any]) -> str:
    """What the state alone would say wrongly, in brackets."""
    ended = _ENDED_WORDS.get(incident.get("ended_as") or "") if _is_over(incident) else None
    said = [ended] if ended else []
    if incident.get("closed_by_hand"):
        said = [_closed_by_hand(incident)]
    elif incident.get("source") == "unknown" and not _is_over(incident):
        said.append("state unknown")
    if incident.get("flapping"):
        said.append("flapping")
    if (at_ms := incident.get("resolves_at_ms")) is not None:
        said.append(f"clear, resolved at {times.clock(at_ms, at_ms)}")
    return f" ({', '.join(said)})" if said else ""


_ENDED_WORDS = {"given_up": "given up, state unknown", "unwatched": "no longer watched"}


def _closed_by_hand(incident: dict[str, Any]) -> str:
    return "closed by hand, " + (
        "still firing" if incident["source"] == "firing" else "state unknown"
    )


def _show(incident: dict[str, Any]) -> None:
    columns = width()
    now_ms = int(time.time() * 1000)  # noqa: TID251  (the reader's own clock)
    output.wrapped(
        f"#{incident['number']} [{incident['severity']}] {incident['title']}: {state(incident)}",
        columns,
    )
    output.wrapped(_times(incident, now_ms), columns)
    for alert in incident["alerts"]:
        labels = f"  {alert['source']}: {output.labels_text(alert['labels'])}"
        output.wrapped(labels, columns, "  ", "    ")
        for name, text in sorted(alert["annotations"].items()):
            output.wrapped(f"{name}: {text}", columns, "    ", "      ")
    print(f"history, times in {times.zone_name(now_ms)}:")
    for entry in incident["history"]:
        by = f" by {entry['actor']}" if entry["actor"] else ""
        line = f"{entry['event']}{by}  {_said(entry['data'], now_ms)}"
        output.wrapped(f"{times.clock(entry['at_ms'], now_ms)}  {line}", columns, "  ", "      ")


def _times(incident: dict[str, Any], now_ms: int) -> str:
    began_ms = incident["began_at_ms"]
    over_ms = incident["resolved_at_ms"] if _is_over(incident) else None
    until = f" to {times.date_and_clock(over_ms)}" if over_ms else ""
    lasted = times.span((over_ms or now_ms) - began_ms)
    owner = incident["owner"] or "-"
    when = f"{times.date_and_clock(began_ms)}{until}, for {lasted}{_again(incident)}"
    return f"since {when}, owner {owner}"


def _said(data: dict[str, Any], now_ms: int) -> str:
    """Times by the clock and durations in words, instead of milliseconds."""
    shown: dict[str, Any] = {}
    for key, value in sorted(data.items()):
        name = key.removesuffix("_ms")
        is_moment = name.rpartition("_")[2] in ("at", "until", "since")
        if is_moment and isinstance(value, int):
            shown[name] = times.clock(value, now_ms)
        elif name != key and isinstance(value, int):
            shown[name] = times.span(value)
        elif value not in ("", None):
            shown[key] = value
    return " ".join(f"{key}={value}" for key, value in shown.items())
