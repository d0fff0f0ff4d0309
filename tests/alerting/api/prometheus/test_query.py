"""The query API beside a real Prometheus that holds the same samples: statuses, errors, shapes.

Debian's Prometheus is 2.42, so our engine answers under semantics 2. Where 3.x words an error
otherwise, ours has the words of 3.x.
"""

import asyncio
import json
import shutil
import subprocess
import time
import weakref
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
import pytest_asyncio

from support.api_client import api_client
from support.asking import Pairs
from support.asking import ask as request
from support.prometheus import Prometheus, running_prometheus
from support.remote_write import remote_write
from support.served import served
from tocsin_alerting.api.prometheus.query import routes
from tocsin_alerting.api.prometheus.query_response import QueryLimits
from tocsin_alerting.http import httpx
from tocsin_alerting.promql.engine import QueryEngine
from tocsin_alerting.promql.result import Matrix, Result, Track
from tocsin_alerting.tsdb.store import Store
from tocsin_exporter.snapshot import Labels, labels

pytestmark = pytest.mark.asyncio(loop_scope="module")
NOW_MS = int(time.time() * 1000) // 60_000 * 60_000
START = NOW_MS // 1000 - 600
VALUES = (1.0, 0.1, -2.5, 1e21, 1e-9, float("inf"), float("-inf"), float("nan"), 123456789.125, 0.0)
NAMES_ALL = ("x" * 200, 'quote " and \\', "line\nbreak", "日志", "")


def _series() -> dict[Labels, list[tuple[int, float]]]:
    made = {}
    for number, text in enumerate(NAMES_ALL):
        own = labels(__name__="m", job="j", instance=str(number), text=text)
        named = tuple(pair for pair in own if pair[1])
        made[named] = [
            (NOW_MS - 600_000 + 60_000 * at + number, VALUES[(at + number) % len(VALUES)])
            for at in range(10)
        ]
    return made


def _store() -> Store:
    store = Store()
    ordered = [(at, ls, v) for ls, points in _series().items() for at, v in points]
    store.write((ls, at, v) for at, ls, v in sorted(ordered))
    return store


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    folder = tmp_path_factory.mktemp("prometheus")
    with running_prometheus(folder, "--web.enable-remote-write-receiver") as server:
        remote_write(server.url, _series().items())
        yield server


def _monotonic() -> float:
    return time.monotonic()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def ours() -> AsyncIterator[str]:
    store = _store()
    executor = ThreadPoolExecutor(2)
    engine = QueryEngine(store, semantics=2)
    async with served(routes(store, engine, executor, lambda: NOW_MS, _monotonic)) as url:
        yield url
    executor.shutdown()


Answer = tuple[int, Any]


def ask(url: str, path: str, pairs: Pairs, post: bool = False) -> Answer:
    answer = request(url, path, pairs, "POST" if post else "GET")
    return answer.status, answer.body


def _plain(answer: Answer) -> Answer:
    """Without the order of series, which Prometheus does not promise."""
    status, body = answer
    data = body.get("data")
    if isinstance(data, dict) and isinstance(data.get("result"), list):
        if data["resultType"] in ("vector", "matrix"):
            data["result"].sort(key=json.dumps)
    elif isinstance(data, list):
        data.sort(key=json.dumps)
    return status, body


def instant(query: str, **more: str) -> tuple[str, Pairs]:
    return "query", [("query", query), *({"time": str(START + 300), **more}).items()]


def over(query: str, start: str = str(START), end: str = str(START + 600), step: str = "60") -> Any:
    return "query_range", [("query", query), ("start", start), ("end", end), ("step", step)]


FARTHEST = ("9.3e15", "-9.3e15", "9.2233e15", "-9.22337203685477e15", "9.2e18")
FIXED = (
    "m @ {}",
    "rate(m[5m] @ {})",
    "rate(m[5m:1s] @ {} offset 292y)",
    "m @ {} offset -292y",
    "absent(m @ {})",
    "rate(m[292y] @ {})",
)
QUERIES: list[tuple[str, Pairs]] = [
    *(instant(text) for text in ("m", "m[5m]", "1", "1e-9", "-0", '"te\\"xt"', "time()", "nosuch")),
    *(instant(text) for text in ("sum(m)", "m > 1", "vector(1) / 0", 'm{text=~".*日.*"}', "NaN")),
    *(instant("1", time=at) for at in ("5", "5.5", "1.23456", "2023-11-14T22:13:20.5Z", "-7")),
    *(instant(text.format(at)) for at in FARTHEST for text in FIXED),
    *(over(FIXED[1].format(at)) for at in FARTHEST),
    *(instant("1", time=at) for at in ("noon", "2023-11-14", "2023-11-14T22:13:20")),
    *(instant("1", timeout=text) for text in ("x", "10s", "1.5")),
    *(instant(text) for text in ("", "sum(", "up{", "foo(1)", "1 +", "m offset", "rate(m)", "#")),
    *(over(text) for text in ("", "sum(", "up{", "m[5m]", '"text"')),
    *(over("m", step=text) for text in ("1.001", "0.9999", "2.003")),
    instant('label_replace(m, "a", "$1", "x", "(")'),
    ("query", []),
    *(over(text) for text in ("m", "1", "time()", "sum(m)", "nosuch", "m offset 1m", "m @ end()")),
    *(over("m", step=step) for step in ("0.5", "15s", "1m", "300", "", "x", "0", "-1", "1h30m")),
    over("m", start=""),
    over("m", end=""),
    over("m", start="x", end="x", step="x"),
    over("m", start=str(START + 600), end=str(START)),
    over("1", start="0", end="11000", step="1"),
    over("1", start="0", end="11001", step="1"),
    ("series", [("match[]", "m")]),
    ("series", [("match[]", 'm{instance="1"}'), ("match[]", 'm{instance="2"}')]),
    ("series", [("match[]", "m"), ("start", "0"), ("end", "100")]),
    *(("series", [("match[]", text)]) for text in ("{}", '{a=~".*"}', "m[5m]", "sum(m)", "m{", "")),
    ("series", [("match[]", "m"), ("start", "x")]),
    ("series", [("match[]", "m"), ("end", "x")]),
    ("series", []),
    ("labels", []),
    ("labels", [("match[]", 'm{instance="4"}')]),
    ("labels", [("start", "x")]),
    ("label/text/values", []),
    ("label/instance/values", [("match[]", 'm{instance=~"[12]"}')]),
    ("label/__name__/values", []),
    ("label/nosuch/values", []),
]
IN_THE_WORDS_OF_3: list[tuple[str, tuple[str, Pairs]]] = [
    ("match[]", ("labels", [("match[]", "m(")])),
    ("match[]", ("label/text/values", [("match[]", "{")])),
]


def _name(asked: Any) -> str:
    path, pairs = asked
    return f"{path} {urlencode(pairs)}"[:90]


@pytest.mark.parametrize("post", [False, True], ids=["GET", "POST"])
@pytest.mark.parametrize("asked", QUERIES, ids=_name)
async def test_the_answer_is_that_of_prometheus(
    prometheus: Prometheus, ours: str, asked: tuple[str, Pairs], post: bool
) -> None:
    path, pairs = asked
    if post and path.startswith("label/"):
        pytest.skip("Prometheus takes no form here")
    theirs = ask(prometheus.url, path, pairs, post)
    assert _plain(await asyncio.to_thread(ask, ours, path, pairs, post)) == _plain(theirs)


@pytest.mark.parametrize("allowed", ["0", "-1"])
async def test_no_time_is_over_at_once(ours: str, allowed: str) -> None:
    status, body = await asyncio.to_thread(ask, ours, *instant("m", timeout=allowed))
    assert (status, body["errorType"]) == (503, "timeout")
    assert body["error"] == (
        "query timed out in query queue; it had 0s, 2 run at once: ask later,"
        " or for more time with timeout (at most 2m)"
    )


@pytest.mark.parametrize(("name", "asked"), IN_THE_WORDS_OF_3)
async def test_the_parameter_that_is_wrong_is_always_named(
    prometheus: Prometheus, ours: str, name: str, asked: tuple[str, Pairs]
) -> None:
    status, body = ask(prometheus.url, *asked)
    body["error"] = f'invalid parameter "{name}": {body["error"]}'
    assert await asyncio.to_thread(ask, ours, *asked) == (status, body)


async def test_a_form_wins_over_the_address_and_only_a_form_is_read(ours: str) -> None:
    async with httpx.AsyncClient() as client:
        url = f"{ours}/api/v1/query?query=1"
        form = await client.post(url, data={"query": "2"})
        text = await client.post(url, content=b"query=2", headers={"content-type": "text/plain"})
    assert form.json()["data"]["result"][1] == "2"
    assert text.json()["data"]["result"][1] == "1"


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["instant", "--time={now}", "{url}", "2 * 21"], "scalar: 42 @["),
        (
            ["instant", "--time={now}", "{url}", 'm{{instance="0"}}'],
            'm{{instance="0", job="j", text="xxx',
        ),
        (["range", "{url}", "vector(7)"], "{{}} =>\n7 @["),
        (["series", "--match=m", "{url}"], '{{__name__="m", instance="3", job="j", text="日志"}}'),
        (["labels", "{url}", "instance"], "0\n1\n2\n3\n4\n"),
    ],
)
async def test_promtool_understands_us(ours: str, arguments: list[str], said: str) -> None:
    now = NOW_MS // 1000  # promtool's own is too late where the tests before took minutes
    words = ["promtool", "query", *(word.format(url=ours, now=now) for word in arguments)]
    done = await asyncio.to_thread(subprocess.run, words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert said.format() in done.stdout


@pytest.mark.parametrize(
    ("headers", "content", "status"),
    [
        ({"content-type": "application/x-www-form-urlencoded"}, b"query=" + b"1" * (2 << 20), 413),
        ({"content-type": "application/x-www-form-urlencoded"}, b"\xff\xfe=%zz&&&=", 400),
        ({"content-type": "application/json"}, b'{"query": "1"}', 400),
        ({}, b"", 400),
    ],
)
async def test_a_body_that_is_no_query(
    ours: str, headers: dict[str, str], content: bytes, status: int
) -> None:
    async with httpx.AsyncClient() as client:
        answer = await client.post(f"{ours}/api/v1/query", headers=headers, content=content)
    assert answer.status_code == status
    assert answer.json()["status"] == "error"


@pytest.mark.parametrize("asked", [instant("m"), instant("m[5m]"), over("m")], ids=_name)
async def test_a_limit_cuts_series_and_says_so(ours: str, asked: tuple[str, Pairs]) -> None:
    path, pairs = asked
    _, whole = await asyncio.to_thread(ask, ours, path, [*pairs, ("limit", "5")])
    _, cut = await asyncio.to_thread(ask, ours, path, [*pairs, ("limit", "2")])
    assert "warnings" not in whole
    assert cut["warnings"] == ["results truncated due to limit"]
    assert cut["data"]["result"] == whole["data"]["result"][:2]
    assert len(whole["data"]["result"]) == 5


@pytest.mark.parametrize(
    ("limit", "why"),
    [
        ("x", 'strconv.Atoi: parsing "x": invalid syntax'),
        ("-1", "limit must be non-negative"),
    ],
)
async def test_a_limit_is_a_number(ours: str, limit: str, why: str) -> None:
    for path, pairs in (instant("m"), over("m"), ("labels", []), ("series", [("match[]", "m")])):
        status, body = await asyncio.to_thread(ask, ours, path, [*pairs, ("limit", limit)])
        assert (status, body["error"]) == (400, f'invalid parameter "limit": {why}')


@pytest.mark.parametrize(
    ("lookback", "found"), [("0.495", 0), ("0.498", 3), ("1s", 5), ("0", 5), ("", 5)]
)
async def test_a_query_chooses_how_far_it_looks_back(ours: str, lookback: str, found: int) -> None:
    """At that time the samples of the five series are 496 to 500 ms old."""
    asked = instant("m", time=f"{START + 300.5}", lookback_delta=lookback)
    _, body = await asyncio.to_thread(ask, ours, *asked)
    assert len(body["data"]["result"]) == found


async def test_a_look_back_is_a_duration(ours: str) -> None:
    status, body = await asyncio.to_thread(ask, ours, *instant("m", lookback_delta="x"))
    wanted = 'error parsing lookback delta duration: cannot parse "x" to a valid duration'
    assert (status, body["error"]) == (400, wanted)


async def test_a_query_that_costs_too_much_is_refused() -> None:
    store, limits = _store(), QueryLimits(max_samples=10)
    with ThreadPoolExecutor(2) as executor:
        at = routes(store, QueryEngine(store), executor, lambda: NOW_MS, _monotonic, limits=limits)
        async with api_client(at) as client:
            answer = await client.get("/api/v1/query", params={"query": "rate(m[10m])"})
    assert (answer.status_code, answer.json()["errorType"]) == (422, "execution")
    assert answer.json()["error"] == (
        "query processing would load too many samples into memory in query execution;"
        " it may read 10 samples: ask for fewer series, a shorter range or a wider step"
    )


class Slow:
    """A reader that is slow as long as it is told: what a heavy query is to the others."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.reads = 0

    def select(self, *asked: Any) -> Any:
        self.reads += 1
        time.sleep(0.05)
        return self._store.select(*asked)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def slow() -> AsyncIterator[tuple[str, Slow]]:
    """One query at a time, each selector of which takes 50 ms."""
    store = _store()
    reader = Slow(store)
    executor = ThreadPoolExecutor(1)
    at = routes(
        store,
        QueryEngine(reader),
        executor,
        lambda: NOW_MS,
        _monotonic,
        limits=QueryLimits(at_once=1),
    )
    async with served(at) as url:
        yield url, reader
    executor.shutdown()


LONG = "m" + " or m" * 40  # two seconds


async def test_a_query_that_is_too_long_ends(slow: tuple[str, Slow]) -> None:
    url, reader = slow
    asked = [("query", LONG), ("timeout", "0.3")]
    status, body = await asyncio.to_thread(ask, url, "query", asked)
    assert (status, body["errorType"]) == (503, "timeout")
    assert body["error"] == (
        "query timed out in expression evaluation; it had 300ms: ask for fewer series,"
        " a shorter range or a wider step, or for more time with timeout (at most 2m)"
    )
    before = reader.reads
    await asyncio.sleep(0.3)
    assert reader.reads - before <= 1
    assert (await asyncio.to_thread(ask, url, "query", [("query", "1")]))[0] == 200


async def test_queries_wait_for_their_turn_and_not_for_ever(slow: tuple[str, Slow]) -> None:
    url, _ = slow
    async with asyncio.TaskGroup() as group:
        first = group.create_task(asyncio.to_thread(ask, url, "query", [("query", LONG)]))
        await asyncio.sleep(0.2)
        quick = [("query", "1"), ("timeout", "0.2")]
        impatient = group.create_task(asyncio.to_thread(ask, url, "query", quick))
        patient = group.create_task(asyncio.to_thread(ask, url, "query", [("query", "1")]))
    assert first.result()[0] == patient.result()[0] == 200
    assert impatient.result()[0] == 503
    assert impatient.result()[1]["error"].startswith("query timed out in query queue; it had 200ms")


async def test_whoever_finds_the_queue_full_is_told_what_to_do() -> None:
    store = _store()
    few = QueryLimits(at_once=1, waiting=1)
    with ThreadPoolExecutor(1) as executor:
        at = routes(
            store, QueryEngine(Slow(store)), executor, lambda: NOW_MS, _monotonic, limits=few
        )
        async with served(at) as url, asyncio.TaskGroup() as group:
            asked = [("query", "m or m or m or m")]
            tasks = [
                group.create_task(asyncio.to_thread(ask, url, "query", asked)) for _ in range(3)
            ]
    answers = sorted((task.result() for task in tasks), key=lambda answer: answer[0])
    assert [status for status, _ in answers] == [200, 200, 503]
    assert answers[2][1]["errorType"] == "unavailable"
    assert answers[2][1]["error"] == (
        "too many queries: 1 run and 1 wait; ask again in a moment, and for fewer at once"
    )


async def test_what_a_limit_leaves_out_is_not_held_for_who_reads_the_rest() -> None:
    """The rows of a range are parts of one array."""
    whole: list[weakref.ref[Any]] = []

    class Wide(QueryEngine):
        def evaluate_range(self, *_: Any) -> Result:
            values, times = np.full((11_000, 50), 1 / 3), np.arange(11_000)
            whole.append(weakref.ref(values))
            return Result(
                Matrix(tuple(Track((("n", str(n)),), times, values[:, n]) for n in range(50)))
            )

    asked = {"query": "m", "start": "0", "end": "10", "step": "1", "limit": "40"}
    store, plain = Store(), {"Accept-Encoding": "identity"}
    with ThreadPoolExecutor(1) as executor:
        at = routes(store, Wide(store), executor, lambda: NOW_MS, _monotonic)
        async with served(at) as url, httpx.AsyncClient() as client:
            path = f"{url}/api/v1/query_range"
            async with client.stream("GET", path, params=asked, headers=plain) as answer:
                held = whole[0]()
                found = json.loads(await answer.aread())
    assert held is None
    assert len(found["data"]["result"]) == 40
    assert found["data"]["result"][39]["values"][-1] == [10.999, "0.3333333333333333"]


async def test_a_query_ends_when_its_client_has_gone(slow: tuple[str, Slow]) -> None:
    """Not at once: a client that has ended its side alone may wait for its answer."""
    url, reader = slow
    began, most = reader.reads, 180  # 9 seconds
    longest = "m" + " or m" * (most - 1)
    async with httpx.AsyncClient() as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.get(f"{url}/api/v1/query", params={"query": longest}, timeout=0.3)
    before = -1
    while reader.reads != before:
        before = reader.reads
        await asyncio.sleep(0.5)
    assert before < began + 120
    assert (await asyncio.to_thread(ask, url, "query", [("query", "1")]))[0] == 200
