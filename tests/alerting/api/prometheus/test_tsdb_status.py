"""What the series in memory are made of."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from support.api_client import api_client
from tocsin_alerting.api.prometheus.query import routes
from tocsin_alerting.api.prometheus.tsdb_status import cardinality
from tocsin_alerting.promql.engine import QueryEngine
from tocsin_alerting.tsdb.store import Store
from tocsin_exporter.snapshot import Labels, labels

NOW_MS = 1_700_000_000_000
SERIES = [
    labels(__name__="a", job="x", mode="on"),
    labels(__name__="a", job="x", mode="off"),
    labels(__name__="bé", job="y"),
]


def told(series: list[Labels], limit: int = 10) -> dict[str, dict[str, int]]:
    found = cardinality(series, {}, limit)
    del found["headStats"]
    return {key: {one["name"]: one["value"] for one in table} for key, table in found.items()}


def test_series_and_values_are_counted() -> None:
    assert told(SERIES) == {
        "seriesCountByMetricName": {"a": 2, "bé": 1},
        "labelValueCountByLabelName": {"__name__": 2, "job": 2, "mode": 2},
        "memoryInBytesByLabelName": {"mode": 5, "__name__": 4, "job": 2},
        "seriesCountByLabelValuePair": {
            "__name__=a": 2, "job=x": 2, "__name__=bé": 1, "job=y": 1, "mode=off": 1, "mode=on": 1
        },
    }  # fmt: skip
    assert cardinality(SERIES, {"chunkCount": 4}, 10)["headStats"] == {
        "numSeries": 3,
        "numLabelPairs": 6,
        "chunkCount": 4,
    }


def test_the_most_numerous_come_first_and_equals_by_name() -> None:
    assert list(told(SERIES, 2)["seriesCountByLabelValuePair"]) == ["__name__=a", "job=x"]
    assert list(told(SERIES, 1)["memoryInBytesByLabelName"]) == ["mode"]


async def asked(store: Store, **parameters: str) -> Any:
    with ThreadPoolExecutor(2) as executor:
        at = routes(store, QueryEngine(store), executor, lambda: NOW_MS, time.perf_counter)
        async with api_client(at) as client:
            return await client.get("/api/v1/status/tsdb", params=parameters)


async def test_an_empty_store_has_no_extent() -> None:
    head = (await asked(Store())).json()["data"]["headStats"]
    assert head == {"numSeries": 0, "numLabelPairs": 0, "chunkCount": 0, "minTime": 0, "maxTime": 0}


async def test_series_without_a_common_axis_count_too() -> None:
    """Each of them has a time of its own, and the last of the first series is the newest."""
    store = Store()
    for number in range(30):
        one = labels(__name__="m", n=str(number))
        store.write((one, NOW_MS - 900_000 + at * 15_000 - number, 1.0) for at in range(40))
    head = (await asked(store)).json()["data"]["headStats"]
    newest = NOW_MS - 900_000 + 39 * 15_000
    assert (head["numSeries"], head["maxTime"]) == (30, newest)
    assert NOW_MS - 900_000 - 29 <= head["minTime"] <= NOW_MS - 900_000


@pytest.mark.parametrize("limit", ["0", "-1", "x"])
async def test_a_limit_is_a_positive_number(limit: str) -> None:
    answer = await asked(Store(), limit=limit)
    assert (answer.status_code, answer.json()["error"]) == (400, "limit must be a positive number")
