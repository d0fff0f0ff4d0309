"""`alertctl ack`, `unack`, `resolve`, `snooze`, `escalate`, `assign`, `comment`: what people do."""

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from tocsin_alerting.cli import agent_names, output, times
from tocsin_alerting.cli.client import FAILED, AgentClient
from tocsin_alerting.cli.incidents import NUMBER, chosen_numbers, state

Command = TypeVar("Command", bound=Callable[..., None])


ids = click.argument("numbers", metavar="[ID...]", nargs=-1, type=NUMBER)
by = click.option(
    "--by",
    "actor",
    default="",
    shell_complete=agent_names.contacts,
    help="Who does it.  [default: you]",
)


def noted(what: str) -> Callable[[Command], Command]:
    return click.option("--note", default="", help=f"{what}  [default: none]")


for_others = noted("Note for the other responders.")


@click.command(epilog="Example: alertctl ack 42 43 --note 'on it'")
@ids
@by
@for_others
@output.format_option
@click.pass_obj
def ack(agent: AgentClient, numbers: Sequence[int], actor: str, note: str, format: str) -> None:
    """Acknowledge incidents ID..., or the one that is open; escalation stops."""
    _act(agent, "ack", numbers, format, by=actor, note=note)


@click.command()
@ids
@by
@for_others
@output.format_option
@click.pass_obj
def unack(agent: AgentClient, numbers: Sequence[int], actor: str, note: str, format: str) -> None:
    """Withdraw the acknowledgement of incidents ID...; escalation starts again."""
    _act(agent, "unack", numbers, format, by=actor, note=note)


@click.command()
@ids
@by
@noted("What the cause was.")
@click.option("--cause", default="", metavar="CAUSE",
    help="Root cause in one word, for statistics: oom, thermal, hardware, network, configuration, "
    "traffic, upstream, deploy, or unknown.  [default: none]")  # fmt: skip
@click.option("--false-positive", is_flag=True, help="Mark it as a false positive.")
@output.format_option
@click.pass_obj
def resolve(
    agent: AgentClient, numbers: Sequence[int], actor: str, note: str, cause: str,
    false_positive: bool, format: str,
) -> None:  # fmt: skip
    """Close incidents ID... by hand, or the one that is open."""
    more = {"cause": cause, "false_positive": false_positive}
    _act(agent, "resolve", numbers, format, by=actor, note=note, **more)


@click.command(epilog="Examples: alertctl snooze 42 2h; alertctl snooze 42 until 07:00")
@click.argument("words", metavar="[ID...] END", nargs=-1, required=True)
@by
@for_others
@output.format_option
@click.pass_obj
def snooze(agent: AgentClient, words: Sequence[str], actor: str, note: str, format: str) -> None:
    """Keep incidents ID..., or the one that is open, quiet until END.

    END is a duration (2h) or a time of this machine's clock (07:00, until tomorrow 07:00).
    """
    given = [word for word in words if word.removeprefix("#").isdecimal()]
    rest = " ".join(words[len(given) :])
    if list(words[: len(given)]) != given or not rest:
        raise click.UsageError(f"the numbers come first, then the end: {times.END_FORMS}")
    numbers = [NUMBER.convert(word, None, None) for word in given]
    now = time.time()  # noqa: TID251  (the reader's own clock)
    try:
        until = times.end(rest, now)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="END") from None
    _act(agent, "snooze", numbers, format, by=actor, note=note, until=times.parameter(until))


@click.command(epilog="Example: alertctl escalate 42 --step 2")
@ids
@click.option("--step", type=click.IntRange(min=0),
    help="Step of the policy, from 0.  [default: the next one]")  # fmt: skip
@by
@for_others
@output.format_option
@click.pass_obj
def escalate(
    agent: AgentClient, numbers: Sequence[int], step: int | None, actor: str, note: str, format: str
) -> None:
    """Page the next step of incidents ID..., or of the one that is open, now."""
    _act(agent, "escalate", numbers, format, by=actor, note=note, step=step)


@click.command(epilog="Example: alertctl assign 42 --to wang --note 'the storage is yours'")
@ids
@click.option(
    "--to",
    required=True,
    shell_complete=agent_names.contacts,
    metavar="CONTACT",
    help="Who is to have it.",
)
@by
@for_others
@output.format_option
@click.pass_obj
def assign(
    agent: AgentClient, numbers: Sequence[int], to: str, actor: str, note: str, format: str
) -> None:
    """Hand incidents ID..., or the one that is open, over to CONTACT, who is paged."""
    _act(agent, "assign", numbers, format, by=actor, note=note, to=to)


@click.command(epilog="Example: alertctl comment 42 --field root_cause='fan 3 was unplugged'")
@ids
@click.option("--note", default="", help="What to add to the history.  [default: none]")
@click.option("--field", "fields", multiple=True, metavar="NAME=TEXT",
    help="Field of the fault record to fill in; may be repeated.  [default: none]")  # fmt: skip
@by
@output.format_option
@click.pass_obj
def comment(
    agent: AgentClient, numbers: Sequence[int], note: str, fields: Sequence[str], actor: str,
    format: str,
) -> None:  # fmt: skip
    """Add to the history of incidents ID..., also when they are over."""
    if not note and not fields:
        raise click.UsageError("give --note TEXT, or --field NAME=TEXT")
    pairs = [field.partition("=") for field in fields]
    unset = [name for name, equals, _ in pairs if not equals or not name]
    if unset:
        raise click.BadParameter(f"{unset[0]!r} has no text; write NAME=TEXT", param_hint="--field")
    texts = {name: text for name, _, text in pairs}
    _act(agent, "comment", numbers, format, by=actor, note=note, fields=texts)


def _act(
    agent: AgentClient, verb: str, numbers: Sequence[int], format: str, **sent: object
) -> None:
    """One request for all of them. Exit code 1 where one of them could not be done."""
    from uuid import uuid4

    chosen = list(chosen_numbers(agent, numbers, verb))
    body = {"action": verb, "incidents": chosen, "request_id": str(uuid4()), **sent}
    with agent.post("/api/v1/incidents/bulk", body) as data:
        failed = [result for result in data["results"] if "error" in result]
        if not output.as_data(data, format):
            for result in data["results"]:
                if "incident" in result:
                    _print_done(verb, result["incident"], sent)
        for result in failed:
            print(f"alertctl: {result['error']}", file=sys.stderr)
    if failed:
        raise SystemExit(FAILED)


def _print_done(verb: str, incident: dict[str, Any], sent: dict[str, object]) -> None:
    name = output.one_line(f"#{incident['number']} {incident['title']}")
    if verb == "comment":
        fields = ", ".join(sent["fields"]) if isinstance(sent["fields"], dict) else ""
        print(f"{name}: noted{f' ({fields})' if fields else ''}")
        return
    owner = f", owned by {incident['owner']}" if incident["owner"] else ""
    print(f"{name}: {state(incident)}{owner}")
    if verb == "snooze":
        print(f"  quiet until {times.date_and_clock(_ms(sent['until']))}; then it pages again")
    if incident.get("assigned_by"):
        print(f"  {incident['owner']} is paged, and must acknowledge, or the escalation goes on")
    if again_ms := incident.get("raised_again_at_ms"):
        print(f"  notifies again at {times.date_and_clock(again_ms)} if it still fires")


def _ms(seconds: object) -> int:
    return round(float(str(seconds)) * 1000)
