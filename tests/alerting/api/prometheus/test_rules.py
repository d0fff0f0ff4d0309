"""`/api/v1/rules` and `/api/v1/alerts` beside a real Prometheus that evaluates the same file."""

import asyncio
import json
import time
from collections.abc import Iterator
from hashlib import sha1
from typing import Any
from urllib.request import Request, urlopen

import pytest

from support.api_client import api_client
from support.prometheus import Prometheus, running_prometheus
from support.rule_deps import MemoryJournal, surroundings
from support.scripted_engine import row
from tocsin_alerting.api.prometheus.rules import routes
from tocsin_alerting.http import httpx
from tocsin_alerting.promql.engine import QueryEngine
from tocsin_alerting.rules.groups import Groups
from tocsin_alerting.rules.rule_file import read
from tocsin_alerting.rules.state import GroupState
from tocsin_alerting.tsdb.store import Store

RULES = """
groups:
- name: first
  interval: 1s
  rules:
  - alert: Fires
    expr: vector(42.5) > 1
    labels: {severity: P1}
    annotations: {summary: "It is {{ $value }}."}
  - alert: Waits
    expr: vector(1000) ^ 7
    for: 1h
  - alert: Silent
    expr: vector(1) > 2
    keep_firing_for: 5m
  - record: a:b
    expr: vector(1)
    labels: {x: "y"}
  - record: c:d
    expr: vector(1)
- name: second
  interval: 1s
  limit: 3
  rules:
  - alert: Broken
    expr: vector(1) * on() label_replace(vector(1), "a", "$1", "x", "(")
"""
TIMES = {"lastEvaluation", "activeAt", "evaluationTime"}


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    folder = tmp_path_factory.mktemp("prometheus")
    without = RULES.replace("    keep_firing_for: 5m\n", "")  # 2.42 does not know it yet
    with running_prometheus(folder, "--web.enable-lifecycle") as server:
        (folder / "rules.yml").write_text(without)
        (folder / "prometheus.yml").write_text("rule_files: [rules.yml]\n")
        with urlopen(Request(f"{server.url}/-/reload", method="POST")):
            pass
        _await_evaluation(server)
        yield server


def _await_evaluation(server: Prometheus) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        groups = _get(server, "rules")["groups"]
        if groups and all(r["health"] != "unknown" for g in groups for r in g["rules"]):
            return
        time.sleep(0.1)
    raise AssertionError("Prometheus evaluated nothing")


def _get(server: Prometheus, path: str) -> Any:
    with urlopen(f"{server.url}/api/v1/{path}") as answer:
        return json.load(answer)["data"]


async def _ours(path: str) -> Any:
    """What we answer after one evaluation of the same rules."""
    groups = Groups(surroundings({}, engine=QueryEngine(Store())), 1000)
    groups.load([read(RULES, "rules.yml")], 0)
    for progress in groups.all:
        await groups.evaluate(progress, groups.slot(progress, 1_700_000_000_000))
    async with api_client(routes(lambda: groups.all)) as client:
        answer = await client.get(f"/api/v1/{path}")
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def _timeless(data: Any, file: str) -> Any:
    """Without what differs from run to run; the types of those stay."""
    if isinstance(data, list):
        return [_timeless(one, file) for one in data]
    if not isinstance(data, dict):
        return file if isinstance(data, str) and data.endswith("rules.yml") else data
    return {
        name: type(value).__name__ if name in TIMES else _timeless(value, file)
        for name, value in data.items()
        if name not in ("lastError", "keepFiringFor")
    }


@pytest.mark.parametrize("path", ["rules", "alerts", "rules?type=alert", "rules?type=record"])
async def test_the_shapes_are_those_of_prometheus(prometheus: Prometheus, path: str) -> None:
    theirs = _timeless(_get(prometheus, path), "f")
    ours = _timeless(await _ours(path), "f")
    if "type=" in path:  # 3.x leaves out a group of which nothing was asked for
        theirs["groups"] = [group for group in theirs["groups"] if group["rules"]]
    if path == "alerts":
        for data in (ours, theirs):
            data["alerts"].sort(key=lambda one: one["labels"]["alertname"])
    assert ours == theirs


async def test_what_prometheus_2_42_has_not() -> None:
    (first, second) = (await _ours("rules"))["groups"]
    by_name = {rule["name"]: rule for rule in first["rules"]}
    assert by_name["Silent"]["keepFiringFor"] == 300
    assert "keepFiringFor" not in by_name["a:b"]
    assert "invalid regular expression" in second["rules"][0]["lastError"]
    assert "lastError" not in by_name["Fires"]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("rule_name[]=Fires", ["Fires"]),
        ("rule_name[]=Fires&rule_name[]=a:b", ["Fires", "a:b"]),
        ("rule_group[]=second", ["Broken"]),
        ("file[]=rules.yml&rule_name[]=c:d", ["c:d"]),
        ("file[]=other.yml", []),
        ("type=record&rule_name[]=Fires", []),
        ('match[]={severity="P1"}', ["Fires"]),
        ('match[]={severity="P1"}&match[]={x=~".%2B"}', ["Fires", "a:b"]),
        ('match[]={x="nosuch"}', []),
    ],
)
async def test_some_of_them_can_be_asked_for(query: str, names: list[str]) -> None:
    groups = (await _ours(f"rules?{query}"))["groups"]
    assert [rule["name"] for group in groups for rule in group["rules"]] == names
    assert all(group["rules"] for group in groups)


async def test_without_their_alerts() -> None:
    (first, _) = (await _ours("rules?exclude_alerts=true"))["groups"]
    assert [rule["alerts"] for rule in first["rules"] if rule["type"] == "alerting"] == [[]] * 3


async def test_a_type_that_is_none(prometheus: Prometheus) -> None:
    async with api_client(routes(lambda: ())) as client, httpx.AsyncClient() as other:
        ours = await client.get("/api/v1/rules?type=x")
        theirs = await other.get(f"{prometheus.url}/api/v1/rules?type=x")
    assert (ours.status_code, ours.json()) == (theirs.status_code, theirs.json())


async def test_before_the_first_evaluation() -> None:
    groups = Groups(surroundings({}), 1000)
    groups.load([read(RULES, "rules.yml")], 0)
    async with api_client(routes(lambda: groups.all)) as client:
        data = (await client.get("/api/v1/rules")).json()["data"]
    rules = [rule for group in data["groups"] for rule in group["rules"]]
    assert {rule["health"] for rule in rules} == {"unknown"}
    assert {rule["lastEvaluation"] for rule in rules} == {"0001-01-01T00:00:00Z"}


async def test_what_the_last_run_left_is_shown_until_an_evaluation_says_what_became_of_it() -> None:
    """A page or a script that asks in the first seconds must not read "nothing fires"."""
    text = "groups: [{name: g, interval: 1s, rules: [{alert: A, expr: 'n > 0', for: 2s}]}]"
    rows = [row(1.0, i="fires")]
    deps = surroundings({"n > 0": lambda at_ms: rows})
    groups, journal = Groups(deps, 1000), MemoryJournal()
    groups.load([read(text, "rules.yml")], 0)
    for second in (1, 2, 3):
        rows += [row(1.0, i="waits")] if second == 3 else []
        await groups.evaluate(groups.all[0], 1000 * second)
    await groups.persist(groups.all[0], journal)
    again = Groups(deps, 1000)
    again.remember(await journal.load())
    again.load([read(text, "rules.yml")], 3500)

    async def shown() -> tuple[dict[str, tuple[str, str]], str]:
        async with api_client(routes(lambda: again.all)) as client:
            alerts = (await client.get("/api/v1/alerts")).json()["data"]["alerts"]
            (group,) = (await client.get("/api/v1/rules")).json()["data"]["groups"]
        assert group["rules"][0]["alerts"] == alerts
        about = {one["labels"]["i"]: (one["state"], one["activeAt"][-4:]) for one in alerts}
        return about, group["rules"][0]["state"]

    left = {"fires": ("firing", ":01Z"), "waits": ("pending", ":03Z")}
    assert await shown() == (left, "firing")
    await again.evaluate(again.all[0], 4000)
    assert await shown() == (left, "firing")
    rows.clear()
    await again.evaluate(again.all[0], 5000)
    assert await shown() == ({}, "inactive")


async def test_links_to_the_agent_lead_where_people_reach_it() -> None:
    notes = 'annotations: {summary: "It is {{ $value }}.", runbook: "http://127.0.0.1:4911/a/b"}'
    text = RULES.replace('annotations: {summary: "It is {{ $value }}."}', notes)
    groups = Groups(surroundings({}, engine=QueryEngine(Store())), 1000)
    groups.load([read(text, "rules.yml")], 0)
    for progress in groups.all:
        await groups.evaluate(progress, groups.slot(progress, 1_700_000_000_000))
    at = routes(lambda: groups.all, "https://bell.example/tocsin/")
    async with api_client(at) as client:
        rules = (await client.get("/api/v1/rules")).json()["data"]["groups"][0]["rules"]
        alerts = (await client.get("/api/v1/alerts")).json()["data"]["alerts"]
    (alert,) = (one for one in alerts if one["labels"]["alertname"] == "Fires")
    shown = [one["annotations"]["runbook"] for one in (rules[0], rules[0]["alerts"][0], alert)]
    assert shown == ["https://bell.example/tocsin/a/b"] * 3


async def test_pages_of_groups_follow_each_other() -> None:
    first = await _ours("rules?group_limit=1")
    second = await _ours(f"rules?group_limit=1&group_next_token={first['groupNextToken']}")
    assert [[one["name"] for one in page["groups"]] for page in (first, second)] == [
        ["first"], ["second"]
    ]  # fmt: skip
    assert first["groupNextToken"] == sha1(b"rules.yml;second").hexdigest()
    assert "groupNextToken" not in second
    assert len((await _ours("rules?group_limit=2"))["groups"]) == 2


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("group_next_token=x", "needs to be present in order to paginate"),
        ("group_limit=0", "group_limit needs to be greater than 0"),
        ("group_limit=x", "needs to be a valid number"),
        ("group_limit=1&group_next_token=x", "'x'. were rule groups changed?"),
        ("match[]=sum(", "1:4: parse error"),
    ],
)
async def test_what_is_no_page(query: str, why: str) -> None:
    async with api_client(routes(lambda: ())) as client:
        answer = await client.get(f"/api/v1/rules?{query}")
    assert (answer.status_code, answer.json()["errorType"]) == (400, "bad_data")
    assert why in answer.json()["error"]


@pytest.mark.parametrize("path", ["/api/v1/rules", "/api/v1/alerts"])
async def test_a_crowd_costs_one_answer(path: str) -> None:
    """Two hundred clients that asked again and again delayed a page by 17 s."""
    asked: list[str] = []

    def groups() -> list[GroupState]:
        asked.append(path)
        return []

    async with api_client(routes(groups, monotonic=lambda: 0.0)) as client:
        for _ in range(20):
            assert (await client.get(path)).status_code == 200
    assert len(asked) == 1


async def test_thousands_of_alerts_leave_the_loop_its_turns() -> None:
    """Two such answers in each turn of the loop: a write waited 27 s for its connection."""
    rows = [row(1.0, i=str(number)) for number in range(5000)]
    groups = Groups(surroundings({"n > 0": lambda at_ms: rows}), 1000)
    text = "groups: [{name: g, rules: [{alert: Many, expr: 'n > 0'}]}]"
    groups.load([read(text, "rules.yml")], 0)
    for progress in groups.all:
        await groups.evaluate(progress, groups.slot(progress, 1_700_000_000_000))
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with api_client(routes(lambda: groups.all)) as client:
        for path in ("/api/v1/rules", "/api/v1/alerts"):
            ticking = asyncio.create_task(others())
            before = turns
            answer = await client.get(path, headers={"accept-encoding": "identity"})
            ticking.cancel()
            assert answer.text.count('"state":"firing"') >= 5000
            assert turns - before > 40
