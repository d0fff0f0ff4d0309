"""`/api/v1/log` and `/api/v1/stats`: what happened, in words and in numbers."""

from datetime import UTC
from typing import Any

import pytest

from support.alert_events import alert, clears, fires
from support.api_client import api_client
from support.dispatcher_setup import START_MS, Floor
from support.policies import HOUR, MINUTE, config
from tocsin_alerting.api.tocsin.history import routes
from tocsin_alerting.http import httpx
from tocsin_alerting.incidents.actions import Verb


async def night() -> Floor:
    one = await Floor(config()).open()
    down = alert("EngineDown", "P0", target="a")
    await one.hear(fires(down, one.now))
    await one.act(Verb.ACK, 1, "li", note="on it")
    await one.advance(5 * MINUTE)
    await one.hear(clears(down, one.now))
    await one.advance(HOUR)
    await one.hear(fires(alert("Slow", "P1", target="b"), one.now))
    return one


def client(at: Floor) -> httpx.AsyncClient:
    return api_client(routes(at.dispatcher, lambda: at.now, UTC))


async def _log(api: httpx.AsyncClient, **asked: Any) -> list[dict[str, Any]]:
    answer = await api.get("/api/v1/log", params=asked)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["data"]["entries"])


async def test_the_night_in_words() -> None:
    async with client(await night()) as api:
        lines = await _log(api)
    (acked,) = (line for line in lines if line["event"] == "acked")
    assert acked["at"] == "2026-01-01T00:00:00.000Z"
    assert (acked["incident"], acked["severity"]) == (1, "P0")
    assert acked["title"] == "EngineDown target=a"
    assert acked["text"] == "acknowledged by li after 0s: on it"
    assert [line["incident"] for line in lines if line["event"] == "opened"] == [1, 2]


async def test_it_is_asked_by_time_person_rule_and_incident() -> None:
    one = await night()
    later = (START_MS + HOUR) / 1000
    async with client(one) as api:
        assert {line["incident"] for line in await _log(api, since=later)} == {2}
        assert {line["event"] for line in await _log(api, person="li")} == {"acked"}
        assert {line["incident"] for line in await _log(api, rule="Slow")} == {2}
        assert {line["incident"] for line in await _log(api, incident="#1")} == {1}
        assert await _log(api, until=(START_MS - 1) / 1000) == []
        assert (await _log(api, event="acked", language="zh"))[0]["text"].startswith("已确认")


@pytest.mark.parametrize("order", ["oldest", "newest"])
@pytest.mark.parametrize("limit", [1, 2, 5, 1000])
async def test_pages_have_every_line_once(order: str, limit: int) -> None:
    async with client(await night()) as api:
        whole = await _log(api, order=order, limit=1000)
        pages: list[dict[str, Any]] = []
        cursor: str | None = ""
        while cursor is not None:
            asked = {"order": order, "limit": str(limit), "cursor": cursor}
            data = (await api.get("/api/v1/log", params=asked)).json()["data"]
            pages += data["entries"]
            cursor = data["next"]
    assert pages == whole and len(whole) > 5
    assert whole == sorted(whole, key=lambda line: line["at"], reverse=order == "newest")


@pytest.mark.parametrize(
    "asked",
    [
        *({"cursor": "x"}, {"cursor": "1"}, {"limit": "0"}, {"limit": "1001"}, {"order": "up"}),
        *({"since": "soon"}, {"language": "fr"}, {"incident": "x"}, {"severity": "P9"}),
        {"match[]": 'a=~"("'},
    ],
)
async def test_what_nobody_can_answer_is_refused(asked: dict[str, str]) -> None:
    async with client(await night()) as api:
        answer = await api.get("/api/v1/log", params=asked)
    assert answer.status_code in (400, 404) and answer.json()["error"]


async def test_the_numbers() -> None:
    async with client(await night()) as api:
        data = (await api.get("/api/v1/stats")).json()["data"]
        rules = (await api.get("/api/v1/stats", params={"rule": "Slow"})).json()["data"]["rules"]
        wrong = [
            (await api.get("/api/v1/stats", params=asked)).status_code
            for asked in ({"zone": "Mars/Base"}, {"since": "9", "until": "8"}, {"zone": "../etc"})
        ]
    assert data["until"] == "2026-01-01T01:05:00.000Z"
    assert data["total"]["opened"] == 2 and data["total"]["mean_seconds_to_resolve"] == 300
    assert [rule["rule"] for rule in rules] == ["Slow"]
    assert wrong == [400] * 3
