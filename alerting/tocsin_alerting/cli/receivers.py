"""`alertctl receivers`: who is reached by what, and does it work before it has to?"""

import os
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from tocsin_alerting.cli import agent_names, output, times
from tocsin_alerting.cli.client import AgentClient, fail

if TYPE_CHECKING:
    from tocsin_alerting.notify.channel import Channel

T = TypeVar("T")


# As in `tocsin_alerting.notify.samples`, which `--help` need not load.
STATES = (
    "firing escalated repeat acknowledged resolved fired-and-resolved unknown given-up closed storm"
    " digest silence-ends drill test"
).split()
_SEVERITIES = ["P0", "P1", "P2", "P3", "P4"]


@click.group(invoke_without_command=True)
@output.format_option
@click.pass_context
def receivers(context: click.Context, format: str) -> None:
    """List receivers and contacts: what each is for, and whether its messages arrive."""
    if context.invoked_subcommand is None:
        _print_all(context.obj, format)


@click.group(invoke_without_command=True)
@output.format_option
@click.pass_context
def channels(context: click.Context, format: str) -> None:
    """List, test and preview receivers; the former name of `receivers`."""
    if context.invoked_subcommand is None:
        _print_all(context.obj, format)


@receivers.command("list")
@output.format_option
@click.pass_obj
def list_all(agent: AgentClient, format: str) -> None:
    """List receivers and contacts, as `receivers` alone does."""
    _print_all(agent, format)


_config_option = click.option(
    "--config.file", "config_file", type=click.Path(path_type=Path),
    help="Work from here with this configuration, without an agent.",
)  # fmt: skip
_contact_option = click.option(
    "--contact",
    shell_complete=agent_names.contacts,
    default="",
    help="Write to this contact; required by receivers that notify contacts.",
)


def _severity_option(default: str) -> Callable[..., Any]:
    return click.option(
        "--severity", type=click.Choice(_SEVERITIES), default=default, show_default=True,
        help="Severity of the message.",
    )  # fmt: skip


@receivers.command()
@click.argument("name", shell_complete=agent_names.receivers)
@_config_option
@_contact_option
@_severity_option("P4")
@click.option(
    "--state", type=click.Choice(STATES), default="test", show_default=True,
    help="What the message says; all but a test are marked as a drill.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Show what would be sent, and send nothing.")
@click.pass_obj
def test(
    agent: AgentClient, /, name: str, config_file: Path | None, dry_run: bool, **what: str
) -> None:
    """Send a real test message through receiver NAME and show the conversation."""
    if dry_run:
        _show(_previewed(agent, name, config_file, {**what, "trial": "true"}), None)
    elif config_file is not None:
        _tell(name, _without_agent(config_file, name, partial(_sent, name, what)))
    else:
        with agent.post(_path(name, "test", what), {}) as outcome:
            _tell(name, outcome)


@receivers.command()
@click.argument("name", shell_complete=agent_names.receivers)
@_config_option
@_contact_option
@_severity_option("P0")
@click.option(
    "--state", type=click.Choice(STATES), default="firing", show_default=True,
    help="What the message says of its incident.",
)  # fmt: skip
@click.option(
    "--incident", metavar="NUMBER", default="", callback=lambda _, __, value: value.lstrip("#"),
    help="Tell of this open incident of the agent.  [default: an example]",
)  # fmt: skip
@click.option(
    "--language", type=click.Choice(["en", "zh"]),
    help="Language of the message.  [default: the configured one]",
)  # fmt: skip
@click.option(
    "--html", "html_file", type=click.Path(path_type=Path, dir_okay=False),
    help="Write the HTML of a mail to this file.  [default: not shown]",
)  # fmt: skip
@output.format_option
@click.pass_context
def preview(
    context: click.Context,
    /,
    name: str,
    config_file: Path | None,
    html_file: Path | None,
    format: str,
    **what: str | None,
) -> None:
    """Show what receiver NAME would be sent, secrets masked, and send nothing."""
    if what["incident"] and config_file is not None:
        raise click.UsageError("--incident asks the agent, and --config.file does without one")
    if what["incident"] and context.get_parameter_source("state") is ParameterSource.DEFAULT:
        what["state"] = None  # as it is
    asked = {key: value for key, value in what.items() if value}
    shown = _previewed(context.obj, name, config_file, asked)
    if not output.as_data(shown, format):
        _show(shown, html_file)


for _command in (list_all, test, preview):
    channels.add_command(_command)


def _path(name: str, verb: str, query: Mapping[str, str]) -> str:
    from urllib.parse import quote, urlencode

    return f"/api/v1/receivers/{quote(name, safe='')}/{verb}?{urlencode(query)}"


def _previewed(
    agent: AgentClient, name: str, config_file: Path | None, what: Mapping[str, str]
) -> dict[str, Any]:
    if config_file is not None:
        language = what.get("language", "")
        return _without_agent(config_file, name, partial(_rehearsed, name, what), language)
    with agent.post(_path(name, "preview", what), {}) as shown:
        return dict(shown)


def _show(shown: Mapping[str, Any], html_file: Path | None) -> None:
    """Each message as it would go out; of a mail the text."""
    if not shown["messages"]:
        fail(f"nothing would be sent: {shown['why']}")
    for number, message in enumerate(shown["messages"]):
        if number:
            print()
        print(f"> {message['to']}")
        for name, value in message["headers"].items():
            print(f"{name}: {value}")
        print(f"\n{message['text'].rstrip()}")
    if html_file is None:
        return
    pages = [message["html"] for message in shown["messages"] if message["html"]]
    if not pages:
        fail("this receiver's messages have no HTML")
    try:
        html_file.write_text(pages[0], "utf-8")
    except OSError as error:
        fail(f"cannot write {html_file}: {error.strerror}")


def _print_all(agent: AgentClient, format: str) -> None:
    with agent.get("/api/v1/receivers") as data:
        if not output.as_data(data, format):
            _list(data)


def _list(data: dict[str, Any]) -> None:
    """Those that fail first."""
    now_ms = int(time.time() * 1000)  # noqa: TID251  (the reader's own clock)
    delivered = f"LAST DELIVERED ({times.zone_name(now_ms)})"
    header = ["RECEIVER", "TYPE", "STATE", "WAITING", delivered]
    ordered = sorted(data["receivers"], key=lambda one: (one["state"] != "failing", one["name"]))
    rows = [
        (
            [one["name"], one["type"], one["state"], str(one["waiting"])]
            + [_clock(one["last_delivered"], now_ms)],
            [f"used by {', '.join(one['used_by']) or 'no policy'}", *_trouble(one, now_ms)],
        )
        for one in ordered
    ]
    output.listing(header, rows, "no receivers", output.width())
    ways = [
        [contact["name"], way["way"], way["receiver"], way["state"]]
        + [_clock(way["last_delivered"], now_ms)]
        for contact in data["contacts"]
        for way in contact["ways"]
    ]
    ways += [
        [one["name"], "-", "-", "not reached", "-"] for one in data["contacts"] if not one["ways"]
    ]
    if ways:
        print()
        output.table(["CONTACT", "WAY", "RECEIVER", "STATE", delivered], ways, "")


def _trouble(one: dict[str, Any], now_ms: int) -> list[str]:
    found = []
    if one.get("waits_until"):
        rate = ", ".join(one["rate"])
        found.append(
            f"waits for its rate limit ({rate}) until {_clock(one['waits_until'], now_ms)}"
        )
    if one.get("gone_since"):
        since = _clock(one["gone_since"], now_ms)
        found.append(
            f"gone since {since} (HTTP 410): not asked until a test arrives, or another URL"
        )
    if one["last_error"]:
        found.append(f"last error at {_clock(one['last_failed'], now_ms)}: {one['last_error']}")
    if one["state"] == "failing":
        found.append(f"failing until a message arrives: alertctl receivers test {one['name']}")
    return found


def _clock(at: str | None, now_ms: int) -> str:
    return "never" if at is None else times.clock(_ms(at), now_ms)


def _ms(at: str) -> int:
    return round(1000 * datetime.fromisoformat(at).timestamp())


def _tell(name: str, outcome: dict[str, Any]) -> None:
    for line in outcome["transcript"]:
        print(line)
    if not outcome["delivered"]:
        fail(f"{name}: test message not delivered: {outcome['detail']}")
    print(f"{name}: delivered {outcome['detail']}".rstrip())


def _without_agent(
    config_file: Path, name: str, do: "Callable[[Channel, str], Awaitable[T]]", language: str = ""
) -> "T":
    """What `do` makes of the receiver's channel and the links' base."""
    import asyncio  # costs 60 ms, which `--help` need not pay

    from tocsin_alerting.config.load import build_channel, external_url, load, signed_links
    from tocsin_alerting.yaml_document import InvalidDocument, did_you_mean

    async def done(channel: "Channel", base: str) -> "T":
        try:
            return await do(channel, base)
        finally:
            await channel.close()

    try:
        config = load(config_file, receiver=name)
        if name not in config.receivers:
            fail(f'no receiver is called "{name}"{did_you_mean(name, config.receivers)}')
        links = signed_links(config)
        links.begin_apart()
        channel = build_channel(config, os.environ, links, name, language)
    except (InvalidDocument, ValueError, OSError) as error:
        fail(str(error))
    return asyncio.run(done(channel, external_url(config)))


async def _sent(
    name: str, what: Mapping[str, str], channel: "Channel", base: str
) -> dict[str, Any]:
    from tocsin_alerting.api.tocsin.channels import outcome_json
    from tocsin_alerting.notify.samples import trial_notification

    transcript: list[str] = []
    now_ms = int(time.time() * 1000)  # noqa: TID251  (the command line's own clock)
    message = trial_notification(
        what["state"], what["severity"], name, what["contact"], now_ms, base
    )
    outcome = await channel.send(message, now_ms, transcript)
    return outcome_json(outcome, transcript)


async def _rehearsed(
    name: str, what: Mapping[str, str], channel: "Channel", base: str
) -> dict[str, Any]:
    from tocsin_alerting.api.tocsin.channels import rehearsal_json
    from tocsin_alerting.notify.rehearsal import rehearse
    from tocsin_alerting.notify.samples import sample_notification, trial_notification

    now_ms = int(time.time() * 1000)  # noqa: TID251  (the command line's own clock)
    make = trial_notification if "trial" in what else sample_notification
    message = make(what["state"], what["severity"], name, what.get("contact", ""), now_ms, base)
    return rehearsal_json(*await rehearse(channel, message, now_ms))
