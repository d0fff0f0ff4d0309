"""`alertctl channels test`: does a receiver work, before it has to?"""

import asyncio
import os
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from tocsin_alerting.cli.client import Agent, fail


@click.group()
def channels() -> None:
    """The ways in which people are told."""


@channels.command()
@click.argument("name")
@click.option("--config.file", "config_file", type=click.Path(path_type=Path),
              help="Send from here by this configuration, without an agent.")  # fmt: skip
@click.option("--contact", default="", help="To this contact, for a receiver that needs one.")
@click.pass_obj
def test(agent: Agent, name: str, config_file: Path | None, contact: str) -> None:
    """Really send one message through the receiver NAME, and show the conversation."""
    if config_file is None:
        path = f"/api/v1/channels/{quote(name, safe='')}/test?contact={quote(contact)}"
        told = agent.post(path, {})
    else:
        told = asyncio.run(_send(config_file, name, contact))
    for line in told["transcript"]:
        print(line)
    if not told["delivered"]:
        fail(f"{name}: not delivered: {told['detail']}")
    print(f"{name}: delivered {told['detail']}".rstrip())


async def _send(config_file: Path, name: str, contact: str) -> dict[str, Any]:
    from tocsin_alerting.api.channels import told
    from tocsin_alerting.config.load import build_channels, load
    from tocsin_alerting.document import InvalidDocument, did_you_mean
    from tocsin_alerting.notify.trial import trial

    try:
        built = build_channels(load(config_file), os.environ)
    except (InvalidDocument, ValueError) as error:
        fail(str(error))
    if name not in built:
        fail(f'no receiver is called "{name}"{did_you_mean(name, built)}')
    transcript: list[str] = []
    now_ms = int(time.time() * 1000)  # noqa: TID251  (the command line's own clock)
    outcome = await built[name].send(trial(name, contact, now_ms), now_ms, transcript)
    for channel in built.values():
        await channel.close()
    return told(outcome, transcript)
