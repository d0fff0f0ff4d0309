"""Alerts forwarded to the real Alertmanager, which must not take what fires for over."""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from support.alertmanager import amtool, ask, running_alertmanager
from support.notifications import ENGINE_DOWN, NEW_YEAR_MS, notification, resolved
from support.webhook_sink import Answer, WebhookSink
from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import Delivered, Outcome, Permanent, RetryAt
from tocsin_alerting.notify.alertmanager import Alertmanager, AlertmanagerSettings
from tocsin_alerting.notify.channel import ChannelDeps
from tocsin_alerting.notify.secret import Vault


def _channel(*urls: str, **settings: Any) -> Alertmanager:
    data = {"type": "alertmanager", "urls": list(urls), "timeout": "5s", **settings}
    deps = ChannelDeps(vault=Vault({"SECRET": "hunter2-and-more"}, lambda path: ""))
    return Alertmanager("am", AlertmanagerSettings.model_validate(data), deps)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _firing(now_ms: int, **changes: Any) -> Notification:
    alert = replace(ENGINE_DOWN, starts_at_ms=now_ms - 5_000)
    return notification(alerts=(alert,), opened_at_ms=now_ms, at_ms=now_ms, **changes)


def _over(now_ms: int) -> Notification:
    began_ms = now_ms - 5_000
    alert = replace(
        ENGINE_DOWN, status="resolved", starts_at_ms=began_ms, ends_at_ms=now_ms, value=1.0
    )
    return resolved(alerts=(alert,), at_ms=now_ms)


def _active(url: str) -> list[Any]:
    status, alerts = ask("GET", f"{url}/api/v2/alerts?active=true")
    assert status == 200
    return list(alerts)


async def test_what_fires_stays_active_and_what_ends_is_over_at_once(tmp_path: Path) -> None:
    """Sent once, it would be over after four resends, here a second."""
    with running_alertmanager(tmp_path) as url:
        channel = _channel(url, resend_delay="250ms", labels={"cluster": "a"})
        began_ms = _now_ms()
        sent = _firing(began_ms)
        assert isinstance(await channel.send(sent, began_ms), Delivered)
        while _now_ms() < began_ms + 2_500:
            await channel.refresh(lambda: [sent], _now_ms)
            (alert,) = _active(url)
            await asyncio.sleep(0.1)
        (shown,) = json.loads(amtool(url, "alert", "query", "-o", "json").stdout)
        assert isinstance(await channel.send(_over(_now_ms()), _now_ms()), Delivered)
        left = _active(url)
        await channel.refresh(lambda: [sent], _now_ms)  # was taken before it ended
        left_after = _active(url)
        await channel.close()
    assert left == [] and left_after == []
    assert shown["labels"] == {**ENGINE_DOWN.labels, "cluster": "a"}
    about = {"incident": "#42", "incident_severity": "P0"}
    assert shown["annotations"] == {**ENGINE_DOWN.annotations, **about}
    assert shown["generatorURL"] == "http://127.0.0.1:4911/graph"
    assert alert["fingerprint"] == shown["fingerprint"]


async def test_what_is_not_sent_again_ends_by_itself(tmp_path: Path) -> None:
    """The other half: that the one before it is not active for ever anyway."""
    with running_alertmanager(tmp_path) as url:
        channel = _channel(url, resend_delay="100ms")
        now_ms = _now_ms()
        await channel.send(_firing(now_ms), now_ms)
        async with asyncio.timeout(20):
            while _active(url):
                await asyncio.sleep(0.05)
        assert _now_ms() >= now_ms + 400
        await channel.close()


async def test_a_refresh_that_was_under_way_when_it_ended_does_not_revive_it() -> None:
    """It arrives last, and says that the alert fires: so its end is said once more."""
    under_way, go_on = asyncio.Event(), asyncio.Event()

    async def slow(writer: asyncio.StreamWriter) -> None:
        under_way.set()
        await go_on.wait()
        writer.write(Answer(200).encoded())

    async with WebhookSink(Answer(200), slow) as sink:
        channel = _channel(f"http://127.0.0.1:{sink.port}")
        sent = notification()
        await channel.send(sent, NEW_YEAR_MS)
        refreshing = asyncio.create_task(channel.refresh(lambda: [sent], lambda: NEW_YEAR_MS))
        await under_way.wait()
        await channel.send(resolved(), NEW_YEAR_MS + 300_000)
        go_on.set()
        await refreshing
        bodies = [request.json() for request in await sink.wait_for(4)]
        await channel.close()
    ends = [body[0]["endsAt"] for body in bodies]
    fires, over = "2026-01-01T00:04:00.000Z", "2026-01-01T00:05:00.000Z"
    assert ends == [fires, fires, over, over]


async def test_what_fires_again_is_sent_again() -> None:
    async with WebhookSink() as sink:
        channel = _channel(f"http://127.0.0.1:{sink.port}/prefix/")
        await channel.send(resolved(), NEW_YEAR_MS)
        await channel.send(notification(), NEW_YEAR_MS + 60_000)
        await channel.refresh(lambda: [notification()], lambda: NEW_YEAR_MS + 120_000)
        requests = await sink.wait_for(3)
        await channel.close()
    assert {request.path for request in requests} == {"/prefix/api/v2/alerts"}
    assert [request.json()[0]["endsAt"][11:16] for request in requests] == [
        "00:05",
        "00:05",
        "00:06",
    ]


async def test_one_member_that_has_ended_is_told_of_while_the_others_fire(tmp_path: Path) -> None:
    now_ms = _now_ms()
    first = replace(ENGINE_DOWN, starts_at_ms=now_ms - 5_000)
    other = replace(first, labels={**first.labels, "instance": "gpu-2"}, fingerprint="b" * 16)
    ended = replace(other, status="resolved", ends_at_ms=now_ms - 1)
    with running_alertmanager(tmp_path) as url:
        channel = _channel(url)
        await channel.send(notification(alerts=(first, other)), now_ms)
        both = _active(url)
        standing = [notification(alerts=(first, ended))]
        await channel.refresh(lambda: standing, lambda: now_ms)
        left = _active(url)
        await channel.close()
    assert len(both) == 2 and [one["labels"]["instance"] for one in left] == ["gpu-1"]


async def test_the_real_one_takes_hostile_values(tmp_path: Path) -> None:
    now_ms = _now_ms()
    values = [
        '"} {evil="1',
        "two\nlines",
        "\x00\x1b[31m",
        "é" * 5_000,
        "a\udcffb",
        "{{ .x }}",
        "机器",
    ]
    alerts = [
        replace(
            ENGINE_DOWN,
            labels={**ENGINE_DOWN.labels, "model": value},
            annotations={"summary": value},
            starts_at_ms=now_ms,
            fingerprint=f"{number:016x}",
        )
        for number, value in enumerate(values)
    ]
    with running_alertmanager(tmp_path) as url:
        channel = _channel(url)
        outcome = await channel.send(notification(alerts=tuple(alerts)), now_ms)
        shown = {one["labels"]["model"] for one in _active(url)}
        await channel.close()
    assert isinstance(outcome, Delivered)
    assert shown == {value.replace("\udcff", "\ufffd") for value in values}


async def test_every_instance_of_a_cluster_gets_it_and_one_is_enough() -> None:
    async with WebhookSink() as first, WebhookSink(usual=Answer(503)) as second:
        urls = [f"http://127.0.0.1:{one.port}" for one in (first, second)]
        channel = _channel(*urls)
        transcript: list[str] = []
        outcome = await channel.send(notification(), NEW_YEAR_MS, transcript)
        await channel.close()
    assert isinstance(outcome, Delivered) and "; failed: HTTP 503" in outcome.detail
    assert len(first.requests) == len(second.requests) == 1
    assert [line for line in transcript if line.startswith(">")] == [
        f"> POST http://127.0.0.1:{one.port}" for one in (first, second)
    ]


@pytest.mark.parametrize(
    ("answers", "outcome"),
    [
        ([Answer(400), Answer(503)], RetryAt("HTTP 400: ok; HTTP 503: ok")),
        ([Answer(400), Answer(401)], Permanent("HTTP 400: ok; HTTP 401: ok")),
        ([Answer(410), Answer(410)], Permanent("HTTP 410: ok; HTTP 410: ok", final=True)),
        ([Answer(410), Answer(400)], Permanent("HTTP 410: ok; HTTP 400: ok")),
        (
            [Answer(429, {"Retry-After": "9"}), Answer(429, {"Retry-After": "5"})],
            RetryAt("HTTP 429: ok; HTTP 429: ok", NEW_YEAR_MS + 5_000),
        ),
        (
            [Answer(429, {"Retry-After": "9"}), Answer(503)],
            RetryAt("HTTP 429: ok; HTTP 503: ok"),
        ),
    ],
)
async def test_what_all_instances_refuse(answers: Sequence[Answer], outcome: Outcome) -> None:
    async with WebhookSink(answers[0]) as first, WebhookSink(answers[1]) as second:
        channel = _channel(*(f"http://127.0.0.1:{one.port}" for one in (first, second)))
        assert await channel.send(notification(), NEW_YEAR_MS) == outcome
        await channel.close()


async def test_a_login_is_sent_and_never_shown() -> None:
    for login, header in (
        ({"bearer_token_env": "SECRET"}, "Bearer hunter2-and-more"),
        ({"username": "me", "password_env": "SECRET"}, "Basic bWU6aHVudGVyMi1hbmQtbW9yZQ=="),
    ):
        echo = Answer(400, body=header.encode())
        async with WebhookSink(echo) as sink:
            channel = _channel(f"http://127.0.0.1:{sink.port}", **login)
            transcript: list[str] = []
            outcome = await channel.send(notification(), NEW_YEAR_MS, transcript)
            await channel.close()
        shown = repr(outcome) + repr(channel) + "".join(transcript)
        assert sink.requests[0].headers["authorization"] == header
        assert "hunter2" not in shown and header.split()[1] not in shown


@pytest.mark.parametrize(
    "settings",
    [
        {"urls": []},
        {"urls": ["ftp://a"]},
        {"urls": ["http://a"], "labels": {"a-b": "c"}},
        {"urls": ["http://a"], "username": "me"},
        {"urls": ["http://a"], "username": "me", "password": "plain"},
        {"urls": ["http://a"], "bearer_token_env": "A", "bearer_token_file": "b"},
        {"urls": ["http://a"], "bearer_token_env": "A", "username": "m", "password_env": "B"},
    ],
)
def test_what_cannot_work_is_an_error_of_the_configuration(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        AlertmanagerSettings.model_validate({"type": "alertmanager", **settings})
