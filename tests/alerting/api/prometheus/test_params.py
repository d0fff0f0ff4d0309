"""What a request asks for: how much of it there may be, and where it is read."""

import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

import pytest

from support.api_client import api_client
from tocsin_alerting.api.prometheus.query import routes
from tocsin_alerting.http import httpx
from tocsin_alerting.promql.engine import QueryEngine
from tocsin_alerting.tsdb.store import Store
from tocsin_exporter.snapshot import labels

P = ParamSpec("P")
T = TypeVar("T")
NOW_MS = 1_700_000_000_000
FORM = {"content-type": "application/x-www-form-urlencoded"}
OTHERS = "&".join(["a"] * 3000)


class Counted(Executor):
    """A thread, and how often it was given work."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self.jobs = 0

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        self.jobs += 1
        return self._thread.submit(fn, *args, **kwargs)


@pytest.fixture
def executor() -> Iterator[Counted]:
    with Counted() as one:
        yield one


@pytest.fixture
async def client(executor: Counted) -> AsyncIterator[httpx.AsyncClient]:
    store = Store()
    store.write([(labels(__name__="up", job="d", a=a), NOW_MS, 1.0) for a in "123"])
    at = routes(store, QueryEngine(store), executor, lambda: NOW_MS, time.perf_counter)
    async with api_client(at) as http:
        yield http


async def series(client: httpx.AsyncClient, form: str) -> Any:
    answer = await client.post("/api/v1/series", content=form, headers=FORM)
    return answer.status_code, answer.json()


@pytest.mark.parametrize("form", [f"{OTHERS}&{OTHERS}", "&" * 6000, "match[]=up&" * 5001])
async def test_thousands_of_parameters_are_refused_unread(
    client: httpx.AsyncClient, executor: Counted, form: str
) -> None:
    status, body = await series(client, form)
    assert (status, body["errorType"]) == (400, "bad_data")
    assert body["error"] == "more than 5,000 parameters; ask for fewer series at once"
    assert (await client.get(f"/api/v1/series?{'&' * 6000}")).status_code == 400
    assert executor.jobs == 0


async def test_those_of_the_address_count_too(client: httpx.AsyncClient) -> None:
    path = f"/api/v1/series?match[]=up&{OTHERS}"
    few = await client.post(path, content="a&" * 1000, headers=FORM)
    many = await client.post(path, content="a&" * 2000, headers=FORM)
    assert (few.status_code, len(few.json()["data"]), many.status_code) == (200, 3, 400)


async def test_a_few_thousand_selectors_are_answered(client: httpx.AsyncClient) -> None:
    form = "&".join(f'match[]=up{{a="{number}"}}' for number in range(4000))
    status, body = await series(client, form)
    assert (status, [one["a"] for one in body["data"]]) == (200, ["1", "2", "3"])


async def test_matchers_of_all_selectors_together_have_a_bound(client: httpx.AsyncClient) -> None:
    many = ",".join(f'a!="{number}"' for number in range(4500))
    form = "&".join(f"match[]=up{{b!='{number}',{many}}}" for number in range(5))
    status, body = await series(client, form)
    assert (status, body["errorType"]) == (400, "bad_data")
    assert body["error"].endswith("more than 20,000 matchers; ask for fewer at once")
    few = ",".join(f'a!="x{number}"' for number in range(900))
    same = "&".join([f"match[]={{job='d',{few}}}"] * 60)  # counts once
    assert (await series(client, same))[0] == 200


@pytest.mark.parametrize(
    ("form", "jobs"), [("match[]=up", 0), ("match[]=up&x=" + "%41" * 5000, 1)], ids=["few", "long"]
)
async def test_a_long_form_is_read_off_the_loop(
    client: httpx.AsyncClient, executor: Counted, form: str, jobs: int
) -> None:
    await series(client, "match[]=up")
    answering = executor.jobs
    status, body = await series(client, form)
    assert (status, len(body["data"])) == (200, 3)
    assert executor.jobs - 2 * answering == jobs


async def test_the_selector_of_a_target_is_read_off_the_loop(
    client: httpx.AsyncClient, executor: Counted
) -> None:
    asked = await client.get("/api/v1/targets/metadata", params={"match_target": "{"})
    assert asked.status_code == 400
    assert asked.json()["error"].startswith('invalid parameter "match_target": ')
    assert executor.jobs == 1
