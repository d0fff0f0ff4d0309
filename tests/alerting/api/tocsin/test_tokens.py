"""Tokens over the API: by the Unix socket, by admin, and by nobody else."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from support.api_client import access, api_client, credentials
from tocsin_alerting.api.http.access import AccessCheck
from tocsin_alerting.api.http.guard import new_guard
from tocsin_alerting.api.http.server import application
from tocsin_alerting.api.http.tokens import ApiToken, TokenFile, digest
from tocsin_alerting.api.tocsin.tokens import routes
from tocsin_alerting.http import httpx

NOW_MS, NOW = 1_700_000_000_000, "2023-11-14T22:13:20.000Z"
TOKENS = "/api/v1/tokens"


@pytest.fixture
def file(tmp_path: Path) -> TokenFile:
    return TokenFile(tmp_path / "tokens.json")


Noted = list[tuple[str, str, Mapping[str, str]]]


def served(file: TokenFile, noted: Noted | None = None) -> Sequence[Route]:
    history: Noted = [] if noted is None else noted
    return routes(file, new_guard(), lambda: NOW_MS, lambda *line: history.append(line))


def by_socket(file: TokenFile, uid: int, noted: Noted | None = None) -> httpx.AsyncClient:
    """A client at the Unix socket; the agent's user is 0."""
    app = AccessCheck(application(served(file, noted)), access(credentials(ops="admin")))

    async def over_unix(scope: Scope, receive: Receive, send: Send) -> None:
        here = {"server": ("/s", None), "client": None, "peer_uid": uid}
        await app({**scope, **here}, receive, send)

    transport = httpx.ASGITransport(over_unix, False)
    return httpx.AsyncClient(transport=transport, base_url="http://localhost")


async def test_a_token_is_added_listed_and_revoked(file: TokenFile) -> None:
    async with by_socket(file, 0) as client:
        made = (await client.post(f"{TOKENS}/grafana", json={"role": "read"})).json()["data"]
        assert file.read() == (ApiToken("grafana", "read", digest(made["token"]), NOW),)
        row = {"name": "grafana", "role": "read", "created": NOW}
        assert made.items() >= row.items()
        assert (await client.get(TOKENS)).json()["data"] == {"tokens": [row]}
        assert (await client.post(f"{TOKENS}/grafana/revoke", json={})).status_code == 200
        assert (await client.get(TOKENS)).json()["data"] == {"tokens": []}


async def test_the_history_says_who_made_and_revoked_it(file: TokenFile) -> None:
    noted: Noted = []
    async with by_socket(file, 0, noted) as client:
        made = (await client.post(f"{TOKENS}/grafana", json={"role": "read"})).json()["data"]
        await client.post(f"{TOKENS}/grafana", json={"role": "god"})
        await client.post(f"{TOKENS}/grafana/revoke", json={})
        await client.post(f"{TOKENS}/grafana/revoke", json={})
    assert noted == [
        ("token_added", "0", {"name": "grafana", "role": "read"}),
        ("token_revoked", "0", {"name": "grafana"}),
    ]
    assert made["token"] not in str(noted)


async def test_who_may_only_respond_manages_no_tokens(file: TokenFile) -> None:
    async with by_socket(file, 1001) as client:
        asked = [
            await client.get(TOKENS),
            await client.post(f"{TOKENS}/a", json={"role": "admin"}),
            await client.post(f"{TOKENS}/a/revoke", json={}),
        ]
    assert [answer.status_code for answer in asked] == [403, 403, 403]
    assert file.read() == ()


async def test_over_tcp_nobody_manages_tokens(file: TokenFile) -> None:
    headers = {"authorization": "Bearer ops"}
    for roles in ({}, {"ops": "admin"}):
        async with api_client(served(file), **roles) as client:
            asked = [
                await client.get(TOKENS, headers=headers),
                await client.post(f"{TOKENS}/a", json={"role": "admin"}, headers=headers),
                await client.post(f"{TOKENS}/a/revoke", json={}, headers=headers),
            ]
        assert [answer.status_code for answer in asked] == [403, 403, 403]
        assert "without --url" in asked[0].json()["error"]
    assert file.read() == ()


@pytest.mark.parametrize(
    ("name", "body", "status", "word"),
    [
        ("a b", b'{"role": "read"}', 409, "invalid name"),
        ("a", b'{"role": "god"}', 409, "invalid role"),
        ("a", b'{"role": 5}', 400, "role"),
        ("a", b"[]", 400, "role"),
        ("a", b"{", 400, "not JSON"),
        ("a", b"x" * 5000, 413, "longer"),
    ],
)
async def test_what_is_wrong_is_said(
    file: TokenFile, name: str, body: bytes, status: int, word: str
) -> None:
    headers = {"content-type": "application/json"}
    async with by_socket(file, 0) as client:
        answer = await client.post(f"{TOKENS}/{name}", content=body, headers=headers)
        assert (answer.status_code, word in answer.json()["error"]) == (status, True)
        gone = await client.post(f"{TOKENS}/nobody/revoke", json={})
        assert (gone.status_code, "nobody" in gone.json()["error"]) == (409, True)
    assert file.read() == ()
