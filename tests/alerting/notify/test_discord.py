"""Discord: what its documents demand, how the first message follows, and what it answers."""

import json
from dataclasses import replace
from typing import Any

import pytest

from support.contracts.discord import read_markdown as read
from support.hostile_texts import hostile_notification
from support.notifications import ENGINE_DOWN, NEW_YEAR_MS, notification, resolved
from support.vendors.discord import DISCORD_PATH, DiscordDouble
from support.vendors.rooms import room
from support.webhook_sink import Answer
from tocsin_alerting.incidents.incident import Reason
from tocsin_alerting.incidents.outbox_message import Delivered, Permanent, RetryAt
from tocsin_alerting.notify.discord import DiscordSettings, discord_body
from tocsin_alerting.notify.message_parts import COLOURS
from tocsin_alerting.notify.message_templates import MessageTemplates


async def test_a_page_is_an_embed_in_the_colour_of_the_severity() -> None:
    async with DiscordDouble() as discord:
        channel = room("discord", discord.hook_url)
        outcome = await channel.send(notification(), NEW_YEAR_MS)
        await channel.close()
    assert outcome == Delivered("9000", "HTTP 200: message 9000")
    assert discord.requests[0].path == f"{DISCORD_PATH}?wait=true"
    message = discord.messages["9000"]
    assert read(message["content"]).startswith("[P0] gpu-1: The engine at 127.0.0.1:8000")
    assert "(#42)" in read(message["content"])
    assert message["embeds"][0]["color"] == int(COLOURS["P0"][1:], 16)
    assert "https://tocsin.example:4911/links/" in message["embeds"][0]["description"]
    assert message["allowed_mentions"] == {"parse": [], "users": [], "roles": []}


async def test_the_first_message_follows_the_incident() -> None:
    async with DiscordDouble() as discord:
        channel = room("discord", discord.hook_url, mention=["everyone"])
        first = await channel.send(notification(), NEW_YEAR_MS)
        over = await channel.send(resolved(thread=first.reference), NEW_YEAR_MS + 300_000)
        await channel.close()
    assert [one.method for one in discord.requests] == ["POST", "POST", "PATCH"]
    assert discord.messages["9000"]["embeds"][0]["color"] == int(COLOURS["resolved"][1:], 16)
    assert read(discord.messages["9000"]["content"]).startswith("[P0 resolved]")
    assert over.reference == "9001"
    assert discord.called == ["@everyone"]  # once: what is over calls nobody
    assert discord.complaints == []


async def test_a_first_message_that_is_gone_loses_nothing() -> None:
    async with DiscordDouble() as discord:
        channel = room("discord", discord.hook_url)
        transcript: list[str] = []
        outcome = await channel.send(resolved(thread="123"), NEW_YEAR_MS, transcript)
        foreign = await channel.send(resolved(thread="C1/17.5"), NEW_YEAR_MS)
        await channel.close()
    assert (outcome.reference, foreign.reference) == ("9000", "9001")
    assert any("Unknown Message" in line for line in transcript)
    assert [one.method for one in discord.requests] == ["POST", "PATCH", "POST"]


async def test_only_who_is_named_in_the_configuration_is_called() -> None:
    mention = ["here", "user:123", "role:456"]
    async with DiscordDouble() as discord:
        channel = room("discord", discord.hook_url, mention=mention, thread_id="77")
        await channel.send(hostile_notification("@everyone <@999> <@&888>"), NEW_YEAR_MS)
        await channel.send(
            notification(reason=Reason.ACKED, state="ACKED", actor="li"), NEW_YEAR_MS
        )
        await channel.close()
    assert discord.called == ["@here", "<@123>", "<@&456>"]
    assert discord.requests[0].path.endswith("?wait=true&thread_id=77")


async def test_the_longest_message_fits_and_keeps_what_matters() -> None:
    alerts = tuple(
        replace(ENGINE_DOWN, annotations={"summary": "🔥" * 3000, "description": "界" * 9000})
        for _ in range(50)
    )
    async with DiscordDouble() as discord:
        channel = room("discord", discord.hook_url, mention=[f"role:{n:020}" for n in range(15)])
        outcome = await channel.send(notification(alerts=alerts), NEW_YEAR_MS)
        await channel.close()
    assert isinstance(outcome, Delivered)
    assert discord.complaints == []
    assert "#42" in read(discord.messages["9000"]["content"])


def test_many_short_lines_of_emoji_are_counted_in_units_of_utf16() -> None:
    """Each character is two of them; short lines are cut at the limit itself."""
    parts = MessageTemplates().parts(notification(), NEW_YEAR_MS)
    long = replace(parts, paragraphs=("🔥" * 10,) * 1000)
    text = discord_body(long)["embeds"][0]["description"]
    assert len(text) < 3000
    assert 4000 < len(text.encode("utf-16-le")) // 2 <= 4096


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (Answer(429, {}, b'{"message":"slow","retry_after":0.65,"global":false}'), 651),
        (Answer(429, {"Retry-After": "7"}, b"cloud"), 7000),
        (Answer(429, {"Retry-After": "7"}, b'{"retry_after":99999}'), 7000),
        (Answer(500), None),
        (Answer(204), "HTTP 204"),
        (Answer(200, {}, b"<html>"), None),
        (Answer(200, {}, b'{"id":"../x"}'), None),
    ],
)
async def test_what_is_tried_again(answer: Answer, outcome: int | str | None) -> None:
    async with DiscordDouble(answer) as discord:
        channel = room("discord", discord.hook_url)
        result = await channel.send(notification(), NEW_YEAR_MS)
        await channel.close()
    if isinstance(outcome, str):
        assert isinstance(result, Delivered) and outcome in result.detail
    else:
        assert isinstance(result, RetryAt)
        assert result.not_before_ms == (None if outcome is None else NEW_YEAR_MS + outcome)


@pytest.mark.parametrize(
    ("status", "final"), [(400, False), (401, True), (403, False), (404, True)]
)
async def test_what_is_refused(status: int, final: bool) -> None:
    body = json.dumps({"message": "tokenOfOurs-123", "code": 1}).encode()
    async with DiscordDouble(Answer(status, {}, body)) as discord:
        channel = room("discord", discord.hook_url)
        result = await channel.send(notification(), NEW_YEAR_MS)
        await channel.close()
    assert isinstance(result, Permanent) and result.final is final
    assert "tokenOfOurs" not in result.error


def test_what_cannot_be_configured() -> None:
    sections: list[dict[str, Any]] = [
        {"url_env": "U", "mention": ["@li"]},
        {"url_env": "U", "thread_id": "a"},
        {},
    ]
    sections += [{"url": "https://discord.com/api/webhooks/1/x"}, {"url_env": "U", "url_file": "u"}]
    for section in sections:
        with pytest.raises(ValueError, match=r"give|url|ID"):
            DiscordSettings.model_validate({"type": "discord", **section})
