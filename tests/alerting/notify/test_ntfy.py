"""Messages to a double of an ntfy server."""

import json
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from support.notifications import ENGINE_DOWN, NEW_YEAR_MS, notification, resolved
from support.vendors.judging import as_json
from support.vendors.push import NTFY_TOKEN, NTFY_TOPIC, NtfyDouble
from support.webhook_sink import Answer
from tocsin_alerting.incidents.incident import Reason
from tocsin_alerting.incidents.outbox_message import Delivered, Outcome, Permanent, RetryAt
from tocsin_alerting.notify.channel import ChannelDeps
from tocsin_alerting.notify.message_parts import MessageParts
from tocsin_alerting.notify.ntfy import Ntfy, NtfySettings, ntfy_content
from tocsin_alerting.notify.secret import Vault

SECRETS = {"TOPIC": NTFY_TOPIC, "TOKEN": NTFY_TOKEN, "PASSWORD": "pass:word-of-ours"}


def settings(**changes: Any) -> NtfySettings:
    return NtfySettings.model_validate({"type": "ntfy", "topic_env": "TOPIC", **changes})


def ntfy(double: NtfyDouble, secrets: dict[str, str] | None = None, **changes: Any) -> Ntfy:
    deps = ChannelDeps(vault=Vault(SECRETS | (secrets or {}), lambda path: ""))
    return Ntfy("push", settings(url=double.base, timeout="2s", **changes), deps)


async def told(double: NtfyDouble, *notifications: Any, **changes: Any) -> list[Outcome]:
    channel = ntfy(double, **changes)
    outcomes = [await channel.send(one, NEW_YEAR_MS) for one in notifications]
    await channel.close()
    return outcomes


async def test_a_page_and_its_end() -> None:
    acked = notification(reason=Reason.ACKED, state="ACKED", actor="li")
    async with NtfyDouble() as server:
        outcomes = await told(server, notification(), acked, resolved())
    assert [getattr(one, "reference", "") for one in outcomes] == [
        "msg000000001", "msg000000002", "msg000000003",
    ]  # fmt: skip
    page, on_it, end = server.taken
    assert server.complaints == []
    assert page["title"] == "[P0] gpu-1: The engine at 127.0.0.1:8000 does not answer (#42)"
    assert (page["priority"], page["tags"]) == (5, ["rotating_light", "P0"])
    assert (on_it["priority"], on_it["tags"]) == (3, ["eyes", "P0"])
    assert (end["priority"], end["tags"]) == (3, ["white_check_mark", "P0"])
    assert page["actions"][0] == {
        "action": "view",
        "label": "Runbook",
        "url": "https://runbooks.example/InferenceEngineDown",
    }


@pytest.mark.parametrize(
    ("severity", "priority"), [("P0", 5), ("P1", 4), ("P2", 3), ("P3", 2), ("P4", 1)]
)
async def test_priorities(severity: str, priority: int) -> None:
    async with NtfyDouble() as server:
        await told(server, notification(severity=severity))
    assert server.taken[0]["priority"] == priority and server.complaints == []


@pytest.mark.parametrize(
    ("changes", "credential"),
    [
        ({}, ""),
        ({"token_env": "TOKEN"}, f"Bearer {NTFY_TOKEN}"),
        (
            {"username": "tocsin", "password_env": "PASSWORD"},
            NtfyDouble.basic("tocsin", SECRETS["PASSWORD"]),
        ),
    ],
)
async def test_the_server_may_ask_who_it_is(changes: dict[str, Any], credential: str) -> None:
    async with NtfyDouble(credential=credential) as server:
        (outcome,) = await told(server, notification(), **changes)
    assert isinstance(outcome, Delivered)
    assert server.requests[0].headers.get("authorization", "") == credential


@pytest.mark.parametrize("text", ["熱" * 9000, '"\n\\' * 3000, "\U0001f525" * 3000, "x" * 20_000])
async def test_bytes_are_counted(text: str) -> None:
    alert = replace(ENGINE_DOWN, annotations={"summary": text[:3000], "description": text})
    async with NtfyDouble() as server:
        (outcome,) = await told(server, notification(alerts=(alert,) * 3))
    assert isinstance(outcome, Delivered) and server.complaints == []
    assert len(server.taken[0]["title"].encode()) <= 1000
    assert len(server.requests[0].body) <= 8192
    assert "#42" in server.taken[0]["title"]


@pytest.mark.parametrize(
    ("answer", "kind", "words", "later"),
    [
        (
            as_json(429, {"code": 42908, "error": "limit reached: daily message quota reached"}),
            RetryAt, "quota reached (42908)", None,
        ),
        (Answer(429, {"Retry-After": "20"}, b""), RetryAt, "429", 20_000),
        (as_json(401, {"code": 40101, "error": "unauthorized"}), Permanent, "the token", None),
        (as_json(403, {"code": 40301, "error": "forbidden"}), Permanent, "topic's access", None),
        (as_json(413, {"code": 41303, "error": "JSON body too large"}), Permanent, "41303", None),
        (as_json(507, {"code": 50701, "error": "cannot publish"}), RetryAt, "50701", None),
        (Answer(200, {}, b"<html>welcome</html>"), RetryAt, "not from an ntfy server", None),
        (as_json(200, {"id": 1}), RetryAt, "not from an ntfy server", None),
    ],
)  # fmt: skip
async def test_answers(answer: Answer, kind: type, words: str, later: int | None) -> None:
    async with NtfyDouble(answer) as server:
        (outcome,) = await told(server, notification())
    assert isinstance(outcome, kind) and words in repr(outcome)
    if isinstance(outcome, RetryAt):
        assert outcome.not_before_ms == (None if later is None else NEW_YEAR_MS + later)


async def test_neither_topic_nor_token_is_shown() -> None:
    echo = Answer(403, {}, json.dumps([NTFY_TOPIC, NTFY_TOKEN]).encode())
    async with NtfyDouble(echo) as server:
        channel = ntfy(server, token_env="TOKEN")
        transcript: list[str] = []
        outcome = await channel.send(notification(), NEW_YEAR_MS, transcript)
        await channel.close()
    shown = "\n".join([repr(channel), repr(outcome), *transcript])
    assert NTFY_TOPIC not in shown and NTFY_TOKEN not in shown


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"topic": "x"}, "topic_file"),
        ({"topic_file": "x"}, "exactly one of topic_file and topic_env"),
        ({"username": "li"}, "exactly one of password_file"),
        ({"password_env": "X"}, "password goes with username"),
        ({"username": "a:b", "password_env": "X"}, "no colon"),
        ({"token_env": "X", "token_file": "t"}, "not both"),
        ({"token_env": "X", "username": "a", "password_env": "P"}, "not both"),
    ],
)
def test_a_wrong_section_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        settings(**changes)


@pytest.mark.parametrize("topic", ["with space", "a/b", "x" * 65, "täglich"])
async def test_a_topic_that_is_none_is_not_shown(topic: str) -> None:
    async with NtfyDouble() as server:
        with pytest.raises(ValueError, match="topic") as error:
            ntfy(server, {"TOPIC": topic})
    assert topic not in str(error.value)


@pytest.mark.parametrize("text", ['"' * 125, "\n\\" * 62, "熱" * 20])
def test_the_body_has_a_limit_besides_that_of_the_text(text: str) -> None:
    parts = MessageParts(
        subject="[P0] gpu-1: down (#42)",
        head="",
        kind="firing",
        severity="P0",
        numbers="#42",
        lines=tuple((f"L{number}", text) for number in range(200)),
        answer_url="https://tocsin.example.com/links/abc",
        answer_label="Look",
    )
    content = ntfy_content(NTFY_TOPIC, notification(), parts)
    message = json.loads(content)
    assert len(content) <= 8192 and len(message["message"].encode()) <= 4096
    assert len(content) > 3000 and parts.answer_url in message["message"]
