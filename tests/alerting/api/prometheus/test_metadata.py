"""What the metrics are, as their sources say."""

import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from support.api_client import api_client
from tocsin_alerting.api.prometheus.query import routes
from tocsin_alerting.http import httpx
from tocsin_alerting.promql.engine import QueryEngine
from tocsin_alerting.tsdb.store import Store
from tocsin_exporter.snapshot import Family, Layout, Series, Snapshot, Source, labels

NOW_MS = 1_700_000_000_000
REQUESTS = Family("requests_total", "counter", "Requests.")
LATENCY = Family("latency_seconds", "histogram", "How long.", "seconds")
ODD = Family("odd", "untyped", "")
OTHER = Family("requests_total", "counter", "Requests, otherwise.")


def _append(store: Store, job: str, *series: Series) -> None:
    snapshot = Snapshot(Source(job, "i"), NOW_MS, True, Layout(series), np.ones(len(series)))
    store.append(snapshot)


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    store = Store()
    bucket = Series(LATENCY, "latency_seconds_bucket", labels(le="+Inf"))
    _append(store, "a", Series(REQUESTS, "requests_total", ()), bucket, Series(ODD, "odd", ()))
    _append(store, "b", Series(OTHER, "requests_total", ()))
    _append(store, "c", Series(REQUESTS, "requests_total", ()))
    store.write([(labels(__name__="written", job="d"), NOW_MS, 1.0)])
    with ThreadPoolExecutor(2) as executor:
        at = routes(store, QueryEngine(store), executor, lambda: NOW_MS, time.perf_counter)
        async with api_client(at) as http:
            yield http


async def data(client: httpx.AsyncClient, path: str, **parameters: Any) -> Any:
    answer = await client.get(f"/api/v1/{path}", params=parameters)
    return answer.json()["data"]


async def test_each_way_in_which_a_metric_is_described_is_told_once(
    client: httpx.AsyncClient,
) -> None:
    assert await data(client, "metadata") == {
        "latency_seconds": [{"type": "histogram", "help": "How long.", "unit": "seconds"}],
        "odd": [{"type": "unknown", "help": "", "unit": ""}],
        "requests_total": [
            {"type": "counter", "help": "Requests.", "unit": ""},
            {"type": "counter", "help": "Requests, otherwise.", "unit": ""},
        ],
    }


@pytest.mark.parametrize(
    ("parameters", "counts"),
    [
        ({"limit": 2}, {"latency_seconds": 1, "odd": 1}),
        ({"limit": 0}, {}),
        ({"limit": -1}, {"latency_seconds": 1, "odd": 1, "requests_total": 2}),
        ({"limit_per_metric": 1}, {"latency_seconds": 1, "odd": 1, "requests_total": 1}),
        ({"limit_per_metric": 0}, {"latency_seconds": 1, "odd": 1, "requests_total": 2}),
        ({"metric": "requests_total"}, {"requests_total": 2}),
        ({"metric": "written"}, {}),
    ],
)
async def test_limits_and_a_metric_choose(
    client: httpx.AsyncClient, parameters: dict[str, Any], counts: dict[str, int]
) -> None:
    found = await data(client, "metadata", **parameters)
    assert {name: len(entries) for name, entries in found.items()} == counts


async def test_targets_say_what_they_have(client: httpx.AsyncClient) -> None:
    found = await data(client, "targets/metadata", match_target='{job=~"a|b"}')
    assert [(one["target"]["job"], one["metric"]) for one in found] == [
        ("a", "requests_total"),
        ("a", "latency_seconds"),
        ("a", "odd"),
        ("b", "requests_total"),
    ]
    named = await data(client, "targets/metadata", metric="requests_total", limit=2)
    assert [one["target"]["job"] for one in named] == ["a", "b"]
    assert "metric" not in named[0]
