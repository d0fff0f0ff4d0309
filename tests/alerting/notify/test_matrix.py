"""Messages to a double of a Matrix homeserver."""

from typing import Any

import pytest
from pydantic import ValidationError

from support.notifications import NEW_YEAR_MS, notification, resolved
from support.vendors.matrix import MATRIX_ROOM, MATRIX_TOKEN, Homeserver
from support.webhook_sink import Answer, WebhookSink
from tocsin_alerting.incidents.outbox_message import Delivered, Outcome, RetryAt
from tocsin_alerting.notify.channel import ChannelDeps
from tocsin_alerting.notify.matrix import MatrixRoom, MatrixSettings
from tocsin_alerting.notify.secret import Vault


def matrix(port: int, **more: Any) -> MatrixRoom:
    deps = ChannelDeps(vault=Vault({"TOKEN": MATRIX_TOKEN}, lambda path: ""))
    given = {
        **{"type": "matrix", "url": f"http://localhost:{port}/", "room": MATRIX_ROOM},
        **{"token_env": "TOKEN", "timeout": "2s", **more},
    }
    return MatrixRoom("room", MatrixSettings.model_validate(given), deps)


async def told(server: WebhookSink, *messages: Any, **more: Any) -> list[Outcome]:
    channel = matrix(server.port, **more)
    outcomes = [await channel.send(one, NEW_YEAR_MS) for one in messages]
    await channel.close()
    return outcomes


async def test_a_page_and_its_end_which_answers_it() -> None:
    async with Homeserver() as server:
        (first,) = await told(server, notification())
        assert isinstance(first, Delivered) and first.reference == "$1:example.com"
        await told(server, resolved(thread=first.reference))
    assert server.complaints == []
    page, end = server.events
    assert (page["msgtype"], end["msgtype"]) == ("m.text", "m.notice")
    assert page["formatted_body"].startswith("<b>[P0] gpu-1: The engine at 127.0.0.1:8000 does not")
    assert "m.relates_to" not in page
    assert end["m.relates_to"] == {"m.in_reply_to": {"event_id": "$1:example.com"}}
    assert page["m.mentions"] == end["m.mentions"] == {}


async def test_a_second_try_adds_no_message() -> None:
    async with Homeserver() as server:
        first, again = await told(server, notification(), notification())
    assert len(server.requests) == 2 and len(server.events) == 1
    assert first == again


async def test_the_room_is_called_for_urgent_pages_only_and_only_if_wanted() -> None:
    messages = (
        notification(),
        notification(severity="P2", key="42/2"),
        resolved(),
    )
    async with Homeserver() as server:
        await told(server, *messages, mention_room=True)
    assert [event["m.mentions"] for event in server.events] == [{"room": True}, {}, {}]
    assert server.called == ["@room"]


@pytest.mark.parametrize(
    ("headers", "said", "waits_ms"),
    [
        ({}, '"retry_after_ms": 2000', 2_000),
        ({"Retry-After": "7"}, '"retry_after_ms": 2000', 7_000),
        ({}, '"retry_after_ms": 99999999', 3_600_000),
        ({}, '"retry_after_ms": -1', None),
        ({}, '"retry_after_ms": "soon"', None),
    ],
)
async def test_how_long_a_server_has_us_wait(
    headers: dict[str, str], said: str, waits_ms: int | None
) -> None:
    body = f'{{"errcode": "M_LIMIT_EXCEEDED", "error": "Too many requests", {said}}}'
    async with WebhookSink(usual=Answer(429, headers, body.encode())) as sink:
        (outcome,) = await told(sink, notification())
    assert isinstance(outcome, RetryAt)
    assert outcome.not_before_ms == (None if waits_ms is None else NEW_YEAR_MS + waits_ms)


@pytest.mark.parametrize("room", ["#ops:example.com", "ops", "!", "!a b:example.com", "!a/../b: c"])
def test_what_is_no_room(room: str) -> None:
    with pytest.raises(ValidationError, match="room is the id of a room"):
        matrix(1, room=room)
    with pytest.raises(ValidationError, match="exactly one of token_file and token_env"):
        matrix(1, token_file="t")
