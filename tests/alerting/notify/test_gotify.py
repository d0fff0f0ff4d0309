"""Messages to a double of a Gotify server."""

from dataclasses import replace
from typing import Any

import pytest
from markdown_it import MarkdownIt
from pydantic import ValidationError

from support.notifications import ENGINE_DOWN, NEW_YEAR_MS, notification, resolved
from support.vendors.judging import as_json
from support.vendors.push import GOTIFY_TOKEN, GotifyDouble
from support.webhook_sink import Answer
from tocsin_alerting.incidents.outbox_message import Delivered, Outcome, Permanent, RetryAt
from tocsin_alerting.notify.channel import ChannelDeps
from tocsin_alerting.notify.gotify import Gotify, GotifySettings
from tocsin_alerting.notify.secret import Vault


def gotify(double: GotifyDouble, token: str = GOTIFY_TOKEN) -> Gotify:
    deps = ChannelDeps(vault=Vault({"TOKEN": token}, lambda path: ""))
    given = {"type": "gotify", "url": f"{double.base}/", "token_env": "TOKEN", "timeout": "2s"}
    return Gotify("push", GotifySettings.model_validate(given), deps)


async def told(double: GotifyDouble, *notifications: Any) -> list[Outcome]:
    channel = gotify(double)
    outcomes = [await channel.send(one, NEW_YEAR_MS) for one in notifications]
    await channel.close()
    return outcomes


async def test_a_page_and_its_end() -> None:
    async with GotifyDouble() as server:
        outcomes = await told(server, notification(), resolved())
    assert [getattr(one, "reference", "") for one in outcomes] == ["1", "2"]
    page, end = server.taken
    assert server.complaints == [] and (page["priority"], end["priority"]) == (10, 4)
    assert page["title"] == "[P0] gpu-1: The engine at 127.0.0.1:8000 does not answer (#42)"
    assert page["extras"] == {"client::display": {"contentType": "text/markdown"}}
    assert "[Runbook](https://runbooks.example/InferenceEngineDown)" in page["message"]


@pytest.mark.parametrize(
    ("severity", "priority"), [("P0", 10), ("P1", 8), ("P2", 5), ("P3", 2), ("P4", 0)]
)
async def test_priorities(severity: str, priority: int) -> None:
    async with GotifyDouble() as server:
        await told(server, notification(severity=severity))
    assert server.taken[0]["priority"] == priority


async def test_no_label_can_load_a_picture() -> None:
    """Read as an independent reader of CommonMark does."""
    evil = "![x](https://evil.example/track.png) <img src=x> [a][1]\n\n[1]: https://evil.example"
    alert = replace(ENGINE_DOWN, annotations={"summary": evil, "description": evil})
    async with GotifyDouble() as server:
        await told(server, notification(alerts=(alert,)))
    page = MarkdownIt("commonmark").render(server.taken[0]["message"])
    assert "<img" not in page and 'href="https://evil' not in page


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (
            as_json(401, {"error": "Unauthorized", "errorDescription": "no"}),
            Permanent,
            "application",
        ),
        (as_json(403, {"error": "Forbidden"}), Permanent, "Forbidden"),
        (as_json(400, {"error": "Bad Request", "errorDescription": "x"}), Permanent, "Request: x"),
        (as_json(500, {}), RetryAt, "500"),
        (Answer(200, {}, b"<html>"), RetryAt, "not from a Gotify server"),
    ],
)
async def test_answers(answer: Answer, kind: type, words: str) -> None:
    async with GotifyDouble(answer) as server:
        (outcome,) = await told(server, notification())
    assert isinstance(outcome, kind) and words in repr(outcome)


async def test_a_wrong_token_is_not_shown() -> None:
    async with GotifyDouble() as server:
        channel = gotify(server, "Another.T0k3n-0f-ours")
        transcript: list[str] = []
        outcome = await channel.send(notification(), NEW_YEAR_MS, transcript)
        await channel.close()
    assert isinstance(outcome, Permanent)
    assert "T0k3n" not in "\n".join([repr(channel), repr(outcome), *transcript])


@pytest.mark.parametrize(
    "wrong", [{"token": "x"}, {"url": "gotify"}, {"token_file": "t", "token_env": "T"}, {}]
)
def test_a_wrong_section_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        GotifySettings.model_validate({"type": "gotify", "url": "https://g.example", **wrong})


async def test_the_limits_hold() -> None:
    alert = replace(ENGINE_DOWN, annotations={"summary": "*_" * 900, "description": "`" * 9000})
    async with GotifyDouble() as server:
        (outcome,) = await told(server, notification(alerts=(alert,) * 9))
    assert isinstance(outcome, Delivered) and server.taken[0]["title"].endswith("(#42)")
    assert len(server.taken[0]["message"]) <= 8_100
