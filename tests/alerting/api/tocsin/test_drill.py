"""`POST /api/v1/drill` and what the overview says of one."""

import pytest

from support.api_client import api_client
from support.dispatcher_setup import Floor
from support.policies import MINUTE, config
from tocsin_alerting.api.http.guard import new_guard
from tocsin_alerting.api.tocsin import drill, overview
from tocsin_alerting.api.tocsin.overview import AgentState
from tocsin_alerting.http import httpx


async def floor() -> Floor:
    return await Floor(config()).open()


def client(one: Floor, **roles: str) -> httpx.AsyncClient:
    def now_ms() -> int:
        return one.now

    state = AgentState(one.dispatcher, list, list, list, (), now_ms)
    served = [*drill.routes(one.dispatcher, new_guard(), now_ms), *overview.routes(state)]
    return api_client(served, **roles)


async def test_it_says_who_is_paged_until_it_ends() -> None:
    one = await floor()
    async with client(one) as asking:
        body = {"severity": "P0", "for": "20m", "user": "li", "labels": {"team": "ml"}}
        begun = (await asking.post("/api/v1/drill", json=body)).json()["data"]
        pages = begun.pop("pages")
        assert begun == {
            "incident": 1,
            "severity": "P0",
            "policy": "P0",
            "ends_at": "2026-01-01T00:20:00.000Z",
        }
        assert [(page["after_ms"], page["reason"]) for page in pages] == [
            (0, "opened"),
            (5 * MINUTE, "slo_breach"),
            (15 * MINUTE, "escalated"),
        ]
        await one.advance(MINUTE)
        assert [who for _, who in one.reasons("opened")] == ["li", "chat"]
        seen = (await asking.get("/api/v1/overview")).json()["data"]
        assert (seen["open"], seen["drills"], seen["worst"]) == (0, [1], [])
        assert "a drill is on: #1" in seen["findings"]
        await one.advance(20 * MINUTE)
        assert (await asking.get("/api/v1/overview")).json()["data"]["drills"] == []


async def test_a_repeated_request_begins_one_drill() -> None:
    one = await floor()
    async with client(one) as asking:
        body = {"severity": "P1", "request_id": "a"}
        numbers = [
            (await asking.post("/api/v1/drill", json=body)).json()["data"]["incident"]
            for _ in range(3)
        ]
        assert numbers == [1, 1, 1]


async def test_it_takes_the_role_respond_and_is_under_the_name_of_the_token() -> None:
    one = await floor()
    async with client(one, ro="read", li="respond") as asking:
        for token, status in (("ro", 403), ("li", 200)):
            headers = {"authorization": f"Bearer {token}"}
            told = await asking.post("/api/v1/drill", json={"severity": "P0"}, headers=headers)
            assert told.status_code == status
        by = {"severity": "P0", "by": "wang"}
        refused = await asking.post("/api/v1/drill", json=by, headers=headers)
        assert refused.status_code == 403
    (started,) = [e for e in await one.journal.history(1) if e.event == "drill_started"]
    assert started.actor == "li"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "severity must be one of P0"),
        ({"severity": "p0"}, "severity must be one of P0"),
        ({"severity": "P0", "polcy": "x"}, 'did you mean "policy"?'),
        ({"severity": "P0", "policy": "P5"}, 'no policy is called "P5"'),
        ({"severity": "P0", "for": "9s"}, "from 10s to 24h"),
        ({"severity": "P0", "for": "25h"}, "from 10s to 24h"),
        ({"severity": "P0", "for": "soon"}, "from 10s to 24h"),
        ({"severity": "P0", "labels": {"severity": "P1"}}, '"severity" is set by itself'),
        ({"severity": "P0", "labels": {"drill": "1"}}, '"drill" is set by itself'),
        ({"severity": "P0", "labels": {"a": 1}}, "texts by their names"),
        ({"severity": "P0", "labels": []}, "texts by their names"),
        ({"severity": "P0", "note": "x" * 1001}, "at most 1000 characters"),
        ([], "no JSON object"),
    ],
)
async def test_what_is_wrong_is_named_and_pages_nobody(body: object, said: str) -> None:
    one = await floor()
    async with client(one) as asking:
        refused = await asking.post("/api/v1/drill", json=body)
    assert refused.status_code == 400 and said in refused.json()["error"], refused.text
    await one.advance(MINUTE)
    assert one.told == []
