"""`POST /api/v1/read` beside a real Prometheus 2.42 with the same samples, which reads from us."""

import asyncio
import json
import struct
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

from support.api_client import api_client
from support.archives import Kept
from support.prometheus import Prometheus, running_prometheus
from support.remote_read import (
    EQUAL,
    NOT_EQUAL,
    NOT_REGEX,
    REGEX,
    SAMPLES,
    STREAMED,
    Matcher,
    Series,
    read_request,
    remote_read,
)
from support.remote_write import remote_write
from support.served import served
from tocsin_alerting.api.prometheus.query import routes
from tocsin_alerting.api.prometheus.query_response import QueryLimits
from tocsin_alerting.http import httpx
from tocsin_alerting.promql.engine import QueryEngine
from tocsin_alerting.tsdb.store import HOUR_MS, Store
from tocsin_alerting.tsdb.values import NAN_BITS, STALE_BITS
from tocsin_exporter.snapshot import Labels, labels

STEP_MS = 15_000
END_MS = int(time.time() * 1000) // 60_000 * 60_000
START_MS = END_MS - 3 * HOUR_MS
NAN, STALE = struct.unpack("<dd", struct.pack("<qq", NAN_BITS, STALE_BITS))
EXTERNAL = {"cluster": "a"}
CONFIG = """
global: {external_labels: {cluster: a}}
remote_read:
- url: URL/api/v1/read
  read_recent: true
"""
Points = list[tuple[int, float]]
QUERIES = (
    "m",
    "rate(m[2m])",
    "sum by (k) (increase(m[5m]))",
    "count_over_time(ends[10m])",
    "ends",
    "apart",
    "max_over_time(apart[7m])",
    "absent(ends)",
    'count({__name__=~"m|ends"})',
)


def _series() -> dict[Labels, Points]:
    """Counters on one time axis, one that ends and begins again, one with times of its own."""
    random = Random(7)
    made: dict[Labels, Points] = {}
    times = range(START_MS, END_MS, STEP_MS)
    for number in range(4):
        own = labels(__name__="m", job="j", instance="i", k=str(number), Upper="日")
        rising = [random.choice((0.0, 1.0, 0.1, 1e9)) for _ in times]
        made[own] = [(at, sum(rising[: n + 1])) for n, at in enumerate(times)]
    ending = labels(__name__="ends", job="j", instance="i")
    made[ending] = [
        (at, STALE if n % 50 == 49 else float(n)) for n, at in enumerate(times) if n % 100 < 50
    ]
    odd = (NAN, float("inf"), -0.0, 5e-324, -1e300, 1 / 3)
    apart = labels(__name__="apart", job="j", instance="i")
    made[apart] = [
        (at + random.randrange(STEP_MS), odd[n % len(odd)] if n % 9 else random.random())
        for n, at in enumerate(times)
    ]
    return made


def _windows(made: Mapping[Labels, Points]) -> Iterator[dict[Labels, Points]]:
    """Ten minutes after the other: neither of the two takes what is an hour late."""
    for begin in range(START_MS, END_MS, 600_000):
        span = range(begin, begin + 600_000)
        yield {ls: [point for point in points if point[0] in span] for ls, points in made.items()}


def _kept(folder: Path, made: Mapping[Labels, Points]) -> Kept:
    """A store that has sealed two hours or more of them."""
    kept = Kept(folder / "samples")
    for window in _windows(made):
        ordered = sorted((at, ls, value) for ls, points in window.items() for at, value in points)
        kept.store.write((ls, at, value) for at, ls, value in ordered)
        kept.store.expire(ordered[-1][0])
        kept.disk.tick()
    assert len(kept.block_files) >= 2
    return kept


@asynccontextmanager
async def _reading(store: Store) -> AsyncIterator[str]:
    engine, now = QueryEngine(store, semantics=2), time.monotonic
    with ThreadPoolExecutor(2) as threads:
        served_routes = routes(
            store, engine, threads, lambda: END_MS, now, external_labels=EXTERNAL
        )
        async with served(served_routes) as url:
            yield url


async def test_a_prometheus_answers_from_our_samples_as_we_do(tmp_path: Path) -> None:
    """Beside it one that has the samples itself: of a remote read it would pass on ours."""
    made = _series()
    kept = _kept(tmp_path, made)

    def beside(url: str) -> None:
        reader, holder = tmp_path / "reader", tmp_path / "holder"
        reader.mkdir()
        holder.mkdir()
        with running_prometheus(reader, config=CONFIG.replace("URL", url)) as theirs:
            _check_queries(url, theirs)
        flag = "--web.enable-remote-write-receiver"
        with running_prometheus(holder, flag, config=CONFIG.partition("remote_read")[0]) as theirs:
            for window in _windows(made):
                remote_write(theirs.url, window.items())
            _check_reads(url, theirs.url)

    async with _reading(kept.store) as url:
        await asyncio.to_thread(beside, url)
    kept.disk.abandon_wal()


def _check_queries(url: str, theirs: Prometheus) -> None:
    start, end = str((START_MS - 60_000) // 1000), str((END_MS + 60_000) // 1000)
    for query in QUERIES:
        asked = {"query": query, "start": start, "end": end, "step": "61"}
        ours, told = (one.get("query_range", **asked) for one in (Prometheus(url), theirs))
        assert "warnings" not in told, told["warnings"]
        assert _plain(ours) == _plain(told), query
        assert told["data"]["result"]


def _plain(answer: Mapping[str, Any]) -> list[str]:
    return sorted(json.dumps(one, sort_keys=True) for one in answer["data"]["result"])


READS: list[list[tuple[int, int, Sequence[Matcher]]]] = [
    [(START_MS, END_MS, [(EQUAL, "__name__", "m")])],
    [(START_MS, END_MS, [(REGEX, "__name__", "m|ends|apart"), (NOT_EQUAL, "k", "3")])],
    [(END_MS - 2 * HOUR_MS, END_MS - HOUR_MS, [(REGEX, "__name__", "m|apart")])],
    [(END_MS - 2 * HOUR_MS, END_MS - 2 * HOUR_MS, [(EQUAL, "__name__", "m")])],
    [(START_MS, END_MS, [(EQUAL, "__name__", "nosuch")])],
    [(START_MS, END_MS, [(EQUAL, "cluster", "a"), (EQUAL, "__name__", "ends")])],
    [(START_MS, END_MS, [(EQUAL, "cluster", "b"), (EQUAL, "__name__", "ends")])],
    [
        (START_MS, END_MS, [(EQUAL, "__name__", "ends")]),
        (START_MS, START_MS + 1, [(NOT_REGEX, "__name__", "own_.*"), (EQUAL, "k", "1")]),
    ],
]


def _check_reads(ours: str, theirs: str) -> None:
    """The same series, times and bits, in both forms; theirs may reach to the ends of chunks."""
    for queries in READS:
        samples, told = (remote_read(url, read_request(queries)).queries for url in (ours, theirs))
        assert [_unsigned(one) for one in samples] == [_with_samples(one) for one in told], queries
        assert [list(one) for one in samples] == [sorted(one) for one in samples]
        body = read_request(queries, [7, STREAMED, SAMPLES])
        streams = [remote_read(url, body) for url in (ours, theirs)]
        assert streams[0].content_type == streams[1].content_type
        assert _padded(streams[0].queries, queries) == samples
        assert _within(_padded(streams[1].queries, queries), queries) == samples
    assert remote_read(ours, read_request(READS[0], [SAMPLES, STREAMED])).chunks == []


def _unsigned(found: Series) -> Series:
    """As Prometheus writes single samples, without the sign of -0."""
    return {
        ls: [(at, 0 if bits == -(2**63) else bits) for at, bits in samples]
        for ls, samples in found.items()
    }


def _with_samples(found: Series) -> Series:
    return {ls: samples for ls, samples in found.items() if samples}


def _padded(found: list[Series], queries: Sequence[Any]) -> list[Series]:
    return found + [{} for _ in range(len(found), len(queries))]


def _within(found: list[Series], queries: Sequence[Any]) -> list[Series]:
    return [
        _with_samples(
            {ls: [s for s in samples if first <= s[0] <= last] for ls, samples in one.items()}
        )
        for one, (first, last, _) in zip(found, queries, strict=True)
    ]


async def test_what_is_asked_for_wrongly_is_said_in_plain_words() -> None:
    store = Store()
    for window in _windows(_series()):
        store.write((ls, at, v) for ls, points in window.items() for at, v in points)
    with ThreadPoolExecutor(2) as threads:
        engine, now = QueryEngine(store), lambda: END_MS

        def client(limits: QueryLimits, **roles: str) -> httpx.AsyncClient:
            return api_client(
                routes(store, engine, threads, now, time.monotonic, limits=limits), **roles
            )

        whole = read_request(READS[0])
        async with client(QueryLimits()) as asking:
            told = [
                await _asked(asking, body)
                for body in (
                    b"",
                    whole[:-1],
                    read_request([(0, 1, [(REGEX, "a", "(")])]),
                    read_request([(0, 1, [(7, "a", "b")])]),
                    read_request(READS[0], [9]),
                    read_request(READS[0] * 101),
                )
            ]
            told.append(await _asked(asking, whole, "gzip"))
            told.append(await asking.get("/api/v1/read"))
        async with client(QueryLimits(max_samples=100)) as asking:
            told.append(await _asked(asking, whole))
        async with client(QueryLimits(), reader="read") as asking:
            told.append(await _asked(asking, whole))
            taken = await _asked(asking, whole, token="reader")
    assert [one.status_code for one in told] == [400] * 6 + [415, 405, 422, 401]
    said = [one.text.splitlines()[0] for one in told]
    assert said[0] == "the body is empty"
    assert said[2].startswith("a matcher of a: ") and "missing" in said[2]
    assert said[3] == "type 7 of a matcher is not known; 0 to 3 are"
    assert "there are SAMPLES, STREAMED_XOR_CHUNKS" in said[4]
    assert said[5] == "more than 100 queries in one request"
    assert said[6] == "send a ReadRequest as application/x-protobuf, in snappy"
    assert "ask for fewer series" in said[8]
    assert taken.status_code == 200 and taken.headers["content-encoding"] == "snappy"


async def _asked(
    client: httpx.AsyncClient, body: bytes, encoding: str = "snappy", token: str = ""
) -> httpx.Response:
    headers = {"content-type": "application/x-protobuf", "content-encoding": encoding}
    headers |= {"authorization": f"Bearer {token}"} if token else {}
    async with client.stream("POST", "/api/v1/read", content=body, headers=headers) as answer:
        content = b"".join([piece async for piece in answer.aiter_raw()])
    return httpx.Response(answer.status_code, headers=answer.headers, content=content)
