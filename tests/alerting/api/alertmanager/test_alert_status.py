"""Who keeps an alert quiet, in the words of a real Alertmanager with the same rules."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support.alertmanager import ask, running_alertmanager
from support.api_client import api_client
from support.dispatcher_setup import START_MS, Floor
from support.policies import HOUR, config
from support.silences import silence
from tocsin_alerting.api.alertmanager.intake import AlertIntake
from tocsin_alerting.api.alertmanager.routes import routes
from tocsin_alerting.api.http.guard import new_guard
from tocsin_alerting.http import httpx
from tocsin_alerting.incidents.alert_matcher import parse_matcher
from tocsin_alerting.incidents.routing import GroupBy, InhibitRule
from tocsin_alerting.time_format import rfc3339

RULES = """
route: {receiver: none, group_by: [alertname, zone]}
receivers: [{name: none}]
inhibit_rules:
- source_matchers: [alertname="Down"]
  target_matchers: [alertname="Slow"]
  equal: [zone]
- source_matchers: [team="infra"]
  target_matchers: [alertname=~"Slow|Cold"]
  equal: [zone]
- source_matchers: [kind=~"both|one"]
  target_matchers: [kind="both"]
  equal: [zone]
"""
INHIBIT = (
    InhibitRule((parse_matcher("alertname=Down"),), (parse_matcher("alertname=Slow"),), ("zone",)),
    InhibitRule(
        (parse_matcher("team=infra"),), (parse_matcher('alertname=~"Slow|Cold"'),), ("zone",)
    ),
    InhibitRule((parse_matcher('kind=~"both|one"'),), (parse_matcher("kind=both"),), ("zone",)),
)
ALERTS = [
    {"alertname": "Down", "zone": "a"},
    {"alertname": "Slow", "zone": "a"},
    {"alertname": "Slow", "zone": "b"},
    {"alertname": "Slow", "zone": "c"},
    {"alertname": "Net", "zone": "c", "team": "infra"},
    {"alertname": "Cold", "zone": "c"},
    {"alertname": "Twin1", "zone": "d", "kind": "both"},
    {"alertname": "Twin2", "zone": "d", "kind": "both"},
    {"alertname": "Twin3", "zone": "e", "kind": "both"},
    {"alertname": "Lead", "zone": "e", "kind": "one"},
    {"alertname": "Loud", "zone": "f"},
]
SILENCES = [
    [("zone", "b", False)],
    [("alertname", "Down|Cold", True)],
    [("alertname", "Slow", False), ("zone", "a", False)],
    [("alertname", "Slow", False), ("zone", "z", False)],
    [("alertname", "Twin1", False)],
]
QUERIES = [
    "",
    "?active=false",
    "?silenced=false",
    "?inhibited=false",
    "?silenced=false&inhibited=false",
    "?active=false&silenced=false",
    "?unprocessed=false",
    "?active=1&silenced=off&inhibited=yes",
    "?filter=alertname%3DSlow&silenced=false",
    "?receiver=nobody",
    "?receiver=.%2A",
]


class Both:
    """A real Alertmanager and ours, which heard the same."""

    def __init__(self, url: str, client: httpx.AsyncClient, ids: dict[str, str]) -> None:
        self._url, self._client, self._ids = url, client, ids

    async def asked(self, path: str) -> tuple[Any, Any]:
        """The rows of both, each with ours ids of silences."""
        _, real = ask("GET", self._url + path)
        ours = (await self._client.get(path)).json()
        return real, ours

    def statuses(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """What is said of each alert, by its fingerprint."""
        return {row["fingerprint"]: self._named(row["status"]) for row in rows}

    def _named(self, status: dict[str, Any]) -> dict[str, Any]:
        silenced = sorted(self._ids.get(name, name) for name in status["silencedBy"])
        return {k: v for k, v in status.items() if k != "mutedBy"} | {"silencedBy": silenced}


def silence_body(number: int, now_ms: int) -> dict[str, Any]:
    return {
        "matchers": [{"name": n, "value": v, "isRegex": r} for n, v, r in SILENCES[number]],
        "startsAt": rfc3339(now_ms - HOUR),
        "endsAt": rfc3339(now_ms + HOUR),
        "createdBy": "li",
        "comment": "planned",
    }


@pytest.fixture
async def both(tmp_path: Path) -> AsyncIterator[Both]:
    at = await Floor(config(inhibit=INHIBIT, group=GroupBy(("alertname", "zone")))).open()
    at.now = time.time_ns() // 1_000_000
    alerts = [{"labels": {**labels, "severity": "P1"}} for labels in ALERTS]
    intake = AlertIntake(at.dispatcher, lambda: at.now)
    ids: dict[str, str] = {}
    with running_alertmanager(tmp_path, RULES) as url:
        async with api_client(routes(intake, tuple, new_guard(), START_MS)) as client:
            ask("POST", f"{url}/api/v2/alerts", alerts)
            assert (await client.post("/api/v2/alerts", json=alerts)).status_code == 200
            for number in range(len(SILENCES)):
                body = silence_body(number, at.now)
                _, real = ask("POST", f"{url}/api/v2/silences", body)
                ours = (await client.post("/api/v2/silences", json=body)).json()
                ids[real["silenceID"]] = ours["silenceID"]
            yield Both(url, client, ids)


@pytest.mark.parametrize("query", QUERIES)
async def test_each_alert_is_as_quiet_as_with_alertmanager(both: Both, query: str) -> None:
    real, ours = await both.asked(f"/api/v2/alerts{query}")
    assert both.statuses(ours) == both.statuses(real)
    assert [row["fingerprint"] for row in ours] == [row["fingerprint"] for row in real]


@pytest.mark.parametrize("query", QUERIES[:-2])
async def test_so_are_those_of_groups(both: Both, query: str) -> None:
    real, ours = await both.asked(f"/api/v2/alerts/groups{query}")
    said = [
        {tuple(sorted(group["labels"].items())): both.statuses(group["alerts"]) for group in groups}
        for groups in (ours, real)
    ]
    assert said[0] == said[1]


async def test_what_is_in_maintenance_is_muted_by_the_window() -> None:
    at = await Floor(config()).open()
    window = silence(at.now, "zone=a", window="drivers")
    await at.dispatcher.silencing.put(window, "w1", at.now)
    intake = AlertIntake(at.dispatcher, lambda: at.now)
    async with api_client(routes(intake, tuple, new_guard(), START_MS)) as client:
        posted = [{"labels": labels} for labels in ALERTS[:3]]
        await client.post("/api/v2/alerts", json=posted)
        rows = (await client.get("/api/v2/alerts")).json()
        loud = (await client.get("/api/v2/alerts?muted=false")).json()
    muted = [row for row in rows if row["status"]["mutedBy"] == ["drivers"]]
    assert {row["labels"]["zone"] for row in muted} == {"a"}
    assert {row["status"]["state"] for row in muted} == {"suppressed"}
    assert [row["labels"]["zone"] for row in loud] == ["b"]


async def test_of_an_incident_only_the_alerts_that_a_silence_matches_are_suppressed() -> None:
    at = await Floor(config()).open()
    intake = AlertIntake(at.dispatcher, lambda: at.now)
    pods = [{"labels": {"alertname": "Bad", "pod": pod}} for pod in ("a", "b")]
    quiet = [{"labels": {"alertname": "Quiet", "pod": "a", "severity": "none"}}]
    async with api_client(routes(intake, tuple, new_guard(), START_MS)) as client:
        await client.post("/api/v2/alerts", json=pods + quiet)
        await at.dispatcher.silencing.put(silence(at.now, "pod=a"), "s1", at.now)
        rows = (await client.get("/api/v2/alerts")).json()
    states = {
        (row["labels"]["alertname"], row["labels"]["pod"]): row["status"]["state"] for row in rows
    }
    assert states == {
        ("Bad", "a"): "suppressed",
        ("Bad", "b"): "active",
        ("Quiet", "a"): "suppressed",
    }


async def test_what_has_ended_inhibits_no_more() -> None:
    at = await Floor(config(inhibit=INHIBIT)).open()
    intake = AlertIntake(at.dispatcher, lambda: at.now)
    down = [{"labels": {"alertname": "Down", "zone": "a", "pod": pod}} for pod in ("1", "2")]
    slow = [{"labels": {"alertname": "Slow", "zone": "a"}}]
    async with api_client(routes(intake, tuple, new_guard(), START_MS)) as client:
        await client.post("/api/v2/alerts", json=down + slow)
        named = []
        for pod in range(2):
            rows = (await client.get("/api/v2/alerts")).json()
            pods = {row["fingerprint"]: row["labels"].get("pod") for row in rows}
            (row,) = (row for row in rows if row["labels"]["alertname"] == "Slow")
            named.append([pods[name] for name in row["status"]["inhibitedBy"]])
            ended = [{**down[pod], "endsAt": "2020-01-01T00:00:00Z"}]
            await client.post("/api/v2/alerts", json=ended)
    assert named == [["1"], ["2"]]
