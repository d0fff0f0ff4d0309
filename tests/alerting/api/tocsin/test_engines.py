"""`/api/v1/engines`: who is watched; forgetting is guarded as every other change."""

from dataclasses import replace
from typing import Any

import pytest

from support.api_client import api_client
from tocsin_alerting.api.http.guard import new_guard
from tocsin_alerting.api.tocsin.engines import WatchedEngine, routes

FOUND = WatchedEngine("h:1/a", "http://h:1/a", "vLLM", "m", "found", True)
NAMED = WatchedEngine("h:2", "http://h:2", "an engine", "", "configured", None)


def _api(forgotten: list[str], address: str = "127.0.0.1") -> Any:
    async def forget(target: str) -> str:
        if target == NAMED.target:
            return "it is in the configuration"
        forgotten.append(target)
        return ""

    return api_client(routes(lambda: [FOUND, NAMED], forget, new_guard()), address)


async def test_they_are_listed_with_what_is_known() -> None:
    async with _api([]) as api:
        found = (await api.get("/api/v1/engines")).json()["data"]["engines"]
    assert [one["target"] for one in found] == ["h:1/a", "h:2"]
    assert found[0] == {
        "target": "h:1/a",
        "url": "http://h:1/a",
        "kind": "vLLM",
        "model": "m",
        "origin": "found",
        "up": True,
    }
    assert found[1]["up"] is None


@pytest.mark.parametrize(
    ("target", "status", "said"),
    [
        ("h:1/a", 200, ""),
        ("h:1%2Fa", 200, ""),
        ("h:2", 409, "it is in the configuration"),
        ("http://h:2/metrics", 409, "it is in the configuration"),
        ("http://me:secret@H:1/a/metrics", 200, ""),
        ("H:1/a/", 200, ""),
        ("h:1", 404, 'no engine is watched as h:1; did you mean "h:1/a"? Watched: h:1/a, h:2'),
        ("far", 404, "no engine is watched as far:80. Watched: h:1/a, h:2"),
        ("http://me:secret@h:x", 404, "no engine is watched as h:x"),
    ],
)
async def test_one_is_forgotten_or_it_is_said_why_not(target: str, status: int, said: str) -> None:
    forgotten: list[str] = []
    async with _api(forgotten) as api:
        answer = await api.post(f"/api/v1/engines/{target}/forget", json={})
    assert answer.status_code == status
    assert said in answer.json().get("error", "")
    assert forgotten == (["h:1/a"] if status == 200 else [])


@pytest.mark.parametrize("why", [None, "", "the disk is full"])
async def test_it_says_when_that_is_not_on_disk(why: str | None) -> None:
    async def forget(target: str) -> str:
        return ""

    asked = routes(lambda: [FOUND], forget, new_guard(), lambda target: why)
    async with api_client(asked, "127.0.0.1") as api:
        answer = (await api.post("/api/v1/engines/h:1/a/forget", json={})).json()
    assert answer["data"]["recorded"] is (why is None)
    said = f"not on disk yet: {why or 'the disk is slow'}"
    assert said in str(answer.get("warnings")) if why is not None else "warnings" not in answer


async def test_an_error_names_some_engines_and_no_password() -> None:
    many = [replace(FOUND, target=f"h:{port}") for port in range(1, 13)]

    async def forget(target: str) -> str:
        return ""

    for watched, said in ((many, "h:9, h:10 and 2 more"), ([], "Watched: none")):
        async with api_client(routes(watched.copy, forget, new_guard())) as api:
            answer = await api.post("/api/v1/engines/http://me:secret@h:x/forget", json={})
        assert answer.json()["error"].endswith(said) and "secret" not in answer.text


@pytest.mark.parametrize(
    "named", ["localhost:8000", "127.0.0.1:8000/", "http://127.1:8000/metrics"]
)
async def test_an_engine_here_has_every_name_of_this_machine(named: str) -> None:
    forgotten: list[str] = []

    async def forget(target: str) -> str:
        forgotten.append(target)
        return ""

    here = [FOUND, replace(FOUND, target="127.0.0.1:8000")]
    async with api_client(routes(lambda: here, forget, new_guard())) as api:
        answer = await api.post(f"/api/v1/engines/{named}/forget", json={})
    assert (answer.status_code, forgotten) == (200, ["127.0.0.1:8000"])


async def test_nobody_else_forgets_one() -> None:
    forgotten: list[str] = []
    async with _api(forgotten) as api:
        assert (await api.get("/api/v1/engines/h:1/a/forget")).status_code == 405
        assert (await api.post("/api/v1/engines/h:1/a/forget")).status_code == 415
    async with _api(forgotten, "10.0.0.7") as api:
        assert (await api.post("/api/v1/engines/h:1/a/forget", json={})).status_code == 403
    assert forgotten == []
