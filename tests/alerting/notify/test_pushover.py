"""Messages to a double of Pushover; who confirms an emergency in the app acknowledges."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from support.notifications import ENGINE_DOWN, NEW_YEAR_MS, notification, resolved
from support.vendors.judging import as_json
from support.vendors.push import PUSHOVER_TOKEN, PUSHOVER_USER, PushoverDouble
from support.webhook_sink import Answer
from tocsin_alerting.incidents.actions import Action, Verb
from tocsin_alerting.incidents.incident import Reason
from tocsin_alerting.incidents.outbox_message import Delivered, Outcome, Permanent, RetryAt
from tocsin_alerting.notify.channel import ChannelDeps, channel_test_notification
from tocsin_alerting.notify.pushover import Pushover, PushoverSettings
from tocsin_alerting.notify.secret import Vault

ACKED = notification(reason=Reason.ACKED, state="ACKED", actor="li", key="42/2/0/0/push//acked/2")


def settings(**changes: Any) -> PushoverSettings:
    given = {"type": "pushover", "token_env": "TOKEN", "user_env": "USER", "timeout": "2s"}
    return PushoverSettings.model_validate({**given, **changes})


def pushover(double: PushoverDouble, **changes: Any) -> Pushover:
    secrets = {"TOKEN": PUSHOVER_TOKEN, "USER": PUSHOVER_USER}
    deps = ChannelDeps(vault=Vault(secrets, lambda path: ""))
    return Pushover("push", settings(api_url=double.base, **changes), deps)


async def told(double: PushoverDouble, *notifications: Any, **changes: Any) -> list[Outcome]:
    channel = pushover(double, **changes)
    outcomes = [await channel.send(one, NEW_YEAR_MS) for one in notifications]
    await channel.close()
    return outcomes


async def test_a_page_sounds_until_somebody_answers_elsewhere() -> None:
    async with PushoverDouble() as api:
        page, acked, end = await told(api, notification(), ACKED, resolved())
    assert isinstance(page, Delivered) and page.reference in api.receipts
    assert isinstance(acked, Delivered) and isinstance(end, Delivered)
    first, second, third = api.taken
    assert api.complaints == []
    assert first["title"] == "[P0] gpu-1: The engine at 127.0.0.1:8000 does not answer (#42)"
    assert (first["priority"], first["retry"], first["expire"]) == ("2", "60", "3600")
    assert (second["priority"], third["priority"]) == ("0", "0")
    assert first["tags"] == "tocsin-42" and set(api.cancelled) == {"tocsin-42"}


@pytest.mark.parametrize(
    ("severity", "priority"), [("P0", "2"), ("P1", "1"), ("P2", "0"), ("P3", "-1"), ("P4", "-2")]
)
async def test_priorities(severity: str, priority: str) -> None:
    async with PushoverDouble() as api:
        await told(api, notification(severity=severity), device="phone", sound="siren")
    assert api.taken[0]["priority"] == priority and api.complaints == []
    assert (api.taken[0]["device"], api.taken[0]["sound"]) == ("phone", "siren")


async def test_what_is_about_no_incident_is_no_emergency() -> None:
    test = replace(channel_test_notification("push", "", NEW_YEAR_MS), severity="P0")
    async with PushoverDouble() as api:
        await told(api, test, notification(incident=0, reason=Reason.DIGEST))
    assert [one["priority"] for one in api.taken] == ["0", "1"]


async def test_the_limits_hold() -> None:
    alert = replace(
        ENGINE_DOWN, annotations={"summary": "\U0001f525&" * 900, "description": "熱" * 3000}
    )
    async with PushoverDouble() as api:
        (outcome,) = await told(api, notification(alerts=(alert,)))
    assert isinstance(outcome, Delivered) and api.complaints == []
    assert api.taken[0]["title"].endswith("(#42)")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (as_json(400, {"status": 0, "errors": ["user identifier is invalid"]}), "user identifier"),
        (as_json(429, {"status": 0, "errors": ["quota exceeded"]}), "this month are used up"),
        (as_json(200, {"status": 0, "errors": ["odd"]}), "odd"),
    ],
)
async def test_what_is_refused_is_never_sent_again(answer: Answer, words: str) -> None:
    async with PushoverDouble(answer) as api:
        (outcome,) = await told(api, notification())
    assert isinstance(outcome, Permanent) and outcome.final and words in outcome.error


@pytest.mark.parametrize(
    ("answer", "later"),
    [
        (as_json(500, {}), 5_000),
        (Answer(503, {"Retry-After": "60"}, b""), 60_000),
        (Answer(503, {"Retry-After": "1"}, b""), 5_000),
        (Answer(200, {}, b"<html>log in</html>"), 5_000),
    ],
)
async def test_a_passing_trouble_is_tried_again_after_five_seconds(
    answer: Answer, later: int
) -> None:
    async with PushoverDouble(answer) as api:
        (outcome,) = await told(api, notification())
    assert isinstance(outcome, RetryAt) and outcome.not_before_ms == NEW_YEAR_MS + later


async def listened(channel: Pushover, passes: int) -> list[Action]:
    """What was asked of the agent, in so many rounds of asking."""
    actions: list[Action] = []
    left = [passes]

    async def answer(action: Action) -> str:
        actions.append(action)
        return "done"

    async def pause(seconds: float) -> None:
        assert seconds >= 5  # pushover.net/api/receipts asks for that
        left[0] -= 1
        if left[0] < 0:
            raise asyncio.CancelledError

    channel.pause = pause
    with suppress(asyncio.CancelledError):
        await channel.listen(answer)
    return actions


@pytest.mark.parametrize("contact", ["li", ""])
async def test_who_confirms_it_acknowledges_once(contact: str) -> None:
    async with PushoverDouble() as api:
        channel = pushover(api, contact=contact)
        outcome = await channel.send(notification(), NEW_YEAR_MS)
        assert isinstance(outcome, Delivered)
        before = await listened(channel, 2)
        api.states[outcome.reference] = {"acknowledged": 1, "acknowledged_by_device": "nexus5"}
        (action,) = await listened(channel, 3)
        await channel.close()
    assert before == []
    assert (action.verb, action.incident, action.generation) == (Verb.ACK, 42, 1)
    assert action.actor == (contact or "pushover:nexus5")
    assert action.request_id == f"pushover/{outcome.reference}"
    assert len(api.polls) == 3  # and then no more


@pytest.mark.parametrize("state", [{"expired": 1}, None])
async def test_a_receipt_that_has_ended_is_forgotten(state: dict[str, Any] | None) -> None:
    async with PushoverDouble() as api:
        channel = pushover(api)
        outcome = await channel.send(notification(), NEW_YEAR_MS)
        assert isinstance(outcome, Delivered)
        if state is None:
            del api.receipts[outcome.reference]
        else:
            api.states[outcome.reference] = state
        assert await listened(channel, 3) == []
        await channel.close()
    assert len(api.polls) == 1


async def test_an_answer_elsewhere_ends_the_asking() -> None:
    async with PushoverDouble() as api:
        channel = pushover(api)
        await channel.send(notification(), NEW_YEAR_MS)
        await channel.send(ACKED, NEW_YEAR_MS)
        assert await listened(channel, 2) == []
        await channel.close()
    assert api.polls == []


async def test_a_service_that_is_down_does_not_end_the_asking() -> None:
    api = PushoverDouble()
    async with api:
        channel = pushover(api)
        await channel.send(notification(), NEW_YEAR_MS)
    assert await listened(channel, 2) == []
    async with PushoverDouble(port=api.port) as back:
        back.receipts, back.states = api.receipts, {next(iter(api.receipts)): {"acknowledged": 1}}
        assert len(await listened(channel, 1)) == 1
        await channel.close()


async def test_no_secret_is_shown() -> None:
    said = f"token {PUSHOVER_TOKEN} of {PUSHOVER_USER}"
    async with PushoverDouble(as_json(400, {"status": 0, "errors": [said]})) as api:
        channel = pushover(api)
        transcript: list[str] = []
        outcome = await channel.send(notification(), NEW_YEAR_MS, transcript)
        await channel.close()
    shown = "\n".join([repr(channel), repr(outcome), *transcript])
    assert PUSHOVER_TOKEN not in shown and PUSHOVER_USER not in shown


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"token": "x"}, "token_file"),
        ({"user": "x"}, "user_file"),
        ({"user_file": "x"}, "exactly one of user_file and user_env"),
        ({"retry": "29s"}, "30s at most"),
        ({"expire": "3h1s"}, "3h at most"),
    ],
)
def test_a_wrong_section_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        settings(**changes)
