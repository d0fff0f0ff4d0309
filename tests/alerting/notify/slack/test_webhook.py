"""Slack's incoming webhook: blocks that its documents allow, text that stays text, its answers."""

from dataclasses import replace

import pytest

from support.hostile_texts import HOSTILE_TEXTS, between, hostile_notification, skeleton
from support.notifications import ENGINE_DOWN, NEW_YEAR_MS, notification, resolved
from support.vendors.rooms import room
from support.vendors.slack import SlackDouble, called, faults_of, shown_text
from support.webhook_sink import Answer
from tocsin_alerting.incidents.outbox_message import Delivered, Permanent, RetryAt
from tocsin_alerting.notify.message_parts import COLOURS
from tocsin_alerting.notify.slack.message import escape_mrkdwn
from tocsin_alerting.notify.slack.settings import SlackSettings


async def test_a_page_is_blocks_in_the_colour_of_the_severity() -> None:
    async with SlackDouble() as slack:
        channel = room("slack", slack.hook_url, mention=["here", "U0LI", "S0OPS"])
        outcome = await channel.send(notification(), NEW_YEAR_MS)
        await channel.send(resolved(), NEW_YEAR_MS)
        await channel.close()
    assert outcome == Delivered(detail="HTTP 200: ok")
    page, end = slack.messages.values()
    assert page["text"].startswith("[P0] gpu-1: The engine at 127.0.0.1:8000")
    assert page["attachments"][0]["color"] == COLOURS["P0"]
    assert end["attachments"][0]["color"] == COLOURS["resolved"]
    assert called(page) == ["here", "U0LI", "S0OPS"] and called(end) == []
    assert "Acknowledge or see details: https" not in page["text"]
    assert "https://tocsin.example:4911/links/" in shown_text(page)
    assert slack.complaints == []


@pytest.mark.parametrize("name", HOSTILE_TEXTS)
async def test_a_label_value_arrives_as_it_is_and_calls_nobody(name: str) -> None:
    text = HOSTILE_TEXTS[name]
    async with SlackDouble() as slack:
        channel = room("slack", slack.hook_url)
        outcome = await channel.send(hostile_notification(text), NEW_YEAR_MS)
        await channel.close()
    assert isinstance(outcome, Delivered), (outcome, slack.complaints)
    message = next(iter(slack.messages.values()))
    assert called(message) == []
    shown = shown_text(message)
    assert shown.startswith("[P0]") and "#42" in shown
    assert "https://tocsin.example:4911/links/" in shown
    seen = [skeleton(one) for one in between(shown)]
    assert not seen or skeleton(" ".join(text.split())) in seen


@pytest.mark.parametrize("filler", ["a", "界", "🔥", '"\\', "<&>"])
async def test_the_longest_message_fits_and_keeps_what_matters(filler: str) -> None:
    notes = {"summary": filler * 3000, "description": filler * 9000}
    alerts = tuple(replace(ENGINE_DOWN, annotations=notes) for _ in range(50))
    async with SlackDouble() as slack:
        channel = room("slack", slack.hook_url)
        outcome = await channel.send(notification(alerts=alerts), NEW_YEAR_MS)
        await channel.close()
    assert isinstance(outcome, Delivered), slack.complaints
    shown = shown_text(next(iter(slack.messages.values())))
    assert "#42" in shown and "/links/" in shown


def test_what_begins_a_mention_in_text_is_escaped() -> None:
    assert escape_mrkdwn("<!channel> & <@U1>") == "&lt;!channel&gt; &amp; &lt;@U1&gt;"
    assert faults_of({"text": "<!channel>"}) == ["text is not escaped"]


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (Answer(200, {}, b"<html>log in</html>"), RetryAt, "no webhook of Slack"),
        (Answer(429, {"Retry-After": "30"}, b"rate_limited"), RetryAt, str(NEW_YEAR_MS + 30_000)),
        (Answer(500, {}, b"rollup_error"), RetryAt, "rollup_error"),
        (Answer(400, {}, b"invalid_payload"), Permanent, "invalid_payload"),
        (Answer(403, {}, b"action_prohibited"), Permanent, "a rule of the workspace"),
        (Answer(404, {}, b"no_service"), Permanent, "make a new webhook"),
        (Answer(410, {}, b"channel_is_archived"), Permanent, "final=True"),
    ],
)
async def test_what_slack_answers(answer: Answer, kind: type, said: str) -> None:
    async with SlackDouble(answer) as slack:
        channel = room("slack", slack.hook_url)
        outcome = await channel.send(notification(), NEW_YEAR_MS)
        await channel.close()
    assert isinstance(outcome, kind)
    assert said in repr(outcome) and "hookSecret123" not in repr(outcome)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({}, "exactly one"),
        ({"url_env": "U", "token_env": "T", "channel": "C1"}, "exactly one"),
        ({"url_env": "U", "users": {"U1": "li"}}, "needs token_file"),
        ({"token_env": "T"}, "needs channel"),
        ({"token_env": "T", "channel": "C1", "app_token_env": "A"}, "who may press"),
        ({"token_env": "T", "channel": "C1", "users": {"U1": "li"}}, "who may press"),
        (
            {"token_env": "T", "channel": "C1", "app_token_env": "A", "users": {"@li": "li"}},
            "member",
        ),
        ({"url_env": "U", "mention": ["@li"]}, "calls nobody"),
        ({"token": "xoxb-1", "channel": "C1"}, "secret"),
    ],
)
def test_what_cannot_be_configured(section: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SlackSettings.model_validate({"type": "slack", **section})
