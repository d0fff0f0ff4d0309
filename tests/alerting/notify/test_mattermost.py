"""Mattermost: what its documents demand, whom a message calls, and what the server answers."""

from dataclasses import replace

import pytest

from support.contracts.discord import read_markdown as read
from support.notifications import ENGINE_DOWN, NEW_YEAR_MS, notification, resolved
from support.vendors.mattermost import MattermostDouble
from support.vendors.rooms import room
from support.webhook_sink import Answer
from tocsin_alerting.incidents.outbox_message import Delivered, Permanent, RetryAt
from tocsin_alerting.notify.mattermost import MattermostSettings
from tocsin_alerting.notify.message_parts import COLOURS


async def test_a_page_is_urgent_and_its_end_is_not() -> None:
    async with MattermostDouble() as server:
        channel = room("mattermost", server.hook_url, channel="alerts", mention=["channel"])
        outcome = await channel.send(notification(), NEW_YEAR_MS)
        await channel.send(resolved(), NEW_YEAR_MS)
        await channel.close()
    assert outcome == Delivered(detail="HTTP 200: ok")
    page, end = server.posts
    assert page["priority"] == {"priority": "urgent"} and "priority" not in end
    assert page["channel"] == "alerts"
    assert page["attachments"][0]["color"] == COLOURS["P0"]
    assert end["attachments"][0]["color"] == COLOURS["resolved"]
    assert read(page["text"]).startswith("@channel [P0] gpu-1: The engine at")
    assert server.called == ["channel"]
    assert server.complaints == []


async def test_priority_can_be_left_out_and_is_for_p0_and_p1() -> None:
    async with MattermostDouble() as server:
        plain = room("mattermost", server.hook_url, priority=False)
        usual = room("mattermost", server.hook_url)
        await plain.send(notification(), NEW_YEAR_MS)
        await usual.send(notification(severity="P1"), NEW_YEAR_MS)
        await usual.send(notification(severity="P2"), NEW_YEAR_MS)
        await plain.close()
        await usual.close()
    assert [post.get("priority") for post in server.posts] == [
        None,
        {"priority": "important"},
        None,
    ]


async def test_the_longest_message_fits() -> None:
    many = replace(ENGINE_DOWN, annotations={"summary": "_" * 3000, "description": "*" * 16_000})
    async with MattermostDouble() as server:
        channel = room("mattermost", server.hook_url, "zh")
        outcome = await channel.send(notification(alerts=(many,) * 40), NEW_YEAR_MS)
        await channel.close()
    assert isinstance(outcome, Delivered)
    assert server.complaints == []


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (Answer(200, {}, b"<html>log in</html>"), RetryAt, "no webhook of Mattermost"),
        (Answer(429, {"Retry-After": "3"}), RetryAt, "HTTP 429"),
        (Answer(503), RetryAt, "HTTP 503"),
        (
            Answer(400, {}, b'{"id":"x","message":"Invalid webhook."}'),
            Permanent,
            "Invalid webhook.",
        ),
        (Answer(403, {}, b"[]"), Permanent, "HTTP 403"),
    ],
)
async def test_what_the_server_answers(answer: Answer, kind: type, said: str) -> None:
    async with MattermostDouble(answer) as server:
        channel = room("mattermost", server.hook_url)
        outcome = await channel.send(notification(), NEW_YEAR_MS)
        await channel.close()
    assert isinstance(outcome, kind)
    assert said in repr(outcome) and "abc123key" not in repr(outcome)


def test_a_mention_is_a_bare_name() -> None:
    with pytest.raises(ValueError, match="without the @"):
        MattermostSettings.model_validate(
            {"type": "mattermost", "url_env": "U", "mention": ["@channel"]}
        )
