"""What amtool and karma are shown: every alert, who keeps it quiet, and its groups."""

from dataclasses import replace
from typing import Any

import pytest

from support.alert_events import alert, fires
from support.api_client import api_client
from support.dispatcher_setup import START_MS, Floor
from support.policies import HOUR, config, to
from support.posted_alerts import external
from tocsin_alerting.api.alertmanager.intake import AlertIntake
from tocsin_alerting.api.alertmanager.routes import routes
from tocsin_alerting.api.http.guard import new_guard
from tocsin_alerting.api.prometheus import rules
from tocsin_alerting.api.tocsin.incidents import incident_summary
from tocsin_alerting.http import httpx
from tocsin_alerting.incidents.alert_matcher import parse_matcher
from tocsin_alerting.incidents.routing import GroupBy, InhibitRule, Route

INHIBIT = InhibitRule(
    (parse_matcher('alertname="Down"'),), (parse_matcher('alertname="Slow"'),), ("zone",)
)
ROUTES = (Route((parse_matcher('team="db"'),), "P3", to("hook"), continue_=True), Route())
DOWN = external(zone="a")
SLOW = external("Slow", severity="warning", zone="a")
ELSEWHERE = external("Slow", severity="warning", zone="b", team="db")


async def shown(one: Floor, path: str = "alerts", **query: Any) -> Any:
    intake = AlertIntake(one.dispatcher, lambda: one.now)
    served = routes(intake, tuple, new_guard(), START_MS, "https://bell.example")
    async with api_client(served) as client:
        answer = await client.get(f"/api/v2/{path}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def floor() -> Floor:
    group = GroupBy(("alertname", "zone"))
    one = await Floor(config(inhibit=(INHIBIT,), routes=ROUTES, group=group)).open()
    now = one.now
    every = [
        replace(a, starts_at_ms=now, ends_at_ms=now + HOUR, updated_at_ms=now)
        for a in (DOWN, SLOW, ELSEWHERE, external("Quiet", severity="none"))
    ]
    await one.dispatcher.receive(every, now)
    await one.hear(fires(alert("Ours", "P1", at_ms=now)))
    return one


def names(rows: list[dict[str, Any]]) -> list[str]:
    return sorted(row["labels"]["alertname"] + row["labels"].get("zone", "") for row in rows)


async def test_all_that_fires_is_there_ours_and_theirs() -> None:
    rows = await shown(await floor())
    assert names(rows) == ["Downa", "Ours", "Quiet", "Slowa", "Slowb"]
    assert rows == sorted(rows, key=lambda row: row["fingerprint"])
    by_name = {row["labels"]["alertname"] + row["labels"].get("zone", ""): row for row in rows}
    down = by_name["Downa"]
    assert down == {
        "annotations": {"summary": "Down fires"},
        "endsAt": "2026-01-01T01:00:00.000Z",
        "fingerprint": DOWN.fingerprint,
        "generatorURL": "http://prom:9090/graph",
        "receivers": [{"name": "P0"}],
        "startsAt": "2026-01-01T00:00:00.000Z",
        "status": {"state": "active", "silencedBy": [], "inhibitedBy": [], "mutedBy": []},
        "updatedAt": "2026-01-01T00:00:00.000Z",
        "labels": {"alertname": "Down", "severity": "critical", "zone": "a"},
    }
    assert by_name["Quiet"]["receivers"] == [{"name": "none"}]
    assert by_name["Slowb"]["receivers"] == [{"name": "P3"}, {"name": "hook"}]
    assert by_name["Ours"]["endsAt"] == "2026-01-01T00:05:00.000Z"


async def test_what_is_inhibited_names_the_alerts_that_inhibit() -> None:
    rows = await shown(await floor(), filter=['alertname="Slow"', "zone=a"])
    (row,) = rows
    assert row["status"]["state"] == "suppressed"
    assert row["status"]["inhibitedBy"] == [DOWN.fingerprint]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"inhibited": "false"}, ["Downa", "Ours", "Quiet", "Slowb"]),
        ({"active": "false"}, ["Slowa"]),
        ({"active": "no", "inhibited": "0"}, []),
        (
            {"silenced": "false", "unprocessed": "false"},
            ["Downa", "Ours", "Quiet", "Slowa", "Slowb"],
        ),
        ({"filter": "severity=~warn.*"}, ["Slowa", "Slowb"]),
        ({"filter": ["alertname!=Slow", 'severity!="none"']}, ["Downa", "Ours"]),
        ({"receiver": "hook"}, ["Slowb"]),
        ({"receiver": "P[01]"}, ["Downa", "Ours", "Slowa"]),
        ({"receiver": "P"}, []),
    ],
)
async def test_the_filters(query: dict[str, Any], expected: list[str]) -> None:
    assert names(await shown(await floor(), **query)) == expected


async def test_groups_are_incidents_for_each_receiver() -> None:
    groups = await shown(await floor(), "alerts/groups")
    told = [(g["labels"]["alertname"], g["receiver"]["name"], names(g["alerts"])) for g in groups]
    assert told == [
        ("Down", "P0", ["Downa"]),
        ("Ours", "P1", ["Ours"]),
        ("Quiet", "none", ["Quiet"]),
        ("Slow", "P1", ["Slowa"]),
        ("Slow", "P3", ["Slowb"]),
        ("Slow", "hook", ["Slowb"]),
    ]
    only = await shown(await floor(), "alerts/groups", receiver="hook")
    assert [g["receiver"]["name"] for g in only] == ["hook"]


async def test_an_unknown_alert_stays_and_says_so() -> None:
    one = await floor()
    await one.advance(2 * HOUR)
    (row,) = await shown(one, filter='alertname="Down"')
    assert row["status"]["state"] == "active"
    assert row["annotations"]["state_unknown"] == (
        "unknown: http://prom:9090 has not sent it since 2026-01-01T00:00:00.000Z"
    )


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ({"filter": "x"}, 400, "bad matcher format: x"),
        ({"filter": 'a=~"("'}, 400, "bad matcher format"),
        ({"receiver": "("}, 400, "failed to parse receiver param"),
    ],
)
async def test_what_is_asked_wrongly_is_refused(
    query: dict[str, str], status: int, words: str
) -> None:
    one = await floor()
    served = routes(AlertIntake(one.dispatcher, lambda: one.now), tuple, new_guard(), START_MS)
    async with api_client(served) as client:
        for path in ("alerts", "alerts/groups"):
            answer = await client.get(f"/api/v2/{path}", params=query)
            assert answer.status_code == status
            assert words in answer.json()


async def test_other_paths_and_methods_are_refused_in_alertmanager_s_words() -> None:
    one = await floor()
    served = routes(AlertIntake(one.dispatcher, lambda: one.now), tuple, new_guard(), START_MS)
    async with api_client(served) as client:
        gone = await client.get("/api/v2/nope")
        put = await client.put("/api/v2/alerts")
        head: httpx.Response = await client.head("/api/v2/status")
    assert gone.json() == {"code": 404, "message": "path /api/v2/nope was not found"}
    assert put.json() == {"code": 405, "message": "method PUT is not allowed, but [GET,POST] are"}
    assert (head.status_code, head.content) == (200, b"")


async def test_the_lists_of_our_own_name_the_origin() -> None:
    one = await floor()
    served = rules.routes(tuple, "https://bell.example", None, one.dispatcher.working.external)
    async with api_client(served) as client:
        listed = (await client.get("/api/v1/alerts")).json()["data"]["alerts"]
        by_name = {row["labels"]["alertname"]: row for row in listed}
        assert by_name["Down"]["origin"] == "alertmanager;http://prom:9090"
        assert by_name["Down"]["state"] == "firing"
        await one.advance(2 * HOUR)
        listed = (await client.get("/api/v1/alerts")).json()["data"]["alerts"]
        assert {row["state"] for row in listed} == {"unknown"}
    incidents = await one.dispatcher.incidents()
    (down,) = (i for i in incidents if ("alertname", "Down") in i.group_labels)
    shown_alerts = incident_summary(down, one.dispatcher.working.config)["alerts"]
    assert shown_alerts[0]["origins"] == ["alertmanager;http://prom:9090"]


async def test_receivers_and_status() -> None:
    one = await floor()
    receivers = [row["name"] for row in await shown(one, "receivers")]
    assert receivers == ["P0", "P1", "P2", "P3", "P4", "hook", "none"]
    status = await shown(one, "status")
    assert status["cluster"] == {"status": "disabled", "peers": []}
    assert status["uptime"] == "2026-01-01T00:00:00.000Z"
    assert "receiver: P2" in status["config"]["original"]
    fields = {"version", "revision", "branch", "buildUser", "buildDate", "goVersion"}
    assert status["versionInfo"].keys() == fields
