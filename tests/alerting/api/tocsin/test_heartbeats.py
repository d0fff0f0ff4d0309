"""Heartbeats over the API: by a token of their own, which opens nothing else."""

import pytest
from starlette.routing import Route

from support.api_client import credentials
from support.dispatcher_setup import START_MS, Floor
from support.policies import HOUR, MINUTE, config
from tocsin_alerting.api.http.access import Access, AccessCheck
from tocsin_alerting.api.http.guard import new_guard
from tocsin_alerting.api.http.server import application
from tocsin_alerting.api.http.tokens import digest
from tocsin_alerting.api.tocsin import overview
from tocsin_alerting.api.tocsin.heartbeats import heartbeat_principal, routes
from tocsin_alerting.api.tocsin.overview import AgentState
from tocsin_alerting.http import httpx
from tocsin_alerting.incidents.heartbeats import ExpectedHeartbeat

CONFIGURED, PATH = "b" * 20, "/api/v1/heartbeat"
BODY = {"every": "1h", "grace": "5m", "severity": "P0", "labels": {"team": "ml"}}


async def floor() -> Floor:
    one = await Floor(config(heartbeats=(ExpectedHeartbeat("backup", HOUR),))).open()
    one.dispatcher.heartbeats.configured_tokens = {digest(CONFIGURED): "backup"}
    return one


def served(one: Floor) -> list[Route]:
    def now_ms() -> int:
        return one.now

    state = AgentState(one.dispatcher, list, list, list, (), now_ms, unwatched="alone")
    return [
        *routes(one.dispatcher, new_guard(), now_ms, "http://box:4911"),
        *overview.routes(state),
    ]


def client(one: Floor, address: str = "127.0.0.1", **roles: str) -> httpx.AsyncClient:
    known = credentials(**roles)
    beats = heartbeat_principal(one.dispatcher)
    access = Access(lambda: known, lambda: 0.0, str, 0, known_otherwise=beats)
    app = AccessCheck(application(served(one)), access)
    transport = httpx.ASGITransport(app, False, client=(address, 50_000))
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:4911")


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.7"])
@pytest.mark.parametrize("roles", [{}, {"ops": "admin"}], ids=["open", "with tokens"])
@pytest.mark.parametrize("content", [b"", b"{}", b"backup done\n"])
async def test_its_own_token_is_enough_from_everywhere(
    address: str, roles: dict[str, str], content: bytes
) -> None:
    one = await floor()
    async with client(one, address, **roles) as asking:
        for _ in range(50):  # and counts as no wrong one
            sent = await asking.post(f"{PATH}/backup", headers=bearer(CONFIGURED), content=content)
        assert sent.status_code == 200, sent.text
    data = sent.json()["data"]
    assert (data["state"], data["last"]) == ("ok", "2026-01-01T00:00:00.000Z")
    assert data["due"] == "2026-01-01T01:02:00.000Z" and "sha256" not in sent.text
    assert one.dispatcher.working.heartbeats.seen_ms("backup") == START_MS


@pytest.mark.parametrize("roles", [{}, {"ops": "admin"}], ids=["open", "with tokens"])
async def test_it_is_good_for_nothing_else(roles: dict[str, str]) -> None:
    one = await floor()
    async with client(one, **roles) as asking:
        headers = bearer(CONFIGURED)
        listed = await asking.get("/api/v1/heartbeats", headers=headers)
        assert listed.status_code == 403 and "heartbeat backup" in listed.text
        for path in ("/api/v1/heartbeats/x", "/api/v1/heartbeats/backup/forget"):
            refused = await asking.post(path, headers=headers, json=BODY)
            assert refused.status_code == 403, path
        other = await asking.post(f"{PATH}/nightly", headers=headers)
        assert other.status_code == 403 and "alone" in other.json()["error"]
        for method in ("GET", "PUT", "DELETE"):
            assert (await asking.request(method, f"{PATH}/backup", headers=headers)).is_error
    assert one.dispatcher.working.heartbeats.seen_ms("backup") is None


@pytest.mark.parametrize("token", ["", "ops", "wrong", CONFIGURED[:-1], digest(CONFIGURED)])
async def test_no_other_token_beats(token: str) -> None:
    one = await floor()
    async with client(one, ops="admin") as asking:
        headers = bearer(token) if token else {}
        for name in ("backup", "nobody"):
            refused = await asking.post(f"{PATH}/{name}", headers=headers, json={})
            assert refused.status_code == 401 and "alertctl heartbeat add" in refused.text
    assert one.dispatcher.working.heartbeats.seen_ms("backup") is None


async def test_a_web_page_beats_for_nobody() -> None:
    one = await floor()
    async with client(one) as asking:
        headers = bearer(CONFIGURED) | {"origin": "http://evil.example"}
        assert (await asking.post(f"{PATH}/backup", headers=headers)).status_code == 403


async def test_one_is_added_beats_is_listed_and_forgotten() -> None:
    one = await floor()
    async with client(one, li="respond", ro="read") as asking:
        assert (
            await asking.post("/api/v1/heartbeats/cron", json=BODY, headers=bearer("ro"))
        ).status_code == 403
        made = await asking.post("/api/v1/heartbeats/cron", json=BODY, headers=bearer("li"))
        data = made.json()["data"]
        token = data.pop("token")
        assert data.pop("url") == "http://box:4911/api/v1/heartbeat/cron"
        assert token.startswith("tocsin_") and len(token) > 40
        assert data == {
            "name": "cron",
            "state": "never seen",
            "every": "1h",
            "grace": "5m",
            "severity": "P0",
            "labels": {"team": "ml"},
            "annotations": {},
            "last": None,
            "due": None,
            "incident": None,
            "configured": False,
            "created": "2026-01-01T00:00:00.000Z",
            "created_by": "li",
        }
        assert (await asking.post(f"{PATH}/cron", headers=bearer(token))).status_code == 200
        again = await asking.post("/api/v1/heartbeats/cron", json=BODY, headers=bearer("li"))
        assert again.status_code == 409
        await one.advance(HOUR + 5 * MINUTE)
        listed = (await asking.get("/api/v1/heartbeats", headers=bearer("ro"))).json()["data"]
        shown = [(row["name"], row["state"], row["incident"]) for row in listed["heartbeats"]]
        assert shown == [("backup", "never seen", None), ("cron", "missing", 1)]
        assert token not in str(listed)
        forget = "/api/v1/heartbeats/cron/forget"
        assert (await asking.post(forget, json={}, headers=bearer("li"))).status_code == 200
        assert (await asking.post(f"{PATH}/cron", headers=bearer(token))).status_code == 401
        gone = await asking.post("/api/v1/heartbeats/backu/forget", json={}, headers=bearer("li"))
        assert gone.status_code == 404 and 'did you mean "backup"' in gone.json()["error"]
        kept = await asking.post("/api/v1/heartbeats/backup/forget", json={}, headers=bearer("li"))
        assert kept.status_code == 409


@pytest.mark.parametrize(
    ("name", "body", "said"),
    [
        ("cron", {}, "every: is missing"),
        ("cron", {**BODY, "evry": "1h"}, '"evry" means nothing here; did you mean "every"?'),
        ("cron", {**BODY, "every": "soon"}, "every: not a duration"),
        ("cron", {**BODY, "every": "0s"}, "every: must be longer than 0s"),
        ("cron", {**BODY, "severity": "P9"}, "severity: must be one of P0"),
        ("cron", {**BODY, "labels": {"severity": "P0"}}, "set severity beside labels"),
        ("cron", {**BODY, "labels": {"a-b": "c"}}, "is no name of a label"),
        ("a b", BODY, "is no name of a heartbeat"),
        ("cron", {**BODY, "token_file": "/etc/shadow"}, "means nothing here"),
        ("cron", {**BODY, "token_env": "HOME"}, "means nothing here"),
    ],
)
async def test_what_is_wrong_is_named(name: str, body: dict[str, object], said: str) -> None:
    one = await floor()
    async with client(one) as asking:
        refused = await asking.post(f"/api/v1/heartbeats/{name}", json=body)
        assert refused.status_code == 400 and said in refused.json()["error"]


async def test_the_overview_says_who_never_came_and_that_nobody_watches_us() -> None:
    one = await floor()
    async with client(one) as asking:
        data = (await asking.get("/api/v1/overview")).json()["data"]
    assert data["heartbeats"] == {"expected": 1, "missing": [], "never_seen": ["backup"]}
    assert data["unwatched"] == "alone"
    assert "heartbeats that never came, and page nobody yet: backup" in data["findings"]
