"""Senders that send very much: no turn of the loop gets long, whatever they send."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from support.api_client import api_client
from support.dispatcher_setup import START_MS, Floor
from support.policies import config
from tocsin_alerting.api.alertmanager.intake import MAX_WAITING, AlertIntake
from tocsin_alerting.api.alertmanager.routes import routes
from tocsin_alerting.api.http.guard import new_guard
from tocsin_alerting.http import httpx

MANY = 10_000
TURN_S = 1.5  # of processor time: 0.4 here; 10,000 alerts in one turn would be 3 and more
JSON = {"Content-Type": "application/json"}
ENDED = {"endsAt": "2020-01-01T00:00:00Z"}


def alerts(count: int, *, together: bool, severity: str, **more: str) -> bytes:
    """In one incident, or in as many."""
    return json.dumps(
        [
            {
                "labels": {
                    "alertname": "Bad" if together else f"Bad{number}",
                    "severity": severity,
                    "pod": f"pod-{number}",
                },
                "annotations": {"summary": f"pod {number} is bad", "description": "x" * 200},
                "generatorURL": "http://prom:9090/graph",
                **more,
            }
            for number in range(count)
        ]
    ).encode()


class Senders:
    """`longest` is the processor time of the longest turn of the loop so far, in seconds."""

    def __init__(self, client: httpx.AsyncClient, floor: Floor) -> None:
        self.client, self.floor = client, floor
        self.longest = 0.0

    async def post(self, body: bytes) -> int:
        sent = await self._watched(self.client.post("/api/v2/alerts", content=body, headers=JSON))
        return int(sent.status_code)

    async def get(self, path: str) -> Any:
        return (await self._watched(self.client.get(f"/api/v2/{path}"))).json()

    async def _watched(self, asked: Awaitable[httpx.Response]) -> httpx.Response:
        asking = asyncio.ensure_future(asked)
        last = time.thread_time()
        while not asking.done():
            await asyncio.sleep(0)
            now = time.thread_time()
            self.longest, last = max(self.longest, now - last), now
        return await asking


@asynccontextmanager
async def senders() -> AsyncIterator[Senders]:
    floor = await Floor(config()).open()
    every = routes(AlertIntake(floor.dispatcher, lambda: floor.now), tuple, new_guard(), START_MS)
    async with api_client(every) as client:
        yield Senders(client, floor)


@pytest.mark.parametrize(
    ("severity", "together"),
    [
        ("P2", True),
        ("P0", False),
        pytest.param("P2", False, marks=pytest.mark.long),
        pytest.param("P0", True, marks=pytest.mark.long),
    ],
)
async def test_ten_thousand_alerts_in_a_post(severity: str, together: bool) -> None:
    body = alerts(MANY, together=together, severity=severity)
    async with senders() as many:
        assert await many.post(body) == 200
        assert len(many.floor.dispatcher.working.incidents) == (1 if together else MANY)
        assert await many.post(body) == 200  # as they are renewed
        assert len(await many.get("alerts")) == MANY
        groups = await many.get("alerts/groups")
        assert sum(len(group["alerts"]) for group in groups) == MANY
        ended = alerts(MANY, together=together, severity=severity, **ENDED)
        assert await many.post(ended) == 200
        assert await many.get("alerts") == []
    assert many.longest < TURN_S


BODIES = {
    "lists": b"[" + b"[]," * 95_000 + b"[]]",
    "objects": b"[" + b"{}," * 95_000 + b"{}]",
    "labels": b'[{"labels":{' + b",".join(b'"l%d":""' % n for n in range(480_000)) + b"}}]",
    "values": b'[{"labels":{"a":[' + b",".join([b"1.5"] * 480_000) + b"]}}]",
    "depth": b"[" * 500_000,
    "long labels": json.dumps(
        [{"labels": {"a": f"{n}" + "x" * 60_000}} for n in range(120)]
    ).encode(),
    "labels at the limit": json.dumps(
        [{"labels": {"a": f"{n:04}" + "x" * 4_000}} for n in range(1_900)]
    ).encode(),
    "texts": json.dumps(
        [{"labels": {"a": f"{n}"}, "annotations": {"b": "x" * 60_000}} for n in range(130)]
    ).encode(),
    "tiny": b"[" + b",".join(b'{"labels":{"a":"%d"}}' % n for n in range(10_000)) + b"]",
    "escapes": b'[{"labels":{"a":"' + b"\\ud800" * 1_000_000 + b'"}}]',
}


@pytest.mark.parametrize("name", BODIES)
async def test_a_body_that_is_made_to_be_slow(name: str) -> None:
    async with senders() as many:
        assert await many.post(BODIES[name]) in (200, 400, 413, 422)
    assert many.longest < TURN_S


async def test_who_sends_without_end_is_told_so_and_holds_up_nobody() -> None:
    floor = await Floor(config()).open()
    intake = AlertIntake(floor.dispatcher, lambda: floor.now)
    every = routes(intake, tuple, new_guard(), START_MS)
    body = alerts(2_000, together=True, severity="P2")
    headers = {**JSON, "authorization": "Bearer t"}
    far = api_client(every, address="10.0.0.9", token="t")
    async with api_client(every) as one, far as other:
        crowd = [
            asyncio.create_task(one.post("/api/v2/alerts", content=body, headers=JSON))
            for _ in range(30)
        ]
        await asyncio.sleep(0)
        page = alerts(1, together=True, severity="P0")
        urgent = await other.post("/api/v2/alerts", content=page, headers=headers)
        waiting = sum(not task.done() for task in crowd)
        answers = [answer.status_code for answer in await asyncio.gather(*crowd)]
    assert urgent.status_code == 200
    assert waiting > 0, "it did not wait for the crowd"
    assert answers.count(200) == MAX_WAITING
    assert answers.count(429) == 30 - MAX_WAITING
    assert not intake._locks
    assert not intake._waiting
