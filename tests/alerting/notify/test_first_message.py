"""The first message of an incident shows how it stands also when the edit fails at first."""

import asyncio
import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from support.notifications import NEW_YEAR_MS, notification, resolved
from support.vendors.discord import DiscordDouble
from support.vendors.rooms import room
from support.vendors.slack import SlackDouble
from support.vendors.telegram import BotApiDouble, telegram
from support.webhook_sink import Answer, Received
from tocsin_alerting.incidents.outbox_message import (
    GIVE_UP_MS,
    Delivered,
    Outcome,
    Permanent,
    RetryAt,
)
from tocsin_alerting.notify.first_message import Edit, FirstMessages

_EDIT = re.compile(r"^PATCH |/editMessageText$|/chat\.update$")


def _without_edits(double: type[Any]) -> Any:
    """The vendor, whose edits fail while it is `down`."""

    class Failing(double):  # type: ignore[misc]
        down = False

        async def _answer(self, request: Received, writer: asyncio.StreamWriter) -> None:
            if self.down and _EDIT.search(f"{request.method} {request.path}"):
                writer.write(Answer(503, {"Retry-After": "7"}, b"").encoded())
                await writer.drain()
            else:
                await super()._answer(request, writer)

    return Failing()


def _slack(double: SlackDouble, _: Path) -> Any:
    return room("slack", api_url=double.api_url, token_env="TOKEN", channel="alerts")


KINDS: dict[str, tuple[type[Any], Callable[[Any, Path], Any]]] = {
    "telegram": (BotApiDouble, telegram),
    "slack": (SlackDouble, _slack),
    "discord": (DiscordDouble, lambda double, _: room("discord", double.hook_url)),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_an_edit_that_fails_is_tried_again_until_it_is_done(
    kind: str, tmp_path: Path
) -> None:
    double, build = KINDS[kind]
    waits, mended = list[float](), asyncio.Event()
    tasks = asyncio.all_tasks()
    async with _without_edits(double) as vendor:
        channel = build(vendor, tmp_path)

        async def sleep(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 3:
                vendor.down = False
                mended.set()

        channel.first_message.sleep = sleep
        first = await channel.send(notification(), NEW_YEAR_MS)
        vendor.down = True
        over = await channel.send(resolved(thread=first.reference), NEW_YEAR_MS)
        assert isinstance(over, Delivered)  # whatever comes of the edit
        await mended.wait()
        shown = next(iter(vendor.messages.values()))
        async with asyncio.timeout(10):
            while "resolved" not in json.dumps(shown):
                await asyncio.sleep(0.01)
                shown = next(iter(vendor.messages.values()))
        vendor.down, channel.first_message.sleep = True, partial(asyncio.sleep, 3600)
        await channel.send(notification(thread=first.reference), NEW_YEAR_MS)
        assert asyncio.all_tasks() - tasks
        await channel.close()
        assert not [one for one in asyncio.all_tasks() - tasks if "_again" in repr(one)]
    assert waits == [7, 7, 7]  # as the answers ask for
    assert len(vendor.messages) == (1 if kind == "slack" else 3)


class Edits:
    """Edits that end as told, the last way for ever; `done` are their names."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.waits: list[float] = []

    def edit(self, name: str, *outcomes: Outcome) -> Edit:
        left = list(outcomes)

        async def edit() -> Outcome:
            self.done.append(name)
            return left.pop(0) if len(left) > 1 else left[0]

        return edit

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        await asyncio.sleep(0)

    async def settle(self) -> None:
        mine = asyncio.current_task()
        while others := asyncio.all_tasks() - {mine}:
            await asyncio.wait(others)


def _messages(edits: Edits) -> FirstMessages:
    made = FirstMessages("ops")
    made.sleep = edits.sleep
    return made


async def test_waits_grow_and_a_refusal_ends_them() -> None:
    edits = Edits()
    messages = _messages(edits)
    await messages.change("1", edits.edit("a", *[RetryAt("no")] * 5, Permanent("gone")), 0)
    await edits.settle()
    assert (len(edits.done), edits.waits) == (6, [1, 2, 4, 8, 16])


async def test_each_answer_says_how_long_to_wait_for_the_next() -> None:
    edits = Edits()
    later = (RetryAt("no", 109_000), RetryAt("no"), RetryAt("no", 160_000), Delivered())
    await _messages(edits).change("1", edits.edit("a", *later), 100_000)
    await edits.settle()
    assert edits.waits == [9, 2, 60]


async def test_a_day_of_failures_is_enough() -> None:
    edits = Edits()
    messages = _messages(edits)
    await messages.change("1", edits.edit("a", RetryAt("no")), 0)
    await edits.settle()
    assert GIVE_UP_MS <= 1000 * sum(edits.waits) < GIVE_UP_MS + 600_000


async def test_the_newest_state_takes_the_place_of_older_ones() -> None:
    edits, never = Edits(), asyncio.Event()
    messages = _messages(edits)

    async def hang(_: float) -> None:
        await never.wait()

    messages.sleep = hang
    await messages.change("1", edits.edit("old", RetryAt("no")), 0)
    await messages.change("2", edits.edit("other", RetryAt("no")), 0)
    messages.sleep = edits.sleep
    await messages.change("1", edits.edit("new", RetryAt("no"), Delivered()), 0)
    while edits.done.count("new") < 2:
        await asyncio.sleep(0)
    never.set()
    await messages.close()
    await edits.settle()
    assert [name for name in edits.done if name != "other"] == ["old", "new", "new"]


async def test_what_is_left_ends_with_the_channel() -> None:
    edits = Edits()
    messages = FirstMessages("ops")
    await messages.change("1", edits.edit("a", RetryAt("no")), 0)
    await messages.close()
    await edits.settle()
    assert edits.done == ["a"]
