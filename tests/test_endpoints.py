"""The pages of the API name what is served: every path with its methods, and nothing else."""

import re
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from starlette.routing import Match, Route

from stories.test_prometheus_clients import PATHS
from support.api_client import api_client
from support.fuzz_bodies import AGENT_PATHS
from support.wired_agent import wired_agent
from tocsin_alerting.api.http.roles import RoleRoute
from tocsin_alerting.incidents.actions import Verb
from tocsin_exporter.clock import Clock
from tocsin_exporter.scrape_manager import ScrapeManager
from tocsin_exporter.server import MetricsPage, ScrapeCounters
from tocsin_exporter.server import routes as exporter_routes

DOCS = Path(__file__).parents[1] / "docs"
REQUEST = re.compile(r"(?m)^\| (`GET [^|]*`) \|")
ROW = re.compile(r"(?m)^\| (`/?[^|]*`) \|([^|\n]*)")
CODE = re.compile(r"`([^`]+)`")
QUIETLY = {"HEAD", "OPTIONS"}  # answered beside GET, which the page says once
Endpoint = tuple[str, frozenset[str]]
UUID = "00000000-0000-4000-8000-000000000000"
RELOAD = "/-/reload"
OWN_TOKEN = "/api/v1/heartbeat/{name}"  # whatever the role, only a token of its own opens it


def _agents_page() -> Iterator[tuple[str, str]]:
    """(method, path) of every endpoint in the tables of api.md."""
    for table in re.split(r"\n\n", (DOCS / "api.md").read_text("utf-8")):
        head = table.lstrip().split("\n")[0]
        below = "/api/v1" if "path below `/api/v1`" in head else ""
        for cell, mark in ROW.findall(table):
            for code in CODE.findall(cell):
                method, _, path = code.rpartition(" ")
                yield method or "GET", below + path
                if mark.strip() == "P":
                    yield "POST", below + path


@pytest.fixture
async def routes(tmp_path: Path) -> AsyncIterator[Sequence[Route]]:
    """What the agent really serves."""
    config = 'engines: [{url: "http://127.0.0.1:9"}]\nrule_files: []\n'
    with wired_agent(tmp_path, config) as app:
        await app.start()
        yield app.routes()
        await app.close()


def _route(routes: Sequence[Route], path: str) -> str:
    """The pattern of the route that takes `path`; "" for none."""
    scope = {"type": "http", "method": "GET", "path": path, "root_path": "", "headers": []}
    matching = (route for route in routes if route.matches(scope)[0] is not Match.NONE)
    return next((route.path for route in matching), "")


async def _methods(routes: Sequence[Route]) -> dict[str, set[str]]:
    """By pattern, what a refusal says that the path has."""
    result = {}
    async with api_client(routes) as client:
        for route in routes:
            path = re.sub(r"\{[^}]*\}", "1", route.path)
            refused = await client.request("BREW", path)
            assert refused.status_code == 405, path
            result[route.path] = set(refused.headers["allow"].split(", "))
    return result


def _compared(
    page: Sequence[tuple[str, str]], routes: Sequence[Route], served: dict[str, set[str]]
) -> None:
    documented: dict[str, set[str]] = {}
    for method, path in page:
        pattern = _route(routes, path)
        assert pattern, f"{method} {path}: the page has it, and nothing serves it"
        assert method in served[pattern], f"{path}: the page says {method}"
        documented.setdefault(pattern, set()).add(method)
    missing = {
        (path, method)
        for path, methods in served.items()
        for method in methods - documented.get(path, set()) - QUIETLY
    }
    assert missing == set(), "served, and on no page"


async def test_the_page_has_every_endpoint_of_the_agent_and_no_other(
    routes: Sequence[Route],
) -> None:
    page = list(_agents_page())
    assert len(page) > 35
    _compared(page, routes, await _methods(routes))


async def test_the_page_says_where_head_is_answered(routes: Sequence[Route]) -> None:
    served = await _methods(routes)
    with_head = {path for path, methods in served.items() if "HEAD" in methods}
    read = {path for path, methods in served.items() if "GET" in methods}
    outside = {path for path in read if not path.startswith("/api/v1/")}
    assert with_head == outside | {"/api/v1/incidents", "/api/v1/incidents/{number}"}
    said = "HEAD is answered outside of `/api/v1` and at\n`/incidents`; elsewhere it is 405"
    assert said in (DOCS / "api.md").read_text("utf-8")


async def test_what_changes_something_refuses_pages_of_other_origins(
    routes: Sequence[Route],
) -> None:
    changing = [
        (path, method)
        for path, methods in (await _methods(routes)).items()
        for method in methods & {"POST", "DELETE"}
        if path == OWN_TOKEN or _needed(path, method) in ("respond", "admin")
    ]
    assert len(changing) >= 20 and (OWN_TOKEN, "POST") in changing
    assert ("/api/v2/silence/{id}", "DELETE") in changing
    headers = {"Origin": "http://evil.example", "Content-Type": "application/json"}
    async with api_client(routes) as client:
        for path, method in changing:
            url = path.replace("{number}", "1").replace("{verb}", "ack").replace("{id}", UUID)
            answer = await client.request(
                method, re.sub(r"\{[^}]*\}", "x", url), headers=headers, content="{}"
            )
            assert answer.status_code == 403, (method, path)


async def test_every_endpoint_is_tried_by_the_fuzzer_and_every_read_by_a_client(
    routes: Sequence[Route],
) -> None:
    served = {route.path for route in routes}
    assert served - {_route(routes, path) for path in AGENT_PATHS} == set()
    reads = {path for path, methods in (await _methods(routes)).items() if "GET" in methods}
    asked = {_route(routes, "/api/v1/" + path.partition("?")[0]) for path in PATHS}
    elsewhere = {  # a range, an incident, a schedule; over the Unix socket alone
        "/api/v1/query_range",
        "/api/v1/openapi.json",
        "/api/v1/incidents/{number}",
        "/api/v1/incidents/{number}/why",
        "/api/v1/incidents/{number}/record",
        "/api/v1/oncall/{name}",
        "/api/v1/tokens",
        "/api/v1/silences/{id}",
    }
    assert {path for path in reads if path.startswith("/api/v1/")} - asked == elsewhere


def test_a_parameter_that_the_page_names_is_one_that_is_read() -> None:
    api = Path(DOCS.parent / "alerting/tocsin_alerting/api").rglob("*.py")
    read = set(re.findall(r'"([a-zA-Z_]+(?:\[\])?)"', "".join(p.read_text("utf-8") for p in api)))
    named = {
        code
        for line in (DOCS / "api.md").read_text("utf-8").splitlines()
        if line.startswith("| `/")
        for code in re.findall(r"`([a-z_A-Z]+(?:\[\])?)`", line.split("|", 2)[2].partition(":")[0])
    }
    assert {"query", "match[]", "limit_per_metric", "group_next_token", "scrapePool"} <= named
    assert named - read == set()


def test_the_page_has_what_can_be_done_with_an_incident() -> None:
    text = (DOCS / "api.md").read_text("utf-8")
    ((first, others),) = re.findall(
        r"(?m)^\| `POST /api/v1/incidents/42/(\w+)` \| also (.*?);", text
    )
    assert {first, *CODE.findall(others)} == {verb.value for verb in Verb}


async def test_the_page_of_the_exporter_has_its_endpoints() -> None:
    clock = Clock()
    page = MetricsPage(ScrapeManager((), clock), clock.monotonic, ScrapeCounters())
    routes = exporter_routes(page, lambda: "")
    text = (DOCS / "exporter.md").read_text("utf-8")
    requests = [code for cell in REQUEST.findall(text) for code in CODE.findall(cell)]
    named = [("GET", request.removeprefix("GET ").split("?")[0]) for request in requests]
    assert len(named) > 5
    _compared(named, routes, await _methods(routes))


TOKENS = {"grafana": "read", "li": "respond", "ops": "admin"}
RANKS = {"": 0, "read": 1, "respond": 2, "admin": 3}
LOCAL, FAR = "127.0.0.1", "10.0.0.7"
# the link is the credential, and of a call the signature as well
LINKS = ("/links/{token}", "/links/{token}/runbook", "/links/{token}/call")


def _needed(path: str, method: str) -> str:
    """The role that api.md names."""
    text = (DOCS / "api.md").read_text("utf-8")
    roles = dict(re.findall(r"(?m)^\| (nobody needs one|read|respond|admin) \| (.*) \|$", text))
    if f"`{path.replace('{token}', 'TOKEN')}`" in roles["nobody needs one"]:
        return ""
    if path == RELOAD:
        assert f"`{method} {path}`" in roles["admin"]
        return "admin"
    if path.startswith("/api/v1/tokens"):
        assert path.replace("{name}", "NAME") in roles["admin"]
        return "admin"
    changes = re.findall(rf"(?m)^\| `{method} (/api/v[12]/[^`]*)`", text)
    return "respond" if method not in ("GET", "HEAD") and _like(path, changes) else "read"


def _like(pattern: str, paths: Sequence[str]) -> bool:
    """Whether one of `paths` is an example of a route."""
    wanted = re.compile(re.sub(r"\\\{[^}]*\}", "[^/]+", re.escape(pattern)))
    return any(wanted.fullmatch(path) for path in paths)


async def test_every_route_says_its_role(routes: Sequence[Route]) -> None:
    assert [route.path for route in routes if not isinstance(route, RoleRoute)] == []


@pytest.mark.parametrize("address", [LOCAL, FAR])
async def test_every_role_is_tried_against_every_route(
    routes: Sequence[Route], address: str
) -> None:
    served = await _methods(routes)
    tried = 0
    for name, role in {"": "", "wrong": "", **TOKENS}.items():
        async with api_client(routes, address, **TOKENS) as client:
            headers = {"authorization": f"Bearer {name}"} if name else {}
            for path, methods in served.items():
                for method in methods - {"OPTIONS"}:
                    url = re.sub(r"\{[^}]*\}", "1", path)
                    answer = await client.request(method, url, headers=headers, json={})
                    needed = _needed(path, method)
                    enough = RANKS[role] >= RANKS[needed]
                    refused = 401 if not role else 403
                    told = answer.status_code
                    if path == OWN_TOKEN:
                        assert told == 401, (name, method, path, told)
                        continue
                    if enough and needed == "admin" and path != RELOAD:  # a token comes over TCP
                        assert told == 403 and "alertctl token" in answer.text
                    elif enough and path in LINKS:  # all of these are wrong ones
                        assert told in (404, 429), (name, method, path, told)
                    elif enough:
                        assert told not in (401, 403, 429), (name, method, path, answer.text)
                    else:
                        assert told in (refused, 429), (name, method, path, told)
                    tried += 1
    assert tried > 5 * 40


async def test_from_another_machine_without_credentials_there_are_metrics_and_health(
    routes: Sequence[Route],
) -> None:
    async with api_client(routes, FAR) as client:
        for path, methods in (await _methods(routes)).items():
            for method in methods - {"OPTIONS"}:
                url = re.sub(r"\{[^}]*\}", "1", path)
                answer = await client.request(method, url)
                is_open = path in ("/metrics", "/probe", "/-/healthy", "/-/ready", *LINKS)
                closed = answer.status_code == (401 if path == OWN_TOKEN else 403)
                assert closed != is_open, (method, path)


async def test_no_get_changes_anything(routes: Sequence[Route], tmp_path: Path) -> None:
    """Files and answers are as before, after each path was read by one who may do everything; of an
    incident that fires, a silence that lasts and a link too."""
    start = {"comment": "c", "createdBy": "li", "startsAt": "2026-01-01T00:00:00Z"}
    one = {"name": "alertname", "value": "Quiet", "isRegex": False}
    silence = {**start, "matchers": [one], "endsAt": "2099-01-01T00:00:00Z"}

    def files() -> dict[Path, bytes]:
        return {
            path: path.read_bytes()
            for path in tmp_path.rglob("*")
            if path.is_file() and not path.name.endswith("-shm")
        }

    async with api_client(routes) as client:
        alerts = [{"labels": {"alertname": "X", "severity": "P2"}}]
        assert (await client.post("/api/v2/alerts", json=alerts)).status_code == 200
        name = (await client.post("/api/v2/silences", json=silence)).json()["silenceID"]
        watched = [
            "/api/v1/incidents?state=all",
            "/api/v1/incidents/1",
            f"/api/v2/silence/{name}",
            "/api/v1/history",
            "/api/v1/engines",
            "/api/v1/status/tocsin",
        ]

        async def answers() -> list[Any]:
            return [(await client.get(path)).json() for path in watched]

        before = files(), await answers()
        assert before[1][1]["data"]["state"] == "TRIGGERED"
        for route in routes:
            url = route.path.replace("{number}", "1").replace("{id}", name)
            url = re.sub(r"\{[^}]*\}", "ack", url)
            for method in ("GET", "HEAD", "OPTIONS"):
                await client.request(method, url, params={"query": "up", "match[]": "up"})
        assert (files(), await answers()) == before
