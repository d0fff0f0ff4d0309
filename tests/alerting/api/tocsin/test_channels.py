"""`POST /api/v1/channels/NAME/test` really sends, and changes nothing for a GET."""

from typing import Any

import pytest

from support.api_client import api_client
from support.webhook_sink import Answer, WebhookSink
from tocsin_alerting.api.http.guard import new_guard
from tocsin_alerting.api.tocsin.channels import routes
from tocsin_alerting.config.config import Config
from tocsin_alerting.config.load import build_channels


def _channels(url: str) -> Any:
    receivers = {"hook": {"type": "webhook", "url": url}, "team/log": {"type": "log"}}
    return build_channels(Config.model_validate({"receivers": receivers}), {})


def _api(url: str, address: str = "127.0.0.1") -> Any:
    return api_client(routes(_channels(url), new_guard(lambda: None), lambda: 1000), address)


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
