"""What Grafana's Prometheus data source asks for, one request after the other.

The requests are those of Grafana 13's data source (packages/grafana-prometheus and pkg/promlib).
"""

import asyncio
import gzip
import json
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from support.asking import Answer, ask
from support.served import served
from tocsin_alerting.api.prometheus import rules, status
from tocsin_alerting.api.prometheus.query import routes
from tocsin_alerting.promql.engine import QueryEngine
from tocsin_alerting.tsdb.store import Store
from tocsin_exporter.snapshot import Family, Layout, Series, Snapshot, Source, labels

pytestmark = pytest.mark.asyncio(loop_scope="module")
NOW_MS = 1_700_000_000_000
NOW = NOW_MS // 1000
FAMILY = Family("requests_total", "counter", "Requests.")
MANY = 400
RUNNING = status.RuntimeInfo(dict, lambda: NOW_MS, NOW_MS, {}, "", "1h", lambda: 0)


def _store() -> Store:
    """MANY series of one metric, every 15 s for 10 minutes; one has a label that is no word."""
    names = [labels(path=f"/{number:03}", code="200") for number in range(MANY - 1)]
    names.append(labels(path="/odd", **{"http.status": "404"}))
    layout = Layout(tuple(Series(FAMILY, FAMILY.name, one) for one in names))
    store = Store()
    for at in range(41):
        values = np.arange(MANY) * at / 7
        at_ms = NOW_MS - 600_000 + at * 15_000
        store.append(Snapshot(Source("web", "h:1"), at_ms, True, layout, values))
    return store


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def agent() -> AsyncIterator[str]:
    store = _store()
    with ThreadPoolExecutor(2) as executor:
        reads = routes(store, QueryEngine(store), executor, lambda: NOW_MS, time.perf_counter)
        every = [*reads, *status.routes(RUNNING), *rules.routes(lambda: [])]
        async with served(every) as url:
            yield url


async def grafana(agent: str, path: str, *pairs: tuple[str, Any], method: str = "GET") -> Answer:
    headers = {"Accept-Encoding": "gzip", "User-Agent": "Grafana/13.2.1"}
    asked = [(name, str(value)) for name, value in pairs]
    answer = await asyncio.to_thread(ask, agent, path, asked, method, headers)
    if answer.headers.get("content-encoding") == "gzip":
        return Answer(answer.status, answer.headers, gzip.decompress(answer.content))
    return answer


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_save_and_test_asks_for_a_sum_in_1970(agent: str, method: str) -> None:
    answer = await grafana(agent, "query", ("query", "1+1"), ("time", 4), method=method)
    assert answer.data == {"resultType": "scalar", "result": [4.0, "2"]}


async def test_and_then_whom_it_talks_to(agent: str) -> None:
    answer = await grafana(agent, "status/buildinfo")
    assert "features" not in answer.data  # else it takes us for a Mimir


async def test_a_page_asks_for_rules_and_for_exemplars_in_the_year_57000(agent: str) -> None:
    assert (await grafana(agent, "rules")).data == {"groups": []}
    times = ("start", NOW_MS - 600_000), ("end", NOW_MS)
    answer = await grafana(agent, "query_exemplars", ("query", "test"), *times)
    assert (answer.status, answer.body) == (200, {"status": "success", "data": []})


async def test_a_panel_posts_a_form_and_reads_gzip(agent: str) -> None:
    query = ("query", "rate(requests_total[1m0s])")
    window = ("start", NOW - 300), ("end", NOW), ("step", 0.5)
    answer = await grafana(agent, "query_range", query, *window, method="POST")
    assert answer.headers["content-encoding"] == "gzip"
    assert "content-length" not in answer.headers  # it came in pieces
    paths = [one["metric"]["path"] for one in answer.data["result"]]
    assert (len(paths), len(answer.data["result"][0]["values"])) == (MANY, 601)
    again = await grafana(agent, "query_range", query, *window, method="POST")
    assert again.content == answer.content  # series in a stable order


async def test_a_small_answer_is_sent_as_it_is(agent: str) -> None:
    answer = await grafana(agent, "query", ("query", "up"), ("time", NOW), ("timeout", "60s"))
    assert "content-encoding" not in answer.headers
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert answer.data["result"][0]["metric"]["job"] == "web"


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_the_editor_asks_for_names_with_a_limit(agent: str, method: str) -> None:
    window = ("start", NOW - 3600), ("end", NOW)
    whole = await grafana(agent, "labels", *window, ("limit", 40_000), method=method)
    assert whole.data == ["__name__", "code", "http.status", "instance", "job", "path"]
    assert "warnings" not in whole.body
    match = ("match[]", "requests_total"), ("match[]", "up")
    cut = await grafana(agent, "labels", *match, *window, ("limit", 2), method=method)
    assert cut.data == ["__name__", "code"]
    assert cut.body["warnings"] == ["results truncated due to limit"]
    exact = await grafana(agent, "labels", *window, ("limit", 6), method=method)
    assert (exact.data, "warnings" in exact.body) == (whole.data, False)


async def test_a_variable_asks_for_values(agent: str) -> None:
    match = ("match[]", '{__name__="requests_total"}')
    window = ("start", NOW - 3600), ("end", NOW)
    values = await grafana(agent, "label/path/values", match, *window, ("limit", 2))
    assert (values.data, values.body["warnings"]) == (
        ["/000", "/001"],
        ["results truncated due to limit"],
    )
    odd = await grafana(agent, "label/U__http_2e_status/values", *window)
    assert odd.data == ["404"]
    names = await grafana(agent, "label/__name__/values", *window)
    assert names.data == [
        "requests_total",
        "scrape_duration_seconds",
        "scrape_samples_scraped",
        "up",
    ]


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_all_series_may_be_asked_for(agent: str, method: str) -> None:
    match = ("match[]", '{__name__!=""}')
    every = await grafana(agent, "series", match, method=method)
    assert len(every.data) == MANY + 3
    assert [json.dumps(one) for one in every.data] == sorted(map(json.dumps, every.data))
    cut = await grafana(agent, "series", match, ("limit", MANY), method=method)
    assert cut.data == every.data[:MANY]
    assert cut.body["warnings"] == ["results truncated due to limit"]


async def test_the_editor_asks_what_the_metrics_are(agent: str) -> None:
    answer = await grafana(agent, "metadata", ("limit", 40_000))
    entry = {"type": "counter", "help": "Requests.", "unit": ""}
    assert answer.data == {"requests_total": [entry]}


@pytest.mark.parametrize(
    ("path", "query", "status", "kind"),
    [
        ("query", "sum(", 400, "bad_data"),
        ("query", "requests_total / on (job) requests_total", 422, "execution"),
        ("query_range", "requests_total", 400, "bad_data"),
    ],
)
async def test_errors_are_of_those_that_it_reads(
    agent: str, path: str, query: str, status: int, kind: str
) -> None:
    answer = await grafana(agent, path, ("query", query), ("time", NOW), method="POST")
    assert (answer.status, answer.body["status"]) == (status, "error")
    assert answer.body["errorType"] == kind


async def test_what_only_newer_servers_have_is_not_found(agent: str) -> None:
    assert (await grafana(agent, "search/metric_names")).status == 404
