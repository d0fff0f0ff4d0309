"""An Alertmanager that notifies us: what it says fires, ends, or is not heard of any more."""

import json
from typing import Any

import pytest

from support.api_client import api_client
from support.dispatcher_setup import START_MS, Floor
from support.policies import HOUR, MINUTE, config
from tocsin_alerting.api.alertmanager.intake import MAX_WAITING, AlertIntake
from tocsin_alerting.api.alertmanager.routes import routes
from tocsin_alerting.api.http.guard import new_guard
from tocsin_alerting.http import httpx
from tocsin_alerting.incidents.incident import Condition, IncidentState

PATH = "/api/v1/alertmanager/webhook"
AM = "alertmanager;http://am:9093"


def told(*alerts: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """As Alertmanager 0.25 writes it."""
    return {
        "receiver": "tocsin",
        "status": "firing",
        "alerts": list(alerts),
        "groupLabels": {"alertname": "Down"},
        "commonLabels": {"alertname": "Down"},
        "commonAnnotations": {},
        "externalURL": "http://am:9093",
        "version": "4",
        "groupKey": '{}:{alertname="Down"}',
        "truncatedAlerts": 0,
    } | changes


def alert(status: str = "firing", **labels: str) -> dict[str, Any]:
    ended = "2026-01-01T00:00:00.5-08:00" if status == "resolved" else "0001-01-01T00:00:00Z"
    return {
        "status": status,
        "labels": {"alertname": "Down", "severity": "critical", **labels},
        "annotations": {"summary": "down"},
        "startsAt": "2025-12-31T23:59:00.123+08:00",
        "endsAt": ended,
        "generatorURL": "http://prom:9090/graph",
        "fingerprint": "449f87e64cb549a2",
    }


class Notified:
    def __init__(self, floor: Floor) -> None:
        self.floor = floor
        self.intake = AlertIntake(floor.dispatcher, lambda: floor.now)
        self.routes = routes(self.intake, tuple, new_guard(), START_MS)

    async def post(self, body: Any, query: str = "") -> httpx.Response:
        async with api_client(self.routes) as client:
            headers = {"Content-Type": "application/json"}
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            answer = await client.post(PATH + query, content=content, headers=headers)
        await self.floor.deliver()
        return answer

    async def source(self) -> tuple[IncidentState, Condition]:
        (incident,) = await self.floor.dispatcher.incidents(tuple(IncidentState))
        return incident.state, incident.source


async def notified() -> Notified:
    return Notified(await Floor(config()).open())


async def test_what_fires_is_paged_and_what_is_resolved_ends() -> None:
    one = await notified()
    assert (await one.post(told(alert()))).json() == {"status": "success", "data": {}}
    (held,) = one.floor.dispatcher.working.external
    assert held.origin == AM
    await one.floor.advance(1)
    assert [reason for _, reason, _ in one.floor.told] == ["opened", "opened"]
    await one.post(told(alert("resolved"), status="resolved"))
    assert await one.source() == (IncidentState.RESOLVED, Condition.CLEAR)


@pytest.mark.parametrize(
    ("query", "lasts"), [("", 8 * HOUR + 5 * MINUTE), ("?repeat_interval=5m", 15 * MINUTE)]
)
async def test_two_repetitions_that_do_not_come_make_it_unknown(query: str, lasts: int) -> None:
    one = await notified()
    await one.post(told(alert()), query)
    await one.floor.advance(lasts - 1)
    assert (await one.source())[1] is Condition.FIRING
    await one.floor.advance(1)
    assert (await one.source()) == (IncidentState.TRIGGERED, Condition.UNKNOWN)
    await one.post(told(alert()), query)
    assert (await one.source())[1] is Condition.FIRING


async def test_the_prometheus_behind_it_is_another_sender() -> None:
    one = await notified()
    await one.post(told(alert()))
    direct = {key: value for key, value in alert().items() if key != "endsAt"}
    async with api_client(one.routes) as client:
        headers = {"Content-Type": "application/json"}
        content = json.dumps([direct])
        assert (await client.post("/api/v2/alerts", content=content, headers=headers)).is_success
    await one.post(told(alert("resolved")))
    assert (await one.source())[1] is Condition.FIRING


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"x", "parsing alerts body"),
        (b"[]", '"alerts" is missing'),
        (b"{}", '"alerts" is missing'),
        (told(version="3"), '"version" must be "4"'),
        (told({"labels": {}}), "at least one label pair"),
        (told({"status": "firing"}), "0.labels in body is required"),
    ],
)
async def test_what_is_no_webhook_is_refused(body: Any, words: str) -> None:
    one = await notified()
    answer = await one.post(body)
    assert answer.status_code == 400
    assert words in answer.json()["error"]


@pytest.mark.parametrize("text", ["x", "0s", "-5"])
async def test_a_repeat_interval_that_is_none_is_refused(text: str) -> None:
    one = await notified()
    answer = await one.post(told(alert()), f"?repeat_interval={text}")
    assert answer.status_code == 400
    assert "repeat_interval" in answer.json()["error"]


async def test_what_it_may_try_again_is_no_429() -> None:
    """Alertmanager gives up what is answered with 429."""
    one = await notified()
    one.intake._waiting["127.0.0.1"] = MAX_WAITING
    assert (await one.post(told(alert()))).status_code == 503
