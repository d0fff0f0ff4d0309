"""Teams: a card that the schema allows, text that stays text, and what the workflow answers."""

from dataclasses import replace

import pytest

from support.notifications import ENGINE_DOWN, NEW_YEAR_MS, notification, resolved
from support.vendors.rooms import room
from support.vendors.teams import TEAMS_SIGNATURE, TeamsDouble, card_text, runs_of
from support.webhook_sink import Answer
from tocsin_alerting.incidents.outbox_message import Delivered, Permanent, RetryAt


async def test_a_page_is_a_card_with_a_button_that_opens_the_answer() -> None:
    async with TeamsDouble() as flow:
        channel = room("teams", flow.hook_url)
        outcome = await channel.send(notification(), NEW_YEAR_MS)
        await channel.send(resolved(), NEW_YEAR_MS)
        await channel.close()
    assert isinstance(outcome, Delivered)
    assert outcome.detail == "HTTP 202: the workflow took it; whether Teams shows it is not told"
    page, end = flow.cards
    assert next(runs_of(page))["text"].startswith("[P0] gpu-1: The engine at")
    assert next(runs_of(page))["color"] == "Attention"
    assert next(runs_of(end))["color"] == "Good"
    assert page["actions"][0]["url"].startswith("https://tocsin.example:4911/links/")
    assert flow.complaints == []


@pytest.mark.parametrize("filler", ["a", "界", "🔥", '"', "{{DATE(2017-02-14T06:00:00Z)}}"])
async def test_the_longest_card_fits(filler: str) -> None:
    notes = {"summary": filler * 3000, "description": filler * 9000}
    alerts = tuple(replace(ENGINE_DOWN, annotations=notes) for _ in range(50))
    async with TeamsDouble() as flow:
        channel = room("teams", flow.hook_url)
        outcome = await channel.send(notification(alerts=alerts), NEW_YEAR_MS)
        await channel.close()
    assert isinstance(outcome, Delivered)
    shown = card_text(flow.cards[0])
    assert "#42" in shown and "/links/" in shown
    assert len(flow.cards[0]["body"]) > 3


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (Answer(200, {}, b"1"), Delivered, "HTTP 200"),
        (
            Answer(200, {}, b"Webhook message delivery failed with error: HTTP error 429"),
            RetryAt,
            "",
        ),
        (Answer(200, {}, b"Webhook message delivery failed: too large"), Permanent, "refuses"),
        (Answer(429, {"Retry-After": "5"}), RetryAt, str(NEW_YEAR_MS + 5000)),
        (Answer(502), RetryAt, "HTTP 502"),
        (Answer(401, {}, b'{"error":{"code":"DirectApiAuthorizationRequired"}}'), Permanent, "401"),
        (Answer(404, {}, b'{"error":{"code":"WorkflowNotFound"}}'), Permanent, "WorkflowNotFound"),
    ],
)
async def test_what_the_workflow_answers(answer: Answer, kind: type, said: str) -> None:
    async with TeamsDouble(answer) as flow:
        channel = room("teams", flow.hook_url)
        outcome = await channel.send(notification(), NEW_YEAR_MS)
        await channel.close()
    assert isinstance(outcome, kind)
    assert said in repr(outcome) and TEAMS_SIGNATURE not in repr(outcome)
