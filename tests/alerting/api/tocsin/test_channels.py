"""`POST /api/v1/channels/NAME/test` really sends, and changes nothing for a GET."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from support.api_client import api_client
from support.dispatcher_setup import Floor
from support.policies import config
from support.webhook_sink import Answer, WebhookSink
from tocsin_alerting.api.http.guard import new_guard
from tocsin_alerting.api.tocsin.channels import routes
from tocsin_alerting.config.config import Config
from tocsin_alerting.config.load import build_channel, build_channels
from tocsin_alerting.incidents.outbox_message import Permanent
from tocsin_alerting.incidents.rates import ReceiverRules
from tocsin_alerting.incidents.routing import BrokenLimit


def _channels(url: str) -> Any:
    receivers = {"hook": {"type": "webhook", "url": url}, "team/log": {"type": "log"}}
    return build_channels(Config.model_validate({"receivers": receivers}), {})


def _api(url: str, address: str = "127.0.0.1") -> Any:
    return api_client(routes(_channels(url), new_guard(), lambda: 1000), address)


async def test_a_message_goes_out() -> None:
    async with WebhookSink() as sink, _api(sink.url) as api:
        answer = await api.post("/api/v1/channels/hook/test", json={})
    data = answer.json()["data"]
    assert data["delivered"] is True
    assert len(sink.requests) == 1
    assert any("200" in line for line in data["transcript"])


async def test_a_refusal_is_an_answer() -> None:
    async with WebhookSink(usual=Answer(403)) as sink, _api(sink.url) as api:
        answer = await api.post("/api/v1/channels/hook/test", json={})
    assert answer.status_code == 200
    assert answer.json()["data"]["delivered"] is False
    assert "403" in answer.json()["data"]["detail"]


async def test_a_test_message_that_arrives_ends_the_incident_of_its_receiver() -> None:
    rules = {"hook": ReceiverRules()}
    settings = config(receiver_rules=rules, channel_broken=BrokenLimit(refusals=1))
    floor = await Floor(settings).open()
    await floor.dispatcher.channels.take("hook", Permanent("HTTP 403"), floor.now)
    states = []
    async with WebhookSink(Answer(503)) as sink:
        listed = routes(
            _channels(sink.url), new_guard(), lambda: floor.now, dispatcher=floor.dispatcher
        )
        async with api_client(listed, "127.0.0.1") as api:
            for _ in range(2):
                await api.post("/api/v1/receivers/hook/test", json={})
                states += [(await floor.dispatcher.incident(1)).state.value]
    assert states == ["TRIGGERED", "RESOLVED"]


async def test_a_name_may_hold_a_slash() -> None:
    async with _api("http://127.0.0.1:9/") as api:
        answer = await api.post("/api/v1/channels/team%2Flog/test", json={})
    assert answer.json()["data"]["delivered"] is True


async def test_a_name_that_is_near() -> None:
    async with _api("http://127.0.0.1:9/") as api:
        answer = await api.post("/api/v1/channels/hok/test", json={})
    assert answer.status_code == 404
    assert answer.json()["error"] == 'no receiver is called "hok"; did you mean "hook"?'


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
async def test_nothing_is_sent_otherwise(method: str) -> None:
    async with WebhookSink() as sink, _api(sink.url) as api:
        assert (await api.request(method, "/api/v1/channels/hook/test")).status_code == 405
    async with WebhookSink() as sink, _api(sink.url, "10.0.0.7") as api:
        assert (await api.post("/api/v1/channels/hook/test", json={})).status_code == 403
    assert sink.requests == []


def _previews(url: str) -> Any:
    config = Config.model_validate({"receivers": {"hook": {"type": "webhook", "url": url}}})

    def build(name: str, language: str) -> Any:
        return build_channel(config, {}, None, name, language)

    return api_client(routes(_channels(url), new_guard(), lambda: 1000, build=build), "127.0.0.1")


async def test_a_preview_is_sent_to_nobody() -> None:
    async with WebhookSink() as sink, _previews(sink.url) as api:
        answer = await api.post(
            "/api/v1/receivers/hook/preview?severity=P2&state=escalated", json={}
        )
    (message,) = answer.json()["data"]["messages"]
    assert json.loads(message["text"])["tocsin"]["severity"] == "P2"
    assert message["to"].startswith("POST http://localhost:")
    assert sink.requests == []


async def test_the_body_of_a_request_for_a_preview_is_read() -> None:
    """What is left unread makes the kernel reset the connection, and a long answer is cut."""
    read = list[bytes]()

    async def body() -> AsyncIterator[bytes]:
        for part in (b"{", b"}"):
            read.append(part)
            yield part

    async with _previews("http://127.0.0.1:9/") as api:
        answer = await api.post(
            "/api/v1/receivers/hook/preview",
            content=body(),
            headers={"Content-Type": "application/json"},
        )
    assert (answer.status_code, read) == (200, [b"{", b"}"])


@pytest.mark.parametrize(
    ("query", "status", "error"),
    [
        ("severity=P9", 400, 'severity is one of P0, P1, P2, P3, P4, not "P9"'),
        ("state=gone", 400, "state is one of firing, escalated, "),
        ("language=fr", 400, 'language is one of en, zh, not "fr"'),
        ("incident=x", 404, "no open incident has the number x"),
        ("incident=1", 404, "no open incident has the number 1"),
    ],
)
async def test_a_preview_that_nobody_can_make(query: str, status: int, error: str) -> None:
    async with _previews("http://127.0.0.1:9/") as api:
        answer = await api.post(f"/api/v1/receivers/hook/preview?{query}", json={})
    assert answer.status_code == status
    assert answer.json()["error"].startswith(error)
