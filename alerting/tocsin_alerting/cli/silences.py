"""`alertctl silence` and `alertctl maintenance`: what pages nobody, by whom, and until when."""

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import click

from tocsin_alerting.cli import agent_names, output, times
from tocsin_alerting.cli.answers import by
from tocsin_alerting.cli.client import AgentClient, fail
from tocsin_alerting.cli.output import width
from tocsin_alerting.time_format import read_seconds

SILENCES, WINDOWS = "/api/v1/silences", "/api/v1/maintenance"
_SHORT_ID = 8
_BARE_WORD = set('=~!{}" ,')

_for = click.option("--for", "lasts", help="How long, like 2h or 1h30m.  [default: none]")
_until = click.option(
    "--until", help="When it ends: 18:00, tomorrow 07:00, 2026-01-31 07:00.  [default: none]"
)
_start = click.option(
    "--start", help="When it begins: 18:00, tomorrow 07:00, 2026-01-31 07:00.  [default: now]"
)
_comment = click.option("--comment", default="", help="Why.  [default: none]")
_everything = click.option(
    "--everything", is_flag=True, help="Allow matchers that match every alert."
)


@click.group()
def silence() -> None:
    """Silence alerts: they page nobody until a time, or until they are over."""


@silence.command("add")
@click.argument("matchers", nargs=-1, required=True)
@_for
@_until
@_start
@click.option("--until-resolved", is_flag=True, help="End it when all that it matched is resolved.")
@click.option(
    "--warn-before",
    help="Notify you so long before its end if something still fires; 0s: do not."
    "  [default: silences.warn_before of the agent]",
)
@_comment
@by
@_everything
@output.format_option
@click.pass_obj
def add(
    agent: AgentClient, /, matchers: tuple[str, ...], actor: str, format: str, **more: Any
) -> None:
    """Silence alerts that match all MATCHERS (alertname="X", severity=~"P1|P2", or the name alone).

    What it mutes now, and how often that fired in the last 7 days, is shown first.
    """
    from uuid import uuid4

    body = {**_span(more), "matchers": _matchers(matchers), "comment": more["comment"]}
    body |= {"by": actor, "request_id": str(uuid4()), "everything": more["everything"]}
    body["until_resolved"] = more["until_resolved"]
    if not (more["lasts"] or more["until"] or more["until_resolved"]):
        raise click.UsageError("say until when: --for 2h, --until 18:00 or --until-resolved")
    if more["warn_before"] is not None:
        body["warn_before"] = more["warn_before"]
    seen = None if format in ("json", "yaml") else _seen(agent, body["matchers"])
    with agent.post(SILENCES, body) as made:
        if output.as_data(made, format):
            return
        _print_end(made, "silenced")
        _print_preview(seen or {})


@silence.command()
@click.argument("matchers", nargs=-1, required=True)
@output.format_option
@click.pass_obj
def preview(agent: AgentClient, matchers: tuple[str, ...], format: str) -> None:
    """Show what MATCHERS match now, and how often that fired in the last 7 days."""
    with agent.post(f"{SILENCES}/preview", {"matchers": _matchers(matchers)}) as seen:
        if not output.as_data(seen, format):
            _print_preview(seen)


@silence.command("list")
@click.option("--all", "everything", is_flag=True, help="Include expired silences.")
@output.format_option
@click.pass_obj
def list_silences(agent: AgentClient, everything: bool, format: str) -> None:
    """List silences, the next one to end first."""
    listed = _listed(agent, "all" if everything else "current")
    if output.as_data({"silences": listed}, format):
        return
    with agent.understood():
        now_ms = _now_ms()
        header = ["ID", "STATE", f"ENDS ({times.zone_name(now_ms)})", "LEFT", "MUTES", "BY"]
        rows = [_row(one, one["id"][:_SHORT_ID], now_ms) for one in listed]
        output.listing(header, rows, "no silences", width())


@silence.command()
@click.argument("id", shell_complete=agent_names.silences)
@output.format_option
@click.pass_obj
def show(agent: AgentClient, id: str, format: str) -> None:
    """Show silence ID, or the one whose id begins so."""
    with agent.get(f"{SILENCES}/{_whole_id(agent, id)}") as found:
        if not output.as_data(found, format):
            _print_silence(found)


@silence.command()
@click.argument("ids", nargs=-1, required=True, shell_complete=agent_names.silences)
@by
@click.pass_obj
def expire(agent: AgentClient, ids: tuple[str, ...], actor: str) -> None:
    """End silences now; what still fires under them pages at once."""
    for whole in [_whole_id(agent, one) for one in ids]:
        with agent.post(f"{SILENCES}/{whole}/expire", {"by": actor}) as ended:
            print(f"silence {ended['id']} expired: {', '.join(ended['matchers'])}")


@silence.command()
@click.argument("id", shell_complete=agent_names.silences)
@click.option("--for", "lasts", help="How much longer, like 2h.  [default: none]")
@_until
@by
@click.pass_obj
def extend(agent: AgentClient, id: str, lasts: str | None, until: str | None, actor: str) -> None:
    """Let silence ID last longer, or end at another time."""
    if (lasts is None) == (until is None):
        raise click.UsageError("say until when: --for 2h, or --until 18:00")
    body = {**_span({"lasts": lasts, "until": until}), "by": actor}
    with agent.post(f"{SILENCES}/{_whole_id(agent, id)}/extend", body) as extended:
        _print_end(extended, "silenced")


@click.group()
def maintenance() -> None:
    """Maintenance windows: planned times in which alerts page nobody."""


@maintenance.command("list")
@output.format_option
@click.pass_obj
def list_windows(agent: AgentClient, format: str) -> None:
    """List maintenance windows, of the configuration and ad hoc."""
    with agent.get(WINDOWS) as data:
        if output.as_data(data, format):
            return
        now_ms = _now_ms()
        header = ["NAME", "STATE", f"NEXT CHANGE ({times.zone_name(now_ms)})", "IN", "MUTES", "BY"]
        rows = [_row(one, one["name"], now_ms) for one in data["windows"]]
        output.listing(header, rows, "no maintenance windows", width())


@maintenance.command("add")
@click.argument("name")
@click.argument("matchers", nargs=-1, required=True)
@click.option(
    "--except", "exceptions", multiple=True, help="What still pages, a matcher.  [default: none]"
)
@_for
@_until
@_start
@_comment
@by
@_everything
@click.pass_obj
def add_window(
    agent: AgentClient,
    /,
    name: str,
    matchers: tuple[str, ...],
    exceptions: tuple[str, ...],
    actor: str,
    **more: Any,
) -> None:
    """Mute alerts that match all MATCHERS as maintenance NAME, once."""
    from uuid import uuid4

    if not (more["lasts"] or more["until"]):
        raise click.UsageError("say until when: --for 2h, or --until 18:00")
    body = {**_span(more), "name": name, "matchers": _matchers(matchers), "by": actor}
    body |= {"except": _matchers(exceptions), "comment": more["comment"]}
    body |= {"everything": more["everything"], "request_id": str(uuid4())}
    with agent.post(WINDOWS, body) as made:
        _print_end(made, f"maintenance {made['name']}")


@maintenance.command()
@click.argument("name", shell_complete=agent_names.windows)
@by
@click.pass_obj
def end(agent: AgentClient, name: str, actor: str) -> None:
    """End ad hoc maintenance NAME now; what still fires pages at once."""
    from urllib.parse import quote

    with agent.post(f"{WINDOWS}/{quote(name, safe='')}/end", {"by": actor}) as ended:
        print(f"maintenance {ended['name']} ended")


def _now_ms() -> int:
    return int(time.time() * 1000)  # noqa: TID251  (the reader's own clock)


def _matchers(words: Sequence[str]) -> list[str]:
    """A word alone is the name of an alert, as for amtool."""
    return [word if _BARE_WORD & set(word) else f'alertname="{word}"' for word in words]


def _span(more: Mapping[str, Any]) -> dict[str, object]:
    """What `--for`, `--until` and `--start` say, as the API takes it."""
    if more.get("lasts") and more.get("until"):
        raise click.UsageError("--for and --until say the same; give one of them")
    now_s, said = _now_ms() / 1000, dict[str, object]()
    try:
        if more.get("lasts"):
            said["for"] = str(times.duration(more["lasts"]))
        for name, option in (("ends_at", "until"), ("starts_at", "start")):
            if more.get(option):
                said[name] = times.parameter(times.end(more[option], now_s))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    return said


def _listed(agent: AgentClient, state: str) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        with agent.get(SILENCES, {"state": state, "cursor": cursor}) as data:
            listed += data["silences"]
            cursor = data["next"]
    return listed


def _whole_id(agent: AgentClient, begin: str) -> str:
    """The id that begins so; a whole one is not looked for."""
    from urllib.parse import quote

    if len(begin) >= 36:
        return quote(begin, safe="")
    with agent.understood():
        ids = [one["id"] for one in _listed(agent, "all") if one["id"].startswith(begin)]
    if len(ids) != 1:
        fail(f'{"no" if not ids else "more than one"} silence whose id begins with "{begin}"')
    return str(ids[0])


def _row(one: Mapping[str, Any], name: str, now_ms: int) -> tuple[list[str], list[str]]:
    change = one.get("next_change_at", one.get("ends_at"))
    if one["state"] == "pending" and "starts_at" in one:
        change = one["starts_at"]
    change_ms = None if change is None else _ms(change)
    left = "-" if change_ms is None or change_ms < now_ms else times.span(change_ms - now_ms)
    cells = [
        name,
        one["state"],
        times.clock(change_ms, now_ms),
        left,
        str(len(one["mutes"])),
        one.get("created_by", "configuration"),
    ]
    exceptions = f" but not {', '.join(one['except'])}" if one.get("except") else ""
    over = "until it is over" if one.get("until_resolved") else ""
    texts = [", ".join(one["matchers"]) + exceptions, over, one.get("comment", "")]
    return cells, [text for text in texts if text]


def _ms(text: str) -> int:
    seconds = read_seconds(text)
    return round(1000 * (times.moment(text, 0) if seconds is None else seconds))


def _print_end(made: Mapping[str, Any], what: str) -> None:
    until_ms, now_ms = _ms(made["ends_at"]), _now_ms()
    over = ", or until it is over" if made.get("until_resolved") else ""
    until = f"{times.date_and_clock(until_ms)} ({times.span(until_ms - now_ms)}){over}"
    output.wrapped(f"{what} until {until}: {', '.join(made['matchers'])}", width())
    print(f"  id {made['id']}")
    if made["state"] == "pending":
        print(f"  begins {times.date_and_clock(_ms(made['starts_at']))}")


def _print_silence(found: Mapping[str, Any]) -> None:
    _print_end(found, found["state"])
    for name in ("created_by", "comment", "warn_before"):
        if found.get(name):
            output.wrapped(f"{name.replace('_', ' ')}: {found[name]}", width(), "  ", "    ")
    numbers = ", ".join(f"#{number}" for number in found["mutes"])
    output.wrapped(f"mutes now: {numbers or 'nothing'}", width(), "  ", "    ")


def _seen(agent: AgentClient, matchers: Sequence[str]) -> dict[str, Any]:
    """The preview alone; its warnings come again with the silence."""
    status, text = agent.ask("POST", f"{SILENCES}/preview", json={"matchers": matchers})
    import json

    with agent.understood():
        data: dict[str, Any] = json.loads(text)["data"] if status == 200 else {}
    return data


def _print_preview(seen: Mapping[str, Any]) -> None:
    if not seen:
        return
    shown, more = seen["firing"], seen["firing_count"] - len(seen["firing"])
    print(f"  mutes now: {output.count(seen['firing_count'], 'incident')}"
          f" with {output.count(seen['alerts'], 'alert')}")  # fmt: skip
    for one in shown:
        line = f"#{one['number']} [{one['severity']}] {one['title']} {one['state']}"
        output.wrapped(line, width(), "    ", "      ")
    if more:
        print(f"    and {more} more")
    recent = seen["last_7_days"]
    if recent is None:
        print("  the last 7 days are not known: the journal does not answer", file=sys.stderr)
    else:
        p0 = f", {seen['last_7_days_p0']} of them P0" if seen["last_7_days_p0"] else ""
        print(f"  in the last 7 days: {output.count(recent, 'incident')}{p0}")
    if seen["everything"]:
        print("  it would match every alert", file=sys.stderr)
