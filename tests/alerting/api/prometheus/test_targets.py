"""Which sources are read, and how that went."""

from dataclasses import replace
from typing import Any

import pytest

from support.api_client import api_client
from tocsin_alerting.api.prometheus.targets import ActiveTarget, routes
from tocsin_exporter.snapshot import Source

AT_MS = 1_700_000_000_000
ENGINE = ActiveTarget(
    Source("llm", "h:8000"), "http://h:8000/metrics", 5.0, 4.5, AT_MS, 0.25, False, "llm: refused"
)
GPU = ActiveTarget(
    Source("dcgm", "me:4911"),
    "http://me:4911/metrics?collect[]=gpu",
    1.0,
    0.9,
    None,
    0.0,
    None,
    "",
)


async def asked(path: str, **parameters: str) -> Any:
    async with api_client(routes(lambda: [ENGINE, GPU])) as client:
        return (await client.get(f"/api/v1/{path}", params=parameters)).json()["data"]


async def test_a_target_is_told_as_prometheus_tells_it() -> None:
    found = (await asked("targets"))["activeTargets"]
    assert found[0] == {
        "discoveredLabels": {
            "__address__": "h:8000",
            "__metrics_path__": "/metrics",
            "__scheme__": "http",
            "__scrape_interval__": "5s",
            "__scrape_timeout__": "4s500ms",
            "job": "llm",
        },
        "labels": {"instance": "h:8000", "job": "llm"},
        "scrapePool": "llm",
        "scrapeUrl": "http://h:8000/metrics",
        "globalUrl": "http://h:8000/metrics",
        "lastError": "llm: refused",
        "lastScrape": "2023-11-14T22:13:20.000Z",
        "lastScrapeDuration": 0.25,
        "health": "down",
        "scrapeInterval": "5s",
        "scrapeTimeout": "4s500ms",
    }
    assert (found[1]["health"], found[1]["lastScrape"]) == ("unknown", "0001-01-01T00:00:00Z")


async def test_our_own_address_is_shown_whole() -> None:
    found = (await asked("targets"))["activeTargets"]
    assert found[1]["scrapeUrl"] == "http://me:4911/metrics?collect[]=gpu"


async def test_a_password_in_an_address_is_not_shown() -> None:
    engine = replace(ENGINE, url="http://li:hunter2@h:8000/metrics")
    async with api_client(routes(lambda: [engine])) as client:
        text = (await client.get("/api/v1/targets")).text
    assert "http://<secret>@h:8000/metrics" in text
    assert "hunter2" not in text


@pytest.mark.parametrize(
    ("parameters", "jobs"),
    [
        ({}, ["llm", "dcgm"]),
        ({"state": "any"}, ["llm", "dcgm"]),
        ({"state": "ACTIVE"}, ["llm", "dcgm"]),
        ({"state": "dropped"}, []),
        ({"scrapePool": "dcgm"}, ["dcgm"]),
        ({"scrapePool": "nosuch"}, []),
    ],
)
async def test_targets_are_chosen_by_state_and_pool(
    parameters: dict[str, str], jobs: list[str]
) -> None:
    found = await asked("targets", **parameters)
    assert [one["scrapePool"] for one in found["activeTargets"]] == jobs
    assert found["droppedTargets"] == []


async def test_a_job_is_a_pool() -> None:
    assert await asked("scrape_pools") == {"scrapePools": ["dcgm", "llm"]}
