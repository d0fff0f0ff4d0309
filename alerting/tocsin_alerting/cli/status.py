"""`alertctl status`: is it over? One screen."""

import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import click

from tocsin_alerting.cli import output, times
from tocsin_alerting.cli.client import FAILED, AgentClient
from tocsin_alerting.cli.incidents import standing, state

_GOOD = "ok"
_MOST_WARNINGS = 5


@click.command()
@output.format_option
@click.pass_obj
def status(agent: AgentClient, format: str) -> None:
    """Say in one sentence whether all is well, and what that rests on; exit code 1 if it is not."""
    with agent.get("/api/v1/overview") as data:
        if not output.as_data(data, format):
            _print(data, output.width(format) or 10_000)
        verdict = str(data["verdict"])
    if verdict != _GOOD:
        raise SystemExit(FAILED)


def _print(data: dict[str, Any], columns: int) -> None:
    now_ms = int(time.time() * 1000)  # noqa: TID251  (the reader's own clock)
    output.wrapped(data["sentence"], columns)
    for words in data["findings"][1:]:
        output.wrapped(f"also: {words}", columns, "  ", "    ")
    print()
    _print_incidents(data, now_ms, columns)
    _print_agent(data, now_ms, columns)


def _print_incidents(data: dict[str, Any], now_ms: int, columns: int) -> None:
    counts = ", ".join(f"{count} {name}" for name, count in data["severities"].items())
    if data["open"]:
        said = f"{counts}; {data['unanswered']} unanswered"
        output.wrapped(f"open: {data['open']} ({said})", columns, "", "  ")
    else:
        print("open: none")
    if ended := data["last_ended"]:
        at_ms = _ms(ended["at"])
        ago = times.span(now_ms - at_ms)
        what = f"#{ended['number']} {ended['title']}{standing(ended)}"
        text = f"{what}, {ago} ago at {times.clock(at_ms, now_ms)}"
        output.wrapped(f"last ended: {text}", columns, "", "  ")
    for incident in data["worst"]:
        _print_incident(incident, now_ms, columns)


def _print_incident(incident: dict[str, Any], now_ms: int, columns: int) -> None:
    began_ms = incident["began_at_ms"]
    head = f"#{incident['number']}  {incident['severity']}  {state(incident)}"
    owner = f"  {incident['owner']}" if incident["owner"] else ""
    since = f"since {times.clock(began_ms, now_ms)}, for {times.span(now_ms - began_ms)}"
    output.picture([output.coloured(output.one_line(f"{head}{owner}  {since}"))])
    for text in (incident["summary"], incident["title"], _next(incident["next"], now_ms)):
        if text:
            output.wrapped(text, columns, "     ")


def _next(following: dict[str, Any] | None, now_ms: int) -> str:
    if following is None:
        return ""
    at = f"{times.clock(following['at_ms'], now_ms)}, in {times.span(following['at_ms'] - now_ms)}"
    who = f" to {', '.join(following['who'])}" if following["who"] else ""
    what = str(following["what"]).replace("_", " ")
    return f"next: {_NEXT_WORDS.get(what, what)}{who} at {at}"


_NEXT_WORDS = {"hold end": "resolved if it stays clear,"}


def _print_agent(data: dict[str, Any], now_ms: int, columns: int) -> None:
    print()
    sources, rules, engines = data["sources"], data["rules"], data["engines"]
    silent = [
        f"{one['job']} {one['instance']} (last {_clock(one['last'], now_ms)})"
        for one in sources["silent"]
    ]
    absent = [f"{one['job']} {one['instance']}" for one in sources.get("absent", ())]
    broken = [f"failing {name}" for name in rules["failing"]]
    broken += [f"late {name}" for name in rules["late_groups"]]
    broken += rules.get("warnings", ())[:_MOST_WARNINGS]
    lines = [
        f"sources: {sources['read']} read{_list('silent', silent)}"
        f"{_list('with nothing to read here', absent)}",
        f"rules: {rules['loaded']}, last evaluated {_clock(rules['last'], now_ms)}"
        f"{''.join(f'; {one}' for one in broken)}",
        f"engines: {engines['up']} of {engines['watched']} up",
        *(_receiver(one) for one in data["receivers"]),
        *_heartbeats(data["heartbeats"], data["unwatched"]),
        *_configuration(data.get("needs_restart", ())),
        f"journal: {'ok' if data['journal']['up'] else data['journal']['error']}",
        f"as of {times.date_and_clock(_ms(data['at']))}",
    ]
    for line in lines:
        output.wrapped(line, columns, "", "  ")


def _configuration(waiting: Sequence[str]) -> list[str]:
    return [f"configuration: {', '.join(waiting)} as before until a restart"] if waiting else []


def _receiver(receiver: dict[str, Any]) -> str:
    error = f", failing: {receiver['error']}" if receiver["error"] else ""
    waiting = f"{receiver['waiting']} waiting" if receiver["waiting"] else "nothing waits"
    return f"receiver {receiver['receiver']}: {waiting}{error}"


def _heartbeats(heartbeats: dict[str, Any], unwatched: str) -> list[str]:
    lines = [unwatched] if unwatched else []
    if heartbeats["expected"]:
        missing = _list("missing", heartbeats["missing"])
        never = _list("never seen", heartbeats["never_seen"])
        lines.append(f"heartbeats: {heartbeats['expected']} expected{missing}{never}")
    return lines


def _list(name: str, texts: list[str]) -> str:
    return f"; {len(texts)} {name}: {', '.join(texts[:5])}" if texts else ""


def _clock(at: str | None, now_ms: int) -> str:
    return "never" if at is None else times.clock(_ms(at), now_ms)


def _ms(at: str) -> int:
    return round(1000 * datetime.fromisoformat(at).timestamp())
