"""A real Prometheus and a real vmagent send to us what they scrape, and we say what they say."""

import asyncio
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from support.asking import ask
from support.mortal_target import MortalTarget
from support.prometheus import running_prometheus
from support.served import served
from tocsin_alerting.api.http.guard import new_guard
from tocsin_alerting.api.prometheus import query, write
from tocsin_alerting.promql.engine import QueryEngine
from tocsin_alerting.remote_write.receiver import Receiver
from tocsin_alerting.tsdb.store import Store

T = TypeVar("T")
SCRAPE_S = 0.3
PATIENCE_S = 15.0
QUERIES = (
    "up",
    "scrape_samples_scraped",
    "level",
    "steps_total",
    "last_over_time(level[1m])",
    "count_over_time(steps_total[1m])",
    "only_once",
    "rate(steps_total[3s])",
    "increase(lags_bucket[3s])",
    "histogram_quantile(0.9, sum by (le) (rate(lags_bucket[4s])))",
    'count by (__name__) ({job="t"})',
)
CONFIG = """
global: {{scrape_interval: {scrape}ms, scrape_timeout: {scrape}ms}}
scrape_configs:
- job_name: t
  file_sd_configs: [{{files: [targets.json]}}]
remote_write:
- url: {url}/api/v1/write
  authorization: {{credentials_file: token}}
  queue_config: {{batch_send_deadline: 100ms, max_samples_per_send: 20, max_shards: 2}}
"""


def now_ms() -> int:
    return int(time.time() * 1000)


class Receiving:
    """Our end behind a real server, as the agent puts it together."""

    def __init__(self) -> None:
        self.store = Store()
        self.receiver = Receiver(self.store)
        self.writes, self.reads = ThreadPoolExecutor(1), ThreadPoolExecutor(2)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        intake = write.RemoteWriteEndpoint(self.receiver, self.writes, now_ms)
        engine = QueryEngine(self.store, semantics=2)
        routes = [
            *write.routes(intake, new_guard(bodies=write.BODIES)),
            *query.routes(self.store, engine, self.reads, now_ms, time.monotonic),
        ]
        async with served(routes, token="hunter2") as url:
            yield url
        self.writes.shutdown()
        self.reads.shutdown()


@asynccontextmanager
async def beside(sender: AbstractContextManager[T]) -> AsyncIterator[T]:
    """Begun and ended while we serve: a sender ends when its last samples were taken."""
    value = await asyncio.to_thread(sender.__enter__)
    try:
        yield value
    finally:
        await asyncio.to_thread(sender.__exit__, None, None, None)


async def until(holds: Callable[[], object]) -> None:
    """Waits for it to become true, or PATIENCE_S."""
    end = time.time() + PATIENCE_S
    while not await asyncio.to_thread(holds) and time.time() < end:
        await asyncio.sleep(0.1)


def _instant(url: str, text: str) -> list[Any]:
    return list(ask(url, "query", [("query", text)]).data["result"])


def _page() -> str:
    number = next(_scrapes)
    buckets = {"0.1": number, "1": 2 * number, "+Inf": 3 * number}
    return "".join(
        [
            f'level{{text="日志 \\"a\\"",empty=""}} {number % 3 - 1}\n',  # 0 is not on the wire
            f"steps_total {number * 7}\n",
            "odd NaN\nodd_up +Inf\n",
            *(f'lags_bucket{{le="{le}"}} {count}\n' for le, count in buckets.items()),
            f'only_once{{n="{number}"}} 1\n',  # a series that ends at every scrape
        ]
    )


_scrapes = itertools.count()


def _plain(data: Any) -> list[str]:
    """Answers in one order, numbers as they were written."""
    return sorted(json.dumps(one, sort_keys=True) for one in data["result"])


def _differing(ours: str, theirs: str, start: float, end: float) -> list[str]:
    """The queries to which the two give different answers."""
    found = []
    for text in QUERIES:
        pairs = [("query", text), ("start", f"{start:.3f}"), ("end", f"{end:.3f}"), ("step", "0.2")]
        answers = [ask(url, "query_range", pairs).data for url in (ours, theirs)]
        if _plain(answers[0]) != _plain(answers[1]) or not answers[1]["result"]:
            found.append(f"{text}: {answers[0]} but {answers[1]}")
    return found


async def test_our_answers_are_those_of_the_prometheus_that_sends(tmp_path: Path) -> None:
    staying, dying, removed = (MortalTarget(_page) for _ in range(3))
    targets = tmp_path / "targets.json"

    def scrape(*these: MortalTarget) -> None:
        new = tmp_path / "targets.new"
        new.write_text(json.dumps([{"targets": [one.address for one in these]}]))
        new.rename(targets)

    ours = Receiving()
    scrape(staying, dying, removed)
    (tmp_path / "token").write_text("hunter2")
    began = time.time()
    async with ours.running() as url:
        config = CONFIG.format(url=url, scrape=int(SCRAPE_S * 1000))
        async with beside(running_prometheus(tmp_path, config=config)) as them:
            await until(lambda: ours.receiver.counters.samples > 200)
            dying.die()
            scrape(staying, dying)
            await until(lambda: not _instant(them.url, f'up{{instance="{removed.address}"}}'))
            await asyncio.sleep(4 * SCRAPE_S)
            asked = url, them.url, began, time.time() - 0.2
            await until(lambda: not _differing(*asked))
            differing = await asyncio.to_thread(_differing, *asked)
    staying.die()
    removed.die()
    assert differing == []
    assert ours.receiver.counters.samples > 300
    assert set(ours.receiver.counters.requests) == {204}
    assert not ours.receiver.counters.refused
    assert not ours.store.stats().refused


@contextmanager
def vmagent(folder: Path, url: str, target: str) -> Iterator[None]:
    """The real one, scraping `target` and sending to `url`; skips where there is none."""
    if shutil.which("vmagent") is None:
        pytest.skip("vmagent is not installed")
    static = f"static_configs: [{{targets: ['{target}']}}]"
    (folder / "scrape.yml").write_text(
        f"scrape_configs: [{{job_name: t, scrape_interval: 1s, {static}}}]"
    )
    command = [
        "vmagent",
        "-promscrape.config=scrape.yml",
        f"-remoteWrite.url={url}/api/v1/write",
        "-remoteWrite.bearerToken=hunter2",
        "-remoteWrite.tmpDataPath=data",
        "-httpListenAddr=127.0.0.1:0",
    ]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, cwd=folder, stdout=quiet, stderr=quiet)
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


async def test_vmagent_is_understood(tmp_path: Path) -> None:
    target = MortalTarget(_page)
    ours = Receiving()
    query = 'sum(count_over_time(steps_total{job="t"}[1m])) > 1'
    async with ours.running() as url, beside(vmagent(tmp_path, url, target.address)):
        await until(lambda: _instant(url, query))
        held = await asyncio.to_thread(_instant, url, query)
    target.die()
    assert held
    assert set(ours.receiver.counters.requests) == {204}
