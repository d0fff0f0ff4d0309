"""The whole API beside a real Prometheus that holds the same samples, endpoint by endpoint.

Debian's Prometheus is 2.42: our engine answers under semantics 2, and what only 3.x has is tested
for itself, elsewhere.
"""

import asyncio
import json
import re
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from support.api_requests import api_request
from support.asking import Pairs, ask
from support.prometheus import Prometheus, running_prometheus
from support.remote_write import remote_write
from support.served import served
from tocsin_alerting.api.prometheus import rules, status, targets
from tocsin_alerting.api.prometheus.query import routes
from tocsin_alerting.promql.engine import QueryEngine
from tocsin_alerting.tsdb.store import Store
from tocsin_exporter.snapshot import Family, Layout, Series, Snapshot, Source, labels

pytestmark = pytest.mark.asyncio(loop_scope="module")
NOW_MS = int(time.time() * 1000) // 60_000 * 60_000
START = NOW_MS // 1000 - 600
SELF = """
global: {scrape_interval: 1s}
scrape_configs:
- job_name: self
  static_configs: [{targets: ["127.0.0.1:PORT"]}]
"""
SERIES = {
    labels(__name__=name, job="j", instance=str(number), mode="ab"[number % 2]): [
        (NOW_MS - 600_000 + 15_000 * at, float(at * number))
        for at in range(40)
        if (at + number) % 7 or name == "full"
    ]
    for name in ("full", "gaps")
    for number in range(5)
}


def _store() -> Store:
    store = Store()
    points = [(at, one, value) for one, samples in SERIES.items() for at, value in samples]
    store.write((one, at, value) for at, one, value in sorted(points))
    return store


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Prometheus, Prometheus]]:
    """One with our samples alone, and one that scrapes itself, which takes it 5 s to begin."""
    flags = ["--web.enable-remote-write-receiver", "--enable-feature=promql-per-step-stats"]
    one, other = (tmp_path_factory.mktemp(name) for name in ("prometheus", "scraping"))
    with running_prometheus(other, config=SELF) as scraping:
        with running_prometheus(one, *flags) as holding:
            remote_write(holding.url, SERIES.items())
            yield holding, scraping


@pytest.fixture(scope="module")
def prometheus(servers: tuple[Prometheus, Prometheus]) -> Prometheus:
    """With our samples alone."""
    return servers[0]


@pytest.fixture(scope="module")
def scraping(servers: tuple[Prometheus, Prometheus]) -> Prometheus:
    """With a target, itself, which it has scraped."""
    deadline = time.monotonic() + 20
    while not servers[1].get("query", query="up")["data"]["result"]:
        assert time.monotonic() < deadline, "it did not scrape itself"
        time.sleep(0.1)
    return servers[1]


TARGET = targets.ActiveTarget(
    Source("self", "127.0.0.1:1"), "http://127.0.0.1:1/metrics", 1.0, 1.0, NOW_MS, 0.1, True, ""
)
RUNNING = status.RuntimeInfo(dict, lambda: NOW_MS, NOW_MS, {"a": "b"}, "a: b\n", "15d", lambda: 0)


def _described() -> Store:
    """One source that says what its metrics are."""
    family = Family("go_goroutines", "gauge", "Help.")
    layout = Layout((Series(family, "go_goroutines", ()),))
    store = Store()
    store.append(Snapshot(TARGET.source, NOW_MS, True, layout, np.ones(1)))
    return store


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def ours() -> AsyncIterator[str]:
    async with _served(_store()) as url:
        yield url


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def described() -> AsyncIterator[str]:
    async with _served(_described()) as url:
        yield url


@asynccontextmanager
async def _served(store: Store) -> AsyncIterator[str]:
    every = [
        *targets.routes(lambda: [TARGET]),
        *status.routes(RUNNING),
        *rules.routes(lambda: []),
    ]
    engine = QueryEngine(store, semantics=2)
    with ThreadPoolExecutor(2) as executor:
        reading = routes(store, engine, executor, lambda: NOW_MS, time.perf_counter)
        async with served([*every, *reading]) as url:
            yield url


def over(query: str, **more: str) -> tuple[str, Pairs]:
    asked = {"start": str(START), "end": str(START + 600), "step": "30", **more}
    return "query_range", [("query", query), *asked.items()]


def at(query: str, **more: str) -> tuple[str, Pairs]:
    return "query", [("query", query), *{"time": str(START + 300), **more}.items()]


SAME: list[tuple[str, Pairs]] = [
    ("query_exemplars", [("query", "test")]),
    ("query_exemplars", [("query", "test"), ("start", "1700000000000"), ("end", "1700000600000")]),
    ("query_exemplars", [("query", "test"), ("start", "2"), ("end", "1")]),
    ("query_exemplars", [("query", "test("), ("start", "1"), ("end", "2")]),
    ("query_exemplars", [("query", "test"), ("start", "noon")]),
    ("query_exemplars", []),
    *(("format_query", [("query", text)]) for text in ("sum(x)by(y)", "sum(", "", "1+ 1")),
    ("alertmanagers", []),
    ("rules", []),
    ("rules", [("type", "nonsense")]),
    ("alerts", []),
    ("targets", [("state", "dropped")]),
    ("metadata", [("limit", "x")]),
    ("metadata", [("metric", "nosuch")]),
    ("metadata", [("limit", "0")]),
    ("targets/metadata", [("metric", "nosuch")]),
    ("targets/metadata", [("limit", "x")]),
    ("targets/metadata", [("match_target", "up(")]),
    ("series", [("match[]", '{__name__!=""}')]),
    ("series", [("match[]", "full"), ("match[]", 'gaps{mode="a"}')]),
    ("labels", [("match[]", "nosuch")]),
    ("label/mode/values", [("match[]", "full"), ("start", str(START)), ("end", str(START + 60))]),
    at("full", time="1700000000000"),
    ("query", [("query", "1+1"), ("time", "4")]),
]


def _name(asked: Any) -> str:
    return f"{asked[0]} {dict(asked[1])}"[:80]


def _plain(body: Any) -> Any:
    """Without the order of series and without times, and without what only 3.x counts."""
    data = body.get("data")
    if isinstance(data, dict):
        data.pop("stats", None)
        data.pop("droppedTargetCounts", None)
        if isinstance(data.get("result"), list) and data["resultType"] != "scalar":
            data["result"].sort(key=json.dumps)
    elif isinstance(data, list):
        data.sort(key=json.dumps)
    return body


@pytest.mark.parametrize("asked", SAME, ids=_name)
async def test_the_same_answer(prometheus: Prometheus, ours: str, asked: tuple[str, Pairs]) -> None:
    theirs = ask(prometheus.url, *asked)
    mine = await asyncio.to_thread(ask, ours, *asked)
    assert (mine.status, _plain(mine.body)) == (theirs.status, _plain(theirs.body))


IN_OTHER_WORDS = re.compile(r'^invalid parameter "(query|match\[\])": ')


def _said(status: int, body: Any) -> Any:
    """3.x always names the parameter that is wrong; 2.42 does so now and then."""
    body = _plain(body)
    body.pop("warnings", None)
    if status >= 400:
        return IN_OTHER_WORDS.sub("", body["error"])
    return body


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_is_asked(prometheus: Prometheus, ours: str, seed: int) -> None:
    random = Random(seed)
    for _ in range(50):
        path, pairs = api_request(random, START)
        theirs = ask(prometheus.url, path, pairs)
        mine = await asyncio.to_thread(ask, ours, path, pairs)
        if theirs.status == 204:  # exemplars of nothing: ours is an empty list, which all can read
            assert mine.data == []
            continue
        wanted = theirs.status, _said(theirs.status, theirs.body)
        assert (mine.status, _said(mine.status, mine.body)) == wanted, (path, pairs)


COUNTED = [
    "full",
    "gaps",
    "full + gaps",
    "rate(gaps[2m])",
    "sum by (mode) (rate(full[1m]) / 2) > 0.1",
    "max_over_time(full[2m:30s])",
    "max_over_time(rate(gaps[1m])[3m:20s])",
    "absent_over_time(gaps[1m])",
    "timestamp(gaps)",
    "gaps offset 1m",
    "1 + time()",
    "nosuch",
]


@pytest.mark.parametrize("query", [*COUNTED, "gaps[2m]", "gaps[2m:30s]"])
async def test_samples_are_counted_as_prometheus_counts_them(
    prometheus: Prometheus, ours: str, query: str
) -> None:
    asked = [at(query, stats="all"), at(query, stats="true")]
    asked += [over(query, stats="all")] if query in COUNTED else []
    for path, pairs in asked:
        theirs = ask(prometheus.url, path, pairs).data["stats"]
        mine = (await asyncio.to_thread(ask, ours, path, pairs)).data["stats"]
        assert mine["timings"].keys() == theirs["timings"].keys()
        assert all(seconds >= 0 for seconds in mine["timings"].values())
        del mine["samples"]["peakSamples"], theirs["samples"]["peakSamples"]
        assert mine["samples"] == theirs["samples"]


async def test_series_are_counted_as_prometheus_counts_them(
    prometheus: Prometheus, ours: str
) -> None:
    theirs = ask(prometheus.url, "status/tsdb").data
    mine = (await asyncio.to_thread(ask, ours, "status/tsdb")).data
    for one in (theirs, mine):
        del one["headStats"]["chunkCount"]  # our columns lie in blocks
        for table in one.values():
            if isinstance(table, list):
                table.sort(key=json.dumps)
    assert mine == theirs


def _shape(value: Any) -> Any:
    """The keys and kinds of a value; a list has the shape of its first element."""
    if isinstance(value, dict):
        return {name: _shape(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_shape(one) for one in value[:1]]
    return "number" if isinstance(value, int | float) and value is not True else type(value)


def _covers(ours: Any, theirs: Any) -> bool:
    """Whether ours has all that theirs has; it may have more."""
    if isinstance(theirs, dict):
        return isinstance(ours, dict) and all(
            name in ours and _covers(ours[name], one) for name, one in theirs.items()
        )
    if isinstance(theirs, list):
        return (
            isinstance(ours, list) and all(map(_covers, ours, theirs)) and bool(ours or not theirs)
        )
    return bool(ours == theirs)


@pytest.mark.parametrize(
    "asked",
    [
        ("targets", []),
        ("targets", [("state", "active")]),
        ("targets", [("state", "any")]),
        ("scrape_pools", []),
        ("metadata", [("metric", "go_goroutines")]),
        ("metadata", [("metric", "go_goroutines"), ("limit_per_metric", "1")]),
        ("targets/metadata", [("metric", "go_goroutines")]),
        ("targets/metadata", [("match_target", '{job="self"}'), ("metric", "go_goroutines")]),
        ("targets/metadata", [("match_target", '{job="nosuch"}')]),
        *((f"status/{name}", []) for name in ("buildinfo", "runtimeinfo", "config", "tsdb")),
    ],
    ids=_name,
)
async def test_the_same_shape(
    scraping: Prometheus, described: str, asked: tuple[str, Pairs]
) -> None:
    theirs = ask(scraping.url, *asked).body
    mine = (await asyncio.to_thread(ask, described, *asked)).body
    assert _covers(_shape(mine), _shape(theirs)), (mine, theirs)


READS = [
    "query",
    "query_range",
    "query_exemplars",
    "format_query",
    "series",
    "labels",
    "label/mode/values",
    "metadata",
    "targets",
    "targets/metadata",
    "scrape_pools",
    "alertmanagers",
    "rules",
    "alerts",
    *(f"status/{name}" for name in ("buildinfo", "runtimeinfo", "flags", "config", "tsdb")),
]
OURS_TAKE_FORMS = {"label/mode/values"}
CLOSED = {  # what tells of addresses, people and settings: no page of another origin reads it
    *("targets", "scrape_pools", "alertmanagers", "rules", "alerts"),
    *(f"status/{name}" for name in ("buildinfo", "runtimeinfo", "flags", "config")),
}


@pytest.mark.parametrize("path", READS)
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE"])
async def test_methods_and_origins_are_answered_alike(
    prometheus: Prometheus, ours: str, path: str, method: str
) -> None:
    if path in OURS_TAKE_FORMS or (path, method) == ("series", "DELETE"):
        pytest.skip("Prometheus takes no form here, or deletes nothing")
    asked = (path, [("query", "1")] if path == "format_query" else [], method)
    origin = {"Origin": "http://x.example"}
    theirs = ask(prometheus.url, *asked, headers=origin)
    mine = await asyncio.to_thread(ask, ours, *asked, headers=origin)
    assert mine.status == theirs.status
    if mine.status == 405:  # where Prometheus's router answers before anything is said of origins
        return
    names = [name for name in theirs.headers if name.startswith("access-control-")]
    assert names
    for name in [*names, "vary"]:
        assert mine.headers.get(name) == (None if path in CLOSED else theirs.headers[name])


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
@pytest.mark.parametrize(
    "words",
    [
        ["instant", "{url}", 'full{{mode="a"}}', f"--time={START + 300}"],
        ["instant", "{url}", '"a"'],
        ["instant", "{url}", "sum(rate(full[1m])"],
        ["instant", "-o", "json", "{url}", "sum(full)", f"--time={START + 300}"],
        ["range", "{url}", "sum(gaps)", f"--start={START}", f"--end={START + 60}", "--step=15s"],
        ["series", "--match=gaps", "--match=full", "{url}"],
        ["series", "{url}", f"--start={START}", '--match={{__name__!=""}}'],
        ["labels", "{url}", "mode"],
        ["labels", "{url}", "nosuch"],
    ],
    ids=" ".join,
)
async def test_promtool_sees_no_difference(
    prometheus: Prometheus, ours: str, words: list[str]
) -> None:
    def said(url: str) -> tuple[int, list[str]]:
        command = ["promtool", "query", *(word.format(url=url) for word in words)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        text = re.sub(r"17\d{8}\.\d+|#\d+ byte.*", "now", done.stdout + done.stderr)
        return done.returncode, sorted(text.splitlines())

    assert await asyncio.to_thread(said, ours) == said(prometheus.url)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
async def test_promtool_tells_where_a_query_is_wrong(ours: str) -> None:
    command = ["promtool", "query", "instant", ours, "sum(rate(x[5m])"]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)
    assert "1:16: parse error: unclosed left parenthesis" in done.stderr
