"""`alertctl channels test`: does a receiver work, before it has to?"""

import os
import time
from pathlib import Path
from typing import Any

import click

from tocsin_alerting.cli.client import AgentClient, fail


@click.group()
def channels() -> None:
    """The ways in which people are told."""


@channels.command()
@click.argument("name")
@click.option("--config.file", "config_file", type=click.Path(path_type=Path),
              help="Send from here by this configuration, without an agent.")  # fmt: skip
@click.option("--contact", default="", help="To this contact, for a receiver that needs one.")
@click.pass_obj
def test(agent: AgentClient, name: str, config_file: Path | None, contact: str) -> None:
    """Really send one message through the receiver NAME, and show the conversation."""
    if config_file is not None:
        _tell(name, _sent(config_file, name, contact))
        return
    from urllib.parse import quote, urlencode

    path = f"/api/v1/channels/{quote(name, safe='')}/test?{urlencode({'contact': contact})}"
    with agent.post(path, {}) as outcome:
        _tell(name, outcome)


def _tell(name: str, outcome: dict[str, Any]) -> None:
    for line in outcome["transcript"]:
        print(line)
    if not outcome["delivered"]:
        fail(f"{name}: not delivered: {outcome['detail']}")
    print(f"{name}: delivered {outcome['detail']}".rstrip())


def _sent(config_file: Path, name: str, contact: str) -> dict[str, Any]:
    import asyncio  # costs 60 ms, which `--help` need not pay

    from tocsin_alerting.config.load import build_channels, external_url, load
    from tocsin_alerting.yaml_document import InvalidDocument, did_you_mean

    try:
        config = load(config_file)
        built = build_channels(config, os.environ)
    except (InvalidDocument, ValueError) as error:
        fail(str(error))
    if name not in built:
        fail(f'no receiver is called "{name}"{did_you_mean(name, built)}')
    return asyncio.run(_send(built[name], name, contact, external_url(config)))


async def _send(channel: Any, name: str, contact: str, base: str) -> dict[str, Any]:
    from tocsin_alerting.api.tocsin.channels import outcome_json
    from tocsin_alerting.notify.channel_test import channel_test_notification

    transcript: list[str] = []
    now_ms = int(time.time() * 1000)  # noqa: TID251  (the command line's own clock)
    try:
        message = channel_test_notification(name, contact, now_ms, base)
        outcome = await channel.send(message, now_ms, transcript)
    finally:
        await channel.close()
    return outcome_json(outcome, transcript)
