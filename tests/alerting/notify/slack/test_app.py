"""Slack's Web API: a thread an incident, a first message that follows it, and every error."""

import json
from typing import Any

import pytest

from support.notifications import NEW_YEAR_MS, notification, resolved
from support.vendors.rooms import room
from support.vendors.slack import APP_TOKEN, BOT_TOKEN, CHANNEL, SlackDouble, buttons_of, called
from support.webhook_sink import Answer
from tocsin_alerting.incidents.incident import Reason
from tocsin_alerting.incidents.outbox_message import Delivered, Permanent, RetryAt
from tocsin_alerting.notify.message_parts import COLOURS


def app(slack: SlackDouble, **settings: Any) -> Any:
    about = {"api_url": slack.api_url, "token_env": "TOKEN", "channel": "alerts", **settings}
    return room("slack", **about)


async def test_an_incident_is_a_thread_below_a_message_that_follows_it() -> None:
    acked = notification(reason=Reason.ACKED, state="ACKED", actor="li")
    async with SlackDouble() as slack:
        channel = app(slack, mention=["channel"])
        first = await channel.send(notification(), NEW_YEAR_MS)
        ts = first.reference.partition("/")[2]
        looks = [slack.messages[ts]]
        for later in (
            notification(reason=Reason.ESCALATED, step=1, thread=first.reference),
            notification(**{**_changes(acked), "thread": first.reference}),
            resolved(thread=first.reference),
        ):
            await channel.send(later, NEW_YEAR_MS)
            looks.append(slack.messages[ts])
        await channel.close()
    assert first.reference == f"{CHANNEL}/{ts}"
    assert [look["attachments"][0]["color"] for look in looks] == [
        COLOURS["P0"],
        COLOURS["P0"],
        COLOURS["acked"],
        COLOURS["resolved"],
    ]
    assert looks[2]["text"].startswith("[P0 acknowledged]")
    assert looks[3]["text"].startswith("[P0 resolved]")
    assert len(slack.messages) == 1
    replies = slack.replies[ts]
    assert [reply["reply_broadcast"] for reply in replies] == [True, False, False]
    assert [called(reply) for reply in replies] == [["channel"], [], []]
    assert slack.complaints == []


def _changes(one: Any) -> dict[str, Any]:
    return {"reason": one.reason, "state": one.state, "actor": one.actor}


async def test_a_retry_is_known_again_by_its_metadata() -> None:
    async with SlackDouble(Answer(503)) as slack:
        channel = app(slack)
        await channel.send(notification(), NEW_YEAR_MS)
        await channel.send(notification(), NEW_YEAR_MS)
        await channel.close()
    sent = [one.json()["metadata"] for one in slack.requests]
    assert sent[0] == sent[1]
    assert sent[0]["event_payload"] == {"key": notification().key, "incident": 42}


async def test_a_first_message_that_is_gone_or_of_another_kind_begins_anew() -> None:
    async with SlackDouble() as slack:
        channel = app(slack)
        gone = await channel.send(notification(thread=f"{CHANNEL}/1.5"), NEW_YEAR_MS)
        other = await channel.send(notification(thread="<a@b>"), NEW_YEAR_MS)
        await channel.close()
    assert len(slack.messages) == 2
    assert isinstance(gone, Delivered) and isinstance(other, Delivered)


async def test_a_first_message_that_cannot_be_changed_takes_no_reply_away() -> None:
    async with SlackDouble() as slack:
        channel = app(slack)
        first = await channel.send(notification(), NEW_YEAR_MS)
        slack.refusals["chat.update"] = "edit_window_closed"
        transcript: list[str] = []
        outcome = await channel.send(resolved(thread=first.reference), NEW_YEAR_MS, transcript)
        await channel.close()
    assert isinstance(outcome, Delivered)
    assert any("edit_window_closed" in line for line in transcript)


async def test_buttons_are_there_as_long_as_they_can_be_pressed() -> None:
    async with SlackDouble() as slack:
        channel = app(slack, app_token_env="APP", anyone=True, language="zh")
        first = await channel.send(notification(), NEW_YEAR_MS)
        ts = first.reference.partition("/")[2]
        new = slack.messages[ts]
        acked = notification(reason=Reason.ACKED, state="ACKED", thread=first.reference)
        await channel.send(acked, NEW_YEAR_MS)
        owned = slack.messages[ts]
        await channel.send(resolved(thread=first.reference), NEW_YEAR_MS)
        over = slack.messages[ts]
        await channel.send(notification(incident=0, reason=Reason.TEST), NEW_YEAR_MS)
        test = list(slack.messages.values())[-1]
        await channel.close()
    assert list(buttons_of(new)) == ["ack", "snooze", "resolve"]
    assert buttons_of(new)["ack"]["text"]["text"] == "确认"
    assert list(buttons_of(owned)) == ["resolve", "unack"]
    assert buttons_of(over) == {} and buttons_of(test) == {}
    assert all(buttons_of(reply) == {} for reply in slack.replies[ts])
    assert slack.complaints == []


LATER = ["ratelimited", "fatal_error", "internal_error", "service_unavailable", "request_timeout"]
LATER += ["message_limit_exceeded", "team_added_to_org", "an_error_of_tomorrow"]
REFUSED = ["not_authed", "invalid_auth", "token_revoked", "account_inactive", "missing_scope"]
REFUSED += ["channel_not_found", "not_in_channel", "is_archived", "msg_too_long", "invalid_blocks"]


@pytest.mark.parametrize("error", [*LATER, *REFUSED])
async def test_an_error_in_the_body_counts(error: str) -> None:
    body = json.dumps({"ok": False, "error": error, "echo": BOT_TOKEN}).encode()
    async with SlackDouble(Answer(200, {"Retry-After": "9"}, body)) as slack:
        channel = app(slack)
        transcript: list[str] = []
        outcome = await channel.send(notification(), NEW_YEAR_MS, transcript)
        await channel.close()
    if error in LATER:
        assert isinstance(outcome, RetryAt) and outcome.not_before_ms == NEW_YEAR_MS + 9000
    else:
        assert isinstance(outcome, Permanent) and not outcome.final
    assert error in outcome.error
    assert BOT_TOKEN not in "\n".join([repr(outcome), repr(channel), *transcript])


@pytest.mark.parametrize(
    "answer",
    [
        Answer(429, {"Retry-After": "30"}, b'{"ok":false,"error":"ratelimited"}'),
        Answer(200, {}, b"<html>"),
        Answer(200, {}, b'["ok"]'),
        Answer(200, {}, b'{"ok":"true"}'),
        Answer(503),
    ],
)
async def test_what_is_no_answer_of_slack_is_tried_again(answer: Answer) -> None:
    async with SlackDouble(answer) as slack:
        channel = app(slack)
        outcome = await channel.send(notification(), NEW_YEAR_MS)
        await channel.close()
    assert isinstance(outcome, RetryAt)
    assert outcome.not_before_ms == (NEW_YEAR_MS + 30_000 if answer.status == 429 else None)


async def test_an_answer_that_is_too_long_to_be_read_is_a_delivery() -> None:
    """Slack repeats the message in it: who tried again would page again and again."""
    body = b'{"ok":true,"channel":"C0CHANNEL1","ts":"17.5","message":"' + b"x" * 100_000 + b'"}'
    async with SlackDouble(Answer(200, {}, body)) as slack:
        channel = app(slack)
        outcome = await channel.send(notification(), NEW_YEAR_MS)
        await channel.close()
    assert isinstance(outcome, Delivered) and outcome.reference == "C0CHANNEL1/17.5"


async def test_the_app_token_is_not_used_to_write() -> None:
    async with SlackDouble() as slack:
        channel = app(slack, app_token_env="APP", anyone=True)
        await channel.send(notification(), NEW_YEAR_MS)
        await channel.close()
    assert all(APP_TOKEN not in str(one.headers) for one in slack.requests)
