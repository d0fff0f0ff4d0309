"""The engines under watch: each once, our own from its first answer on."""

import asyncio
import sys
from collections.abc import Callable

from support.webhook_sink import Answer, WebhookSink
from tocsin_alerting.box.discovery import Engine
from tocsin_alerting.box.engines import Engines
from tocsin_alerting.box.plan import Plan
from tocsin_alerting.box.worker import Restart, Worker
from tocsin_exporter.clock import Clock
from tocsin_exporter.engine_access import EngineAccess


def _engine(url: str, kind: str) -> Engine:
    return Engine(EngineAccess.of(url), kind)


def _into(watched: list[str]) -> Callable[[EngineAccess], None]:
    return lambda access: watched.append(access.url)


def _worker(code: str, restarts: int = 0) -> Worker:
    return Worker([sys.executable, "-c", code], Restart(restarts, 0.01), Clock().monotonic)


async def _until(watched: list[str], count: int) -> None:
    async with asyncio.timeout(10):
        while len(watched) < count:
            await asyncio.sleep(0.02)


def test_what_is_named_is_watched_at_once_and_once() -> None:
    watched: list[str] = []
    named = (
        _engine("http://h:1", "vLLM"),
        _engine("http://h:2", "vLLM"),
        _engine("http://h:1", "x"),
    )
    engines = Engines(Plan(named), None, "", _into(watched))
    assert watched == engines.urls == ["http://h:1", "http://h:2"]


async def test_our_worker_is_watched_from_its_first_answer_on() -> None:
    watched: list[str] = []
    loading, loaded = Answer(503), Answer(200)
    async with WebhookSink(loading, usual=loaded) as sink:
        url = f"http://127.0.0.1:{sink.port}"
        worker = _worker("import time; time.sleep(60)")
        running = asyncio.ensure_future(
            Engines(Plan((), True), worker, url, _into(watched)).run(False, None)
        )
        await sink.wait_for(1)
        assert watched == []
        await _until(watched, 1)
        assert len(sink.requests) >= 2
        await worker.stop(1)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert watched == [url]


async def test_a_worker_that_was_given_up_is_an_outage() -> None:
    watched: list[str] = []
    url = "http://127.0.0.1:9"
    engines = Engines(
        Plan((), True),
        _worker("raise SystemExit(1)"),
        url,
        _into(watched),
    )
    running = asyncio.ensure_future(engines.run(False, None))
    await _until(watched, 1)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert watched == engines.urls == [url]


async def test_load_goes_to_the_first_engine() -> None:
    async with WebhookSink(usual=Answer(body=b"{}")) as sink:
        url = f"http://127.0.0.1:{sink.port}"
        engines = Engines(Plan((_engine(url, "vLLM"),)), None, "", lambda _: None)
        running = asyncio.ensure_future(engines.run(False, 50.0))
        await sink.wait_for(2)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert {request.path for request in sink.requests} & {"/v1/chat/completions", "/v1/models"}


async def _authorizations(sink: WebhookSink, worker_url: str) -> set[str | None]:
    """What came with the load's first requests."""
    url = f"http://127.0.0.1:{sink.port}"
    engines = Engines(Plan((_engine(url, "x"),)), None, worker_url or url, lambda _: None)
    running = asyncio.ensure_future(engines.run(False, 50.0, {"API_KEYS": " k1, k2"}))
    await sink.wait_for(2)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return {request.headers.get("authorization") for request in sink.requests}


async def test_our_worker_gets_the_first_key_and_no_other_engine_does() -> None:
    async with WebhookSink(usual=Answer(body=b"{}")) as sink:
        assert await _authorizations(sink, "") == {"Bearer k1"}
    async with WebhookSink(usual=Answer(body=b"{}")) as sink:
        assert await _authorizations(sink, "http://127.0.0.1:9") == {None}
