"""The engines under watch: each once, our own from its first answer on, the expected kept."""

import asyncio
import json
import os
import sys
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from support.agent_process import free_port
from support.engine_process import EngineProcess
from support.other_user import only_root, served_by_another_user
from support.webhook_sink import Answer, WebhookSink
from tocsin_alerting.incidents.changeset import EngineRow
from tocsin_alerting.local.discovery import KnownEngine, Origin
from tocsin_alerting.local.engine_plan import EnginePlan
from tocsin_alerting.local.engine_supervisor import (
    EXPECTED_AFTER_SECONDS,
    EngineHooks,
    EngineSupervisor,
)
from tocsin_alerting.local.worker_process import RestartPolicy, WorkerProcess, WorkerState
from tocsin_exporter.clock import Clock
from tocsin_exporter.engine_access import EngineAccess

DEMO = "http://127.0.0.1:9"


@dataclass
class Kept:
    """What the engines were told to do; `up` are the targets that answer."""

    watched: list[str] = field(default_factory=list)
    rewatched: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    rows: dict[str, EngineRow] = field(default_factory=dict)
    up: set[str] = field(default_factory=set)
    before: dict[str, float] = field(default_factory=dict)  # seconds that it answered in other runs

    @property
    def hooks(self) -> EngineHooks:
        async def remember(row: EngineRow) -> None:
            self.rows[row.target] = row

        async def forget(target: str) -> None:
            self.rows.pop(target, None)

        async def answered(target: str) -> float:
            return self.before.get(target, 0.0)

        return EngineHooks(
            watch=lambda access: self.watched.append(access.url),
            rewatch=lambda access: self.rewatched.append(access.url),
            unwatch=self.ended.append,
            answers=self.up.__contains__,
            remember=remember,
            forget=forget,
            now_ms=lambda: 1000,
            answered=answered,
        )


def _engine(
    url: str, kind: str = "vLLM", origin: Origin = Origin.FOUND, model: str = ""
) -> KnownEngine:
    return KnownEngine(EngineAccess.of(url), kind, origin, model)


def _worker(code: str, restarts: int = 0) -> WorkerProcess:
    return WorkerProcess(
        [sys.executable, "-c", code], RestartPolicy(restarts, 0.01), Clock().monotonic
    )


def _models(name: str) -> Answer:
    body = {"object": "list", "data": [{"id": name, "owned_by": "vllm"}]}
    return Answer(body=json.dumps(body).encode())


async def _until(watched: list[str], count: int) -> None:
    async with asyncio.timeout(10):
        while len(watched) < count:
            await asyncio.sleep(0.02)


async def _end(running: "asyncio.Future[None]") -> None:
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def test_what_is_named_is_watched_at_once_and_once() -> None:
    kept = Kept()
    named = (_engine("http://h:1"), _engine("http://h:2"), _engine("http://h:1", "x"))
    engines = EngineSupervisor(EnginePlan(named), None, "", kept.hooks)
    assert kept.watched == engines.urls == ["http://h:1", "http://h:2"]


async def test_others_are_named_by_a_reload() -> None:
    """What is named as before is not touched; what is asked in another way is the same engine."""
    kept = Kept()
    named = [
        _engine("http://h:1", origin=Origin.CONFIGURED),
        _engine("http://h:2", origin=Origin.CONFIGURED),
        _engine("http://h:9"),
    ]
    engines = EngineSupervisor(EnginePlan(tuple(named)), None, "", kept.hooks)
    moved = replace(EngineAccess.of("http://h:2"), metrics_path="/m")
    await engines.configure([moved, EngineAccess.of("http://h:3")])
    assert kept.ended == ["h:1"] and kept.rewatched == ["http://h:2"]
    assert engines.urls == ["http://h:2", "http://h:9", "http://h:3"], "what was found stays"
    assert engines.watched["h:2"].access.metrics_path == "/m"
    assert await engines.forget("h:3") == "h:3 is in the configuration; remove it there"
    await engines.configure([moved, EngineAccess.of("http://h:3")])
    assert len(kept.watched) == 4 and len(kept.rewatched) == 1


async def test_our_worker_is_watched_from_its_first_answer_on() -> None:
    kept = Kept()
    loading, loaded = Answer(503), Answer(200)
    async with WebhookSink(loading, usual=loaded) as sink:
        url = f"http://127.0.0.1:{sink.port}"
        worker = _worker("import time; time.sleep(60)")
        engines = EngineSupervisor(EnginePlan((), True), worker, url, kept.hooks)
        running = asyncio.ensure_future(engines.run(False, None))
        await sink.wait_for(1)
        assert kept.watched == []
        await _until(kept.watched, 1)
        assert len(sink.requests) >= 2
        await worker.stop(1)
        await _end(running)
    assert kept.watched == [url]
    assert engines.watched[f"127.0.0.1:{sink.port}"].origin is Origin.DEMO


async def test_a_worker_that_was_given_up_is_an_outage() -> None:
    kept = Kept()
    engines = EngineSupervisor(
        EnginePlan((), True), _worker("raise SystemExit(1)"), DEMO, kept.hooks
    )
    running = asyncio.ensure_future(engines.run(False, None))
    await _until(kept.watched, 1)
    await _end(running)
    assert kept.watched == engines.urls == [DEMO]


async def test_our_worker_that_cannot_be_asked_goes_on_and_so_does_the_asking(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The first fault ended the worker, and all that is done with engines."""
    asked: list[str] = []

    class Asked(WorkerProcess):
        def __getattribute__(self, name: str) -> Any:
            asked.extend([name] if name == "state" else [])
            return super().__getattribute__(name)

    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    kept, worker = Kept(), Asked(command, RestartPolicy(0, 0.01), Clock().monotonic)
    engines = EngineSupervisor(EnginePlan((), True), worker, "http://a\x7fb:9", kept.hooks)
    running = asyncio.ensure_future(engines.run(False, None))
    async with asyncio.timeout(20):
        while len(asked) < 4 and not running.done():
            await asyncio.sleep(0.02)
    assert not running.done() and worker.state is not WorkerState.GIVEN_UP
    assert len(caplog.records) == 1  # a traceback each time would fill the log
    assert kept.watched == []
    await worker.stop(1)
    await _end(running)


async def test_the_demo_worker_ends_when_an_engine_answers() -> None:
    kept = Kept()
    async with WebhookSink(usual=_models("m")) as sink:
        worker = _worker("import time; time.sleep(60)")
        plan = EnginePlan((_engine(DEMO, origin=Origin.DEMO),), True, ports=(sink.port, 9))
        engines = EngineSupervisor(plan, worker, DEMO, kept.hooks)
        running = asyncio.ensure_future(engines.run(False, 50.0))
        async with asyncio.timeout(10):
            while worker.pid is None:
                await asyncio.sleep(0.02)
        await engines.discover()
        assert engines.worker is None
        await running  # nothing is left to do, and the load has ended
    assert worker.state is WorkerState.STOPPED
    assert engines.urls == [f"http://127.0.0.1:{sink.port}"]
    assert kept.ended == ["127.0.0.1:9"]
    assert {request.path for request in sink.requests} == {
        "/metrics",
        "/prometheus/metrics",
        "/v1/models",
        "/.well-known/tocsin-proxy",
    }


async def test_a_worker_that_is_stopped_while_it_starts_does_not_stay() -> None:
    worker = _worker("import time; time.sleep(60)")
    running = asyncio.ensure_future(worker.run())
    await asyncio.sleep(0)
    await worker.stop(1)
    await asyncio.wait_for(running, 10)
    assert worker.pid is None


async def test_what_breaks_while_engines_are_noted_ends_no_worker() -> None:
    asked: list[EngineRow] = []

    async def remember(row: EngineRow) -> None:
        asked.append(row)
        raise RuntimeError("a fault of ours")

    new, worker = _engine("http://127.0.0.1:8"), _worker("import time; time.sleep(60)")
    plan = EnginePlan((new,), True, moved=(("127.0.0.1:9", new),))
    engines = EngineSupervisor(plan, worker, DEMO, replace(Kept().hooks, remember=remember))
    running = asyncio.ensure_future(engines.run(True, None))
    async with asyncio.timeout(10):
        while not (asked and worker.pid) and not running.done():
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.1)
    assert asked and worker.pid is not None and not running.done()
    await _end(running)
    await worker.stop(1)


async def test_an_engine_is_remembered_once_it_has_answered_for_ten_minutes() -> None:
    kept = Kept()
    async with WebhookSink(usual=_models("m")) as sink:
        url, target = f"http://127.0.0.1:{sink.port}", f"127.0.0.1:{sink.port}"
        named = _engine("http://h:2", origin=Origin.CONFIGURED)
        demo = _engine(DEMO, origin=Origin.DEMO)
        engines = EngineSupervisor(EnginePlan((_engine(url), named, demo)), None, DEMO, kept.hooks)
        await engines.note(EXPECTED_AFTER_SECONDS)
        assert kept.rows == {}  # nobody answers
        kept.up.update({target, "h:2", "127.0.0.1:9"})
        await engines.note(EXPECTED_AFTER_SECONDS - 1)
        assert kept.rows == {}
        await engines.note(1)
        row = EngineRow(target, url, "vLLM", "m", 1000)
        assert kept.rows == {target: row}
        sink.usual = _models("other")
        await engines.note(EXPECTED_AFTER_SECONDS)
        assert kept.rows[target].model == "other"
        await engines.forget(target)
    assert kept.rows == {} and kept.ended == [target]
    assert target not in engines.watched


async def test_what_it_answered_in_earlier_runs_counts_once() -> None:
    kept = Kept(before={"127.0.0.1:9": EXPECTED_AFTER_SECONDS - 30})
    engines = EngineSupervisor(EnginePlan((_engine(DEMO),)), None, "", kept.hooks)
    await engines.note(0)
    kept.up.add("127.0.0.1:9")
    await engines.note(15)
    assert kept.rows == {}
    await engines.note(15)
    assert set(kept.rows) == {"127.0.0.1:9"}
    kept.rows.clear()
    await engines.note(EXPECTED_AFTER_SECONDS - 1)
    assert kept.rows == {}


async def test_samples_that_cannot_be_read_begin_the_count_anew() -> None:
    async def answered(target: str) -> float:
        raise OSError("the disk")

    kept = Kept(up={"127.0.0.1:9"})
    hooks = replace(kept.hooks, answered=answered)
    engines = EngineSupervisor(EnginePlan((_engine(DEMO),)), None, "", hooks)
    await engines.note(EXPECTED_AFTER_SECONDS - 1)
    assert kept.rows == {}
    await engines.note(1)
    assert set(kept.rows) == {"127.0.0.1:9"}


async def test_what_is_forgotten_while_it_is_asked_stays_forgotten() -> None:
    kept = Kept(up={"127.0.0.1:9"})
    engines = EngineSupervisor(EnginePlan((_engine(DEMO),)), None, "", kept.hooks)
    await asyncio.gather(
        engines.note(EXPECTED_AFTER_SECONDS), engines.forget("127.0.0.1:9"), return_exceptions=False
    )
    assert engines.watched == {} and kept.rows == {}


async def test_an_engine_on_another_port_has_moved() -> None:
    """Known by its model; another model is another engine, and the silent one stays down."""
    kept = Kept()
    was = _engine("http://127.0.0.1:9", model="m")
    async with WebhookSink(usual=_models("m")) as sink, WebhookSink(usual=_models("x")) as other:
        engines = EngineSupervisor(
            EnginePlan((was,), ports=(9, other.port, sink.port)), None, "", kept.hooks
        )
        kept.rows[was.target] = EngineRow(was.target, was.url, "vLLM", "m")
        await engines.discover()
    new = f"127.0.0.1:{sink.port}"
    assert kept.ended == [was.target]
    assert set(kept.rows) == {new} and kept.rows[new].model == "m"
    assert set(engines.watched) == {new, f"127.0.0.1:{other.port}"}


async def test_an_engine_is_followed_to_any_port_and_nobody_else_is_asked() -> None:
    kept = Kept()
    was = _engine("http://127.0.0.1:9", model="qwen")
    engines = EngineSupervisor(EnginePlan((was,)), None, "", kept.hooks)
    async with WebhookSink(usual=_models("qwen")) as stranger:
        with EngineProcess(free_port(), "vllm serve qwen") as engine:
            await engines.discover()
        assert stranger.requests == []
    assert set(engines.watched) == set(kept.rows) == {f"127.0.0.1:{engine.port}"}
    assert kept.ended == [was.target]


async def test_no_engine_is_followed_to_the_demos_port() -> None:
    kept = Kept()
    was = _engine("http://127.0.0.1:9", model="qwen")
    with EngineProcess(free_port(), "vllm serve qwen") as other:
        plan = EnginePlan((was,), reserved=(f"127.0.0.1:{other.port}",))
        await EngineSupervisor(plan, None, "", kept.hooks).discover()
    assert kept.ended == [] and kept.watched == [was.url]


async def test_a_second_engine_of_one_model_is_no_move() -> None:
    kept = Kept()
    was = _engine("http://127.0.0.1:9", model="m")
    kept.up.add(was.target)
    async with WebhookSink(usual=_models("m")) as sink:
        engines = EngineSupervisor(EnginePlan((was,), ports=(sink.port,)), None, "", kept.hooks)
        await engines.discover()
    assert kept.ended == [] and len(engines.watched) == 2


async def test_what_moved_while_we_were_away_takes_its_row_along() -> None:
    kept = Kept()
    new = _engine("http://127.0.0.1:8", model="m")
    engines = EngineSupervisor(
        EnginePlan((new,), moved=(("127.0.0.1:9", new),)), None, "", kept.hooks
    )
    await engines.note(0)
    assert kept.ended == ["127.0.0.1:9"] and set(kept.rows) == {new.target}


@pytest.mark.parametrize(
    ("origin", "why"),
    [(Origin.CONFIGURED, "remove it there"), (Origin.DEMO, "worker.enabled")],
)
async def test_what_is_watched_for_a_reason_is_not_forgotten(origin: Origin, why: str) -> None:
    kept = Kept()
    engines = EngineSupervisor(
        EnginePlan((_engine("http://h:1", origin=origin),)), None, "", kept.hooks
    )
    assert why in await engines.forget("h:1")
    assert kept.ended == []


async def test_load_goes_to_the_first_engine() -> None:
    async with WebhookSink(usual=Answer(body=b"{}")) as sink:
        url = f"http://127.0.0.1:{sink.port}"
        engines = EngineSupervisor(EnginePlan((_engine(url),)), None, "", Kept().hooks)
        running = asyncio.ensure_future(engines.run(False, 50.0))
        await sink.wait_for(2)
        await _end(running)
    assert {request.path for request in sink.requests} & {"/v1/chat/completions", "/v1/models"}


async def _authorizations(sink: WebhookSink, worker_url: str) -> set[str | None]:
    """What came with the load's first requests."""
    url = f"http://127.0.0.1:{sink.port}"
    engines = EngineSupervisor(
        EnginePlan((_engine(url, "x"),)), None, worker_url or url, Kept().hooks
    )
    running = asyncio.ensure_future(engines.run(False, 50.0, {"API_KEYS": " k1, k2"}))
    await sink.wait_for(2)
    await _end(running)
    return {request.headers.get("authorization") for request in sink.requests}


async def test_our_worker_gets_the_first_key_and_no_other_engine_does() -> None:
    async with WebhookSink(usual=Answer(body=b"{}")) as sink:
        assert await _authorizations(sink, "") == {"Bearer k1"}
    async with WebhookSink(usual=Answer(body=b"{}")) as sink:
        assert await _authorizations(sink, DEMO) == {None}


async def test_our_own_worker_on_localhost_is_no_engine_that_is_found() -> None:
    async with WebhookSink(usual=_models("qwen3")) as sink:
        kept, worker = Kept(), _worker("")
        engines = EngineSupervisor(
            EnginePlan((), ports=(sink.port,)), worker, f"http://localhost:{sink.port}", kept.hooks
        )
        await engines.discover()
    assert (kept.watched, engines.worker) == ([], worker)


async def test_what_is_watched_as_localhost_is_not_found_again() -> None:
    async with WebhookSink(usual=_models("qwen3")) as sink:
        kept, url = Kept(), f"http://localhost:{sink.port}"
        engines = EngineSupervisor(
            EnginePlan((_engine(url),), ports=(sink.port,)), None, "", kept.hooks
        )
        await engines.discover()
    assert kept.watched == [url]


NOBODY: frozenset[int] = frozenset()  # whose engines are watched: not even ours


async def test_an_engine_of_another_user_is_not_asked_and_is_named_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    kept = Kept()
    async with WebhookSink(usual=_models("m")) as sink:
        engines = EngineSupervisor(
            EnginePlan((), ports=(sink.port,), owners=NOBODY), None, "", kept.hooks
        )
        for _ in range(2):
            await engines.discover()
        assert sink.requests == [] and kept.watched == []
        said = [one for one in caplog.records if "discovery.allow_users" in one.message]
        assert [getattr(one, "url", "") for one in said] == [f"http://127.0.0.1:{sink.port}"]
        mine = EnginePlan((), ports=(sink.port,), owners=frozenset({os.geteuid()}))
        await EngineSupervisor(mine, None, "", kept.hooks).discover()
        assert kept.watched == [f"http://127.0.0.1:{sink.port}"]


@only_root
async def test_what_another_user_runs_on_the_demos_port_is_not_the_demo() -> None:
    kept = Kept()
    port = free_port()
    with served_by_another_user(port, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"):
        worker = _worker("import time; time.sleep(60)")
        engines = EngineSupervisor(
            EnginePlan((), True), worker, f"http://127.0.0.1:{port}", kept.hooks
        )
        running = asyncio.ensure_future(engines.run(False, None))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.2):  # it is asked twice a second
                await _until(kept.watched, 1)
        await _end(running)
        await worker.stop(1.0)
