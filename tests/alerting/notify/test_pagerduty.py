"""An incident's alert at a double of PagerDuty's Events API v2, from the first page to its end."""

import json
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from support.notifications import ENGINE_DOWN, NEW_YEAR_MS, notification, resolved
from support.vendors.judging import as_json
from support.vendors.push import ROUTING_KEY, PagerDutyDouble
from support.webhook_sink import Answer
from tocsin_alerting.incidents.incident import Reason
from tocsin_alerting.incidents.outbox_message import Delivered, Outcome, Permanent, RetryAt
from tocsin_alerting.notify.channel import ChannelDeps, channel_test_notification
from tocsin_alerting.notify.pagerduty import Pagerduty, PagerdutySettings, event_actions
from tocsin_alerting.notify.secret import Vault


def pagerduty(double: PagerDutyDouble, key: str = ROUTING_KEY) -> Pagerduty:
    given = {"type": "pagerduty", "routing_key_env": "KEY", "api_url": double.base, "timeout": "2s"}
    deps = ChannelDeps(vault=Vault({"KEY": key}, lambda path: ""), hostname="gpu-1.lab")
    return Pagerduty("pd", PagerdutySettings.model_validate(given), deps)


async def told(double: PagerDutyDouble, *notifications: Any) -> list[Outcome]:
    channel = pagerduty(double)
    outcomes = [await channel.send(one, NEW_YEAR_MS) for one in notifications]
    await channel.close()
    return outcomes


def because(reason: Reason, **changes: Any) -> Any:
    key = f"42/1/0/0/pd//{reason.value}/1"
    return notification(**{"reason": reason, "key": key, **changes})


async def test_an_alert_is_triggered_acknowledged_and_resolved() -> None:
    async with PagerDutyDouble() as api:
        page = await told(api, because(Reason.OPENED))
        opened = dict(api.alerts)
        await told(api, because(Reason.ACKED, state="ACKED"))
        acked = set(api.acknowledged)
        (end,) = await told(api, resolved())
    assert isinstance(page[0], Delivered) and isinstance(end, Delivered)
    assert list(opened) == ["tocsin-42"] and acked == {"tocsin-42"} and api.alerts == {}
    assert api.complaints == api.dropped == []
    (event,) = opened.values()
    assert event["payload"] == {
        "summary": "[P0] gpu-1: The engine at 127.0.0.1:8000 does not answer (#42)",
        "source": "gpu-1",
        "severity": "critical",
        "timestamp": "2026-01-01T00:00:00+00:00",
        "component": "127.0.0.1:8000",
        "class": "InferenceEngineDown",
        "custom_details": event["payload"]["custom_details"],
    }
    assert event["payload"]["custom_details"]["incident"] == 42
    assert event["client_url"] == "http://127.0.0.1:4911"
    assert "https://runbooks.example/InferenceEngineDown" in [x["href"] for x in event["links"]]


@pytest.mark.parametrize(
    ("severity", "word"),
    [("P0", "critical"), ("P1", "error"), ("P2", "warning"), ("P3", "info"), ("P4", "info")],
)
async def test_severities(severity: str, word: str) -> None:
    async with PagerDutyDouble() as api:
        await told(api, because(Reason.WORSE, severity=severity))
    assert api.taken[0]["payload"]["severity"] == word and api.complaints == []


@pytest.mark.parametrize("reason", Reason)
async def test_every_reason_ends_in_the_right_state(reason: Reason) -> None:
    """After a page that somebody acknowledged there."""
    async with PagerDutyDouble() as api:
        await told(api, because(Reason.OPENED), because(Reason.ACKED, state="ACKED"))
        before = len(api.notified)
        (outcome,) = await told(api, because(reason))
    assert isinstance(outcome, Delivered) and api.complaints == []
    over = {
        Reason.RESOLVED, Reason.UNWATCHED, Reason.GIVEN_UP, Reason.CLOSED_BY_HAND,
        Reason.CLOSED_UNKNOWN, Reason.FIRED_AND_RESOLVED,
    }  # fmt: skip
    assert ("tocsin-42" in api.alerts) is (reason not in over)
    called = len(api.notified) - before
    assert called == (1 if reason in (Reason.UNACKED, Reason.ACK_EXPIRED) else 0)


async def test_what_nobody_heard_of_is_recorded_as_over() -> None:
    async with PagerDutyDouble() as api:
        await told(api, because(Reason.FIRED_AND_RESOLVED, status="resolved"))
    assert api.log == ["trigger", "resolve"] and api.dropped == []
    assert api.taken[0]["payload"]["severity"] == "info"


async def test_what_is_about_no_incident_has_a_key_of_its_own() -> None:
    test = channel_test_notification("pd", "", NEW_YEAR_MS)
    digest = because(Reason.DIGEST, incident=0, incidents=(1, 2))
    async with PagerDutyDouble() as api:
        outcomes = await told(api, test, digest, because(Reason.OPENED))
    assert all(isinstance(one, Delivered) for one in outcomes)
    assert len(api.alerts) == 3 and all(len(key) <= 255 for key in api.alerts)


async def test_the_limits_hold() -> None:
    long = replace(
        ENGINE_DOWN,
        labels={**ENGINE_DOWN.labels, "instance": "i" * 5000, "model_name": "熱" * 5000},
        annotations={"summary": "\U0001f525" * 5000, "description": "x" * 5000},
    )
    async with PagerDutyDouble() as api:
        (outcome,) = await told(
            api, because(Reason.OPENED, alerts=(long,) * 50, key="k" * 400 + "/1")
        )
    assert isinstance(outcome, Delivered) and api.complaints == []
    assert len(json.dumps(api.taken[0])) < 512_000 and "(#42)" in api.taken[0]["payload"]["summary"]


async def test_no_label_makes_the_event_other_than_json_and_text() -> None:
    odd = "a\x00\ud83d\r\nb"
    labels = {"alertname": odd, "instance": odd, "job": odd, "model_name": odd}
    async with PagerDutyDouble() as api:
        page = because(Reason.OPENED, alerts=(replace(ENGINE_DOWN, labels=labels),))
        await told(api, page)
    payload = api.taken[0]["payload"]
    assert {payload[key] for key in ("source", "component", "group", "class")} == {"a b"}


@pytest.mark.parametrize(
    ("answer", "kind", "words", "later"),
    [
        (as_json(429, {"message": "Request Limit Exceeded"}), RetryAt, "Limit", 30_000),
        (Answer(429, {"Retry-After": "90"}, b""), RetryAt, "429", 90_000),
        (as_json(500, {}), RetryAt, "500", None),
        (Answer(200, {}, b"<html>log in</html>"), RetryAt, "not from PagerDuty", None),
        (as_json(202, {"status": "invalid event"}), RetryAt, "not from PagerDuty", None),
        (as_json(400, {"errors": ["Invalid routing key"]}), Permanent, "Invalid routing key", None),
        (as_json(403, {}), Permanent, "check the integration key", None),
        (Answer(404), Permanent, "404", None),
    ],
)
async def test_answers(answer: Answer, kind: type, words: str, later: int | None) -> None:
    async with PagerDutyDouble(answer) as api:
        (outcome,) = await told(api, because(Reason.OPENED))
    assert isinstance(outcome, kind) and words in repr(outcome)
    if isinstance(outcome, RetryAt):
        assert outcome.not_before_ms == (None if later is None else NEW_YEAR_MS + later)


async def test_the_second_event_waits_for_the_first() -> None:
    async with PagerDutyDouble(as_json(500, {})) as api:
        (outcome,) = await told(api, because(Reason.ACK_EXPIRED))
    assert isinstance(outcome, RetryAt) and len(api.requests) == 1
    assert event_actions(Reason.ACK_EXPIRED) == ("resolve", "trigger")


async def test_a_wrong_key_is_not_shown() -> None:
    async with PagerDutyDouble() as api:
        channel = pagerduty(api, "a-key-of-somebody-else-01234567")
        transcript: list[str] = []
        outcome = await channel.send(because(Reason.OPENED), NEW_YEAR_MS, transcript)
        await channel.close()
    assert isinstance(outcome, Permanent) and "Invalid routing key" in outcome.error
    assert "somebody-else" not in "\n".join([repr(channel), repr(outcome), *transcript])


def test_the_key_stands_in_a_file() -> None:
    with pytest.raises(ValidationError, match="routing_key_file"):
        PagerdutySettings.model_validate({"type": "pagerduty", "routing_key": ROUTING_KEY})
