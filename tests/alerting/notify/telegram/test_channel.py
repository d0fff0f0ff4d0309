"""Messages to a double of the Bot API, which refuses what its document forbids."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from support.notifications import ENGINE_DOWN, NEW_YEAR_MS, notification, resolved
from support.vendors.telegram import (
    BOT_TOKEN,
    GROUP,
    SUPERGROUP,
    BotApiDouble,
    refused,
    settings,
    telegram,
)
from support.webhook_sink import Answer
from tocsin_alerting.incidents.incident import Reason
from tocsin_alerting.incidents.outbox_message import Delivered, Outcome, Permanent, RetryAt
from tocsin_alerting.notify.channel import ChannelDeps
from tocsin_alerting.notify.secret import Vault
from tocsin_alerting.notify.telegram.channel import Telegram

ACKED = {"reason": Reason.ACKED, "state": "ACKED", "actor": "li", "key": "42/2/0/0/ops//acked/2"}


async def told(
    channel: Telegram, *notifications: Any, transcript: list[str] | None = None
) -> list[Outcome]:
    """One after the other, as of one incident to one addressee."""
    outcomes: list[Outcome] = []
    thread = ""
    for one in notifications:
        sent = replace(one, thread=thread)
        outcomes.append(await channel.send(sent, NEW_YEAR_MS, transcript))
        thread = thread or getattr(outcomes[0], "reference", "")
    return outcomes


async def test_the_first_message_shows_how_it_stands_and_the_rest_replies(tmp_path: Path) -> None:
    async with BotApiDouble() as api:
        channel = telegram(api, tmp_path)
        page, end = notification(), resolved()
        outcomes = await told(channel, page, notification(**ACKED), end)
        await channel.close()
    assert api.complaints == []
    assert [type(one) for one in outcomes] == [Delivered] * 3
    assert [getattr(one, "reference", "") for one in outcomes] == [
        f"{GROUP}/{n}" for n in (1, 2, 3)
    ]
    methods = [method for method, _ in api.calls]
    assert methods == ["sendMessage"] + ["sendMessage", "editMessageText"] * 2
    assert [body.get("reply_parameters", {}).get("message_id") for _, body in api.calls] == [
        None, 1, None, 1, None,
    ]  # fmt: skip
    assert api.calls[2][1]["text"].startswith("<b>[P0 acknowledged]")
    assert list(api.messages[2].get("reply_markup", {})) == []  # the buttons stand at the first
    assert api.messages[1]["shown"].startswith("[P0 resolved] gpu-1: ")
    assert "#42" in api.messages[1]["shown"] and api.buttons(1) == {}


async def test_buttons_follow_the_state(tmp_path: Path) -> None:
    async with BotApiDouble() as api:
        channel = telegram(api, tmp_path)
        await told(channel, notification())
        first = list(api.buttons(1))
        await told(channel, notification(), notification(**ACKED))
        acked = list(api.buttons(2))
        await channel.close()
    assert first == ["Acknowledge", "Snooze 30 min", "Close"]
    assert acked == ["Snooze 30 min", "Close"]


async def test_nobody_may_answer_so_there_are_no_buttons(tmp_path: Path) -> None:
    async with BotApiDouble() as api:
        channel = telegram(api, tmp_path, users={})
        await told(channel, notification(), notification(**ACKED))
        await channel.close()
    assert api.complaints == [] and api.buttons(1) == api.buttons(2) == {}
    assert "reply_markup" not in api.calls[0][1]
    assert any("https://tocsin.example.com/links/" in link for link in api.links)


async def test_a_mild_one_makes_no_sound_and_a_topic_is_kept(tmp_path: Path) -> None:
    async with BotApiDouble() as api:
        channel = telegram(api, tmp_path, message_thread_id=7)
        for severity in ("P0", "P2", "P3", "P4"):
            await told(channel, notification(severity=severity))
        await channel.close()
    quiet = [body["disable_notification"] for _, body in api.calls]
    assert quiet == [False, False, True, True]
    assert {body["message_thread_id"] for _, body in api.calls} == {7}
    assert {json.dumps(body["link_preview_options"]) for _, body in api.calls} == {
        '{"is_disabled": true}'
    }


@pytest.mark.parametrize(
    ("answer", "expected", "words"),
    [
        (refused(429, "Too Many Requests: retry after 17", retry_after=17), 17_000, "retry after"),
        (refused(429, "Too Many Requests", retry_after=999_999), 3_600_000, "Too Many"),
        (refused(429, "Too Many Requests", retry_after=True), None, "Too Many"),
        (refused(500, "Internal Server Error"), None, "Internal"),
        (refused(502, "Bad Gateway"), None, "Bad Gateway"),
        (Answer(502, {}, b"<html>nginx</html>"), None, "nginx"),
        (Answer(200, {}, b"<html>log in to the Wi-Fi</html>"), None, "not from the Bot API"),
        (Answer(200, {}, b'{"ok": true, "result": true}'), None, "without a message_id"),
        (Answer(503, {"Retry-After": "9"}, b"later"), 9_000, "later"),
    ],
)
async def test_answers_that_are_tried_again(
    answer: Answer, expected: int | None, words: str, tmp_path: Path
) -> None:
    async with BotApiDouble(answer) as api:
        channel = telegram(api, tmp_path)
        (outcome,) = await told(channel, notification())
        await channel.close()
    assert isinstance(outcome, RetryAt) and words in outcome.error
    assert outcome.not_before_ms == (None if expected is None else NEW_YEAR_MS + expected)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (refused(400, "Bad Request: chat not found"), "check chat_id"),
        (refused(403, "Forbidden: bot was blocked by the user"), "unblock the bot"),
        (refused(403, "Forbidden: bot was kicked from the supergroup chat"), "add the bot"),
        (refused(403, "Forbidden: bot is not a member of the channel chat"), "add the bot"),
        (refused(401, "Unauthorized"), "token is wrong"),
        (refused(404, "Not Found"), "token is wrong"),
        (refused(400, "Bad Request: not enough rights to send text messages"), "allow the bot"),
        (refused(400, "Bad Request: something new"), "something new"),
        (Answer(403, {}, b"<html>proxy</html>"), "proxy"),
    ],
)
async def test_refusals_say_what_to_do(answer: Answer, words: str, tmp_path: Path) -> None:
    async with BotApiDouble(answer) as api:
        channel = telegram(api, tmp_path)
        (outcome,) = await told(channel, notification())
        await channel.close()
    assert isinstance(outcome, Permanent) and words in outcome.error and not outcome.final


@pytest.mark.parametrize(
    ("description", "missing"),
    [
        ("Bad Request: can't parse entities: unsupported start tag", "parse_mode"),
        ("Bad Request: message thread not found", "message_thread_id"),
        ("Bad Request: message to be replied not found", "reply_parameters"),
        ("Bad Request: BUTTON_DATA_INVALID", "reply_markup"),
    ],
)
async def test_what_it_was_refused_for_is_left_out(
    description: str, missing: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with BotApiDouble(refused(400, description)) as api:
        channel = telegram(api, tmp_path, message_thread_id=7)
        sent = notification(thread=f"{GROUP}/1")
        outcome = await channel.send(sent, NEW_YEAR_MS)
        await channel.close()
    assert isinstance(outcome, Delivered)
    bodies = [request.json() for request in api.requests if "sendMessage" in request.path]
    assert missing in bodies[0] and missing not in bodies[1] and len(bodies) == 2
    assert "<b>" not in bodies[1]["text"] or missing != "parse_mode"
    assert "refused, sent otherwise" in caplog.text


async def test_a_group_that_became_a_supergroup_is_followed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with BotApiDouble() as api:
        channel = telegram(api, tmp_path)
        (first,) = await told(channel, notification())
        api.moved_to = SUPERGROUP
        moved, again = await told(channel, notification(), resolved())
        await channel.close()
    assert [getattr(one, "reference", "") for one in (first, moved, again)] == [
        f"{GROUP}/1", f"{SUPERGROUP}/2", f"{SUPERGROUP}/3",
    ]  # fmt: skip
    assert f"write chat_id: {SUPERGROUP} into the configuration" in caplog.text
    chats = [body["chat_id"] for _, body in api.calls]
    assert chats == [GROUP, GROUP, SUPERGROUP, SUPERGROUP, SUPERGROUP]


async def test_a_first_message_that_is_gone_costs_nothing(tmp_path: Path) -> None:
    async with BotApiDouble() as api:
        channel = telegram(api, tmp_path)
        outcome = await channel.send(resolved(thread=f"{GROUP}/77"), NEW_YEAR_MS)
        other = await channel.send(resolved(thread="-5/1"), NEW_YEAR_MS)
        await channel.close()
    assert isinstance(outcome, Delivered) and isinstance(other, Delivered)
    assert "reply_parameters" not in api.calls[-1][1]  # of another chat


async def test_no_secret_is_shown(tmp_path: Path) -> None:
    echo = refused(403, f"Forbidden: https://x/bot{BOT_TOKEN}/sendMessage")
    transcript: list[str] = []
    async with BotApiDouble(echo) as api:
        channel = telegram(api, tmp_path)
        outcomes = await told(channel, notification(), transcript=transcript)
        await channel.close()
    shown = "\n".join([repr(channel), repr(outcomes), *transcript])
    assert BOT_TOKEN not in shown and "/links/" not in shown


async def test_a_long_text_keeps_its_first_line_its_number_and_its_link(tmp_path: Path) -> None:
    long = replace(
        ENGINE_DOWN, annotations={"summary": "\U0001f525&<" * 3000, "description": "熱" * 9000}
    )
    async with BotApiDouble() as api:
        channel = telegram(api, tmp_path)
        (outcome,) = await told(channel, notification(alerts=(long,)))
        await channel.close()
    assert isinstance(outcome, Delivered) and api.complaints == []
    shown = api.messages[1]["shown"]
    assert shown.startswith("[P0] gpu-1: \U0001f525&<") and "#42" in shown
    assert any("/links/" in link for link in api.links)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"token": "1:x"}, "token_file"),
        ({"token_file": "t"}, "exactly one of token_file and token_env"),
        ({"chat_id": "team"}, "@name"),
        ({"users": {"li": "li"}}, "users"),
        ({"api_url": "telegram"}, "api_url"),
    ],
)
def test_a_wrong_section_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as error:
        settings(**changes)
    assert words in str(error.value)


def test_a_token_that_is_none_is_not_shown() -> None:
    deps = ChannelDeps(vault=Vault({"TOKEN": "hunter2"}, lambda path: ""))
    with pytest.raises(ValueError, match="no token of a bot") as error:
        Telegram("ops", settings(), deps)
    assert "hunter2" not in str(error.value)
